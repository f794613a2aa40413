//! Taking mounts down in order, never lazily: what is busy stays, and who holds it is told.

use std::io;
use std::path::Path;
use std::time::Duration;

use rescue_schema::paths::MOUNT_ROOT;
use rescue_schema::report::{BusyMount, UnmountReport};

use super::mountinfo::{self, Mount};
use super::{holders, protection};
use crate::sys::{block, ending, mounts};

/// What a process that is asked to end may take.
const GRACE: Duration = Duration::from_secs(3);

/// What lies at or below `folder` and belongs to a system: is at or below a folder of `/mnt` that a
/// device or a dataset is mounted at. Children first.
pub fn plan(mountinfo: &[u8], folder: &Path) -> Vec<Mount> {
    let all = mountinfo::parse(mountinfo);
    let own = |m: &Mount| m.source.starts_with("/dev/") || m.kind == "zfs";
    let root = |m: &&Mount| m.target.parent() == Some(Path::new(MOUNT_ROOT)) && own(m);
    let systems: Vec<&Path> = all.iter().filter(root).map(|m| m.target.as_path()).collect();
    let below = mountinfo::below(mountinfo, folder).into_iter();
    // The last of those at one place is the one that is seen.
    below
        .filter(|t| systems.iter().any(|s| t.starts_with(s)))
        .filter_map(|t| all.iter().rev().find(|m| m.target == t).cloned())
        .collect()
}

/// Unmounts them in that order, gives their devices back, and removes the folders in `/mnt` that are
/// left empty. With `kill`, whoever holds one is ended, but none of this process's parents.
///
/// # Errors
/// Other than for busy mounts: those of the kernel, with the path.
pub fn apply(plan: &[Mount], kill: bool) -> io::Result<UnmountReport> {
    let mut report = UnmountReport::default();
    // Whoever stands in the folder and types this must not hold it by this very process.
    std::env::set_current_dir("/")?;
    for mount in plan {
        let blocked = |b: &BusyMount| Path::new(&b.target).starts_with(&mount.target);
        if report.busy.iter().any(blocked) {
            continue;
        }
        // Who entered a system keeps all of it.
        let mut inside = holders::inside(Path::new("/proc"), &mount.target);
        if kill && !inside.is_empty() {
            let pids: Vec<i32> = inside.iter().map(|h| h.pid).collect();
            let parents = holders::parents(Path::new("/proc"));
            let others: Vec<i32> = pids.into_iter().filter(|p| !parents.contains(p)).collect();
            ending::end(&others, GRACE, &|pid| {
                holders::inside(Path::new("/proc"), &mount.target).iter().any(|h| h.pid == pid)
            });
            inside = holders::inside(Path::new("/proc"), &mount.target);
        }
        if !inside.is_empty() {
            report.busy.push(BusyMount { target: mount.target.display().to_string(), holders: inside });
            continue;
        }
        let mut done = mounts::unmount(&mount.target);
        if kill && matches!(&done, Err(e) if e.kind() == io::ErrorKind::ResourceBusy) {
            end_holders(&mount.target);
            done = mounts::unmount(&mount.target);
        }
        match done {
            Ok(()) => {
                report.unmounted.push(mount.target.display().to_string());
                give_back(mount);
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => report.busy.push(BusyMount {
                target: mount.target.display().to_string(),
                holders: holders::of(Path::new("/proc"), &mount.target),
            }),
            Err(error) => {
                let why = format!("unmounting {}: {error}", mount.target.display());
                return Err(io::Error::new(error.kind(), why));
            }
        }
    }
    let info = crate::sys::files::read_capped(Path::new("/proc/self/mountinfo"), 16 << 20)?;
    let left = mountinfo::parse(&info);
    // A device that is still mounted elsewhere read-only stays protected until that goes too.
    protection::sweep(&|device| left.iter().any(|m| m.source == device));
    Ok(report)
}

fn give_back(mount: &Mount) {
    if mount.source.starts_with("/dev/") && !mount.read_only {
        let _ = block::flush(Path::new(&mount.source));
    }
    if mount.target.parent() == Some(Path::new(MOUNT_ROOT)) {
        // Only an empty folder goes.
        let _ = std::fs::remove_dir(&mount.target);
    }
}

fn end_holders(target: &Path) {
    let proc = Path::new("/proc");
    let parents = holders::parents(proc);
    let pids: Vec<i32> =
        holders::of(proc, target).iter().map(|h| h.pid).filter(|p| *p != 1 && !parents.contains(p)).collect();
    ending::end(&pids, GRACE, &|pid| holders::holder(proc, pid, target).is_some());
}

/// Who holds what, and how it ends: lines for a person.
pub fn explain(busy: &[BusyMount], retry: &str) -> String {
    let parents = holders::parents(Path::new("/proc"));
    let mut text = String::new();
    let (mut ours, mut others) = (false, false);
    for mount in busy {
        text.push_str(&format!("{} is busy:\n", mount.target));
        for holder in &mount.holders {
            let own = parents.contains(&holder.pid);
            (ours, others) = (ours || own, others || !own);
            let yours = if own { "  (your own shell)" } else { "" };
            text.push_str(&format!("  {:>7} {:<15} {}{yours}\n", holder.pid, holder.command, holder.by));
        }
        if mount.holders.is_empty() {
            text.push_str(
                "  no process holds it: a loop device, swap file or mount on it may (losetup, swapon -s)\n",
            );
        }
    }
    if ours {
        text.push_str("leave it first: cd /\n");
    }
    if others {
        text.push_str(&format!("end them: {retry}\n"));
    }
    text
}
