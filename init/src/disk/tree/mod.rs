//! The block devices of this machine as `/sys` shows them, from a root that a test can replace. No device is
//! opened here: what is on them comes later, by [`fill`].
//!
//! One file a kind of device says what is its own: [`scsi`], [`nvme`], [`mapper`] (device mapper, md, bcache,
//! loop). [`paths`] folds the several ways to one disk into one. To add a kind: its file, and its place in
//! `block`.

mod mapper;
mod nvme;
mod paths;
mod scsi;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rescue_schema::report::{BlockReport, HealthReport, MountPoint, PartitionReport, ProbeReport};

use super::mountinfo::Mount;
use crate::sys::files::{read_capped, read_trimmed};

/// Deepest stack of devices on devices that is followed.
const DEPTH: usize = 16;

/// The folder of one device in /sys.
struct Folder {
    path: PathBuf,
    name: String,
    /// Where the folder really is: the path of buses and controllers that leads to the device.
    link: String,
}

impl Folder {
    fn new(all: &Path, name: &str) -> Self {
        let path = all.join(name);
        let link = std::fs::read_link(&path).map(|l| l.to_string_lossy().into_owned()).unwrap_or_default();
        Self { path, name: name.into(), link }
    }

    /// An attribute; `None` when it is not there or empty.
    fn text(&self, attribute: &str) -> Option<String> {
        let text = read_trimmed(&self.path.join(attribute))?;
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!text.is_empty()).then(|| text.to_string())
    }

    fn number(&self, attribute: &str) -> Option<u64> {
        self.text(attribute)?.parse().ok()
    }

    fn has(&self, attribute: &str) -> bool {
        self.path.join(attribute).exists()
    }
}

/// The tree, without what is on the devices. Left out: zram, RAM disks, the single paths of what has
/// several, and whatever has no size (loops without a file, drives without a medium).
pub fn observe(root: &Path, mounts: &[Mount]) -> Vec<BlockReport> {
    let all = root.join("sys/class/block");
    let mut names = names(&root.join("sys/block"));
    names.retain(|n| !n.starts_with("zram") && !n.starts_with("ram"));
    let seen = Seen { all: &all, mounts: MountsOf::new(mounts), built: RefCell::default() };
    let mut disks = Vec::new();
    for name in &names {
        let folder = Folder::new(&all, name);
        if mapper::is_store(&folder) {
            continue;
        }
        // A path that the kernel joins to others itself is no disk of its own.
        if folder.text("hidden").as_deref() == Some("1") {
            continue;
        }
        // A device built on others is shown below them, unless these are paths to one disk, or gone.
        let (on, gone) = seen.below(&folder);
        if on == gone || mapper::is_multipath(&folder) {
            disks.push(seen.block(&folder, 0));
        }
    }
    disks.retain(|disk| disk.size > 0 || disk.state.is_some());
    let mut disks = paths::fold(disks);
    let swaps = read_capped(&root.join("proc/swaps"), 1 << 16).unwrap_or_default();
    let swaps = String::from_utf8_lossy(&swaps);
    let swaps: HashSet<&str> = swaps.lines().filter_map(|l| l.split_whitespace().next()).collect();
    if swaps.len() > 1 {
        disks.iter_mut().for_each(|d| mark_swap(d, &swaps));
    }
    disks.iter_mut().for_each(|disk| by_node(root, disk));
    disks
}

/// Calls a device by the node that it has: what names those of the device mapper in `/dev/mapper` (udev,
/// dmsetup) may not be there, and the kernel's own node is.
fn by_node(root: &Path, block: &mut BlockReport) {
    let is_there = |path: &str| root.join(path.trim_start_matches('/')).exists();
    let kernel = format!("/dev/{}", block.name);
    if !is_there(&block.path) && is_there(&kernel) {
        block.path = kernel;
    }
    block.children.iter_mut().for_each(|child| by_node(root, child));
}

