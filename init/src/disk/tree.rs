//! The block devices of this machine as `/sys` shows them, from a root that a test can replace.

use std::collections::HashMap;
use std::path::Path;

use rescue_schema::report::{BlockReport, MountPoint, PartitionReport, ProbeReport};

use super::mountinfo::Mount;
use crate::sys::files::{read_capped, read_trimmed};

/// Deepest stack of devices on devices that is followed.
const DEPTH: usize = 16;

/// The tree, without what is on the devices. Left out: zram, RAM disks, and whatever has no size
/// (loops without a file, drives without a medium).
pub fn observe(root: &Path, mounts: &[Mount]) -> Vec<BlockReport> {
    let all = root.join("sys/class/block");
    let mut names = names(&root.join("sys/block"));
    names.retain(|n| !n.starts_with("zram") && !n.starts_with("ram"));
    // A device built on others is shown below them.
    names.retain(|n| self::names(&all.join(n).join("slaves")).is_empty());
    let mut disks: Vec<BlockReport> =
        names.iter().map(|n| block(&all.join(n), n, mounts, 0)).filter(|b| b.size > 0).collect();
    let swaps = read_capped(&root.join("proc/swaps"), 1 << 16).unwrap_or_default();
    let swaps = String::from_utf8_lossy(&swaps);
    let swaps: Vec<&str> = swaps.lines().filter_map(|l| l.split_whitespace().next()).collect();
    disks.iter_mut().for_each(|d| mark_swap(d, &swaps));
    disks
}

/// proc_swaps(5) calls a mapped device by its kernel name.
fn mark_swap(block: &mut BlockReport, swaps: &[&str]) {
    if swaps.iter().any(|s| *s == block.path || s.strip_prefix("/dev/") == Some(&block.name)) {
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

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    // Shorter first: sdb before sdaa, vda2 before vda10.
    names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    names
}

fn block(folder: &Path, name: &str, mounts: &[Mount], depth: usize) -> BlockReport {
    let text = |attribute: &str| read_trimmed(&folder.join(attribute)).filter(|t| !t.trim().is_empty());
    let number = |attribute: &str| text(attribute).and_then(|t| t.parse::<u64>().ok());
    let part = number("partition").and_then(|n| u32::try_from(n).ok());
    let size = number("size").unwrap_or(0).saturating_mul(512);
    let link = std::fs::read_link(folder).map(|l| l.to_string_lossy().into_owned()).unwrap_or_default();
    let device = text("dev").unwrap_or_default();
    let mapped = text("dm/name");
    let kind = match (part, text("dm/uuid"), text("md/level")) {
        (Some(_), ..) => "part".into(),
        (_, Some(id), _) if id.starts_with("LVM-") => "lvm".into(),
        (_, Some(id), _) if id.starts_with("CRYPT-") => "crypt".into(),
        (_, _, Some(level)) => level,
        _ if mapped.is_some() => "dm".into(),
        _ if name.starts_with("loop") => "loop".into(),
        _ if name.starts_with("sr") => "rom".into(),
        _ => "disk".into(),
    };
    let mut children = Vec::new();
    if depth < DEPTH {
        let inner = names(folder).into_iter().filter(|n| folder.join(n).join("partition").exists());
        children.extend(inner.map(|n| block(&folder.join(&n), &n, mounts, depth + 1)));
        for holder in names(&folder.join("holders")) {
            children.push(block(&folder.join("holders").join(&holder), &holder, mounts, depth + 1));
        }
    }
    BlockReport {
        path: match &mapped {
            Some(mapped) => format!("/dev/mapper/{mapped}"),
            None => format!("/dev/{}", name.replace('!', "/")),
        },
        name: name.into(),
        size,
        sector_size: number("queue/logical_block_size").unwrap_or(512),
        model: text("device/model").map(|m| m.trim().to_string()),
        serial: text("serial").or_else(|| text("device/serial")).map(|s| s.trim().to_string()),
        bus: if part.is_none() { bus(&link, name).map(Into::into) } else { None },
        removable: number("removable") == Some(1),
        read_only: number("ro") == Some(1),
        partition: part.map(|number_| PartitionReport {
            number: number_,
            start: number("start").unwrap_or(0).saturating_mul(512),
            size,
            ..PartitionReport::default()
        }),
        mounts: mounts
            .iter()
            .filter(|m| m.number == device)
            .map(|m| MountPoint { target: m.target.to_string_lossy().into_owned(), read_only: m.read_only })
            .collect(),
        number: device,
        kind,
        probe: ProbeReport::default(),
        children,
    }
}

/// The innermost word of the device's path in /sys that names a bus.
fn bus(link: &str, name: &str) -> Option<&'static str> {
    const WORDS: &[(&str, &str)] = &[
        ("/usb", "usb"),
        ("/nvme", "nvme"),
        ("/virtio", "virtio"),
        ("/ata", "sata"),
        ("/mmc", "mmc"),
        ("/vbd-", "xen"),
    ];
    WORDS
        .iter()
        .find(|(word, _)| link.contains(word))
        .map(|(_, bus)| *bus)
        .or_else(|| name.starts_with("sd").then_some("scsi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_holders_are_below_their_disk() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for name in ["vda", "zram0", "loop0"] {
            write(&format!("sys/block/{name}/x"), "");
        }
        write("sys/class/block/vda/size", "4096\n");
        write("sys/class/block/vda/serial", "disk-1\n");
        write("sys/class/block/vda/vda1/partition", "1\n");
        write("sys/class/block/vda/vda1/size", "2048\n");
        write("sys/class/block/vda/vda1/dev", "254:1\n");
        write("sys/class/block/vda/vda1/holders/dm-0/dm/name", "root\n");
        write("sys/class/block/loop0/size", "0\n");
        write("sys/class/block/vda/vda1/holders/dm-0/dm/uuid", "LVM-x\n");
        write("proc/swaps", "Filename Type Size Used Priority\n/dev/dm-0 partition 1 0 -2\n");
        let mounts = super::super::mountinfo::parse(b"30 1 254:1 / /mnt/a ro - ext4 /dev/vda1 ro\n");
        let tree = observe(root.path(), &mounts);
        assert_eq!(tree.len(), 1);
        let part = &tree[0].children[0];
        assert_eq!((tree[0].serial.as_deref(), part.size), (Some("disk-1"), 2048 * 512));
        assert_eq!(part.mounts[0], MountPoint { target: "/mnt/a".into(), read_only: true });
        assert_eq!(
            (part.children[0].path.as_str(), part.children[0].kind.as_str()),
            ("/dev/mapper/root", "lvm")
        );
        assert_eq!(part.children[0].mounts[0].target, "[SWAP]");
    }
}
