//! SNIA Common RAID Disk Data Format 2.0: an anchor in the last sector, which says where the header is.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader, crc32};

const ANCHOR: [u8; 4] = [0xde, 0x11, 0xde, 0x11];
const VIRTUAL: [u8; 4] = [0xdd, 0xdd, 0xdd, 0xdd];
/// Of a record of virtual disks, and of one of its entries.
const RECORD: usize = 64;
/// Most virtual disks that are named.
const NAMED: usize = 16;

/// With the field itself taken as all ones (section 5.3), and without inversions: so mdadm writes it.
fn checksum_holds(header: &Bytes) -> bool {
    let mut bytes = header.0.clone();
    if let Some(field) = bytes.get_mut(4..8) {
        field.fill(0xff);
    }
    header.be32(4) == Some(crc32(0xEDB8_8320, 0, &bytes))
}

fn header(reader: &Reader<'_>, at: u64) -> Answer<Bytes> {
    Ok(reader.get(at, 512)?.filter(|h| h.is(0, &ANCHOR) && checksum_holds(h)))
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    for back in [1u64, 257] {
        let Some(at) = (reader.size() / 512).checked_sub(back).map(|sector| sector * 512) else { break };
        let Some(anchor) = header(reader, at)? else { continue };
        let mut found = SignatureReport {
            uuid: anchor.slice(8, 24).map(guid),
            version: anchor.text(32, 8),
            state: Some("clean".into()),
            ..signature("ddf_raid_member", "raid", at, Proof::Checksum)
        };
        let place =
            |offset: usize| anchor.be64(offset).and_then(|lba| lba.checked_mul(512)).filter(|at| *at > 0);
        let mut headers = Vec::new();
        for (name, offset) in [("primary", 96), ("secondary", 104)] {
            // All ones: there is none.
            let Some(at) = place(offset).filter(|_| anchor.be64(offset) != Some(u64::MAX)) else { continue };
            match header(reader, at) {
                Ok(Some(header)) => headers.push((at, header)),
                _ => {
                    found.state = Some("damaged".into());
                    found.notes.push(format!("the {name} header at byte {at} is damaged"));
                }
            }
        }
        found.backups = headers.iter().map(|(at, _)| *at).collect();
        if let Some((_, header)) = headers.first() {
            virtual_disks(reader, header, &mut found);
        }
        return Ok(Some(found));
    }
    Ok(None)
}

/// Twenty-four bytes, the first eight of which are the maker's name: as mdadm shows them where not all are text.
fn guid(bytes: &[u8]) -> String {
    if bytes.iter().all(u8::is_ascii_graphic) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let words: Vec<String> =
        bytes.chunks(4).map(|word| word.iter().map(|byte| format!("{byte:02X}")).collect()).collect();
    words.join(":")
}

fn virtual_disks(reader: &Reader<'_>, header: &Bytes, found: &mut SignatureReport) {
    // Sections are counted from the primary header, whichever copy names them.
    let place = header.be64(96).zip(header.be32(208));
    let Some(at) = place.and_then(|(lba, offset)| lba.checked_add(u64::from(offset))?.checked_mul(512))
    else {
        return;
    };
    let Ok(Some(record)) = reader.get(at, RECORD * (NAMED + 1)) else { return };
    if !record.is(0, &VIRTUAL) {
        found.notes.push("the record of its virtual disks is damaged".into());
        return;
    }
    let count = usize::from(record.be16(8).unwrap_or(0));
    let mut names = Vec::new();
    for index in 1..=count.min(NAMED) {
        let entry = index * RECORD;
        let state = match record.u8(entry + 32).map(|state| state & 7) {
            Some(0) => "optimal",
            Some(1) => "degraded",
            Some(2) => "deleted",
            Some(3) => "missing",
            Some(4) => "failed",
            Some(5) => "partially optimal",
            _ => "of unknown state",
        };
        let name = record.text(entry + 48, 16).unwrap_or_else(|| "unnamed".into());
        if matches!(state, "degraded" | "failed" | "missing") && found.state.as_deref() == Some("clean") {
            found.state = Some("degraded".into());
        }
        names.push(format!("{name} ({state})"));
    }
    if !names.is_empty() {
        found.notes.push(format!("{count} virtual disks: {}", names.join(", ")));
    }
}
