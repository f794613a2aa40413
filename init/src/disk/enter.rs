//! A system prepared to run its own programs: what is mounted in it, all of it in a namespace that ends with
//! the last of them.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::mountinfo;
use crate::sys::mounts::{self, Wanted};
use crate::sys::{inside, namespace};

/// What is put at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A file system of the kernel's own.
    New(&'static str, &'static [&'static str]),
    /// The rescue's own folder, with all that is mounted in it.
    Again(&'static str),
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
        }
    }
}

const PRIVATE: What = What::New("tmpfs", &["mode=1777"]);

/// What a system needs to run its programs. A read-only one also gets room for their temporary files.
pub fn plan(read_only: bool) -> Vec<Step> {
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
    for step in plan(read_only) {
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
    alone(&info, folder);
    Ok(said)
}

fn put(root: BorrowedFd<'_>, step: &Step) -> io::Result<()> {
    let place = mounts::folder_inside(root, step.target)?;
    let mount = match step.what {
        What::Again(from) => namespace::again(Path::new(from))?,
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
fn alone(info: &[u8], folder: &Path) {
    for mount in mountinfo::parse(info).iter().rev() {
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
