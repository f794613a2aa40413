//! A system prepared to run its own programs: what is mounted in it, all of it in a namespace that ends with
//! the last of them.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::mountinfo::{self, Mount};
use crate::sys::mounts::{self, Wanted};
use crate::sys::{inside, namespace};

/// What is put at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A file system of the kernel's own.
    New(&'static str, &'static [&'static str]),
    /// The rescue's own folder, with all that is mounted in it.
    Again(&'static str),
    /// Likewise, to be looked at alone.
    ReadOnly(&'static str),
}

/// One of the mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Where, in the system.
    pub target: &'static str,
    /// What.
    pub what: What,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::New(kind, _) => write!(f, "mount {kind} on {}", self.target),
            What::Again(from) => write!(f, "mount {from} on {}", self.target),
            What::ReadOnly(from) => write!(f, "mount {from} on {}, read-only", self.target),
        }
    }
}

const PRIVATE: What = What::New("tmpfs", &["mode=1777"]);

/// Where the variables of UEFI firmware are.
const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";

/// What a system needs to run its programs. A read-only one also gets room for their temporary files, and the
/// variables of the firmware, where they are among the rescue's own `mounts`, are as safe from its programs as its
/// disk is.
pub fn plan(read_only: bool, mounts: &[Mount]) -> Vec<Step> {
    let mut steps = vec![
        // Of this namespace's processes.
        Step { target: "/proc", what: What::New("proc", &[]) },
        // With efivarfs and all else that is mounted there.
        Step { target: "/sys", what: What::Again("/sys") },
        Step { target: "/dev", what: What::Again("/dev") },
        Step { target: "/run", what: What::New("tmpfs", &["mode=0755"]) },
        Step { target: "/tmp", what: PRIVATE },
    ];
    if read_only {
        steps.push(Step { target: "/var/tmp", what: PRIVATE });
        if mounts.iter().any(|mount| mount.target == Path::new(EFI_VARIABLES)) {
            steps.push(Step { target: EFI_VARIABLES, what: What::ReadOnly(EFI_VARIABLES) });
        }
    }
    steps
}

/// Puts everything in place below `folder`, in a namespace that must be this process's own, and takes all
/// other mounts out of it. What could not be is said, a sentence each.
///
/// # Errors
/// When the folder is gone, or /proc cannot be mounted: nothing works without.
pub fn prepare(folder: &Path, read_only: bool) -> io::Result<Vec<String>> {
    let info = crate::sys::files::read_capped(Path::new("/proc/self/mountinfo"), 16 << 20)?;
    let resolver = std::fs::read("/etc/resolv.conf").ok();
    let root = mounts::folder(folder)?;
    let mut said = Vec::new();
    let mounts = mountinfo::parse(&info);
    for step in plan(read_only, &mounts) {
        if let Err(error) = put(root.as_fd(), &step) {
            if step.target == "/proc" {
                return Err(io::Error::new(error.kind(), format!("{step}: {error}")));
            }
            said.push(format!("{step}: {error}"));
        }
    }
    let udev = Path::new("/run/udev");
    if udev.is_dir()
        && let Err(error) = inside::make_folders(root.as_fd(), "run/udev").and_then(|()| {
            mounts::attach(
                namespace::again(udev)?.as_fd(),
                mounts::folder_inside(root.as_fd(), "run/udev")?.as_fd(),
            )
        })
    {
        said.push(format!("mounting /run/udev: {error}"));
    }
    let _ = inside::make_folders(root.as_fd(), "run/lock");
    match &resolver {
        Some(text) => {
            if let Err(error) = names(root.as_fd(), text) {
                said.push(format!("names will not be resolved: /etc/resolv.conf: {error}"));
            }
        }
        None => said.push("names will not be resolved: the rescue has no /etc/resolv.conf".into()),
    }
    alone(&mounts, folder);
    Ok(said)
}

fn put(root: BorrowedFd<'_>, step: &Step) -> io::Result<()> {
    let place = mounts::folder_inside(root, step.target)?;
    let mount = match step.what {
        What::Again(from) => namespace::again(Path::new(from))?,
        What::ReadOnly(from) => {
            let mount = namespace::again(Path::new(from))?;
            namespace::read_only(mount.as_fd())?;
            mount
        }
        What::New(kind, options) => {
            let options: Vec<String> = options.iter().map(|o| (*o).to_string()).collect();
            mounts::detached(Wanted {
                driver: kind,
                device: kind,
                options: &options,
                read_only: false,
                inert: false,
            })?
        }
    };
    mounts::attach(mount.as_fd(), place.as_fd())
}

/// The rescue's resolv.conf over the system's own, which stays as it is. Where that is a link to what its
/// resolver would write below /run, it is written there.
fn names(root: BorrowedFd<'_>, text: &[u8]) -> io::Result<()> {
    const KEPT: &str = "run/rescue-resolv.conf";
    if let Ok(link) = inside::link(root, "etc", "resolv.conf") {
        let link = link.to_string_lossy().into_owned();
        let path = link.trim_start_matches("../").trim_start_matches('/');
        let below = path.strip_prefix("run/").or_else(|| path.strip_prefix("var/run/"));
        if let Some(below) = below.filter(|b| !b.split('/').any(|p| p == "..")) {
            let path = format!("run/{below}");
            if let Some((parent, _)) = path.rsplit_once('/') {
                inside::make_folders(root, parent)?;
            }
            return inside::create(root, &path)?.write_all(text);
        }
    }
    let place = inside::place(root, "etc/resolv.conf")?;
    inside::create(root, KEPT)?.write_all(text)?;
    let ours = namespace::again_at(inside::place(root, KEPT)?, false)?;
    mounts::attach(ours.as_fd(), place.as_fd())
}

/// Takes every other mount out of this namespace, so that none of them is held by who stays in it.
fn alone(mounts: &[Mount], folder: &Path) {
    for mount in mounts.iter().rev() {
        if !mount.target.starts_with(folder) && !folder.starts_with(&mount.target) {
            let _ = namespace::leave(&mount.target);
        }
    }
}

/// Programs that are left in the namespace whose /proc this is: process id and name.
pub fn left(proc: &Path) -> Vec<(i32, String)> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()).filter(|pid| *pid != own);
    let name = |pid: &i32| std::fs::read_to_string(proc.join(format!("{pid}/comm"))).unwrap_or_default();
    let clean = |name: String| name.trim().chars().filter(|c| !c.is_control()).collect();
    pids.map(|pid| (pid, clean(name(&pid)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_with_rw_are_the_variables_of_the_firmware_written() {
        let mounts =
            mountinfo::parse(b"31 22 0:27 / /sys/firmware/efi/efivars rw,nosuid - efivarfs efivarfs rw\n");
        let shown = |steps: Vec<Step>| steps.iter().map(|step| format!("{step}\n")).collect::<String>();
        let line = "mount /sys/firmware/efi/efivars on /sys/firmware/efi/efivars, read-only\n";
        let looking = shown(plan(true, &mounts));
        assert!(looking.ends_with(line) && looking.contains("mount tmpfs on /var/tmp\n"), "{looking}");
        assert_eq!(shown(plan(true, &[])), looking.replace(line, ""));
        assert!(!shown(plan(false, &mounts)).contains("efivars"));
    }
}
