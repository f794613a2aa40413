//! bcachefs (fs/bcachefs/bcachefs_format.h, `struct bch_sb`), one device of it or the only one.

use rescue_schema::report::{Proof, SignatureReport};

use super::hash::{crc32c, crc64, xxh64};
use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

/// The superblock of every device; the layout in it names its copies.
const PLACE: u64 = 4096;
/// Its magic number, and that of bcache, which it carried before Linux 6.7.
const MAGICS: [[u8; 16]; 2] = [
    *b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    *b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
];
/// Bytes before its variable fields.
const FIXED: usize = 752;
/// Most bytes of a superblock that are read: what is used of it is a few KiB, and there are eight copies.
const LONGEST: usize = 256 << 10;
/// Most fields that are walked over.
const FIELDS: usize = 256;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    Ok(copy(reader, PLACE)?.map(|mut found| {
        if found.state.as_deref() == Some("damaged") {
            found.repair = Some("bcachefs recover-super DEV".into());
        }
        found
    }))
}

/// A device whose first superblock is lost: the sector before it keeps the places of all.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(layout) = reader.get(PLACE - 512, 512)?.filter(|b| MAGICS.iter().any(|magic| b.is(0, magic)))
    else {
        return Ok(None);
    };
    let count = usize::from(layout.u8(18).unwrap_or(0)).min(8);
    for place in (0..count).filter_map(|n| layout.u64(24 + n * 8)?.checked_mul(512)).filter(|p| *p != PLACE) {
        if let Some(mut found) = copy(reader, place)?.filter(|found| found.proof == Proof::Checksum) {
            found.state = Some("damaged".into());
            found.notes.push(format!("the first superblock is lost, its copy at byte {place} is whole"));
            found.repair = Some("bcachefs recover-super DEV".into());
            found.backups.push(place);
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn copy(reader: &Reader<'_>, at: u64) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(at, FIXED)? else { return Ok(None) };
    let mine = MAGICS.iter().any(|magic| sb.is(24, magic))
        && sb.u64(104) == Some(at / 512)
        && sb.u8(123).zip(sb.u8(122)).is_some_and(|(devices, own)| own < devices);
    if !mine {
        return Ok(None);
    }
    let length =
        sb.u32(124).and_then(|words| usize::try_from(words).ok()?.checked_mul(8)?.checked_add(FIXED));
    let flags = sb.u64(144).unwrap_or(0);
    let version = sb.u16(16).unwrap_or(0);
    let block = sb.u16(120).map(|sectors| u64::from(sectors) * 512);
    let mut found = SignatureReport {
        uuid: sb.uuid(56),
        label: sb.text(72, 32),
        version: Some(format!("{}.{}", version >> 10, version & 0x3ff)),
        block_size: block,
        // BCH_SB_HAS_ERRORS, BCH_SB_CLEAN
        state: Some(
            match () {
                () if flags >> 60 & 1 != 0 => "errors seen",
                () if flags >> 1 & 1 == 0 => "needs journal recovery",
                () => "clean",
            }
            .into(),
        ),
        ..signature("bcachefs", "filesystem", at + 24, Proof::Fields)
    };
    let whole = match length.filter(|length| *length <= LONGEST) {
        Some(length) => reader.get(at, length)?,
        None => None,
    };
    let holds = whole.as_ref().and_then(|whole| checksum_holds(whole, flags));
    match holds {
        Some(true) => found.proof = Proof::Checksum,
        Some(false) => {}
        None if whole.is_some() => {}
        None => found.notes.push("the superblock says to be longer than it can be".into()),
    }
    if holds == Some(false) || whole.is_none() {
        found.state = Some("damaged".into());
        found.notes.push("the superblock's checksum is wrong".into());
        found.backups = copies(reader, &sb)?;
    } else if let Some(whole) = &whole {
        members(whole, &mut found);
    }
    if let Some(devices @ 2..) = sb.u8(123) {
        let own = u16::from(sb.u8(122).unwrap_or(0)) + 1;
        found.notes.push(format!("device {own} of a file system on {devices} devices"));
    }
    Ok(Some(found))
}

fn checksum_holds(sb: &Bytes, flags: u64) -> Option<bool> {
    let body = sb.0.get(16..)?;
    match flags >> 2 & 0x3f {
        1 => Some(sb.u32(0)? == crc32c(body)),
        2 => Some(sb.u64(0)? == crc64(body)),
        7 => Some(sb.u64(0)? == xxh64(body)),
        _ => None,
    }
}

/// Copies of a superblock that the layout names, whole ones alone.
fn copies(reader: &Reader<'_>, sb: &Bytes) -> Result<Vec<u64>, crate::disk::source::Unreadable> {
    let count = usize::from(sb.u8(258).unwrap_or(0)).min(8);
    let mut whole = Vec::new();
    for place in (0..count).filter_map(|n| sb.u64(264 + n * 8)?.checked_mul(512)).filter(|p| *p != PLACE) {
        let Some(head) = reader.get(place, FIXED)? else { continue };
        let length = head.u32(124).and_then(|w| usize::try_from(w).ok()?.checked_mul(8)?.checked_add(FIXED));
        let Some(length) = length.filter(|length| *length <= LONGEST) else { continue };
        if let Some(copy) = reader.get(place, length)?
            && MAGICS.iter().any(|magic| copy.is(24, magic))
            && checksum_holds(&copy, copy.u64(144).unwrap_or(0)) == Some(true)
        {
            whole.push(place);
        }
    }
    Ok(whole)
}

/// The UUID of this device and the size of the whole, from the field of its members.
fn members(sb: &Bytes, found: &mut SignatureReport) {
    let (Some(own), Some(devices)) = (sb.u8(122).map(usize::from), sb.u8(123).map(usize::from)) else {
        return;
    };
    let mut at = FIXED;
    for _ in 0..FIELDS {
        let (Some(words), Some(kind)) = (sb.u32(at), sb.u32(at + 4)) else { return };
        let Some(next) = usize::try_from(words).ok().and_then(|w| w.checked_mul(8)?.checked_add(at)) else {
            return;
        };
        let (first, each) = match kind {
            // members_v1, members_v2
            1 => (at + 8, 56),
            11 => (at + 16, sb.u16(at + 8).map_or(0, usize::from)),
            _ => (0, 0),
        };
        if each >= 32 && first + each * devices <= next && next <= sb.0.len() {
            if let Some(uuid) = sb.uuid(first + own * each) {
                found.more.insert("UUID_SUB".into(), uuid);
            }
            let place = first + own * each;
            let buckets = sb.u64(place + 16).zip(sb.u16(place + 26));
            found.size = buckets.and_then(|(n, sectors)| n.checked_mul(u64::from(sectors) * 512));
        }
        if words == 0 || kind == 0 {
            return;
        }
        at = next;
    }
}
