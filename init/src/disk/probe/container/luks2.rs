//! LUKS2 (on-disk format 1.1.1, sections 2 and 3): two copies of a binary header and a JSON area, under one
//! checksum each.

use rescue_schema::report::{Proof, SignatureReport};
use sha2::Digest;

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

const FIRST: &[u8] = b"LUKS\xba\xbe";
const SECOND: &[u8] = b"SKUL\xba\xbe";
/// Where a second header can be; the same numbers are the sizes that a header can have.
const PLACES: [u64; 9] =
    [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x0010_0000, 0x0020_0000, 0x0040_0000];
/// Largest header that is read whole; cryptsetup makes 16 KiB.
const WHOLE: u64 = 512 << 10;
/// Of the binary header.
const BINARY: usize = 4096;

/// One copy, and whether its checksum holds; `None` when it is too large to be checked.
struct Copy {
    at: u64,
    head: Bytes,
    size: u64,
    json: Vec<u8>,
    whole: Option<bool>,
}

fn copy(reader: &Reader<'_>, at: u64, magic: &[u8]) -> Answer<Copy> {
    let Some(head) = reader.get(at, 512)? else { return Ok(None) };
    if !head.is(0, magic) || head.be16(6) != Some(2) || head.be64(256) != Some(at) {
        return Ok(None);
    }
    let Some(size) = head.be64(8).filter(|size| PLACES.contains(size)) else {
        return Ok(Some(Copy { at, head, size: 0, json: Vec::new(), whole: Some(false) }));
    };
    if size > WHOLE {
        return Ok(Some(Copy { at, head, size, json: Vec::new(), whole: None }));
    }
    let Some(mut bytes) = reader.get(at, usize::try_from(size).unwrap_or(0))? else {
        return Ok(Some(Copy { at, head, size, json: Vec::new(), whole: Some(false) }));
    };
    if let Some(sum) = bytes.0.get_mut(448..512) {
        sum.fill(0);
    }
    let whole = match head.text(72, 32).as_deref() {
        Some("sha256") => Some(head.slice(448, 32) == Some(&sha2::Sha256::digest(&bytes.0)[..])),
        Some("sha512") => Some(head.slice(448, 64) == Some(&sha2::Sha512::digest(&bytes.0)[..])),
        // cryptsetup can be told to use another one, which proves nothing here.
        _ => None,
    };
    let json = bytes.0.get(BINARY..).unwrap_or_default();
    let json = json.split(|b| *b == 0).next().unwrap_or_default().to_vec();
    Ok(Some(Copy { at, head, size, json, whole }))
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(first) = copy(reader, 0, FIRST)? else {
        // The magic number with fields that contradict it.
        return Ok(second(reader, &PLACES)?.map(|copy| report(reader, &copy, false)));
    };
    if first.whole == Some(false) {
        // Its size is not to be believed either.
        if let Some(second) = second(reader, &PLACES)? {
            return Ok(Some(report(reader, &second, false)));
        }
        let mut found = report(reader, &first, true);
        found.state = Some("damaged".into());
        found.proof = Proof::Fields;
        found.notes.push("both headers are damaged: only a header backup opens it".into());
        return Ok(Some(found));
    }
    let other = second(reader, &[first.size])?;
    let mut found = report(reader, &first, true);
    match other {
        Some(second) if second.head.be64(16) == first.head.be64(16) => found.backups.push(second.at),
        Some(second) if second.head.be64(16) > first.head.be64(16) => {
            let newer = report(reader, &second, true);
            found = SignatureReport { offset: 0, ..newer };
            found.notes.push("the second header is newer: the last change did not reach the first".into());
        }
        _ => {
            found.state = Some("damaged".into());
            found.notes.push("the second header is damaged; `cryptsetup repair DEV` writes it again".into());
            found.repair = Some("cryptsetup repair DEV".into());
        }
    }
    Ok(Some(found))
}