/// proc_swaps(5) calls a mapped device by its kernel name.
fn mark_swap(block: &mut BlockReport, swaps: &HashSet<&str>) {
    let kernel = format!("/dev/{}", block.name);
    if swaps.contains(block.path.as_str()) || swaps.contains(kernel.as_str()) {
        block.mounts.push(MountPoint { target: "[SWAP]".into(), read_only: false });
    }
    block.children.iter_mut().for_each(|c| mark_swap(c, swaps));
}

/// Puts what is on each device, by path, in its place, with what the table says of each partition.
pub fn fill(block: &mut BlockReport, found: &HashMap<String, ProbeReport>) {
    block.probe = found.get(&block.path).cloned().unwrap_or_default();
    for child in &mut block.children {
        if let Some(number) = child.partition.as_ref().map(|p| p.number) {
            let entry = block.probe.partitions.iter().find(|p| p.number == number);
            child.partition = entry.cloned().or(child.partition.take());
        }
        fill(child, found);
    }
}

/// Puts what each disk says of its health, by path, in its place.
pub fn fill_health(disks: &mut [BlockReport], found: &HashMap<String, HealthReport>) {
    for disk in disks {
        disk.health = found.get(&disk.path).cloned();
    }
}

/// Who a disk is to be asked how it is, when it can say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// SMART of ATA, through SCSI where need be.
    Ata,
    /// Log pages of SCSI.
    Scsi,
    /// Log pages of NVMe.
    Nvme,
}

/// How to ask a disk for its health; `None` for what has none, or where asking can do harm: many a bridge
/// from USB hangs at a command that it does not know.
pub fn protocol(disk: &BlockReport) -> Option<Protocol> {
    match (disk.kind.as_str(), disk.bus.as_deref()) {
        ("disk" | "mpath", Some("nvme")) => Some(Protocol::Nvme),
        ("disk" | "mpath", Some("sata")) => Some(Protocol::Ata),
        ("disk" | "mpath", Some("sas" | "scsi")) if disk.model.is_some() => Some(Protocol::Scsi),
        _ => None,
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    // Shorter first: sdb before sdaa, vda2 before vda10.
    names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    names
}

/// Mounts by device, so that a thousand devices and a thousand mounts are not a million comparisons.
struct MountsOf<'m> {
    by_number: HashMap<&'m str, Vec<&'m Mount>>,
    /// btrfs and others mount under a number of their own, and name the device.
    by_source: HashMap<&'m str, Vec<&'m Mount>>,
}

impl<'m> MountsOf<'m> {
    fn new(mounts: &'m [Mount]) -> Self {
        let mut of = Self { by_number: HashMap::new(), by_source: HashMap::new() };
        for mount in mounts {
            of.by_number.entry(&mount.number).or_default().push(mount);
            if mount.number.starts_with("0:") && mount.source.starts_with("/dev/") {
                of.by_source.entry(&mount.source).or_default().push(mount);
            }
        }
        of
    }

    fn of(&self, number: &str, path: &str) -> Vec<MountPoint> {
        let found = [self.by_number.get(number), self.by_source.get(path)];
        let point = |m: &&Mount| MountPoint {
            target: m.target.to_string_lossy().into_owned(),
            read_only: m.read_only,
        };
        found.into_iter().flatten().flatten().map(point).collect()
    }
}

struct Seen<'a> {
    all: &'a Path,
    mounts: MountsOf<'a>,
    /// What is built on several devices is below each of them, with all that is on it, and read once.
    built: RefCell<HashMap<String, BlockReport>>,
}

