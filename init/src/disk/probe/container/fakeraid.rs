//! RAID of chipsets and host adapters whose metadata `dmraid` knows: recognised, so that a member is not
//! taken for a disk of its own. All stand at the end of a whole disk; sectors of 512 bytes.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

/// Smaller things are no disks.
const SMALLEST: u64 = 0x10000;

/// `length` bytes `back` sectors before the end, and where that is.
fn before_end(reader: &Reader<'_>, back: u64, length: usize) -> Answer<(u64, Bytes)> {
    if reader.size() < SMALLEST {
        return Ok(None);
    }
    let Some(at) = (reader.size() / 512).checked_sub(back).map(|sector| sector * 512) else {
        return Ok(None);
    };
    Ok(reader.get(at, length)?.map(|bytes| (at, bytes)))
}

fn member(kind: &str, at: u64, version: Option<String>, proof: Proof) -> SignatureReport {
    let note =
        "a member of a firmware RAID: `dmraid -ay` maps it; do not write to one disk of it alone".into();
    SignatureReport { version, notes: vec![note], ..signature(kind, "raid", at, proof) }
}

pub(super) fn adaptec(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some((at, b)) = before_end(reader, 1, 512)? else { return Ok(None) };
    let found = b.be32(0) == Some(0x37fc_4d1e) && b.is(256, b"DPTM");
    Ok(found.then(|| member("adaptec_raid_member", at, b.u8(63).map(|v| v.to_string()), Proof::Fields)))
}

pub(super) fn highpoint(reader: &Reader<'_>) -> Answer<SignatureReport> {
    // The second of each is a disk that its adapter has given up.
    const MAGICS: [u32; 2] = [0x5a78_16f3, 0x5a78_16fd];
    if let Some((at, b)) = before_end(reader, 11, 4)?
        && b.u32(0).is_some_and(|m| MAGICS.contains(&m))
    {
        return Ok(Some(member("hpt45x_raid_member", at, None, Proof::Magic)));
    }
    let at = 9 * 512 + 32;
    let Some(b) = reader.get(at, 4)? else { return Ok(None) };
    let found = b.u32(0).is_some_and(|m| m == 0x5a78_16f0 || m == 0x5a78_16fd);
    Ok(found.then(|| member("hpt37x_raid_member", at, None, Proof::Magic)))
}

pub(super) fn jmicron(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some((at, b)) = before_end(reader, 1, 128)? else { return Ok(None) };
    let sum = words(&b).fold(0u16, u16::wrapping_add);
    let found = b.is(0, b"JM") && sum <= 1 && b.u8(48).is_some_and(|mode| mode <= 5);
    let version = b.u8(3).zip(b.u8(2)).map(|(major, minor)| format!("{major}.{minor}"));
    Ok(found.then(|| SignatureReport {
        // `blkid` gives it none.
        label: None,
        ..member("jmicron_raid_member", at, version, Proof::Checksum)
    }))
}

pub(super) fn lsi(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some((at, b)) = before_end(reader, 1, 6)? else { return Ok(None) };
    Ok(b.is(0, b"$XIDE$").then(|| member("lsi_mega_raid_member", at, None, Proof::Magic)))
}

pub(super) fn nvidia(reader: &Reader<'_>) -> Answer<SignatureReport> {
    const WORDS: u32 = 30;
    let Some((at, b)) = before_end(reader, 2, 4 * WORDS as usize)? else { return Ok(None) };
    let sum = b.0.chunks_exact(4).filter_map(|w| w.try_into().ok()).map(u32::from_le_bytes);
    // The words and the checksum among them come to zero.
    let found = b.is(0, b"NVIDIA  ") && b.u32(8) == Some(WORDS) && sum.fold(0, u32::wrapping_add) == 0;
    Ok(found.then(|| member("nvidia_raid_member", at, b.u16(16).map(|v| v.to_string()), Proof::Checksum)))
}

pub(super) fn promise(reader: &Reader<'_>) -> Answer<SignatureReport> {
    // One sector for each geometry that its firmware has seen.
    const PLACES: [u64; 13] = [63, 255, 256, 16, 399, 591, 675, 735, 911, 974, 991, 951, 3087];
    if reader.size() < 0x40000 {
        return Ok(None);
    }
    for back in PLACES {
        let Some((at, b)) = before_end(reader, back, 24)? else { continue };
        if b.is(0, b"Promise Technology, Inc.") {
            return Ok(Some(member("promise_fasttrack_raid_member", at, None, Proof::Magic)));
        }
    }
    Ok(None)
}

pub(super) fn silicon(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some((at, b)) = before_end(reader, 1, 512)? else { return Ok(None) };
    let sum = words(&Bytes(b.slice(0, 0x13e).unwrap_or_default().to_vec())).fold(0u16, u16::wrapping_add);
    let found = b.u32(0x60) == Some(0x2f00_0000)
        && b.u8(0x116).is_some_and(|number| number < 8)
        && b.u16(0x13e) == Some(sum.wrapping_neg());
    let version = b.u16(0x10a).zip(b.u16(0x108)).map(|(major, minor)| format!("{major}.{minor}"));
    Ok(found.then(|| member("silicon_medley_raid_member", at + 0x60, version, Proof::Checksum)))
}

pub(super) fn via(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some((at, b)) = before_end(reader, 1, 51)? else { return Ok(None) };
    let sum = b.slice(0, 50).unwrap_or_default().iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
    let found = b.u16(0) == Some(0xaa55) && b.u8(2).is_some_and(|v| v <= 2) && b.u8(50) == Some(sum);
    Ok(found.then(|| member("via_raid_member", at, b.u8(2).map(|v| v.to_string()), Proof::Checksum)))
}

fn words(b: &Bytes) -> impl Iterator<Item = u16> {
    b.0.chunks_exact(2).filter_map(|w| w.try_into().ok()).map(u16::from_le_bytes)
}
