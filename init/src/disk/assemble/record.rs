//! What was made here, and undoing it in reverse order.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::apply::{program, run};
use super::array::put;
use super::{cached, overlay, zfs};
use crate::sys::dm;
use crate::sys::files::{read_capped, read_trimmed, replace};
use crate::sys::mounts::protect;

/// What was made, a line each, oldest first: `md NAME`, `lvm UUID NAME`, `overlay NAME`, `crypt NAME`,
/// `mapped NAME`, `bcache SET`, `zpool NAME`, `key DATASET`, `protected DEVICE`.
const RECORD: &str = "/run/rescue/assembled";

/// Words of the names of volumes that are parts of others (lvm(8), VALID NAMES).
const PARTS: [&str; 6] = ["_rimage_", "_rmeta_", "_mimage_", "_mlog", "_corig", "_iorig"];

/// How often it is looked whether an array has gone, and what lies between.
pub(super) const GOES: usize = 500;
pub(super) const WAIT: Duration = Duration::from_millis(10);

fn lines() -> io::Result<Vec<String>> {
    match read_capped(Path::new(RECORD), 1 << 20) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        record => Ok(String::from_utf8_lossy(&record?).lines().map(Into::into).collect()),
    }
}

fn keep(lines: &[String]) -> io::Result<()> {
    let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
    replace(Path::new(RECORD), 0o600, text.as_bytes())
}

