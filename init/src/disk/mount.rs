//! Mounting a system by its own fstab: what is mounted where and how is decided by [`plan`], which
//! touches nothing, and done by [`apply`].
//!
//! Without leave to write nothing is written: the journal is not replayed, and the device itself is
//! set to refuse writes, because ext4 clears its list of orphans and records errors even on a
//! read-only mount. To add a file system: a row in [`super::drivers`].

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rescue_schema::report::BlockReport;

use super::crypttab::{self, Opened};
use super::drivers::{DRIVERS, driver};
use super::fstab;
use super::pool;
use super::protection;
use super::resolve::{self, Missing};
use crate::sys::btrfs;
use crate::sys::mounts::{self, Wanted};
use crate::sys::namespace;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The device; empty for a bind mount.
    pub device: String,
    /// For a bind mount: the folder of the system that is seen there too.
    pub bind: Option<String>,
    /// Where, as the system itself names it: `/`, `/boot/efi`.
    pub target: String,
    /// The kernel's driver.
    pub driver: &'static str,
    /// Options for the driver.
    pub options: Vec<String>,
    /// Whether nothing may be written.
    pub read_only: bool,
    /// What mounting it will write, to be said before.
    pub writes: Option<&'static str>,
}

/// How a system is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The folder.
    pub folder: PathBuf,
    /// The mounts, in order; the first is the root.
    pub steps: Vec<Step>,
    /// What of its fstab is left out and need not be here, a sentence each.
    pub left_out: Vec<String>,
    /// What should be here and is not, a sentence each.
    pub trouble: Vec<String>,
}

impl Plan {
    /// Takes a step with all devices of its file system.
    fn add(&mut self, step: Option<Step>, block: &BlockReport, disks: &[BlockReport]) {
        let Some(mut step) = step else { return };
        match pool::options(block, disks) {
            Ok(others) => step.options.extend(others),
            // Its mount will fail.
            Err(why) => self.trouble.push(why),
        }
        self.steps.push(step);
    }

    /// Where a step's mount is seen.
    pub fn place(&self, step: &Step) -> PathBuf {
        let inner = step.target.trim_matches('/');
        if inner.is_empty() { self.folder.clone() } else { self.folder.join(inner) }
    }
}

impl Step {
    /// All devices that it is on.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        let others = self.options.iter().filter_map(|option| option.strip_prefix("device="));
        std::iter::once(self.device.as_str()).chain(others)
    }

    /// In a word or two.
    pub fn how(&self) -> String {
        if self.bind.is_some() {
            return "the same folder again".into();
        }
        let mut how = String::from(self.driver);
        how.push_str(if self.read_only { ", read-only" } else { ", READ-WRITE" });
        if self.read_only && self.options.iter().any(|o| driver_skips(o)) {
            how.push_str(", journal not replayed");
        }
        if let Some(writes) = self.writes {
            how.push_str(", ");
            how.push_str(writes);
        }
        how
    }
}

fn driver_skips(option: &str) -> bool {
    DRIVERS.iter().any(|d| d.no_replay.contains(&option))
}

/// As it is written to reports.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.bind.as_ref().unwrap_or(&self.device);
        write!(f, "mount {source} on {} ({})", self.target, self.how())
    }
}

/// One file system, at `target`; `None` when no driver of ours takes it.
pub fn step(block: &BlockReport, target: &str, write: bool, options: &[String]) -> Option<Step> {
    let driver = driver(block.probe.kind.as_deref()?)?;
    let read_only = !write || !driver.writes || options.iter().any(|o| o == "ro");
    let mut own: Vec<String> =
        options.iter().filter(|o| o.starts_with("subvol=") || o.starts_with("subvolid=")).cloned().collect();
    if read_only {
        own.extend(driver.no_replay.iter().map(|o| (*o).to_string()));
    }
    if driver.kind == "ufs" {
        let second = block.probe.version.as_deref().is_none_or(|v| v != "1");
        own.push(if second { "ufstype=ufs2" } else { "ufstype=44bsd" }.into());
    }
    let writes = match block.probe.state.as_deref() {
        Some("needs journal recovery") if !read_only => Some("replays its journal"),
        Some("errors seen") if !read_only => Some("has recorded errors: check it first"),
        _ => None,
    };
    Some(Step {
        device: block.path.clone(),
        bind: None,
        target: target.into(),
        driver: driver.driver,
        options: own,
        read_only,
        writes,
    })
}

