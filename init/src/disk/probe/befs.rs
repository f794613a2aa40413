//! BFS of BeOS and Haiku (fs/befs/befs_fs_types.h), which libblkid calls befs.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader};

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    // On Intel behind a boot sector.
    for place in [512, 0] {
        let Some(sb) = reader.get(place, 160)? else { continue };
        for (order, name) in [(Endian::Little, "little-endian"), (Endian::Big, "big-endian")] {
            if let Some(found) = parse(&sb, place, order, name) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn parse(sb: &Bytes, place: u64, order: Endian, name: &str) -> Option<SignatureReport> {
    let word = |at| sb.u32_in(at, order);
    let magics = word(32)? == 0x4246_5331 && word(68)? == 0xdd12_1031 && word(112)? == 0x15b6_830e;
    let (block, log) = (word(40)?, word(44)?);
    if !magics || word(36)? != 0x4249_4745 || !(10..=13).contains(&log) || block != 1 << log {
        return None;
    }
    let empty = sb.u64_in(96, order)? == sb.u64_in(104, order)?;
    Some(SignatureReport {
        label: sb.text(0, 32),
        version: Some(name.into()),
        state: Some(if empty { "clean" } else { "needs journal recovery" }.into()),
        size: sb.u64_in(48, order)?.checked_mul(u64::from(block)),
        block_size: Some(u64::from(block)),
        ..signature("befs", "filesystem", place + 32, Proof::Fields)
    })
}