/// Adds a line.
pub(super) fn note(line: &str) -> io::Result<()> {
    if let Some(folder) = Path::new(RECORD).parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::OpenOptions::new().create(true).append(true).open(RECORD)?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// Protects a device against writes until it is given back.
pub(super) fn hold(device: &str) -> io::Result<()> {
    if protect(Path::new(device), true)? {
        note(&format!("protected {device}"))?;
    }
    Ok(())
}

/// Whether a device refuses writes because something that is read-only was put together on it.
pub fn is_protected(device: &str) -> bool {
    lines().unwrap_or_default().contains(&format!("protected {device}"))
}

/// Takes a device to build on: given back where it is to be written to, and else held.
pub(super) fn take(device: &str, write: bool) -> io::Result<()> {
    if write { release(device) } else { hold(device) }
}

/// Gives a device back that is to be written to. One that refuses writes by itself is left at that, and said.
pub(super) fn release(device: &str) -> io::Result<()> {
    let own = format!("protected {device}");
    let mut all = lines()?;
    if all.contains(&own) {
        protect(Path::new(device), false)?;
        all.retain(|line| *line != own);
        keep(&all)?;
    }
    crate::disk::protection::release(device)
}

/// Takes down all that was made here, the last first: what was done, and what would not go, a sentence each.
/// With `dry_run` only says what it would do. Mounts must be gone before.
///
/// # Errors
/// When the record cannot be read or written.
pub fn teardown(dry_run: bool) -> io::Result<(Vec<String>, Vec<String>)> {
    down(None, dry_run)
}

/// Takes down those of them that are named: `md127`, `luks-md127`, `vg-root`, `rescue-overlay-vda`. The devices
/// below stay protected.
///
/// # Errors
/// When the record cannot be read or written, and with the first that would not go.
pub fn take_down(names: &BTreeSet<String>) -> io::Result<Vec<String>> {
    let (done, stuck) = down(Some(names), false)?;
    match stuck.first() {
        Some(first) => Err(io::Error::other(first.clone())),
        None => Ok(done),
    }
}

fn down(only: Option<&BTreeSet<String>>, dry_run: bool) -> io::Result<(Vec<String>, Vec<String>)> {
    let record = lines()?;
    let (mut done, mut stuck, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for line in record.iter().rev() {
        let (kind, name) = line.split_once(' ').unwrap_or((line, ""));
        let named = |name: &str| only.is_none_or(|only| only.contains(name));
        let group = name.split(' ').next_back().unwrap_or(name);
        let (words, there) = match kind {
            "md" => (format!("stop /dev/{name}"), Path::new("/sys/block").join(name).exists()),
            "lvm" => (format!("deactivate volume group {group}"), true),
            "crypt" => (format!("close /dev/mapper/{name}"), dm::node(name).exists()),
            "mapped" => (format!("unmap /dev/mapper/{name}"), dm::node(name).exists()),
            "bcache" => {
                (format!("stop the bcache set {name}"), Path::new("/sys/fs/bcache").join(name).exists())
            }
            "overlay" => (format!("discard the overlay {name}"), true),
            "zpool" => (format!("export ZFS pool {name:?}"), crate::disk::zfs::is_imported(name)),
            "key" => {
                let pool = crate::disk::zfs::pool_name(name);
                (format!("unload the key of {name:?}"), crate::disk::zfs::is_imported(pool))
            }
            // A volume that was on an overlay is gone with it.
            _ => (format!("give {name} back"), Path::new(name).exists()),
        };
        // Of a group some volumes may stay; a device is given back by who writes to it.
        let wanted = match kind {
            "lvm" => true,
            "protected" => only.is_none(),
            "key" => named(crate::disk::zfs::pool_name(name)),
            "bcache" => only.is_none() || cached::names(name).iter().any(|n| named(n)),
            _ => named(name),
        };
        if !wanted {
            left.push(line.clone());
            continue;
        }
        let result = match kind {
            _ if dry_run || !there => Ok(()),
            "md" => stop(name),
            "lvm" => deactivate(name, &named),
            "mapped" => dm::remove(name),
            "bcache" => cached::stop(name),
            "crypt" => run(program("cryptsetup").args(["close", name]), None),
            "overlay" => overlay::discard(name),
            "zpool" => zfs::export(name),
            "key" => zfs::unload(name),
            // A device is given back only when nothing that was built on devices is left.
            _ if stuck.is_empty() => protect(Path::new(name), false).map(drop),
            _ => {
                left.push(line.clone());
                continue;
            }
        };
        match result {
            Ok(()) => {
                if only.is_some() && kind == "lvm" {
                    left.push(line.clone());
                }
                if there && !done.contains(&words) {
                    done.push(words);
                }
            }
            Err(error) => {
                stuck.push(format!("{words}: {error}"));
                left.push(line.clone());
            }
        }
    }
    if !dry_run && !record.is_empty() {
        left.reverse();
        keep(&left)?;
    }
    Ok((done, stuck))
}

/// Stops an array; its name is free when its device has gone, which the kernel sees to afterwards.
fn stop(name: &str) -> io::Result<()> {
    let folder = Path::new("/sys/block").join(name);
    put(&folder.join("md/array_state"), "clear")?;
    for _ in 0..GOES {
        if !folder.exists() {
            break;
        }
        std::thread::sleep(WAIT);
    }
    Ok(())
}

/// Removes the mappings of a group by their UUIDs, whatever LVM would make of its disks now: what nothing is
/// built on first, until nothing more goes. Of its visible volumes those that are `named`.
fn deactivate(name: &str, named: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let (uuid, group) = name.split_once(' ').unwrap_or((name, name));
    let start = format!("LVM-{}", uuid.replace('-', ""));
    let mut failed;
    loop {
        failed = None;
        let mut gone = 0;
        for entry in fs::read_dir("/sys/block")?.flatten() {
            let path = entry.path();
            let id = read_trimmed(&path.join("dm/uuid")).unwrap_or_default();
            let Some(volume) = read_trimmed(&path.join("dm/name")).filter(|_| id.starts_with(&start)) else {
                continue;
            };
            // Parts of a volume go when nothing is built on them. They have a word behind the UUID, or a name that
            // lvm(8) keeps for them.
            let part = id.len() > start.len() + 32 || PARTS.iter().any(|word| volume.contains(word));
            let used = fs::read_dir(path.join("holders")).is_ok_and(|mut h| h.next().is_some());
            if used || !(part || named(&volume)) {
                continue;
            }
            match dm::remove(&volume) {
                Ok(()) => gone += 1,
                Err(error) => {
                    let why = format!("{volume}: {error}{}", loops(&path));
                    failed = Some(io::Error::new(error.kind(), why));
                }
            }
        }
        if gone == 0 {
            unlink(group);
            return failed.map_or(Ok(()), Err);
        }
    }
}

/// The loop devices on a mapped device, which the kernel does not count among what is built on it.
fn loops(device: &Path) -> String {
    let name = read_trimmed(&device.join("dm/name")).unwrap_or_default();
    let number = device.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let nodes = [format!("/dev/mapper/{name}"), format!("/dev/{number}")];
    let all = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let on =
        all.filter(|e| read_trimmed(&e.path().join("loop/backing_file")).is_some_and(|f| nodes.contains(&f)));
    on.map(|e| format!("; on it is /dev/{0}: losetup -d /dev/{0}", e.file_name().to_string_lossy())).collect()
}

/// Removes the links in `/dev/GROUP` that lead nowhere, and the folder when it is empty.
fn unlink(group: &str) {
    let folder = Path::new("/dev").join(group);
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        if entry.path().is_symlink() && !entry.path().exists() {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(&folder);
}
