//! Stratis (the Stratis software design, section 7): a superblock in sector 1 and again in sector 9.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader, crc32, hyphens};

const MAGIC: &[u8] = b"!Stra0tis\x86\xff\x02^\x41rh";
const PLACES: [u64; 2] = [512, 9 * 512];

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let mut copies = Vec::new();
    let mut magic = None;
    for at in PLACES {
        let Some(b) = reader.get(at, 512)? else { return Ok(None) };
        if b.is(4, MAGIC) {
            magic = magic.or(Some(at));
            let sum = b.slice(4, 508).map(|bytes| !crc32(0x82F6_3B78, !0, bytes));
            if sum == b.u32(0) {
                copies.push((at, b));
            }
        }
    }
    let Some(offset) = magic else { return Ok(None) };
    let mut found = signature("stratis", "raid", offset + 4, Proof::Magic);
    found.state = Some(if copies.len() == 2 { "clean" } else { "damaged" }.into());
    if copies.len() < 2 {
        found.notes.push(format!("{} of 2 superblocks are whole", copies.len()));
    }
    if let Some((_, b)) = copies.first() {
        found.proof = Proof::Checksum;
        found.uuid = id(b, 64);
        found.size = b.u64(20).and_then(|sectors| sectors.checked_mul(512));
        found.more.extend(id(b, 32).map(|pool| ("POOL_UUID".to_string(), pool)));
        found.more.extend(b.u64(20).map(|n| ("BLOCKDEV_SECTORS".to_string(), n.to_string())));
        found.more.extend(b.u64(120).map(|n| ("BLOCKDEV_INITTIME".to_string(), n.to_string())));
    }
    found.backups = copies.into_iter().map(|(at, _)| at).collect();
    Ok(Some(found))
}

fn id(b: &Bytes, at: usize) -> Option<String> {
    b.text(at, 32).map(|digits| hyphens(&digits, &[8, 4, 4, 4, 12]))
}
