//! romfs (Documentation/filesystems/romfs.rst).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Reader};

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(head) = reader.get(0, 32)?.filter(|b| b.is(0, b"-rom1fs-")) else { return Ok(None) };
    let Some(size) = head.be32(8) else { return Ok(None) };
    let mut found = SignatureReport {
        label: head.text(16, 16),
        size: Some(u64::from(size)),
        block_size: Some(1024),
        ..signature("romfs", "filesystem", 0, Proof::Checksum)
    };
    // The first 512 bytes add up to nothing.
    let bytes = reader.get(0, usize::try_from(size.min(512)).unwrap_or(0))?;
    let words = bytes.iter().flat_map(|b| b.0.chunks_exact(4)).filter_map(|w| w.try_into().ok());
    let sum = words.map(u32::from_be_bytes).fold(0u32, u32::wrapping_add);
    if bytes.is_none() || sum != 0 {
        found.proof = Proof::Magic;
        found.state = Some("damaged".into());
        found.notes.push("the superblock's checksum is wrong".into());
    }
    Ok(Some(found))
}
