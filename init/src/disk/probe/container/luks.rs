//! LUKS (on-disk format 1.2.3 of version 1; LUKS2 on-disk format 1.1.1): the older header here, the newer in
//! `luks2`.

use rescue_schema::report::{Proof, SignatureReport};

use super::{luks2, signature};
use crate::disk::source::{Answer, Bytes, Reader};

const FIRST: &[u8] = b"LUKS\xba\xbe";
const ENABLED: u32 = 0x00ac_71f3;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(head) = reader.get(0, 592)? else { return Ok(None) };
    if !head.is(0, FIRST) {
        // What was made over a LUKS2 volume often leaves its second header whole.
        return luks2::second_near(reader);
    }
    match head.be16(6) {
        Some(1) => Ok(version_1(reader, &head)),
        Some(2) => luks2::probe(reader),
        version => Ok(version.map(|version| SignatureReport {
            uuid: head.text(168, 40),
            version: Some(version.to_string()),
            ..signature("crypto_LUKS", "crypto", 0, Proof::Magic)
        })),
    }
}

/// A LUKS2 volume of whose first header nothing is left.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    luks2::second_alone(reader)
}

fn version_1(reader: &Reader<'_>, head: &Bytes) -> Option<SignatureReport> {
    let cipher = format!("{}-{}", head.text(8, 32)?, head.text(40, 32)?);
    let (payload, bits) = (u64::from(head.be32(104)?) * 512, u64::from(head.be32(108)?) * 8);
    let slots: Vec<usize> = (0..8).filter(|i| head.be32(208 + 48 * i) == Some(ENABLED)).collect();
    let mut notes = vec![format!("{cipher}, {bits}-bit key, {} of 8 key slots in use", slots.len())];
    let mut state = "clean";
    if slots.is_empty() {
        state = "damaged";
        notes.push("no key slot is in use: nothing opens it but a header backup".into());
    } else if payload > reader.size() {
        state = "damaged";
        notes.push(format!("its data starts at byte {payload}, beyond the end of the device"));
    }
    let mut found = SignatureReport {
        uuid: head.text(168, 40),
        version: Some("1".into()),
        state: Some(state.into()),
        notes,
        ..signature("crypto_LUKS", "crypto", 0, Proof::Fields)
    };
    found.more.insert("LUKS_CIPHER".into(), cipher);
    found.more.insert("LUKS_KEYSLOTS".into(), slots.len().to_string());
    Some(found)
}
