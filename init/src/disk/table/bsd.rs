//! BSD disklabel (sys/disklabel.h of the BSDs): on a whole disk, or inside an MBR partition.

use rescue_schema::report::{PartitionReport, Proof, SignatureReport};

use super::Table;
use crate::disk::source::{Answer, Bytes, Reader};

const MAGIC: [u8; 4] = [0x57, 0x45, 0x56, 0x82];
/// Most partitions of a label; OpenBSD has 16, the others 8.
const MOST: u16 = 16;
/// Bytes up to the partitions, and of one of them.
const HEAD: usize = 148;
const ENTRY: usize = 16;
/// Always in units of 512 bytes when a label was written on x86.
const SECTOR: u64 = 512;

/// The BSD whose label an MBR partition of this type holds.
pub(super) fn system(kind: u8) -> Option<&'static str> {
    match kind {
        0xa5 => Some("freebsd"),
        0xa6 => Some("openbsd"),
        0xa9 => Some("netbsd"),
        _ => None,
    }
}

struct Label {
    bytes: Bytes,
    count: usize,
    good: bool,
}

/// A label at `at`: its magic number twice, and as many partitions as it may have.
fn label(reader: &Reader<'_>, at: u64) -> Answer<Label> {
    let Some(bytes) = reader.get(at, HEAD + ENTRY * usize::from(MOST))? else { return Ok(None) };
    let Some(count) = bytes.u16(138).filter(|n| (1..=MOST).contains(n)).map(usize::from) else {
        return Ok(None);
    };
    if !bytes.is(0, &MAGIC) || !bytes.is(132, &MAGIC) {
        return Ok(None);
    }
    // The words of a label with its checksum in it come to zero.
    let words = bytes.slice(0, HEAD + ENTRY * count).unwrap_or_default().chunks_exact(2);
    let sum = words.filter_map(|w| <[u8; 2]>::try_from(w).ok()).fold(0, |sum, w| sum ^ u16::from_le_bytes(w));
    Ok(Some(Label { good: sum == 0, bytes, count }))
}

fn partitions(label: &Label, shift: u64, cut: Option<(u64, u64)>) -> Vec<PartitionReport> {
    let mut found = Vec::new();
    for (index, letter) in (0..label.count).zip('a'..) {
        let at = HEAD + index * ENTRY;
        let fields = label.bytes.u32(at).zip(label.bytes.u32(at + 4)).zip(label.bytes.u8(at + 12));
        let Some(((size, start), kind)) = fields else { break };
        let (start, size) = (u64::from(start) * SECTOR + shift, u64::from(size) * SECTOR);
        if kind == 0 || size == 0 {
            continue;
        }
        if let Some((from, length)) = cut {
            let inside = start >= from && start.saturating_add(size) <= from.saturating_add(length);
            if !inside || (start, size) == (from, length) {
                continue;
            }
        }
        found.push(PartitionReport {
            number: u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1),
            start,
            size,
            kind: format!("{kind:#x}"),
            purpose: purpose(kind).map(Into::into),
            name: Some(letter.into()),
            ..PartitionReport::default()
        });
    }
    found
}

/// The label of a disk without an MBR.
pub(super) fn probe(reader: &Reader<'_>) -> Answer<Table> {
    for at in [512u64, 64, 128] {
        let Some(label) = label(reader, at)? else { continue };
        let whole = (0, reader.size());
        // `c` (and NetBSD's `d`) is the disk itself.
        let mut partitions = partitions(&label, 0, None);
        partitions.retain(|p| (p.start, p.size) != whole && p.kind != "0x0");
        let signature = SignatureReport {
            kind: "bsd".into(),
            usage: "partition-table".into(),
            offset: at,
            label: label.bytes.text(24, 16).filter(|name| name.bytes().all(|b| b.is_ascii_graphic())),
            proof: if label.good { Proof::Checksum } else { Proof::Fields },
            state: Some(if label.good { "clean" } else { "damaged" }.into()),
            notes: if label.good {
                Vec::new()
            } else {
                vec!["the checksum of the disklabel is wrong".into()]
            },
            ..SignatureReport::default()
        };
        return Ok(Some((signature, partitions)));
    }
    Ok(None)
}

/// The partitions of the label in an MBR partition, where it has one.
pub(super) fn slices(
    reader: &Reader<'_>,
    start: u64,
    size: u64,
    system: &str,
) -> Answer<Vec<PartitionReport>> {
    let Some(label) = label(reader, start.saturating_add(SECTOR))? else { return Ok(None) };
    // FreeBSD counts from the slice where its `c` starts at 0, and the others from the disk.
    let relative = system == "freebsd" && label.count > 2 && label.bytes.u32(HEAD + 2 * ENTRY + 4) == Some(0);
    let shift = if relative { start } else { 0 };
    Ok(Some(partitions(&label, shift, Some((start, size)))))
}

fn purpose(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "BSD swap",
        7 => "UFS",
        8 => "FAT",
        9 => "UFS",
        13 => "FAT",
        14 => "Vinum",
        15 => "RAID",
        17 => "ext2",
        18 => "NTFS",
        27 => "ZFS",
        _ => return None,
    })
}
