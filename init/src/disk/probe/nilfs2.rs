//! NILFS2 (include/uapi/linux/nilfs2_ondisk.h): two superblocks, of which the newer counts.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader, Unreadable, crc32};

const FIRST: u64 = 1024;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let first = copy(reader, FIRST)?;
    // NILFS_SB2_OFFSET_BYTES
    let place = (reader.size() >> 12).saturating_sub(1) << 12;
    let second = if place > FIRST { copy(reader, place)? } else { None };
    let newest = |b: &Bytes| b.u64(56);
    Ok(match (first, second) {
        (Some((a, true)), Some((b, true))) if newest(&b) > newest(&a) => Some(found(&b, place, &[])),
        (Some((a, true)), Some((_, true))) => Some(found(&a, FIRST, &[place])),
        (Some((a, true)), _) => {
            let mut found = found(&a, FIRST, &[]);
            found.notes.push("the second superblock is not there or damaged".into());
            Some(found)
        }
        (first, Some((b, true))) => {
            let mut found = found(&b, place, &[place]);
            let how = if first.is_some() { "damaged" } else { "lost" };
            found.notes.push(format!("the first superblock is {how}, the second, at byte {place}, is whole"));
            found.state = Some("damaged".into());
            Some(found)
        }
        (Some((a, false)), _) => {
            let mut found = found(&a, FIRST, &[]);
            found.proof = Proof::Magic;
            found.state = Some("damaged".into());
            found.notes.push("the checksums of both superblocks are wrong".into());
            Some(found)
        }
        _ => None,
    })
}

/// A superblock and whether its checksum holds.
fn copy(reader: &Reader<'_>, place: u64) -> Result<Option<(Bytes, bool)>, Unreadable> {
    let Some(sb) = reader.get(place, 1024)?.filter(|b| b.u16(6) == Some(0x3434)) else { return Ok(None) };
    // Two bytes are little proof; the rest of the head must make sense too.
    let Some(bytes) = sb.u16(8).map(usize::from).filter(|n| (256..=1024).contains(n)) else {
        return Ok(None);
    };
    if sb.u32(20).is_none_or(|log| log > 6) {
        return Ok(None);
    }
    let sum = || {
        let before = crc32(0xEDB8_8320, sb.u32(12)?, sb.slice(0, 16)?);
        let zeros = crc32(0xEDB8_8320, before, &[0; 4]);
        Some(crc32(0xEDB8_8320, zeros, sb.slice(20, bytes - 20)?))
    };
    let holds = sum() == sb.u32(16);
    Ok(Some((sb, holds)))
}

fn found(sb: &Bytes, place: u64, backups: &[u64]) -> SignatureReport {
    // NILFS_VALID_FS, NILFS_ERROR_FS
    let state = match sb.u16(116) {
        Some(state) if state & 2 != 0 => "errors seen",
        Some(state) if state & 1 != 0 => "clean",
        _ => "not cleanly unmounted",
    };
    SignatureReport {
        label: sb.text(168, 80),
        uuid: sb.uuid(152),
        version: sb.u32(0).map(|revision| revision.to_string()),
        state: Some(state.into()),
        size: sb.u64(32),
        block_size: sb.u32(20).map(|log| 1024 << log.min(6)),
        backups: backups.to_vec(),
        ..signature("nilfs2", "filesystem", place + 6, Proof::Checksum)
    }
}
