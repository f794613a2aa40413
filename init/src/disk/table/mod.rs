//! Partition tables. GPT is asked first: its disk carries a protective MBR too.

mod gpt;
mod mbr;

use rescue_schema::report::{PartitionReport, SignatureReport};

use super::source::{Answer, Reader};

/// A table and its partitions.
type Table = (SignatureReport, Vec<PartitionReport>);

pub(super) fn probe(reader: &Reader<'_>) -> Answer<Table> {
    match gpt::probe(reader)? {
        Some(table) => Ok(Some(table)),
        None => mbr::probe(reader),
    }
}

/// Says which partitions overlap or leave the disk.
fn complaints(partitions: &[PartitionReport], size: u64) -> Vec<String> {
    let mut notes = Vec::new();
    let mut sorted: Vec<_> =
        partitions.iter().filter(|p| !matches!(p.kind.as_str(), "0x5" | "0xf" | "0x85")).collect();
    sorted.sort_by_key(|p| p.start);
    for p in &sorted {
        if p.start.checked_add(p.size).is_none_or(|end| end > size) {
            notes.push(format!("partition {} ends beyond the disk", p.number));
        }
    }
    for (a, b) in sorted.iter().zip(sorted.iter().skip(1)) {
        if a.start.saturating_add(a.size) > b.start {
            notes.push(format!("partitions {} and {} overlap", a.number, b.number));
        }
    }
    notes
}