/// A file system by itself, at `folder`.
pub fn alone(block: &BlockReport, disks: &[BlockReport], folder: &Path, write: bool) -> Plan {
    let mut plan = Plan { folder: folder.into(), ..Plan::default() };
    plan.add(step(block, "/", write, &[]), block, disks);
    plan
}

/// What a system says itself of its devices.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tables<'a> {
    /// Its fstab, when it could be read.
    pub fstab: Option<&'a [u8]>,
    /// Its crypttab, when it has one.
    pub crypttab: Option<&'a [u8]>,
}

/// How the system whose root is on `root` is mounted at `folder`. `tables` are its own; `disks` is what
/// is there now.
pub fn plan(
    root: &BlockReport,
    tables: Tables<'_>,
    disks: &[BlockReport],
    folder: &Path,
    write: bool,
) -> Plan {
    let mut plan = Plan { folder: folder.into(), ..Plan::default() };
    let Tables { fstab, crypttab } = tables;
    let (entries, skipped) = fstab::parse(fstab.unwrap_or_default());
    let of_root = entries.iter().find(|e| e.target == "/");
    // That the rescued system starts with a read-only root (which it remounts itself) says nothing here.
    let root_options: Vec<String> =
        of_root.map(|e| e.options.iter().filter(|o| *o != "ro").cloned().collect()).unwrap_or_default();
    plan.add(step(root, "/", write, &root_options), root, disks);
    if let Some(entry) = of_root {
        let other = resolve::device(&entry.source, disks, &root.path).ok().filter(|b| b.path != root.path);
        if let Some(other) = other.filter(|_| entry.source.contains('=')) {
            plan.trouble.push(format!("/etc/fstab line {}: its root is {} by that", entry.line, other.path));
        }
    } else if fstab.is_none() {
        plan.trouble.push("/etc/fstab cannot be read: only the root file system is mounted".into());
    }
    plan.trouble.extend(skipped.iter().map(|line| format!("/etc/fstab line {line} is none: skipped")));
    let mut rest: Vec<_> = entries.iter().filter(|e| e.target != "/").collect();
    // A mount below another comes after it, in whatever order the lines stand; so does what shows a folder
    // again that is mounted itself.
    let depth = |path: &str| path.split('/').filter(|p| !p.is_empty()).count();
    rest.sort_by_key(|e| depth(&e.target).max(if is_bind(e) { depth(&e.source) + 1 } else { 0 }));
    for entry in rest {
        let place =
            if entry.target == "none" { String::new() } else { format!(" for {}", shown(&entry.target)) };
        let what = format!("/etc/fstab line {}: {}{place}", entry.line, shown(&entry.source));
        if let Some(why) = unwanted(entry) {
            plan.left_out.push(format!("{what}: {why}"));
            continue;
        }
        if is_bind(entry) {
            if plan.steps.iter().any(|s| s.target == entry.target) {
                plan.trouble.push(format!("{what}: {} is named twice", shown(&entry.target)));
            } else {
                plan.steps.push(Step {
                    device: String::new(),
                    bind: Some(entry.source.clone()),
                    target: entry.target.clone(),
                    driver: if entry.options.iter().any(|o| o == "rbind") { "rbind" } else { "bind" },
                    options: Vec::new(),
                    read_only: !write || entry.options.iter().any(|o| o == "ro"),
                    writes: None,
                });
            }
            continue;
        }
        let opened = crypttab.and_then(|table| crypttab::opened(&entry.source, table, disks, &root.path));
        if let Some(Opened::Not(below)) = &opened {
            plan.trouble.push(format!("{what}: {below} is encrypted: rescue unlock {below}"));
            continue;
        }
        let open = match opened {
            Some(Opened::As(device)) => Some(device),
            _ => None,
        };
        let named = open.as_ref().unwrap_or(&entry.source);
        let source = resolve::today(named, of_root.map_or("", |r| &r.source), root, disks);
        if source != *named && resolve::device(&source, disks, &root.path).is_ok() {
            plan.trouble.push(format!("{what}: taken for {source}, by its number on the disk of the root"));
        }
        match resolve::device(&source, disks, &root.path) {
            Err(Missing::Nowhere) => plan.trouble.push(format!("{what} is on no disk here")),
            Err(Missing::Several(all)) => {
                plan.trouble.push(format!("{what} is ambiguous: {} have it", all.join(", ")));
            }
            Ok(block) if plan.steps.iter().any(|s| s.target == entry.target) => {
                plan.trouble.push(format!(
                    "{what}: {} is named twice, {} left out",
                    shown(&entry.target),
                    block.path
                ));
            }
            Ok(block) if !fits(&entry.kind, block) => {
                let kind = block.probe.kind.as_deref().unwrap_or("nothing known");
                plan.trouble.push(format!("{what}: {} holds {kind}, not {}", block.path, shown(&entry.kind)));
            }
            Ok(block) => match step(block, &entry.target, write, &entry.options) {
                Some(step) => plan.add(Some(step), block, disks),
                None => {
                    let kind = block.probe.kind.as_deref().unwrap_or("nothing known");
                    plan.trouble
                        .push(format!("{what}: {} holds {kind}, which is not mounted here", block.path));
                }
            },
        }
    }
    plan
}

