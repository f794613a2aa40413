//! Volumes of pools. To the kernel each is a disk, numbered anew and in no order whenever its pool is imported; so they
//! go by their names. What is on one is mostly a guest's: its systems, arrays and groups are not this machine's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rescue_schema::report::{BlockReport, ProbeResult};

use super::pool_name;
use super::said::{is_name, is_pool, said};
use crate::disk::resolve::flat;
use crate::sys::block;

/// Where udev links volumes by their names.
const LINKS: &str = "/dev/zvol";
/// How often it is looked whether one more has its device before that is given up, and what lies between.
const GOES: usize = 60;
const WAIT: Duration = Duration::from_millis(50);

/// Says of each volume what it is called, as `backing`. One that does not answer was found out before.
pub(super) fn name(disks: &mut [BlockReport]) {
    let asked = |d: &&mut BlockReport| d.kind == "zvol" && d.probe.result != ProbeResult::Unreadable;
    for disk in disks.iter_mut().filter(asked) {
        disk.backing = block::volume_name(Path::new(&disk.path)).ok().filter(|name| is_name(name));
    }
}

/// The volume that a device lies on.
pub fn guest<'a>(path: &str, disks: &'a [BlockReport]) -> Option<&'a BlockReport> {
    let mut volumes = disks.iter().filter(|d| d.kind == "zvol");
    volumes.find(|d| flat(std::slice::from_ref(*d)).iter().any(|b| b.path == path))
}

/// The pool that a volume is of, where its devices are seen.
pub fn pool_of<'a>(volume: &BlockReport, disks: &'a [BlockReport]) -> Option<&'a BlockReport> {
    let name = pool_name(volume.backing.as_deref()?);
    flat(disks).into_iter().find(|b| b.kind == "zpool" && b.name == name)
}

/// What a volume, or a partition on it, is linked as: that stays the same.
pub fn link_of(block: &BlockReport, volume: &BlockReport) -> Option<String> {
    let name = volume.backing.as_deref()?;
    match &block.partition {
        Some(partition) => Some(format!("{LINKS}/{name}-part{}", partition.number)),
        None => (block.path == volume.path).then(|| format!("{LINKS}/{name}")),
    }
}

/// Waits for the devices of a pool's volumes, which the kernel makes once it is imported, and links them by their
/// names. Nothing comes of it where that cannot be.
pub fn settle(pool: &str) {
    let list = ["list", "-Hp", "-t", "volume", "-o", "name,volmode,keystatus", "-r", pool];
    let told = said("zfs", &list).unwrap_or_default();
    let mut wanted: Vec<&str> = told
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, mode, key] = fields.as_slice() else { return None };
            (is_name(name) && *mode != "none" && *key != "unavailable").then_some(*name)
        })
        .collect();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut left = GOES;
    while !wanted.is_empty() && left > 0 {
        left -= 1;
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let device = entry.file_name().to_string_lossy().into_owned();
            if !device.starts_with("zd") || known.contains_key(&device) {
                continue;
            }
            let Ok(name) = block::volume_name(&Path::new("/dev").join(&device)) else { continue };
            if wanted.contains(&name.as_str()) {
                wanted.retain(|w| *w != name);
                // As long as some come, more may.
                left = GOES;
                let _ = link(&device, &name);
            }
            known.insert(device, name);
        }
        if !wanted.is_empty() {
            std::thread::sleep(WAIT);
        }
    }
}

fn link(device: &str, name: &str) -> io::Result<()> {
    let place = format!("{LINKS}/{name}");
    if let Some(folder) = Path::new(&place).parent() {
        fs::create_dir_all(folder)?;
    }
    let put = |device: &str, place: &str| {
        let _ = fs::remove_file(place);
        symlink(Path::new("/dev").join(device), place)
    };
    put(device, &place)?;
    for entry in fs::read_dir(Path::new("/sys/block").join(device))?.flatten() {
        let part = entry.file_name().to_string_lossy().into_owned();
        if let Some(number) = part.strip_prefix(device).and_then(|rest| rest.strip_prefix('p')) {
            put(&part, &format!("{place}-part{number}"))?;
        }
    }
    Ok(())
}

/// Takes the links of a pool that is gone away.
pub fn unlink(pool: &str) {
    if is_pool(pool) {
        let _ = fs::remove_dir_all(Path::new(LINKS).join(pool));
    }
}
