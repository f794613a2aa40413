//! What targets of the device mapper keep at the start of a device: VDO, dm-verity, dm-integrity.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Reader};

pub(super) fn vdo(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(b) = reader.get(0, 64)? else { return Ok(None) };
    Ok(b.is(0, b"dmvdo001")
        .then(|| SignatureReport { uuid: b.uuid(40), ..signature("vdo", "other", 0, Proof::Magic) }))
}

/// Hashes of dm-verity, on a device of their own (Documentation/admin-guide/device-mapper/verity.rst).
pub(super) fn verity(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(b) = reader.get(0, 512)? else { return Ok(None) };
    if !b.is(0, b"verity\0\0") || b.u32(8) != Some(1) {
        return Ok(None);
    }
    let mut found = SignatureReport {
        uuid: b.uuid(16),
        version: Some("1".into()),
        ..signature("DM_verity_hash", "crypto", 0, Proof::Fields)
    };
    found.notes.extend(b.text(32, 32).map(|hash| format!("hashes by {hash}")));
    Ok(Some(found))
}

/// drivers/md/dm-integrity.c, `struct superblock`.
pub(super) fn integrity(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(b) = reader.get(0, 64)? else { return Ok(None) };
    let Some(version) = b.u8(8).filter(|version| *version > 0 && b.is(0, b"integrt\0")) else {
        return Ok(None);
    };
    let mut found = SignatureReport {
        version: Some(version.to_string()),
        ..signature("DM_integrity", "crypto", 0, Proof::Fields)
    };
    found.notes.extend(b.u64(16).map(|sectors| format!("{sectors} sectors of data")));
    Ok(Some(found))
}
