//! SGI volume header (Linux `block/partitions/sgi.c`, IRIX `sys/dvh.h`): one sector of big endian numbers.

use rescue_schema::report::{PartitionReport, Proof, SignatureReport};

use super::Table;
use crate::disk::source::{Answer, Reader};

const MAGIC: u32 = 0x0be5_a941;
const SECTOR: u64 = 512;
/// Partitions of a header, and where they stand.
const MOST: u32 = 16;
const PARTITIONS: usize = 312;
/// The type of the one that is the whole disk, by custom the eleventh.
const WHOLE: u32 = 6;

/// The header of a disk.
pub(super) fn probe(reader: &Reader<'_>) -> Answer<Table> {
    let Some(header) = reader.get(0, 512)? else { return Ok(None) };
    if header.be32(0) != Some(MAGIC) {
        return Ok(None);
    }
    let words = header.slice(0, 512).unwrap_or_default().chunks_exact(4);
    let words = words.filter_map(|w| <[u8; 4]>::try_from(w).ok()).map(u32::from_be_bytes);
    let good = words.fold(0, u32::wrapping_add) == 0;
    let mut partitions = Vec::new();
    for (index, number) in (PARTITIONS..).step_by(12).zip(1..=MOST) {
        let fields = header.be32(index).zip(header.be32(index + 4)).zip(header.be32(index + 8));
        let Some(((sectors, start), kind)) = fields else { break };
        if sectors == 0 || kind == WHOLE {
            continue;
        }
        partitions.push(PartitionReport {
            number,
            start: u64::from(start) * SECTOR,
            size: u64::from(sectors) * SECTOR,
            kind: format!("{kind:#x}"),
            purpose: purpose(kind).map(Into::into),
            ..PartitionReport::default()
        });
    }
    let signature = SignatureReport {
        kind: "sgi".into(),
        usage: "partition-table".into(),
        proof: if good { Proof::Checksum } else { Proof::Magic },
        state: Some(if good { "clean" } else { "damaged" }.into()),
        notes: if good { Vec::new() } else { vec!["the checksum of the SGI volume header is wrong".into()] },
        ..SignatureReport::default()
    };
    Ok(Some((signature, partitions)))
}

fn purpose(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0 => "SGI volume header",
        3 => "SGI raw",
        5 => "SGI SysV",
        7 => "SGI EFS",
        0xa => "SGI XFS",
        0xb => "SGI XFS log",
        0xc => "SGI XLV",
        0xd => "SGI XVM",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xfd => "Linux RAID",
        _ => return None,
    })
}