/// Whether a line shows one folder of the system at another place too.
fn is_bind(entry: &fstab::Entry) -> bool {
    entry.source.starts_with('/') && entry.options.iter().any(|o| o == "bind" || o == "rbind")
}

/// Whether what the line calls its type can be what was found: a name like /dev/sdb1 may by now be
/// another disk's.
fn fits(kind: &str, block: &BlockReport) -> bool {
    let unstable = ["auto", "ntfs-3g", "fuseblk", "msdos", "none"].contains(&kind) || kind.contains(',');
    let named = |k: &str| driver(k).map(|d| d.driver);
    let wanted = if kind == "ntfs3" || kind == "ntfs-3g" { named("ntfs") } else { named(kind) };
    unstable
        || wanted.is_none()
        || wanted == block.probe.kind.as_deref().and_then(named)
        || step(block, "/", false, &[]).is_none()
}

/// Why an entry is none of a disk's.
fn unwanted(entry: &fstab::Entry) -> Option<&'static str> {
    const NETWORK: &[&str] =
        &["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "9p", "afs", "sshfs"];
    const MEMORY: &[&str] = &["tmpfs", "ramfs", "proc", "sysfs", "devpts", "devtmpfs", "efivarfs", "cgroup2"];
    let has = |option: &str| entry.options.iter().any(|o| o == option);
    let kind = entry.kind.as_str();
    if kind == "swap" || entry.target == "none" {
        Some("swap, not used")
    } else if NETWORK.contains(&kind) || kind.starts_with("fuse.") || has("_netdev") {
        Some("on the network, left out")
    } else if kind == "none" && !is_bind(entry) {
        Some("of no type, left out")
    } else if kind == "overlay" || MEMORY.contains(&kind) {
        Some("not on a disk, left out")
    } else if has("noauto") {
        Some("noauto, left out")
    } else {
        None
    }
}

/// Text of a disk, for a terminal that must not obey it.
pub fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(128).collect()
}

/// Mounts what the plan says. A root that cannot be mounted leaves nothing behind; what cannot be
/// mounted below it is told in the answer, a sentence each, and does not stop the rest.
///
/// # Errors
/// When the root file system cannot be mounted.
pub fn apply(plan: &Plan, load: &dyn Fn(&str)) -> io::Result<Vec<String>> {
    let Some((root, rest)) = plan.steps.split_first() else { return Ok(Vec::new()) };
    let made = !plan.folder.exists();
    std::fs::create_dir_all(&plan.folder)?;
    let mounted = (|| {
        let folder = mounts::folder(&plan.folder)?;
        let mount = one(root, load)?;
        mounts::attach(mount.as_fd(), folder.as_fd())?;
        Ok(mount)
    })();
    let mounted: OwnedFd = match mounted {
        Ok(mounted) => mounted,
        Err(error) => {
            root.devices().for_each(|device| drop(protection::release(device)));
            if made {
                let _ = std::fs::remove_dir(&plan.folder);
            }
            return Err(error);
        }
    };
    Ok(below(mounted.as_fd(), rest, load))
}

/// Mounts `steps` below a root that is mounted already. What cannot be is told, a sentence each.
pub fn below(root: BorrowedFd<'_>, steps: &[Step], load: &dyn Fn(&str)) -> Vec<String> {
    let mut trouble = Vec::new();
    for step in steps {
        let folder = match mounts::folder_inside(root, &step.target) {
            Ok(folder) => folder,
            Err(error) => {
                trouble.push(format!(
                    "mounting {} on {}: no such folder: {error}",
                    shown(step.bind.as_ref().unwrap_or(&step.device)),
                    shown(&step.target)
                ));
                continue;
            }
        };
        let mount = match &step.bind {
            Some(from) => bind(root, step, from),
            None => one(step, load),
        };
        if let Err(error) = mount.and_then(|mount| mounts::attach(mount.as_fd(), folder.as_fd())) {
            if step.bind.is_none() && !steps.iter().any(|s| s != step && s.device == step.device) {
                step.devices().for_each(|device| drop(protection::release(device)));
            }
            let source = step.bind.as_ref().unwrap_or(&step.device);
            trouble.push(format!("mounting {} on {}: {error}", shown(source), shown(&step.target)));
        }
    }
    trouble
}

