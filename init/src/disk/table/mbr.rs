//! MBR with logical partitions.

use rescue_schema::report::{PartitionReport, SignatureReport};

use super::{Table, complaints};
use crate::disk::source::{Answer, Bytes, Reader};

/// Most logical partitions that are followed; the kernel stops at 256 minors.
const LOGICAL: u32 = 128;

struct Entry {
    boot: u8,
    kind: u8,
    start: u64,
    count: u64,
}

fn entries(sector: &Bytes) -> Option<Vec<Entry>> {
    if !sector.is(510, &[0x55, 0xaa]) {
        return None;
    }
    (0..4usize)
        .map(|i| {
            let at = 446 + i * 16;
            Some(Entry {
                boot: sector.u8(at)?,
                kind: sector.u8(at + 4)?,
                start: u64::from(sector.u32(at + 8)?),
                count: u64::from(sector.u32(at + 12)?),
            })
        })
        .collect()
}

fn extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0f | 0x85)
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<Table> {
    let Some(sector) = reader.get(0, 512)? else { return Ok(None) };
    let Some(primary) = entries(&sector) else { return Ok(None) };
    // The boot sector of a file system ends in the same two bytes; there the table is code or text.
    let id = sector.u32(440).unwrap_or(0);
    if primary.iter().any(|e| e.boot & 0x7f != 0) || primary.iter().all(|e| e.count == 0) {
        return Ok(None);
    }
    let unit = reader.sector;
    let report = |number: u32, e: &Entry, base: u64| PartitionReport {
        number,
        start: (base + e.start) * unit,
        size: e.count * unit,
        kind: format!("{:#x}", e.kind),
        purpose: purpose(e.kind).map(Into::into),
        uuid: (id != 0).then(|| format!("{id:08x}-{number:02x}")),
        bootable: e.boot == 0x80,
        ..PartitionReport::default()
    };
    let mut partitions = Vec::new();
    let mut notes = Vec::new();
    let mut logical = 5;
    for (number, entry) in (1u32..).zip(&primary).filter(|(_, e)| e.kind != 0 && e.count != 0) {
        partitions.push(report(number, entry, 0));
        if entry.kind == 0xee {
            notes.push("protective MBR, and no GPT is left".into());
        }
        if !extended(entry.kind) {
            continue;
        }
        let (base, mut link) = (entry.start, 0u64);
        let mut seen = Vec::new();
        while !seen.contains(&link) && logical < 5 + LOGICAL {
            seen.push(link);
            let Some(table) = reader.get((base + link) * unit, 512)?.and_then(|s| entries(&s)) else {
                notes.push(format!("the chain of logical partitions breaks at sector {}", base + link));
                break;
            };
            for e in table.iter().filter(|e| e.kind != 0 && e.count != 0 && !extended(e.kind)) {
                partitions.push(report(logical, e, base + link));
                logical += 1;
            }
            match table.iter().find(|e| extended(e.kind) && e.count != 0) {
                Some(next) => link = next.start,
                None => break,
            }
            if seen.contains(&link) {
                notes.push("the chain of logical partitions is a loop".into());
            }
        }
    }
    notes.append(&mut complaints(&partitions, reader.size()));
    let damaged = primary.iter().any(|e| e.kind == 0xee);
    let signature = SignatureReport {
        kind: "dos".into(),
        usage: "partition-table".into(),
        offset: 510,
        uuid: (id != 0).then(|| format!("{id:08x}")),
        state: damaged.then(|| "damaged".into()),
        notes,
        ..SignatureReport::default()
    };
    Ok(Some((signature, partitions)))
}

fn purpose(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x05 | 0x0f | 0x85 => "extended",
        0x07 => "Windows",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xa5 => "FreeBSD",
        0xee => "GPT protective",
        0xef => "EFI system",
        0xfd => "Linux RAID",
        _ => return None,
    })
}
