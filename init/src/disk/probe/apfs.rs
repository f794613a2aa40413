//! APFS containers (Apple File System Reference, "Container").

use rescue_schema::report::{Proof, SignatureReport};

use super::hash::fletcher64;
use super::signature;
use crate::disk::source::{Answer, Bytes, Reader, Unreadable};

/// Most blocks of the checkpoint area that are looked at for a whole copy of the superblock.
const CHECKPOINTS: u64 = 64;

fn is_superblock(sb: &Bytes) -> bool {
    // Type 1, a container's superblock, which has no subtype.
    sb.is(32, b"NXSB") && sb.u16(24) == Some(1) && sb.u32(28) == Some(0)
}

fn holds(sb: &Bytes) -> bool {
    is_superblock(sb) && fletcher64(sb) == sb.u64(0)
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(0, 4096)?.filter(|b| b.is(32, b"NXSB")) else { return Ok(None) };
    let mut found = describe(&sb, 32);
    if holds(&sb) {
        found.proof = Proof::Checksum;
        return Ok(Some(found));
    }
    found.state = Some("damaged".into());
    found.notes.push("the checksum of the container's superblock is wrong".into());
    // nx_xp_desc_base, nx_xp_desc_blocks
    let base = sb.u64(112).unwrap_or(1);
    let count = u64::from(sb.u32(104).unwrap_or(0)).min(CHECKPOINTS);
    copies(reader, base, count, &mut found)?;
    Ok(Some(found))
}

/// A container whose first superblock is lost: mkfs and macOS put the checkpoints behind it.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let mut found = signature("apfs", "filesystem", 0, Proof::Checksum);
    found.state = Some("damaged".into());
    found.notes.push("the container's first superblock is lost".into());
    copies(reader, 1, 16, &mut found)?;
    let Some(first) = found.backups.first().copied() else { return Ok(None) };
    if let Some(sb) = reader.get(first, 4096)? {
        let copy = describe(&sb, first + 32);
        (found.uuid, found.size, found.block_size, found.offset) =
            (copy.uuid, copy.size, copy.block_size, copy.offset);
    }
    Ok(Some(found))
}

fn copies(reader: &Reader<'_>, base: u64, count: u64, found: &mut SignatureReport) -> Result<(), Unreadable> {
    for block in base..base.saturating_add(count) {
        let Some(sb) = reader.get(block.saturating_mul(4096), 4096)? else { break };
        if holds(&sb) {
            found.backups.push(block * 4096);
        }
    }
    if !found.backups.is_empty() {
        let places: Vec<String> = found.backups.iter().map(u64::to_string).collect();
        found.notes.push(format!("whole checkpoints of it at bytes {}", places.join(", ")));
    }
    Ok(())
}

fn describe(sb: &Bytes, offset: u64) -> SignatureReport {
    let block = sb.u32(36).map(u64::from);
    SignatureReport {
        uuid: sb.uuid(72),
        size: sb.u64(40).zip(block).and_then(|(blocks, block)| blocks.checked_mul(block)),
        block_size: block,
        ..signature("apfs", "filesystem", offset, Proof::Magic)
    }
}
