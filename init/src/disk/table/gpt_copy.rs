//! One copy of a GPT (UEFI 2.10, chapter 5), and how much of it can be believed.

use super::gpt_names::purpose;
use crate::disk::source::{Answer, Bytes, Reader, crc32};

/// Largest entry array that is read, in bytes; the usual one has 16 KiB.
const ENTRIES: u64 = 1 << 20;
/// Bytes of an entry and how many there are, where no header says so.
const USUAL: (u32, u32) = (128, 128);

/// How much of a copy can be believed, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// Both checksums hold.
    Whole,
    /// The entries are those that the header vouches for; the header's own checksum is wrong.
    Header,
    /// The header is whole, its entries have changed.
    Entries,
    /// The array stands where it usually does, and no header speaks for it.
    Alone,
}

/// A copy of the table: its header, where one speaks for it, and its entries.
pub(super) struct Copy {
    pub(super) trust: Trust,
    /// Sector that it was found at.
    pub(super) at: u64,
    /// Bytes of the sectors that its numbers count.
    pub(super) sector: u64,
    pub(super) header: Option<Header>,
    pub(super) entries: Bytes,
    pub(super) entry: usize,
}

/// What a header says (UEFI 2.10 table 5-5).
pub(super) struct Header {
    pub(super) alternate: u64,
    pub(super) first_usable: u64,
    pub(super) last_usable: u64,
    pub(super) disk: Option<String>,
    entries_at: u64,
    entry: u32,
    count: u32,
    entries_crc: u32,
    pub(super) whole: bool,
}

/// The header in a sector, which was read at this one.
pub(super) fn header(bytes: &Bytes, at: u64) -> Option<Header> {
    let size = usize::try_from(bytes.u32(12)?).ok()?;
    if !bytes.is(0, b"EFI PART") {
        return None;
    }
    let sealed = bytes.slice(0, size.clamp(92, 512)).map(<[u8]>::to_vec).and_then(|mut copy| {
        copy.get_mut(16..20)?.fill(0);
        Some(!crc32(0xEDB8_8320, !0, &copy))
    });
    let whole = (92..=512).contains(&size) && bytes.u64(24)? == at && sealed == bytes.u32(16);
    Some(Header {
        alternate: bytes.u64(32)?,
        first_usable: bytes.u64(40)?,
        last_usable: bytes.u64(48)?,
        disk: bytes.guid(56),
        entries_at: bytes.u64(72)?,
        count: bytes.u32(80)?,
        entry: bytes.u32(84)?,
        entries_crc: bytes.u32(88)?,
        whole,
    })
}

/// The copy whose header is at this sector; `None` where nothing of one is.
pub(super) fn copy(reader: &Reader<'_>, sector: u64, at: u64) -> Answer<Copy> {
    let Some(bytes) = at.checked_mul(sector).map_or(Ok(None), |place| reader.get(place, 512))? else {
        return Ok(None);
    };
    let Some(header) = header(&bytes, at) else { return Ok(None) };
    let length = u64::from(header.entry) * u64::from(header.count);
    let sane = (128..=4096).contains(&header.entry) && header.entry.is_power_of_two() && header.count > 0;
    if !sane || length > ENTRIES {
        return Ok(None);
    }
    let (Some(start), Ok(length)) = (header.entries_at.checked_mul(sector), usize::try_from(length)) else {
        return Ok(None);
    };
    let Some(entries) = reader.get(start, length)? else { return Ok(None) };
    let sealed = header.entries_crc == !crc32(0xEDB8_8320, !0, &entries.0);
    let trust = match (header.whole, sealed) {
        (true, true) => Trust::Whole,
        (false, true) => Trust::Header,
        (true, false) => Trust::Entries,
        (false, false) => return Ok(None),
    };
    let entry = usize::try_from(header.entry).unwrap_or(128);
    Ok(Some(Copy { trust, at, sector, header: Some(header), entries, entry }))
}

/// An entry array that no header speaks for, after the primary's place or before the backup's.
pub(super) fn alone(reader: &Reader<'_>, sector: u64, last: u64) -> Answer<Copy> {
    let length = USUAL.0 * USUAL.1;
    let before = last.checked_sub(u64::from(length) / sector);
    for at in [Some(2), before] {
        let Some(place) = at.and_then(|at| at.checked_mul(sector)) else { continue };
        let Ok(Some(entries)) = reader.get(place, usize::try_from(length).unwrap_or(0)) else { continue };
        let mut known = 0;
        let sound = entries.0.chunks_exact(128).map(|raw| Bytes(raw.to_vec())).all(|e| {
            let Some(kind) = e.guid(0).filter(|_| !is_unused(&e)) else { return true };
            known += usize::from(purpose(&kind).is_some());
            e.u64(32).zip(e.u64(40)).is_some_and(|(first, end)| first > 1 && first <= end && end < last)
        });
        if sound && known > 0 {
            let at = if at == Some(2) { 1 } else { last };
            return Ok(Some(Copy { trust: Trust::Alone, at, sector, header: None, entries, entry: 128 }));
        }
    }
    Ok(None)
}

/// Whether an entry names no partition.
pub(super) fn is_unused(entry: &Bytes) -> bool {
    entry.slice(0, 16).is_none_or(|kind| kind.iter().all(|b| *b == 0))
}
