//! How the kernel, udev, LVM2 and fstab(5) write the name of a device, and whether a device has such a name.

use rescue_schema::report::BlockReport;

/// The disk and the number in a kernel's name of a partition: `/dev/sda5`, `/dev/nvme0n1p5` (whose disk
/// keeps its `p`).
pub(super) fn kernel_name(source: &str) -> Option<(&str, u32)> {
    const KINDS: &[&str] = &["sd", "hd", "vd", "xvd", "nvme", "mmcblk", "ubd", "dasd"];
    let name = source.strip_prefix("/dev/")?;
    let disk = source.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = source.get(disk.len()..)?.parse().ok()?;
    KINDS.iter().any(|k| name.starts_with(k)).then_some((disk, number))
}

/// A name of udev's that ends in a serial number or is a mapped device's: `ata-MODEL_SERIAL-part2`,
/// `virtio-SERIAL`, `dm-name-root`.
pub(super) fn by_id<'a>(block: &'a BlockReport, id: &str) -> Option<&'a BlockReport> {
    let (disk, number) = numbered(id);
    let named = disk.strip_prefix("dm-name-").is_some_and(|n| block.path == format!("/dev/mapper/{n}"));
    let serial = block.serial.as_ref().map(|s| s.replace(' ', "_")).filter(|s| !s.is_empty());
    let serial = serial.is_some_and(|serial| {
        let head = disk.strip_suffix(serial.as_str());
        head.is_some_and(|h| h.ends_with('_') || matches!(h, "virtio-" | "ata-" | "scsi-" | "usb-"))
    });
    // `wwn-0x5000…`, `scsi-35000…`, `nvme-eui.…`
    let world = block.wwn.as_deref().is_some_and(|wwn| {
        let bare = wwn.split_once('.').map_or(wwn, |(_, digits)| digits);
        disk.strip_prefix("wwn-0x")
            .or(disk.strip_prefix("scsi-3"))
            .is_some_and(|d| d.eq_ignore_ascii_case(bare))
            || disk.strip_prefix("nvme-").or(disk.strip_prefix("wwn-")).is_some_and(|d| d == wwn)
    });
    if !(named || block.partition.is_none() && (serial || world)) {
        return None;
    }
    part(block, number)
}

/// The name of a disk's link, and the number of the partition that it goes on to.
pub(super) fn numbered(id: &str) -> (&str, Option<u32>) {
    match id.rsplit_once("-part") {
        Some((disk, number)) => (disk, number.parse().ok()),
        None => (id, None),
    }
}

pub(super) fn part(block: &BlockReport, number: Option<u32>) -> Option<&BlockReport> {
    match number {
        None => Some(block),
        Some(_) => block.children.iter().find(|c| c.partition.as_ref().map(|p| p.number) == number),
    }
}

/// A volume of ZFS by its name, or a partition on it; a name may end as a partition's does.
pub(super) fn by_volume<'a>(block: &'a BlockReport, name: &str) -> Option<&'a BlockReport> {
    let own = block.backing.as_deref().filter(|_| block.kind == "zvol")?;
    let (disk, number) = numbered(name);
    if own == name { Some(block) } else { part(block, number).filter(|_| own == disk) }
}

/// A name of udev's that says where a disk is plugged in: `pci-0000:00:05.0`, `pci-0000:00:1f.2-ata-3`.
pub(super) fn by_path<'a>(block: &'a BlockReport, path: &str) -> Option<&'a BlockReport> {
    let (disk, number) = numbered(path);
    let slot = block.slot.as_deref().filter(|s| !s.is_empty() && block.partition.is_none())?;
    let (slot, lun) = slot.split_once(' ').unwrap_or((slot, ""));
    let there = disk.strip_suffix(slot).is_some_and(|head| head.ends_with("pci-"))
        || disk.strip_suffix("-nvme-1").is_some_and(|d| d.ends_with(slot))
        // `ata3 0:0:0:0` is `…-ata-3` and `…-ata-3.0`.
        || slot.strip_prefix("ata").is_some_and(|n| {
            let place = disk.rsplit_once("-ata-").map(|(_, place)| place.trim_end_matches(".0"));
            place == Some(n)
        })
        || lun.contains(':') && disk.ends_with(&format!("scsi-{lun}"));
    if there { part(block, number) } else { None }
}

/// The node of a logical volume: `/dev/vg-a/root` is `/dev/mapper/vg--a-root` (lvm(8)).
pub(super) fn mapped(path: &str) -> Option<String> {
    let (group, volume) = path.strip_prefix("/dev/")?.split_once('/')?;
    let known = ["mapper", "disk", "md", "block", "loop"].contains(&group) || volume.contains('/');
    (!known).then(|| format!("/dev/mapper/{}-{}", group.replace('-', "--"), volume.replace('-', "--")))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Uuid,
    Label,
    PartUuid,
    PartLabel,
    Id,
    Place,
    /// A volume of a pool.
    Volume,
    Path,
}

/// Equal signs, links of udev's, what is meant.
pub(super) const TAGS: &[(&str, &str, Tag)] = &[
    ("UUID=", "/dev/disk/by-uuid/", Tag::Uuid),
    ("LABEL=", "/dev/disk/by-label/", Tag::Label),
    ("PARTUUID=", "/dev/disk/by-partuuid/", Tag::PartUuid),
    ("PARTLABEL=", "/dev/disk/by-partlabel/", Tag::PartLabel),
];

pub(super) fn tag(source: &str) -> (Tag, String) {
    for (equals, link, tag) in TAGS {
        if let Some(value) = source.strip_prefix(equals) {
            return (*tag, value.into());
        }
        if let Some(value) = source.strip_prefix(link) {
            return (*tag, unescaped(value));
        }
    }
    if let Some(place) = source.strip_prefix("/dev/disk/by-path/") {
        return (Tag::Place, unescaped(place));
    }
    if let Some(volume) = source.strip_prefix("/dev/zvol/") {
        return (Tag::Volume, unescaped(volume));
    }
    match source.strip_prefix("/dev/disk/by-id/").or(source.strip_prefix("ID=")) {
        Some(id) => (Tag::Id, unescaped(id)),
        None => (Tag::Path, source.into()),
    }
}

/// `\x20` and its kin, as udev writes them in the names of its links.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (first, tail) {
            (b'\\', [b'x', high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(*first),
            },
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