/// The first second header that is whole.
fn second(reader: &Reader<'_>, places: &[u64]) -> Answer<Copy> {
    for at in places {
        // Beyond the budget of a probe, or of the device: what is readable still counts.
        if let Ok(Some(copy)) = copy(reader, *at, SECOND)
            && copy.whole != Some(false)
        {
            return Ok(Some(copy));
        }
    }
    Ok(None)
}

/// What the second header says where something else stands over the first, as far as it lies where every
/// device is read anyway.
pub(super) fn second_near(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let near = PLACES.get(..2).unwrap_or_default();
    Ok(second(reader, near)?.map(|copy| report(reader, &copy, false)))
}

/// What the second header says where nothing is left of the first.
pub(super) fn second_alone(reader: &Reader<'_>) -> Answer<SignatureReport> {
    Ok(second(reader, &PLACES)?.map(|copy| report(reader, &copy, false)))
}

fn report(reader: &Reader<'_>, copy: &Copy, first: bool) -> SignatureReport {
    let proof = if copy.whole == Some(true) { Proof::Checksum } else { Proof::Fields };
    let mut found = SignatureReport {
        uuid: copy.head.text(168, 40),
        label: copy.head.text(24, 48),
        version: Some("2".into()),
        state: Some("clean".into()),
        ..signature("crypto_LUKS", "crypto", copy.at, proof)
    };
    if let Some(subsystem) = copy.head.text(208, 48) {
        found.more.insert("SUBSYSTEM".into(), subsystem);
    }
    if !first {
        found.state = Some("damaged".into());
        found.backups.push(copy.at);
        found.notes.push(format!(
            "the first header is damaged, the second at byte {} is whole; `cryptsetup repair DEV` uses it",
            copy.at
        ));
        found.repair = Some("cryptsetup repair DEV".into());
    }
    describe(reader, &copy.json, &mut found);
    found
}

/// What the JSON area says of slots, tokens and the segment.
fn describe(reader: &Reader<'_>, json: &[u8], found: &mut SignatureReport) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(json) else { return };
    let count = |name: &str| json.get(name).and_then(|v| v.as_object()).map_or(0, serde_json::Map::len);
    let slots = count("keyslots");
    let segment = json.get("segments").and_then(|s| s.as_object()).and_then(|s| s.values().next());
    let text = |value: Option<&serde_json::Value>, key: &str| {
        value
            .and_then(|v| v.get(key))
            .and_then(|v| v.as_str())
            .map(|t| t.chars().take(64).collect::<String>())
    };
    let cipher = text(segment, "encryption").unwrap_or_else(|| "unknown cipher".into());
    found.notes.push(format!("{cipher}, {slots} key slots in use"));
    found.more.insert("LUKS_CIPHER".into(), cipher);
    found.more.insert("LUKS_KEYSLOTS".into(), slots.to_string());
    let tokens = json.get("tokens").and_then(|t| t.as_object());
    let kinds: Vec<String> =
        tokens.iter().flat_map(|t| t.values()).take(8).filter_map(|t| text(Some(t), "type")).collect();
    if !kinds.is_empty() {
        found.notes.push(format!("it can also be opened by {}", kinds.join(", ")));
        found.more.insert("LUKS_TOKENS".into(), kinds.join(" "));
    }
    if slots == 0 {
        found.state = Some("damaged".into());
        found.notes.push("no key slot is in use: nothing opens it but a header backup".into());
    }
    let offset = text(segment, "offset").and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
    found.block_size = segment.and_then(|s| s.get("sector_size")).and_then(serde_json::Value::as_u64);
    match text(segment, "size").and_then(|t| t.parse::<u64>().ok()) {
        Some(size) => found.size = offset.checked_add(size),
        None if offset > reader.size() => {
            found.notes.push(format!("its data starts at byte {offset}, beyond the end of the device"));
        }
        None => {}
    }
    let flags = json.get("config").and_then(|c| c.get("requirements")).and_then(|r| r.get("mandatory"));
    if flags
        .and_then(|f| f.as_array())
        .is_some_and(|f| f.iter().any(|f| f.as_str() == Some("online-reencrypt")))
    {
        found.notes.push("a re-encryption was not finished: `cryptsetup repair DEV`, then resume it".into());
    }
}
