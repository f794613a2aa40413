//! UDF (OSTA UDF 2.60 over ECMA-167): recognition sequence, anchor, volume descriptors.

use rescue_schema::report::{Proof, SignatureReport};

use super::hash::crc16;
use super::signature;
use crate::disk::source::{Answer, Bytes, Reader, Unreadable};

const RECOGNITION: u64 = 32768;
/// Most structures of the recognition sequence, and most volume descriptors, that are looked at.
const STRUCTURES: u64 = 64;
const DESCRIPTORS: u32 = 64;
const LENGTH: usize = 512;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    // The structures are 2 KiB long, or a block where that is longer.
    let short = recognised(reader, 2048)?;
    for block in [reader.sector, 512, 2048, 1024, 4096] {
        let there = if block > 2048 { recognised(reader, block)? } else { short };
        if !there {
            continue;
        }
        if let Some(anchor) = anchor(reader, block)? {
            return volume(reader, block, &anchor);
        }
    }
    Ok(None)
}

fn recognised(reader: &Reader<'_>, step: u64) -> Result<bool, Unreadable> {
    const OTHERS: [&[u8; 5]; 5] = [b"BEA01", b"BOOT2", b"CD001", b"CDW02", b"TEA01"];
    for n in 0..STRUCTURES {
        let Some(b) = reader.get(RECOGNITION + n * step, 8)? else { return Ok(false) };
        match b.slice(1, 5) {
            Some(b"NSR02" | b"NSR03") => return Ok(true),
            Some(id) if OTHERS.iter().any(|other| *other == id) => {}
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// ECMA-167, 3/7.2: the tag of a descriptor names its type and its own place; its sums must hold.
fn tag(b: &Bytes, place: u32) -> Option<u16> {
    let sum = b.slice(0, 16)?.iter().enumerate().filter(|(n, _)| *n != 4);
    let sum = sum.fold(0u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    (b.u8(4) == Some(sum) && b.u32(12) == Some(place)).then(|| b.u16(0)).flatten()
}

fn crc_holds(b: &Bytes) -> bool {
    let length = b.u16(10).map_or(0, usize::from);
    b.slice(16, length).is_some_and(|body| Some(crc16(body)) == b.u16(8))
}

/// An anchor stands at block 256; on media that were not closed at 512; else at the end.
fn anchor(reader: &Reader<'_>, block: u64) -> Answer<Bytes> {
    let last = (reader.size() / block).saturating_sub(1);
    for place in [256, 512, last, last.saturating_sub(256)] {
        let Ok(number) = u32::try_from(place) else { continue };
        let Some(b) = reader.get(place * block, LENGTH)? else { continue };
        if tag(&b, number) == Some(2) {
            return Ok(Some(b));
        }
    }
    Ok(None)
}

/// ECMA-167, 1/7.2.12 and UDF 2.1.3: a byte for the width of the characters, the text, its length.
fn dstring(b: &Bytes, at: usize, length: usize) -> Option<String> {
    let used = usize::from(b.u8(at + length - 1)?).checked_sub(1)?.min(length - 2);
    let text = b.slice(at + 1, used)?;
    let text = match b.u8(at)? {
        8 => text.iter().map(|c| char::from(*c)).collect(),
        16 => {
            let units = text.chunks_exact(2).filter_map(|p| p.try_into().ok().map(u16::from_be_bytes));
            String::from_utf16_lossy(&units.collect::<Vec<_>>())
        }
        _ => return None,
    };
    let text: String = text.chars().take_while(|c| *c != '\0').collect();
    Some(text.trim_end().to_string()).filter(|text| !text.is_empty())
}

/// UDF 2.2.2.5: the first sixteen characters of the volume set's name are unique. Digits are taken as
/// they are; what is none is written in hexadecimal, as libblkid does.
fn unique(name: &str) -> Option<String> {
    let bytes = name.as_bytes();
    let bytes = bytes.get(..bytes.len().min(16))?;
    let digits = bytes.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase();
    if bytes.len() < 8 {
        return None;
    }
    let mut padded = bytes.to_vec();
    padded.resize(16, 0);
    Some(match digits {
        16.. => plain(&padded),
        8..16 => plain(padded.get(..8)?) + &hex(padded.get(8..12)?),
        _ => hex(padded.get(..8)?),
    })
}

#[derive(Default)]
struct Volume {
    found: SignatureReport,
    udf: bool,
    revision: u16,
    integrity: Option<(u32, u32)>,
    /// Nothing that is written there is ever written again.
    once: bool,
    doubtful: bool,
}

fn volume(reader: &Reader<'_>, block: u64, anchor: &Bytes) -> Answer<SignatureReport> {
    let (Some(length), Some(start)) = (anchor.u32(16), anchor.u32(20)) else { return Ok(None) };
    let count = u32::try_from(u64::from(length) / block).unwrap_or(0).min(DESCRIPTORS);
    let mut v =
        Volume { found: signature("udf", "filesystem", RECOGNITION + 1, Proof::Fields), ..Volume::default() };
    for n in 0..count {
        let Some(place) = start.checked_add(n) else { break };
        let Some(b) = reader.get(u64::from(place) * block, LENGTH)? else { break };
        let Some(kind) = tag(&b, place).filter(|kind| !matches!(kind, 0 | 8)) else { break };
        v.doubtful |= matches!(kind, 1 | 6) && !crc_holds(&b);
        match kind {
            1 => primary(&b, &mut v),
            4 => implementation(&b, &mut v),
            5 => partition(&b, block, &mut v),
            6 => logical(&b, &mut v),
            _ => {}
        }
    }
    if !v.udf {
        return Ok(None);
    }
    if let Some((length, place)) = v.integrity.filter(|(length, _)| *length >= 88)
        && let Some(b) =
            reader.get(u64::from(place) * block, usize::try_from(length).unwrap_or(LENGTH).min(2048))?
        && tag(&b, place) == Some(9)
    {
        integrity(&b, &mut v);
    }
    if v.once {
        // Its volume is open for as long as there is room on it: that says nothing.
        v.found.state = None;
    }
    if !v.doubtful {
        v.found.proof = Proof::Checksum;
    } else {
        v.found.notes.push("a volume descriptor's checksum is wrong".into());
    }
    if v.revision != 0 {
        v.found.version = Some(format!("{:x}.{:02x}", v.revision >> 8, v.revision & 0xff));
    }
    v.found.block_size = Some(block);
    Ok(Some(v.found))
}

fn set(v: &mut Volume, name: &str, text: Option<String>) {
    if let Some(text) = text.map(|t| t.trim().to_string()).filter(|t| !t.is_empty()) {
        v.found.more.entry(name.into()).or_insert(text);
    }
}

/// UDF 2.1.2: the character set that the names are in.
fn is_osta(b: &Bytes, at: usize) -> bool {
    b.u8(at) == Some(0) && b.text(at + 1, 63).as_deref() == Some("OSTA Compressed Unicode")
}

fn primary(b: &Bytes, v: &mut Volume) {
    if is_osta(b, 200) {
        set(v, "VOLUME_ID", dstring(b, 24, 32));
        let name = dstring(b, 72, 128);
        if v.found.uuid.is_none() {
            v.found.uuid = name.as_deref().and_then(unique);
        }
        set(v, "VOLUME_SET_ID", name);
    }
    let program = b.text(345, 23).or_else(|| b.text(389, 23));
    set(v, "APPLICATION_ID", program.map(|p| p.trim_start_matches('*').to_string()));
}

fn logical(b: &Bytes, v: &mut Volume) {
    if b.text(217, 23).as_deref() == Some("*OSTA UDF Compliant") {
        v.udf = true;
        v.revision = v.revision.max(b.u16(240).unwrap_or(0));
    }
    if b.u32(268).is_some_and(|maps| maps > 0) && v.integrity.is_none() {
        v.integrity = b.u32(432).zip(b.u32(436));
    }
    if is_osta(b, 20) && v.found.label.is_none() {
        v.found.label = dstring(b, 84, 128);
        let name = v.found.label.clone();
        set(v, "LOGICAL_VOLUME_ID", name);
    }
}

/// A partition descriptor (ECMA-167, 3/10.5): where the blocks are that files are in.
fn partition(b: &Bytes, block: u64, v: &mut Volume) {
    const WRITE_ONCE: u32 = 2;
    v.once |= b.u32(184) == Some(WRITE_ONCE);
    let end =
        b.u32(188).zip(b.u32(192)).map(|(start, length)| (u64::from(start) + u64::from(length)) * block);
    v.found.size = v.found.size.max(end);
}

fn implementation(b: &Bytes, v: &mut Volume) {
    if b.text(21, 23).as_deref() == Some("*UDF LV Info") && is_osta(b, 52) {
        set(v, "PUBLISHER_ID", dstring(b, 244, 36));
    }
}

/// Whether the volume was closed, and the revisions that are needed to read and to write it.
fn integrity(b: &Bytes, v: &mut Volume) {
    let state = if b.u32(28) == Some(0) { "not cleanly unmounted" } else { "clean" };
    v.found.state = Some(state.into());
    let partitions = b.u32(72).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let Some(at) = partitions.checked_mul(8).and_then(|n| n.checked_add(80)) else { return };
    for field in [40, 42] {
        if b.u32(76).is_some_and(|length| length >= 46) {
            v.revision = v.revision.max(at.checked_add(field).and_then(|at| b.u16(at)).unwrap_or(0));
        }
    }
}