impl Seen<'_> {
    /// How many devices one is built on, and how many of these were pulled out.
    fn below(&self, folder: &Folder) -> (usize, usize) {
        let on = names(&folder.path.join("slaves"));
        let gone = on.iter().filter(|name| !self.all.join(name).exists());
        (on.len(), gone.count())
    }

    fn block(&self, folder: &Folder, depth: usize) -> BlockReport {
        let name = folder.name.as_str();
        let part = folder.number("partition").and_then(|n| u32::try_from(n).ok());
        let size = folder.number("size").unwrap_or(0).saturating_mul(512);
        let mut block = BlockReport {
            name: name.into(),
            path: format!("/dev/{}", name.replace('!', "/")),
            kind: if part.is_some() { "part" } else { "disk" }.into(),
            size,
            number: folder.text("dev").unwrap_or_default(),
            read_only: folder.number("ro") == Some(1),
            sector_size: 512,
            ..BlockReport::default()
        };
        match part {
            Some(number) => {
                let start = folder.number("start").unwrap_or(0).saturating_mul(512);
                block.partition = Some(PartitionReport { number, start, size, ..PartitionReport::default() });
            }
            None => self.whole(folder, &mut block),
        }
        block.mounts = self.mounts.of(&block.number, &block.path);
        if depth < DEPTH {
            let inner = names(&folder.path);
            let inner =
                inner.into_iter().filter(|n| n.starts_with(name) && folder.has(&format!("{n}/partition")));
            for partition in inner {
                let mut below = self.block(&Folder::new(&folder.path, &partition), depth + 1);
                below.sector_size = block.sector_size;
                block.children.push(below);
            }
            for holder in names(&folder.path.join("holders")) {
                if let Some(known) = self.built.borrow().get(&holder) {
                    block.children.push(known.clone());
                    continue;
                }
                // By its own name, whose link says what leads to it.
                let own = Folder::new(self.all, &holder);
                let holder =
                    if own.path.exists() { own } else { Folder::new(&folder.path.join("holders"), &holder) };
                let built = self.block(&holder, depth + 1);
                self.built.borrow_mut().insert(holder.name, built.clone());
                block.children.push(built);
            }
        }
        block
    }

    /// What a whole device says of itself.
    fn whole(&self, folder: &Folder, block: &mut BlockReport) {
        let name = folder.name.as_str();
        block.sector_size = folder.number("queue/logical_block_size").unwrap_or(512);
        block.removable = folder.number("removable") == Some(1);
        block.bus = bus(folder).map(Into::into);
        if mapper::describe(folder, block) {
            let (on, gone) = self.below(folder);
            if gone > 0 {
                block.gone = gone == on;
                let words = if block.gone {
                    "what it was on is gone".to_string()
                } else {
                    format!("{gone} of the {on} devices below it gone")
                };
                block.state =
                    Some(block.state.take().map_or(words.clone(), |state| format!("{state}, {words}")));
            }
            return;
        }
        block.rotational = folder.number("queue/rotational").map(|r| r == 1);
        match name {
            n if n.starts_with("sr") => block.kind = "rom".into(),
            n if n.starts_with("fd") => block.kind = "floppy".into(),
            _ => {}
        }
        if name.starts_with("nvme") {
            nvme::describe(folder, block);
        } else if name.starts_with("sd") || name.starts_with("sr") {
            scsi::describe(folder, block);
        } else {
            block.model = folder.text("device/model").or_else(|| folder.text("device/name"));
            block.serial = folder.text("serial").or_else(|| folder.text("device/serial"));
            block.slot = card(&folder.link).map(Into::into);
            block.wwn =
                folder.text("wwid").or_else(|| folder.text("device/cid").map(|cid| format!("mmc.{cid}")));
        }
    }
}

/// The PCI address of the card that is a virtio disk, which udev names it by.
fn card(link: &str) -> Option<&str> {
    let address = link.split_once("/virtio")?.0.rsplit('/').next()?;
    let is = address.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    (is && address.matches(':').count() == 2).then_some(address)
}

/// The innermost word of the device's path in /sys that names a bus.
fn bus(folder: &Folder) -> Option<&'static str> {
    const WORDS: &[(&str, &str)] = &[
        ("/usb", "usb"),
        ("/nvme", "nvme"),
        ("/virtio", "virtio"),
        ("/ata", "sata"),
        ("/mmc", "mmc"),
        ("/vbd-", "xen"),
        ("/end_device-", "sas"),
    ];
    let scsi = folder.name.starts_with("sd") || folder.name.starts_with("sr");
    // A SCSI disk behind virtio is attached as SCSI.
    let words = WORDS.iter().filter(|(word, _)| !(scsi && *word == "/virtio"));
    let mut words = words.filter(|(word, _)| folder.link.contains(word));
    words.next().map(|(_, bus)| *bus).or(scsi.then_some("scsi"))
}
