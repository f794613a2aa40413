//! EROFS (fs/erofs/erofs_fs.h, `struct erofs_super_block`).

use rescue_schema::report::{Proof, SignatureReport};

use super::hash::crc32c_around;
use super::signature;
use crate::disk::source::{Answer, Reader};

const START: u64 = 1024;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(START, 128)?.filter(|b| b.u32(0) == Some(0xe0f5_e1e2)) else { return Ok(None) };
    let Some(log) = sb.u8(12).filter(|log| (9..=16).contains(log)) else { return Ok(None) };
    let block = 1u64 << log;
    let mut found = SignatureReport {
        label: sb.text(64, 16),
        uuid: sb.uuid(48),
        size: sb.u32(36).map(|blocks| u64::from(blocks) * block),
        block_size: Some(block),
        ..signature("erofs", "filesystem", START, Proof::Fields)
    };
    if sb.u32(8).is_some_and(|features| features & 1 != 0) && block > START {
        let whole = reader.get(START, usize::try_from(block - START).unwrap_or(0))?;
        if whole.and_then(|b| crc32c_around(&b.0, 4)) == sb.u32(4) {
            found.proof = Proof::Checksum;
        } else {
            found.state = Some("damaged".into());
            found.notes.push("the superblock's checksum is wrong".into());
        }
    }
    Ok(Some(found))
}
