//! Looking into a file system and its subvolumes: read-only, out of sight, and with its devices refusing writes for as
//! long as that takes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rescue_schema::report::{BlockReport, SubvolumeReport};

use super::find_kept::Kept;
use crate::disk::drivers::Driver;
use crate::disk::system::{self, Content};
use crate::disk::{mount, pool, protection, resolve, zfs};
use crate::sys::mounts::{self, Wanted};
use crate::sys::{btrfs, inside, namespace};

/// Most subvolumes of one file system that are looked at.
const SUBVOLUMES: usize = 256;
/// Folders in which tools keep snapshots, a folder each.
const KEPT: &[&str] =
    &[".snapshots", "@snapshots", "timeshift-btrfs/snapshots", "@/.snapshots", "root/.snapshots"];

fn open(root: &BlockReport, driver: &Driver, more: &[&str]) -> std::io::Result<OwnedFd> {
    drop(crate::modules::load(driver.driver));
    let mut options = mount::step(root, "/", false, &[]).map(|s| s.options).unwrap_or_default();
    options.extend(more.iter().map(|o| (*o).to_string()));
    mounts::detached(Wanted {
        driver: driver.driver,
        device: &root.path,
        options: &options,
        read_only: true,
        inert: true,
    })
}

/// Looks into a file system, which is mounted read-only and out of sight for as long as that takes.
pub(super) fn inside<T>(
    root: &BlockReport,
    driver: &Driver,
    look: impl FnOnce(BorrowedFd<'_>) -> T,
) -> std::io::Result<T> {
    through(root, driver, None, look, |_, _| false)
}

/// As [`inside`], with an option more; `keeps` takes the mount where it is to stay, and says so.
pub(super) fn through<T>(
    root: &BlockReport,
    driver: &Driver,
    more: Option<&str>,
    look: impl FnOnce(BorrowedFd<'_>) -> T,
    keeps: impl FnOnce(&T, OwnedFd) -> bool,
) -> std::io::Result<T> {
    // What is mounted already is looked at where it is: a second, read-only mount would be refused.
    if let Some(place) = root.mounts.iter().min_by_key(|m| m.target.len()) {
        // Without what is mounted in it, which its fstab may have put over its own /etc.
        let folder = mounts::folder(Path::new(&place.target))?;
        return Ok(look(namespace::again_at(folder, false)?.as_fd()));
    }
    protected(&[root], || open(root, driver, more.as_slice()), look, keeps)
}

/// Opens a file system whose devices refuse writes from before until after.
fn protected<T>(
    devices: &[&BlockReport],
    open: impl FnOnce() -> std::io::Result<OwnedFd>,
    look: impl FnOnce(BorrowedFd<'_>) -> T,
    keeps: impl FnOnce(&T, OwnedFd) -> bool,
) -> std::io::Result<T> {
    let mut held = Vec::new();
    for device in devices {
        if protection::hold(&device.path)? {
            held.push(device.path.as_str());
        }
    }
    let mut stays = false;
    let found = open().map(|mount| {
        let found = look(mount.as_fd());
        stays = keeps(&found, mount);
        found
    });
    if !stays {
        held.into_iter().for_each(|device| drop(protection::release(device)));
    }
    found
}

/// What one subvolume shows: which it is, whether it is the one that is mounted when none is named.
pub(super) type Shown = (Option<SubvolumeReport>, bool, Content);

/// Keeps what was looked into where a system is in it.
pub(super) fn stays(kept: Option<&Kept>, shown: &[Shown], mount: OwnedFd) -> bool {
    let found = shown.iter().any(|(_, _, content)| content.facts.is_some());
    kept.is_some_and(|kept| kept.keep(mount, found))
}

/// Whether a file system on these devices can stay mounted: while it is, the kernel takes no copy of it.
pub(super) fn may_stay(root: &BlockReport, devices: &[&BlockReport], disks: &[BlockReport]) -> bool {
    let same = |b: &&BlockReport| b.probe.uuid == root.probe.uuid && root.probe.uuid.is_some();
    !zfs::is_dataset(root) && resolve::flat(disks).into_iter().filter(same).count() <= devices.len()
}

/// Every subvolume that may be a system's root, from the top level of a btrfs.
pub(super) fn subvolumes(
    root: &BlockReport,
    pool: &pool::Pool<'_>,
    driver: &Driver,
    kept: Option<&Kept>,
) -> std::io::Result<Vec<Shown>> {
    let is_mounted = !root.mounts.is_empty();
    if !is_mounted {
        // Of what was looked at before; a kernel that cannot refuses a copy that is older than that.
        let _ = btrfs::forget();
    }
    let others = pool.options(root);
    let default: Vec<&str> = others.iter().map(String::as_str).collect();
    let top = [default.as_slice(), &["subvolid=5"]].concat();
    let look = |top: BorrowedFd<'_>| {
        let default = open(root, driver, &default).ok().and_then(|d| inside::subvolume(d.as_fd(), ".").ok());
        walk(top, default)
    };
    let devices: &[&BlockReport] = if is_mounted { &[] } else { &pool.devices };
    let kept = kept.filter(|_| !is_mounted);
    let keeps = |shown: &Vec<Shown>, mount| stays(kept, shown, mount);
    match protected(devices, || open(root, driver, &top), look, keeps) {
        Err(_) if is_mounted => inside(root, driver, |fd| vec![(None, true, system::content(fd))]),
        found => found,
    }
}

fn walk(top: BorrowedFd<'_>, default: Option<u64>) -> Vec<Shown> {
    let names = |path: &str| {
        let mut names = mounts::names_inside(top, path, SUBVOLUMES).unwrap_or_default();
        names.sort();
        names
    };
    let mut paths = vec![String::new()];
    paths.extend(names("."));
    for folder in KEPT {
        for name in names(folder) {
            for inner in ["", "/snapshot", "/@"] {
                paths.push(format!("{folder}/{name}{inner}"));
            }
        }
    }
    let mut shown: Vec<Shown> = Vec::new();
    for path in paths {
        let at = if path.is_empty() { "." } else { &path };
        let root = inside::known(top, at).is_ok_and(|k| k.folder && k.inode == 256);
        let Some(id) = root.then(|| inside::subvolume(top, at).ok()).flatten() else { continue };
        if shown.len() >= SUBVOLUMES || shown.iter().any(|s| s.0.as_ref().is_some_and(|s| s.id == id)) {
            continue;
        }
        if let Ok(folder) = mounts::folder_inside(top, at) {
            let content = system::content(folder.as_fd());
            if content.facts.is_some() || content.role.is_some() {
                shown.push((Some(SubvolumeReport { id, path }), default == Some(id), content));
            }
        }
    }
    shown
}