fn bind(root: BorrowedFd<'_>, step: &Step, from: &str) -> io::Result<OwnedFd> {
    let folder = mounts::folder_inside(root, from)?;
    let mount = namespace::again_at(folder.as_fd(), step.driver == "rbind")?;
    if step.read_only {
        namespace::read_only(mount.as_fd())?;
    }
    Ok(mount)
}

fn one(step: &Step, load: &dyn Fn(&str)) -> io::Result<OwnedFd> {
    load(step.driver);
    for device in step.devices() {
        if step.read_only {
            protection::hold(device)?;
        } else {
            protection::release(device)?;
        }
    }
    if step.driver == "btrfs" {
        // A kernel that cannot refuses a copy that is older than what it has seen.
        let _ = btrfs::forget();
    }
    // Programs are to run in there as in the system itself: set-user-id bits and device nodes count.
    mounts::detached(Wanted {
        driver: step.driver,
        device: &step.device,
        options: &step.options,
        read_only: step.read_only,
        inert: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::resolve::tests::disk;

    const FSTAB: &[u8] = b"UUID=aa / ext4 ro,errors=remount-ro 0 1\n\
        UUID=bb /boot/efi vfat umask=0077 0 1\nUUID=cc /boot ext4 ro 0 2\n\
        UUID=dead /srv ext4 defaults 0 2\nnas:/x /net nfs defaults\n\
        UUID=ee /data zfs defaults 0 0\nUUID=cc /boot ext4 defaults 0 0\n";

    fn planned(write: bool) -> Plan {
        let disks = [disk("vda", &[("ext4", "aa"), ("vfat", "bb"), ("ext3", "cc"), ("zfs_member", "ee")])];
        plan(
            &disks[0].children[0],
            Tables { fstab: Some(FSTAB), crypttab: None },
            &disks,
            Path::new("/mnt/db7"),
            write,
        )
    }

    #[test]
    fn the_plan_is_in_order_and_read_only() {
        let plan = planned(false);
        let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "mount /dev/vda1 on / (ext4, read-only, journal not replayed)",
                "mount /dev/vda3 on /boot (ext4, read-only, journal not replayed)",
                "mount /dev/vda2 on /boot/efi (vfat, read-only)",
            ]
        );
        assert_eq!(plan.left_out, ["/etc/fstab line 5: nas:/x for /net: on the network, left out"]);
        assert_eq!(
            plan.trouble,
            [
                "/etc/fstab line 4: UUID=dead for /srv is on no disk here",
                "/etc/fstab line 6: UUID=ee for /data: /dev/vda4 holds zfs_member, which is not mounted here",
                "/etc/fstab line 7: UUID=cc for /boot: /boot is named twice, /dev/vda3 left out",
            ]
        );
        assert_eq!(plan.place(&plan.steps[2]), Path::new("/mnt/db7/boot/efi"));
    }

    #[test]
    fn writing_is_as_its_fstab_allows() {
        let how: Vec<String> = planned(true).steps.iter().map(Step::how).collect();
        // Its own /boot is mounted read-only; a read-only root is remounted by the system itself.
        assert_eq!(how, ["ext4, READ-WRITE", "ext4, read-only, journal not replayed", "vfat, READ-WRITE"]);
    }

    #[test]
    fn hostile_names_do_not_reach_a_terminal() {
        let disks = [disk("vda", &[("ext4", "aa")])];
        let fstab = b"\x1b]0;x\x07 /a\x1b[2J ext4\n/ / / /\nUUID=aa /../../etc ext4\n";
        let tables = Tables { fstab: Some(fstab), crypttab: Some(fstab) };
        let plan = plan(&disks[0].children[0], tables, &disks, Path::new("/mnt/x"), false);
        assert!(plan.trouble.iter().chain(&plan.left_out).all(|l| !l.chars().any(char::is_control)));
    }
}
