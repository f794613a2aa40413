//! Overlays in RAM: what LVM2 and the kernel write to physical volumes by activating what they keep records of goes
//! to one (dm-snapshot), and the volume itself is only read.
//!
//! What is kept of a device is a file on the rescue's own file system in RAM, which takes room as it is written to,
//! up to a quarter of the memory. When that is full the overlay fails, and the disk is as it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apply::{program, run};
use super::lvm::Device;
use super::record::{hold, note};
use crate::sys::dm::{self, Target};
use crate::sys::files::{read_capped, read_trimmed};

/// Where the written blocks are kept.
const FOLDER: &str = "/run/rescue/overlay";
/// Largest share of the memory that all overlays of a group may take.
const SHARE: u64 = 4;
/// Sectors of a piece that is copied before it is written to.
const CHUNK: u64 = 8;
/// What md(4) may resync, in KiB a second.
const LIMITS: [&str; 2] = ["/proc/sys/dev/raid/speed_limit_min", "/proc/sys/dev/raid/speed_limit_max"];

/// What a device's overlay is called.
fn named(device: &str) -> String {
    format!("rescue-overlay-{}", device.replace(['/', '!'], "-"))
}

fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn memory() -> u64 {
    let text = read_capped(Path::new("/proc/meminfo"), 1 << 16).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let total = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = total.and_then(|t| t.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(256 << 10).saturating_mul(1024)
}

/// Puts an overlay on each device that has none, and gives their nodes. The devices are protected.
pub(super) fn make(devices: &[Device], load: &dyn Fn(&str)) -> io::Result<Vec<String>> {
    load("loop");
    load("dm-snapshot");
    fs::create_dir_all(FOLDER)?;
    let share = memory() / SHARE / u64::try_from(devices.len()).unwrap_or(1).max(1);
    let mut nodes = Vec::new();
    for device in devices {
        let name = named(&device.name);
        if !dm::node(&name).exists() {
            hold(&device.path)?;
            one(device, &name, share).map_err(|e| {
                io::Error::new(e.kind(), format!("putting an overlay on {}: {e}", device.path))
            })?;
        }
        nodes.push(dm::node(&name).display().to_string());
    }
    Ok(nodes)
}

fn one(device: &Device, name: &str, share: u64) -> io::Result<()> {
    note(&format!("overlay {name}"))?;
    let size = share.min(device.size).max(1 << 20);
    fs::File::create(file(name))?.set_len(size)?;
    let output = losetup().args(["--find", "--show"]).arg(file(name)).output()?;
    let store = String::from_utf8_lossy(&output.stdout).trim().to_string();
    if !output.status.success() || store.is_empty() {
        return Err(io::Error::other(format!("losetup: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    let target = Target {
        start: 0,
        sectors: device.size / 512,
        kind: "snapshot",
        parameters: format!("{} {store} N {CHUNK}", device.path),
    };
    dm::create(name, &format!("RESCUE-OVERLAY-{name}"), &[target], false)
}

fn losetup() -> Command {
    program("losetup")
}

/// Ends an overlay: what was written to it is gone.
pub(super) fn discard(name: &str) -> io::Result<()> {
    if dm::node(name).exists() {
        dm::remove(name)?;
    }
    let path = file(name);
    let all = fs::read_dir("/sys/block")?.flatten();
    for entry in all {
        let backing = read_trimmed(&entry.path().join("loop/backing_file"));
        if backing.is_some_and(|b| Path::new(&b) == path) {
            run(losetup().arg("--detach").arg(Path::new("/dev").join(entry.file_name())), None)?;
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Does something while nothing is resynced.
pub(super) fn without_resync<T>(work: impl FnOnce() -> T) -> T {
    let before: Vec<Option<String>> = LIMITS.iter().map(|l| read_trimmed(Path::new(l))).collect();
    LIMITS.iter().for_each(|limit| drop(fs::write(limit, "1")));
    let done = work();
    for (limit, before) in LIMITS.iter().zip(before) {
        if let Some(before) = before.and_then(|b| b.split_whitespace().next().map(String::from)) {
            let _ = fs::write(limit, before);
        }
    }
    done
}

/// Stops what the RAID volumes of a group have begun to make equal.
pub(super) fn freeze(group: &str) {
    let start = format!("LVM-{}", group.replace('-', ""));
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let dm = entry.path().join("dm");
        let own = read_trimmed(&dm.join("uuid")).is_some_and(|id| id.starts_with(&start));
        if let Some(name) = read_trimmed(&dm.join("name")).filter(|_| own) {
            // Only RAID takes it; the others say that they do not know it.
            let _ = dm::message(&name, "frozen");
        }
    }
}
