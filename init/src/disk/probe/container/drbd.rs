//! DRBD with internal metadata (drbd_meta_data.h): in the last 4 KiB, behind the data that it replicates.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

const LENGTH: usize = 4096;
/// Bytes up to which the structures of 8 and of 9 go; zeros follow.
const OLD: usize = 100;
const NEW: usize = 1400;
const SMALLEST: u64 = 0x10000;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    if reader.size() < SMALLEST {
        return Ok(None);
    }
    // DRBD rounds to 4 KiB where the device does not end so.
    for end in [reader.size() & !4095, reader.size()] {
        if let Some(found) = at(reader, end - 4096)? {
            return Ok(Some(found));
        }
        if end == reader.size() {
            break;
        }
    }
    Ok(None)
}

fn at(reader: &Reader<'_>, at: u64) -> Answer<SignatureReport> {
    let Some(b) = reader.get(at, LENGTH)? else { return Ok(None) };
    let (version, device, from, unclean) = match b.be32(60) {
        Some(0x8374_026b) => ("v08", 40, OLD, false),
        Some(0x8374_026c) => ("v08", 40, OLD, true),
        Some(0x8374_026d) => ("v09", 48, NEW, false),
        _ => return Ok(None),
    };
    let padded = b.0.get(from..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
    if b.be32(80) != Some(4096) || !padded {
        return Ok(None);
    }
    Ok(describe(&b, at, version, device, unclean))
}

fn describe(b: &Bytes, at: u64, version: &str, device: usize, unclean: bool) -> Option<SignatureReport> {
    let flags = b.be32(56)?;
    let mut notes = Vec::new();
    let role = if flags & 2 != 0 { "was primary" } else { "was secondary" };
    notes.push(format!("it {role}; bring it up by DRBD, or what is changed here is lost to its peers"));
    let state = match () {
        () if flags & 1 == 0 => "inconsistent",
        () if flags & 64 != 0 => "needs resync",
        () if unclean => "not cleanly stopped",
        () => "clean",
    };
    Some(SignatureReport {
        uuid: b.be64(device).filter(|id| *id != 0).map(|id| format!("{id:x}")),
        version: Some(version.into()),
        size: b.be64(0)?.checked_mul(512).filter(|size| *size > 0),
        state: Some(state.into()),
        notes,
        ..signature("drbd", "raid", at + 60, Proof::Fields)
    })
}
