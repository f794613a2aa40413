//! GPT (UEFI 2.10, chapter 5): both copies are checked and the better one is used. Where neither is whole,
//! what can still be read of them is shown as what it is.

use rescue_schema::report::{PartitionReport, Proof, SignatureReport};

use super::Table;
use super::gpt_copy::{Copy, Trust, alone, copy, header, is_unused};
use super::gpt_names::purpose;
use super::mbr::Mbr;
use crate::disk::source::{Answer, Bytes, Endian, Reader};

const SGDISK: &str = "sgdisk -e DEV";
/// Writes a protective MBR: one entry over all of the disk, and the mark.
const PROTECT: &str = "printf '\\0\\0\\2\\0\\356\\377\\377\\377\\1\\0\\0\\0\\377\\377\\377\\377' | \
    dd of=DEV bs=1 seek=446 conv=notrunc && printf '\\125\\252' | dd of=DEV bs=1 seek=510 conv=notrunc; ";
const LDM_METADATA: &str = "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3";
const BASIC_DATA: &str = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7";

pub(super) fn probe(reader: &Reader<'_>, mbr: Option<&Mbr>) -> Answer<Table> {
    let mut sectors = vec![reader.sector, 512, 4096];
    sectors.dedup();
    let mut unreadable = None;
    // An image does not say its sector size; the header's place does.
    for sector in &sectors {
        let last = (reader.size() / sector).saturating_sub(1);
        if last < 2 {
            continue;
        }
        let mut keep = |answer: Answer<Copy>| {
            answer.unwrap_or_else(|why| {
                unreadable.get_or_insert(why);
                None
            })
        };
        let primary = keep(copy(reader, *sector, 1));
        // Where the disk used to end, as the primary and the protective MBR remember it.
        let told = primary.as_ref().and_then(|p| p.header.as_ref()).map(|h| h.alternate);
        let mut places = vec![last];
        places.extend(
            told.into_iter().chain(mbr.and_then(Mbr::last_sector)).filter(|at| *at > 1 && *at < last),
        );
        places.dedup();
        let backups = places.into_iter().filter_map(|at| keep(copy(reader, *sector, at)));
        let backup = backups.min_by_key(|copy| copy.trust);
        if primary.is_some() || backup.is_some() {
            let note = unreadable.take();
            return Ok(choose(reader, primary, backup, last, mbr, note.map(|why| why.0)));
        }
    }
    if mbr.is_some_and(|mbr| mbr.protective) {
        for sector in &sectors {
            let last = (reader.size() / sector).saturating_sub(1);
            if let Some(copy) = alone(reader, *sector, last)? {
                return Ok(choose(reader, Some(copy), None, last, mbr, unreadable.map(|why| why.0)));
            }
        }
    }
    unreadable.map_or(Ok(None), Err)
}

/// `sgdisk -e` on the device, or on a view of it that ends earlier (in bytes), in which its sectors are those
/// that the table counts: in any other, sgdisk sees no GPT and writes an empty one.
fn sgdisk(reader: &Reader<'_>, sector: u64, end: Option<u64>) -> String {
    if sector == reader.sector && end.is_none() {
        return SGDISK.into();
    }
    let mut view = "losetup --find --show".to_string();
    if sector != reader.sector {
        view.push_str(&format!(" --sector-size {sector}"));
    }
    if let Some(end) = end {
        view.push_str(&format!(" --sizelimit {end}"));
    }
    format!("L=$({view} DEV) && sgdisk -e $L; losetup -d $L")
}

/// What restores a primary from the backup. `sgdisk -e` does, as long as it finds the backup at the end of the
/// disk and a protective MBR at its start; where it does not, it takes the disk for an empty one.
fn restore(reader: &Reader<'_>, backup: Option<&Copy>, last: u64, mbr: Option<&Mbr>) -> String {
    let sector = backup.map_or(reader.sector, |b| b.sector);
    let grown = backup.filter(|b| b.at < last).map(|b| b.at.saturating_add(1).saturating_mul(b.sector));
    let whole = sgdisk(reader, sector, None);
    match grown {
        Some(_) => format!("{}; {whole}", sgdisk(reader, sector, grown)),
        None if mbr.is_some_and(|mbr| mbr.protective) => whole,
        None => PROTECT.to_string() + &whole,
    }
}

/// Whether the primary header has a checksum that holds. When what it says is impossible all the same, no tool
/// takes the backup until it is gone.
fn is_sealed(reader: &Reader<'_>, sector: u64) -> bool {
    let bytes = reader.get(sector, 512).ok().flatten();
    bytes.and_then(|b| header(&b, 1)).is_some_and(|h| h.whole)
}

