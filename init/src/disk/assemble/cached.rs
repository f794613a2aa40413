//! Starting and stopping what stands behind a cache (Documentation/admin-guide/bcache.rst).

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::array::put;
use super::bcache::{Behind, Cached};
use super::overlay;
use super::record::{GOES, WAIT, hold, note, release, take};
use crate::sys::dm::{self, Target};

/// What the kernel shows of its caches.
const ALL: &str = "/sys/fs/bcache";

pub(super) fn map(behind: &Behind) -> io::Result<()> {
    take(&behind.device.path, behind.write)?;
    note(&format!("mapped {}", behind.mapped))?;
    let target = Target {
        start: 0,
        sectors: (behind.device.size / 512).saturating_sub(behind.start),
        kind: "linear",
        parameters: format!("{} {}", behind.device.path, behind.start),
    };
    dm::create(&behind.mapped, &format!("RESCUE-BCACHE-{}", behind.uuid), &[target], !behind.write)
}

pub(super) fn start(cached: &Cached, load: &dyn Fn(&str)) -> io::Result<()> {
    load("bcache");
    let register = Path::new(ALL).join("register");
    if !register.exists() {
        return Err(io::Error::other(
            "the kernel of this image has no bcache: an image with Debian's own kernel has it",
        ));
    }
    let devices: Vec<_> = cached.caches.iter().chain(&cached.backing).cloned().collect();
    let nodes = if cached.write {
        devices.iter().try_for_each(|d| release(&d.path))?;
        devices.iter().map(|d| d.path.clone()).collect()
    } else {
        overlay::make(&devices, load)?
    };
    note(&format!("bcache {}", cached.set))?;
    // The cache first: a backing device waits for it else.
    nodes.iter().try_for_each(|node| put(&register, node))?;
    let mut started = Vec::new();
    for _ in 0..GOES {
        started = names(&cached.set);
        if started.len() >= cached.backing.len() {
            break;
        }
        std::thread::sleep(WAIT);
    }
    if started.len() < cached.backing.len() {
        return Err(io::Error::other("the kernel did not put it together: dmesg says why"));
    }
    for name in started.iter().filter(|_| !cached.write) {
        let own = Path::new("/sys/block").join(name).join("bcache");
        // Nothing of the cache is written back, nor what is read put into it: the overlays would fill.
        put(&own.join("writeback_running"), "0")?;
        put(&own.join("cache_mode"), "none")?;
        hold(&format!("/dev/{name}"))?;
    }
    Ok(())
}

/// Nodes of the devices that a set is on.
fn members(set: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder(set)).into_iter().flatten().flatten();
    let node = |e: fs::DirEntry| {
        // Each is a link to the folder `bcache` of the device.
        let device = fs::canonicalize(e.path()).ok().filter(|path| path.ends_with("bcache"))?;
        Some(Path::new("/dev").join(device.parent()?.file_name()?))
    };
    folders.filter_map(node).collect()
}

fn is_free(node: &Path) -> io::Result<()> {
    let alone = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_EXCL).open(node);
    alone.map(drop).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", node.display())))
}

/// Kernel names of the devices that a set makes.
pub(super) fn names(set: &str) -> Vec<String> {
    let folders = fs::read_dir(folder(set)).into_iter().flatten().flatten();
    let backing = folders.filter(|e| e.file_name().to_string_lossy().starts_with("bdev"));
    let name = |e: fs::DirEntry| {
        let link = fs::read_link(e.path().join("dev")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    };
    backing.filter_map(name).collect()
}

fn folder(set: &str) -> PathBuf {
    Path::new(ALL).join(set)
}

/// Stops a set with the devices that it makes, none of which may be in use: the kernel would wait for its end.
pub(super) fn stop(set: &str) -> io::Result<()> {
    let (all, below) = (names(set), members(set));
    all.iter().try_for_each(|name| is_free(&Path::new("/dev").join(name)))?;
    for name in &all {
        put(&Path::new("/sys/block").join(name).join("bcache/stop"), "1")?;
    }
    put(&folder(set).join("stop"), "1")?;
    for _ in 0..GOES {
        let there = all.iter().any(|name| Path::new("/sys/block").join(name).exists());
        // The devices below are let go of at last.
        if !folder(set).exists() && !there && below.iter().all(|node| is_free(node).is_ok()) {
            return Ok(());
        }
        std::thread::sleep(WAIT);
    }
    Err(io::Error::other("it does not end: dmesg says why"))
}
