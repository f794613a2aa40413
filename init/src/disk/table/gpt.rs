//! GPT (UEFI 2.10, chapter 5): both copies checked, the good one used.

use rescue_schema::report::{PartitionReport, SignatureReport};

use super::{Table, complaints};
use crate::disk::source::{Answer, Bytes, Reader, crc32};

/// Largest entry array that is read, in bytes; the usual one has 16 KiB.
const ENTRIES: u64 = 1 << 20;

struct Copy {
    header: Bytes,
    entries: Bytes,
    entry: usize,
    /// Bytes of the sectors that its numbers count.
    sector: u64,
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<Table> {
    // An image does not say its sector size; the header's place does.
    for sector in [reader.sector, 512, 4096] {
        let primary = copy(reader, sector, 1);
        let last = (reader.size() / sector).saturating_sub(1);
        let backup = copy(reader, sector, last);
        let (good, note) = match (primary, backup) {
            (Ok(Some(p)), Ok(Some(_))) => (p, None),
            (Ok(Some(p)), _) => (p, Some("the backup GPT is damaged or not at the end of the disk")),
            (_, Ok(Some(b))) => (b, Some("the primary GPT is damaged; its backup was used")),
            (Err(why), _) if sector == 4096 => return Err(why),
            _ => continue,
        };
        return Ok(table(reader, &good, note));
    }
    Ok(None)
}

fn copy(reader: &Reader<'_>, sector: u64, at: u64) -> Answer<Copy> {
    let Some(header) = reader.get(at.saturating_mul(sector), 512)? else { return Ok(None) };
    let Some((start, entry, count)) = checked(&header, at) else { return Ok(None) };
    let length = u64::from(entry) * u64::from(count);
    let (Some(start), true, Ok(length)) =
        (start.checked_mul(sector), length <= ENTRIES, usize::try_from(length))
    else {
        return Ok(None);
    };
    let Some(entries) = reader.get(start, length)? else { return Ok(None) };
    let right = header.u32(88) == Some(!crc32(0xEDB8_8320, !0, &entries.0));
    let Ok(entry) = usize::try_from(entry) else { return Ok(None) };
    Ok(right.then_some(Copy { header, entries, entry, sector }))
}

/// Where the entries start (sector), bytes of one, and how many: when the header is right.
fn checked(header: &Bytes, at: u64) -> Option<(u64, u32, u32)> {
    let size = usize::try_from(header.u32(12)?).ok()?;
    if !header.is(0, b"EFI PART") || !(92..=512).contains(&size) || header.u64(24)? != at {
        return None;
    }
    let mut bytes = header.slice(0, size)?.to_vec();
    bytes.get_mut(16..20)?.fill(0);
    if header.u32(16)? != !crc32(0xEDB8_8320, !0, &bytes) {
        return None;
    }
    let (count, entry) = (header.u32(80)?, header.u32(84)?);
    ((128..=4096).contains(&entry) && entry.is_power_of_two()).then_some((header.u64(72)?, entry, count))
}

fn table(reader: &Reader<'_>, copy: &Copy, note: Option<&str>) -> Option<Table> {
    let mut partitions = Vec::new();
    for (number, raw) in (1u32..).zip(copy.entries.0.chunks_exact(copy.entry)) {
        let e = Bytes(raw.get(..128)?.to_vec());
        if e.slice(0, 16)?.iter().all(|b| *b == 0) {
            continue;
        }
        let (first, last) = (e.u64(32)?, e.u64(40)?);
        let kind = e.guid(0)?;
        let name: Vec<u16> =
            (0..36).filter_map(|i| e.u16(56 + i * 2)).take_while(|unit| *unit != 0).collect();
        let name = String::from_utf16_lossy(&name);
        partitions.push(PartitionReport {
            number,
            start: first.saturating_mul(copy.sector),
            size: last.saturating_add(1).saturating_sub(first).saturating_mul(copy.sector),
            purpose: purpose(&kind).map(Into::into),
            kind,
            name: (!name.is_empty()).then_some(name),
            uuid: e.guid(16),
            bootable: e.u64(48)? & 4 != 0,
            content: None,
        });
    }
    let mut notes: Vec<String> = note.map(Into::into).into_iter().collect();
    notes.append(&mut complaints(&partitions, reader.size()));
    let signature = SignatureReport {
        kind: "gpt".into(),
        usage: "partition-table".into(),
        offset: copy.header.u64(24)?.saturating_mul(copy.sector),
        uuid: copy.header.guid(56),
        state: Some(if note.is_some() { "damaged" } else { "clean" }.into()),
        notes,
        ..SignatureReport::default()
    };
    Some((signature, partitions))
}

fn purpose(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => "EFI system",
        "21686148-6449-6e6f-744e-656564454649" => "BIOS boot",
        "0fc63daf-8483-4772-8e79-3d69d8477de4" => "Linux",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" => "Linux root (x86-64)",
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" => "Linux swap",
        "e6d6d379-f507-44c2-a23c-238f2a3df928" => "Linux LVM",
        "a19d880f-05fc-4d3b-a006-743f0f84911e" => "Linux RAID",
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "Windows data",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Windows reserved",
        _ => return None,
    })
}