fn choose(
    reader: &Reader<'_>,
    primary: Option<Copy>,
    backup: Option<Copy>,
    last: u64,
    mbr: Option<&Mbr>,
    unreadable: Option<String>,
) -> Option<Table> {
    let whole = |copy: &Option<Copy>| copy.as_ref().is_some_and(|c| c.trust == Trust::Whole);
    let trust = |copy: &Option<Copy>| copy.as_ref().map_or(Trust::Alone, |c| c.trust);
    let mut notes: Vec<String> = unreadable.into_iter().collect();
    let mut repair: Option<String> = None;
    let mut state = "clean";
    let alternate = primary.as_ref().and_then(|p| p.header.as_ref()).map(|h| h.alternate);
    let sector = primary.as_ref().or(backup.as_ref()).map_or(reader.sector, |copy| copy.sector);
    let whole_disk = sgdisk(reader, sector, None);
    if sector != reader.sector {
        notes.push(format!(
            "it counts in sectors of {sector} bytes, those here have {}: the kernel shows none of these \
             partitions here, `losetup --find --show --partscan --sector-size {sector} DEV` does; fdisk, gdisk and \
             sgdisk see no GPT here, and write an empty one over it",
            reader.sector
        ));
    }
    match (whole(&primary), whole(&backup)) {
        (true, true) => {
            let pair = primary.as_ref().zip(backup.as_ref());
            if pair.is_some_and(|(p, b)| p.entries.0 != b.entries.0 || disk(p) != disk(b)) {
                state = "damaged";
                notes.push(
                    "the two copies of the GPT differ; the kernel uses the primary: `gdisk DEV`, v".into(),
                );
            } else if let Some((_, b)) = pair.filter(|(_, b)| b.at < last) {
                notes.push(format!(
                    "the disk has grown: the backup GPT is at sector {}, the disk ends at {last}; \
                     `{whole_disk}` moves it there",
                    b.at
                ));
                repair = Some(whole_disk);
            }
        }
        (true, false) => {
            state = "damaged";
            match alternate.filter(|at| *at > last) {
                Some(at) => notes.push(format!(
                    "the backup GPT is beyond the end: {} sectors are missing of the disk that was partitioned",
                    at - last
                )),
                None => {
                    notes.push(format!("the backup GPT is damaged or gone; `{whole_disk}` writes it again"));
                    repair = Some(whole_disk);
                }
            }
        }
        (false, true) => {
            state = "damaged";
            let mut command = restore(reader, backup.as_ref(), last, mbr);
            if let Some(b) = backup.as_ref().filter(|b| primary.is_none() && is_sealed(reader, b.sector)) {
                command =
                    format!("dd if=/dev/zero of=DEV bs={} seek=1 count=1 conv=notrunc; {command}", b.sector);
            }
            notes.push(format!(
                "the primary GPT is damaged; its backup was used. The kernel shows none of these partitions \
                 until `{command}` has restored it"
            ));
            if command != SGDISK && sector == reader.sector {
                notes.push(
                    "do not run fdisk, gdisk or sgdisk on it before that: they write an empty table".into(),
                );
            }
            repair = Some(command);
        }
        (false, false) => {
            state = "damaged";
            let what = match trust(&primary).min(trust(&backup)) {
                Trust::Header => "the entries are those that a damaged header vouches for",
                Trust::Entries => "the header is whole, but the entries have changed since it was written",
                _ => "the entries stand alone, without a header",
            };
            notes.push(format!(
                "both copies of the GPT are damaged: {what}. Compare before you write: `gdisk DEV`, r, v"
            ));
        }
    }
    let use_backup = match (&primary, &backup) {
        (Some(p), Some(b)) => b.trust < p.trust,
        (primary, _) => primary.is_none(),
    };
    let good = if use_backup { backup? } else { primary? };
    let mut partitions = partitions(&good);
    if good.trust > Trust::Header {
        partitions
            .retain(|p| p.size > 0 && p.start.checked_add(p.size).is_some_and(|end| end <= reader.size()));
    }
    let told = notes.len();
    usable(&good, &partitions, &mut notes);
    if notes.len() > told && state == "clean" {
        state = "errors seen";
    }
    hybrid(mbr, &partitions, good.sector, &mut notes);
    if partitions.iter().any(|p| p.kind == LDM_METADATA) {
        notes.push("a Windows dynamic disk: `ldmtool create all` maps its volumes".into());
    }
    let signature = SignatureReport {
        kind: "gpt".into(),
        usage: "partition-table".into(),
        offset: good.at.saturating_mul(good.sector),
        uuid: disk(&good).map(Into::into),
        proof: match good.trust {
            Trust::Whole => Proof::Checksum,
            Trust::Header | Trust::Entries => Proof::Fields,
            Trust::Alone => Proof::Magic,
        },
        state: Some(state.into()),
        block_size: Some(good.sector),
        repair,
        notes,
        ..SignatureReport::default()
    };
    Some((signature, partitions))
}

