//! Apple partition map (Inside Macintosh: Devices, chapter 3; Linux `block/partitions/mac.c`): a driver
//! descriptor in the first block, then a block for each partition, the map itself among them.

use rescue_schema::report::{PartitionReport, Proof, SignatureReport};

use super::{MOST, Table};
use crate::disk::source::{Answer, Bytes, Reader};

/// `ER`, of the driver descriptor.
const DRIVER: u16 = 0x4552;
/// `PM`, of a partition.
const PARTITION: u16 = 0x504d;
/// Bytes of an entry that are looked at.
const ENTRY: usize = 80;

/// The map of a disk.
pub(super) fn probe(reader: &Reader<'_>) -> Answer<Table> {
    let Some(driver) = reader.get(0, 8)? else { return Ok(None) };
    let Some(block) = driver.be16(2).map(u64::from) else { return Ok(None) };
    if driver.be16(0) != Some(DRIVER) || !block.is_power_of_two() || !(512..=4096).contains(&block) {
        return Ok(None);
    }
    let entry = |number: u32| -> Answer<Bytes> {
        let entry = reader.get(u64::from(number) * block, ENTRY)?;
        Ok(entry.filter(|entry| entry.be16(0) == Some(PARTITION)))
    };
    let Some(first) = entry(1)? else { return Ok(None) };
    let Some(count) = first.be32(4).filter(|count| *count > 0) else { return Ok(None) };
    let (mut partitions, mut notes) = (Vec::new(), Vec::new());
    let most = u32::try_from(MOST).unwrap_or(u32::MAX);
    if count > most {
        notes.push(format!("the map says to have {count} entries; {most} are looked at"));
    }
    for number in 1..=count.min(most) {
        let Some(entry) = entry(number)? else {
            notes.push(format!("entry {number} of {count} of the Apple partition map is none"));
            break;
        };
        let Some((start, blocks)) = entry.be32(8).zip(entry.be32(12)) else { break };
        let text = |at| entry.text(at, 32).filter(|text| !text.chars().any(char::is_control));
        let kind = text(48).unwrap_or_default();
        partitions.push(PartitionReport {
            number,
            start: u64::from(start) * block,
            size: u64::from(blocks) * block,
            purpose: purpose(&kind).map(Into::into),
            kind,
            name: text(16).filter(|name| !name.is_empty()),
            ..PartitionReport::default()
        });
    }
    let signature = SignatureReport {
        kind: "mac".into(),
        usage: "partition-table".into(),
        block_size: Some(block),
        proof: Proof::Fields,
        state: Some(if notes.is_empty() { "clean" } else { "damaged" }.into()),
        notes,
        ..SignatureReport::default()
    };
    Ok(Some((signature, partitions)))
}

fn purpose(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Apple_partition_map" => "the map",
        "Apple_Free" | "Apple_Void" => "free",
        "Apple_HFS" => "HFS",
        "Apple_HFSX" => "HFS+",
        "Apple_UFS" => "UFS",
        "Apple_Bootstrap" | "Apple_Boot" => "boot",
        "Apple_UNIX_SVR2" => "Linux",
        "Apple_APFS" => "APFS",
        _ => return None,
    })
}
