//! Several ways to one disk are one disk: by dm-multipath where it runs, by the name that the disk says of
//! itself where it does not.

use std::collections::HashMap;

use rescue_schema::report::{BlockReport, PathReport};

/// The disks with their other paths folded in.
pub(super) fn fold(disks: Vec<BlockReport>) -> Vec<BlockReport> {
    by_name(by_mapper(disks))
}

fn path(disk: &BlockReport) -> PathReport {
    let state = disk.state.clone().or(Some("running".into()));
    PathReport { name: disk.name.clone(), slot: disk.slot.clone(), state }
}

/// What dm-multipath made takes the place of its paths.
fn by_mapper(disks: Vec<BlockReport>) -> Vec<BlockReport> {
    let is_path = |disk: &BlockReport| {
        let holder = disk.children.iter().find(|c| c.kind == "mpath").map(|c| c.path.clone());
        holder.filter(|_| disk.kind != "mpath")
    };
    let mut members: HashMap<String, Vec<BlockReport>> = HashMap::new();
    let mut rest = Vec::new();
    for disk in disks {
        match is_path(&disk) {
            Some(holder) => members.entry(holder).or_default().push(disk),
            None => rest.push(disk),
        }
    }
    for disk in rest.iter_mut().filter(|d| d.kind == "mpath") {
        let Some(of) = members.remove(&disk.path) else { continue };
        if let Some(first) = of.first() {
            disk.model = first.model.clone();
            disk.serial = first.serial.clone();
            disk.wwn = first.wwn.clone();
            disk.bus = first.bus.clone();
            disk.firmware = first.firmware.clone();
            disk.rotational = first.rotational;
        }
        disk.paths = of.iter().map(path).collect();
    }
    // A map that is not at the top itself: its paths stay where they were.
    rest.extend(members.into_values().flatten());
    rest
}

/// Disks of one world-wide name, size and serial are one. Nothing but what identifies a unit by its maker
/// counts: a name of the T10 kind is often the model's.
fn by_name(disks: Vec<BlockReport>) -> Vec<BlockReport> {
    let key = |disk: &BlockReport| {
        let wwn = disk.wwn.as_deref().filter(|wwn| wwn.starts_with("naa.") || wwn.starts_with("eui."))?;
        let zeros = wwn.split_once('.').is_some_and(|(_, digits)| digits.bytes().all(|b| b == b'0'));
        let alone = disk.kind == "disk" && !zeros && disk.namespace.is_none();
        alone.then(|| (wwn.to_string(), disk.size, disk.serial.clone()))
    };
    let mut folded: Vec<BlockReport> = Vec::new();
    let mut first: HashMap<(String, u64, Option<String>), usize> = HashMap::new();
    for disk in disks {
        let Some(key) = key(&disk) else {
            folded.push(disk);
            continue;
        };
        let place = *first.entry(key).or_insert(folded.len());
        let Some(known) = folded.get_mut(place) else {
            folded.push(disk);
            continue;
        };
        if known.paths.is_empty() {
            known.paths.push(path(known));
        }
        let other = path(&disk);
        let paths = std::mem::take(&mut known.paths);
        // The one to read is the one in use, and then one that answers.
        if rank(&disk) > rank(known) {
            *known = disk;
        }
        known.paths = paths;
        known.paths.push(other);
    }
    folded
}

fn rank(disk: &BlockReport) -> (bool, bool) {
    fn in_use(disk: &BlockReport) -> bool {
        !disk.mounts.is_empty() || disk.children.iter().any(in_use)
    }
    (in_use(disk), disk.state.is_none())
}