fn disk(copy: &Copy) -> Option<&str> {
    copy.header.as_ref()?.disk.as_deref()
}

fn partitions(copy: &Copy) -> Vec<PartitionReport> {
    let mut partitions = Vec::new();
    for (number, raw) in (1u32..).zip(copy.entries.0.chunks_exact(copy.entry)) {
        let e = Bytes(raw.get(..128).unwrap_or_default().to_vec());
        let fields = |e: &Bytes| Some((e.guid(0)?, e.u64(32)?, e.u64(40)?, e.u64(48)?));
        let Some((kind, first, last, attributes)) = fields(&e).filter(|_| !is_unused(&e)) else { continue };
        partitions.push(PartitionReport {
            number,
            start: first.saturating_mul(copy.sector),
            size: last.saturating_add(1).saturating_sub(first).saturating_mul(copy.sector),
            purpose: purpose(&kind).map(Into::into),
            name: e.utf16(56, 72, Endian::Little),
            uuid: e.guid(16),
            bootable: attributes & 4 != 0,
            flags: flags(&kind, attributes),
            kind,
            ..PartitionReport::default()
        });
    }
    partitions
}

/// Attributes by name (UEFI 2.10 table 5-8; Microsoft's, ChromeOS's and the discoverable partitions' own).
fn flags(kind: &str, attributes: u64) -> Vec<String> {
    const COMMON: &[(u32, &str)] = &[(0, "required"), (1, "no-block-io"), (2, "legacy-boot")];
    const MICROSOFT: &[(u32, &str)] =
        &[(60, "read-only"), (61, "shadow-copy"), (62, "hidden"), (63, "no-drive-letter")];
    const DISCOVERABLE: &[(u32, &str)] = &[(59, "grow"), (60, "read-only"), (63, "no-auto")];
    let own = match purpose(kind) {
        _ if kind == BASIC_DATA => MICROSOFT,
        Some(name) if name.starts_with("Linux") || name == "EFI system" => DISCOVERABLE,
        _ => &[],
    };
    let mut rest = attributes;
    let mut flags = Vec::new();
    for (bit, name) in COMMON.iter().chain(own) {
        if rest >> bit & 1 == 1 {
            flags.push((*name).to_string());
            rest &= !(1 << bit);
        }
    }
    flags.extend((0..64).filter(|bit| rest >> bit & 1 == 1).map(|bit| format!("bit-{bit}")));
    flags
}

/// Partitions that lie on the table itself.
fn usable(copy: &Copy, partitions: &[PartitionReport], notes: &mut Vec<String>) {
    let Some(header) = copy.header.as_ref().filter(|_| copy.trust != Trust::Header) else { return };
    let (first, last) = (header.first_usable.saturating_mul(copy.sector), header.last_usable);
    let end = last.saturating_add(1).saturating_mul(copy.sector);
    for p in partitions.iter().take(super::MOST) {
        if p.size == 0 {
            notes.push(format!("partition {} ends before it starts", p.number));
        } else if p.start < first || p.start.saturating_add(p.size) > end {
            notes.push(format!("partition {} lies outside of what the GPT says is usable", p.number));
        }
        if notes.len() > 2 * super::TOLD {
            return;
        }
    }
}

/// What the MBR says beside the protective entry.
fn hybrid(mbr: Option<&Mbr>, partitions: &[PartitionReport], sector: u64, notes: &mut Vec<String>) {
    let beside = mbr.filter(|mbr| mbr.protective).map(Mbr::hybrid).unwrap_or_default();
    if beside.is_empty() {
        return;
    }
    let mut words = Vec::new();
    for (start, count, kind) in beside {
        let (start, size) = (start.saturating_mul(sector), count.saturating_mul(sector));
        let same = partitions.iter().find(|p| (p.start, p.size) == (start, size));
        words.push(match same {
            Some(p) => format!("{kind:#x} is partition {}", p.number),
            None => format!("{kind:#x} at byte {start} is none of the GPT's"),
        });
    }
    notes.push(format!("a hybrid MBR shows some partitions to systems without GPT: {}", words.join(", ")));
}
