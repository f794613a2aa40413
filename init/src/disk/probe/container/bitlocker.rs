//! BitLocker: the boot sector names three copies of the FVE metadata (libbde's description of the format).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader};

/// Largest metadata that is read, in bytes; a copy has 64 KiB.
const METADATA: u32 = 64 << 10;
const MAGIC: &[u8] = b"-FVE-FS-";
/// Of the block header and of the metadata header after it.
const BLOCK: usize = 64;
const HEADER: usize = 48;
/// Most entries that are looked at.
const ENTRIES: usize = 64;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(boot) = reader.get(0, 512)? else { return Ok(None) };
    let places = match () {
        () if boot.is(0, b"\xeb\x58\x90-FVE-FS-") => 176,
        () if boot.is(0, b"\xeb\x58\x90MSWIN4.1") => 440,
        // Windows Vista: its one place is counted in clusters, and there is no more to tell.
        () if boot.is(0, b"\xeb\x52\x90-FVE-FS-") => {
            return Ok(Some(signature("BitLocker", "crypto", 0, Proof::Magic)));
        }
        () => return Ok(None),
    };
    let places: Vec<u64> =
        (0..3).filter_map(|i| boot.u64(places + 8 * i)).filter(|at| *at != 0 && at % 64 == 0).collect();
    // "BitLocker To Go" begins as a FAT does: without metadata it is one.
    if places.is_empty() {
        return Ok(None);
    }
    let mut good = Vec::new();
    let mut first = None;
    for at in &places {
        let Ok(Some(head)) = reader.get(*at, BLOCK + HEADER) else { continue };
        let size = head.u32(BLOCK).filter(|size| *size >= 48 && *size <= METADATA);
        let (true, Some(size)) = (head.is(0, MAGIC), size) else { continue };
        let length = BLOCK + usize::try_from(size).unwrap_or(0);
        if let Ok(Some(metadata)) = reader.get(*at, length) {
            good.push(*at);
            first = first.or(Some(metadata));
        }
    }
    let Some(metadata) = first else {
        if !boot.is(3, MAGIC) {
            return Ok(None);
        }
        return Ok(Some(SignatureReport {
            state: Some("damaged".into()),
            notes: vec![
                "none of the three copies of its metadata is there: `repair-bde` may find one".into(),
            ],
            ..signature("BitLocker", "crypto", 0, Proof::Magic)
        }));
    };
    let mut found = describe(&metadata);
    if good.len() < places.len() {
        found.state = Some("damaged".into());
        found.notes.push(format!("{} of {} copies of the metadata are whole", good.len(), places.len()));
    }
    found.backups = good;
    Ok(Some(found))
}

fn describe(metadata: &Bytes) -> SignatureReport {
    let mut found = SignatureReport {
        uuid: metadata.guid(BLOCK + 16),
        version: metadata.u16(10).map(|v| v.to_string()),
        ..signature("BitLocker", "crypto", 0, Proof::Structure)
    };
    let state = match metadata.u16(12) {
        Some(1) => "decrypted",
        Some(2) => "being encrypted",
        Some(3 | 5) => "being decrypted",
        _ => "clean",
    };
    found.state = Some(state.into());
    let cipher = match metadata.u16(BLOCK + 36) {
        Some(0x8000) => "AES-CBC 128 with diffuser",
        Some(0x8001) => "AES-CBC 256 with diffuser",
        Some(0x8002) => "AES-CBC 128",
        Some(0x8003) => "AES-CBC 256",
        Some(0x8004) => "AES-XTS 128",
        Some(0x8005) => "AES-XTS 256",
        _ => "unknown cipher",
    };
    let mut protectors = Vec::new();
    let mut at = BLOCK + HEADER;
    for _ in 0..ENTRIES {
        let fields = |b: &Bytes| Some((usize::from(b.u16(at)?), b.u16(at + 2)?, b.u16(at + 4)?));
        let Some((size, kind, value)) = fields(metadata).filter(|(size, ..)| *size >= 8) else { break };
        match (kind, value) {
            (2, 8) => protectors.extend(metadata.u16(at + 34).map(protector)),
            (7, 2) => found.label = metadata.utf16(at + 8, size - 8, Endian::Little),
            _ => {}
        }
        at += size;
    }
    found.notes.push(format!(
        "{cipher}, opens with {}",
        match protectors.as_slice() {
            [] => "nothing that is known".into(),
            some => some.join(" or "),
        }
    ));
    if protectors.contains(&"the clear key") {
        found.notes.push("protection is suspended: it opens without a secret".into());
    }
    found.more.insert("BITLOCKER_CIPHER".into(), cipher.into());
    found.more.insert("BITLOCKER_PROTECTORS".into(), protectors.join(", "));
    found
}

/// What opens a volume master key.
fn protector(kind: u16) -> &'static str {
    match kind {
        0x0000 => "the clear key",
        0x0100 => "the TPM",
        0x0200 => "a startup key",
        0x0500 => "the TPM and a PIN",
        0x0800 => "the recovery password",
        0x2000 => "a password",
        _ => "a key of unknown kind",
    }
}
