//! Sun disklabel with its VTOC (Linux `block/partitions/sun.c`, Solaris `sys/dklabel.h`): one sector of big
//! endian numbers, with partitions that start at cylinders.

use rescue_schema::report::{PartitionReport, Proof, SignatureReport};

use super::Table;
use crate::disk::source::{Answer, Reader};

const MAGIC: u16 = 0xdabe;
/// `VTOC_SANE`.
const SANE: u32 = 0x600d_deee;
const SECTOR: u64 = 512;
/// Partitions of a label, and where they and their types stand.
const MOST: u16 = 8;
const PARTITIONS: usize = 444;
const TYPES: usize = 142;
/// The type of the one that is the whole disk, by custom the third.
const WHOLE: u16 = 5;

/// The label of a disk.
pub(super) fn probe(reader: &Reader<'_>) -> Answer<Table> {
    let Some(label) = reader.get(0, 512)? else { return Ok(None) };
    if label.be16(508) != Some(MAGIC) {
        return Ok(None);
    }
    let words = label.slice(0, 512).unwrap_or_default().chunks_exact(2);
    let sum = words.filter_map(|w| <[u8; 2]>::try_from(w).ok()).fold(0, |sum, w| sum ^ u16::from_be_bytes(w));
    let named = label.be32(188) == Some(SANE) && label.be32(128) == Some(1);
    // Two bytes that happen to be there are no label; with a wrong sum it must be sane beside.
    if sum != 0 && !named {
        return Ok(None);
    }
    let number = |at| label.be16(at).map_or(0, u64::from);
    let cylinder = number(436) * number(438);
    // Without a VTOC there are eight, of no type.
    let count = if named { label.be16(140).unwrap_or(0).min(MOST) } else { MOST };
    let mut partitions = Vec::new();
    for (index, n) in (0..usize::from(count)).zip(1u32..) {
        let place = label.be32(PARTITIONS + 8 * index).zip(label.be32(PARTITIONS + 8 * index + 4));
        let Some((start, sectors)) = place else { break };
        let kind = if named { label.be16(TYPES + 4 * index).unwrap_or(0) } else { 0 };
        if sectors == 0 || kind == WHOLE {
            continue;
        }
        partitions.push(PartitionReport {
            number: n,
            start: u64::from(start).saturating_mul(cylinder).saturating_mul(SECTOR),
            size: u64::from(sectors) * SECTOR,
            kind: format!("{kind:#x}"),
            purpose: purpose(kind).map(Into::into),
            ..PartitionReport::default()
        });
    }
    let good = sum == 0;
    let signature = SignatureReport {
        kind: "sun".into(),
        usage: "partition-table".into(),
        offset: 508,
        label: label
            .text(132, 8)
            .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())),
        proof: if good { Proof::Checksum } else { Proof::Fields },
        state: Some(if good { "clean" } else { "damaged" }.into()),
        notes: if good { Vec::new() } else { vec!["the checksum of the Sun disklabel is wrong".into()] },
        ..SignatureReport::default()
    };
    Ok(Some((signature, partitions)))
}

fn purpose(kind: u16) -> Option<&'static str> {
    Some(match kind {
        1 => "Solaris boot",
        2 => "Solaris root",
        3 => "Solaris swap",
        4 => "Solaris /usr",
        7 => "Solaris /var",
        8 => "Solaris /home",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xfd => "Linux RAID",
        _ => return None,
    })
}
