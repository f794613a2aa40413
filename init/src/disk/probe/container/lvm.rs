//! LVM2 physical volumes (lib/format_text/layout.h of LVM2): a label in one of the first four sectors, which
//! says where the metadata of the whole volume group stands as text.

use rescue_schema::report::{Proof, SignatureReport};

use super::{lvm_text, lvm_volumes, signature};
use crate::disk::source::{Answer, Bytes, Reader, crc32, hyphens};

/// What the checksums of LVM2 start with (lib/misc/crc.h).
const SEED: u32 = 0xf597_a6cf;
/// Largest metadata text that is read, in bytes; that of a hundred volumes has some 40 KiB.
const TEXT: u64 = 256 << 10;
/// Most areas of a kind; pvcreate makes one data area and at most two of metadata.
const AREAS: usize = 8;
/// Most physical volumes of a group that are named to programs.
const LISTED: usize = 512;
const MDA: &[u8] = b"\x20LVM2\x20x[5A%r0N*>";
const GROUPS: &[usize] = &[6, 4, 4, 4, 4, 4, 6];

fn checksum(bytes: &[u8]) -> u32 {
    crc32(0xEDB8_8320, SEED, bytes)
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    for sector in [1u64, 0, 2, 3] {
        let Some(label) = reader.get(sector * 512, 512)? else { continue };
        if label.is(0, b"LABELONE") && label.is(24, b"LVM2 001") && label.u64(8) == Some(sector) {
            return Ok(labelled(reader, &label, sector * 512));
        }
    }
    Ok(None)
}

fn labelled(reader: &Reader<'_>, label: &Bytes, at: u64) -> Option<SignatureReport> {
    let header = usize::try_from(label.u32(20)?).ok().filter(|o| (32..=400).contains(o))?;
    let whole = label.slice(20, 492).map(checksum) == label.u32(16);
    let id = label.text(header, 32)?;
    let mut found = SignatureReport {
        uuid: Some(hyphens(&id, GROUPS)),
        version: Some("LVM2 001".into()),
        size: label.u64(header + 32).filter(|size| *size > 0),
        ..signature("LVM2_member", "raid", at + 24, if whole { Proof::Checksum } else { Proof::Magic })
    };
    if !whole {
        found.state = Some("damaged".into());
        found.notes.push("the checksum of the label is wrong".into());
        // LVM takes it for none: what is said of it then holds, whose UUID is that of the metadata.
        if let Ok(Some(left)) = remains(reader) {
            found.notes.extend(left.notes.into_iter().skip(1));
            (found.uuid, found.more, found.repair) = (left.uuid.or(found.uuid), left.more, left.repair);
        }
        return Some(found);
    }
    found.state = Some("clean".into());
    let areas = areas(label, header + 40);
    let mut best: Option<lvm_text::Group> = None;
    let mut bad = Vec::new();
    let mut empty = 0;
    for (start, size) in &areas {
        match metadata(reader, *start, *size) {
            Ok(Some(group)) if best.as_ref().is_none_or(|b| group.sequence > b.sequence) => {
                best = Some(group)
            }
            Ok(Some(_)) => {}
            Ok(None) => empty += 1,
            Err(why) => bad.push(why),
        }
    }
    match &best {
        Some(group) => say(group, &id, &mut found),
        None if !bad.is_empty() => {}
        None if areas.is_empty() => {
            found.notes.push("the metadata is on other disks of its volume group".into())
        }
        None if empty > 0 => found.notes.push("it belongs to no volume group".into()),
        None => {}
    }
    if !bad.is_empty() {
        found.state = Some("damaged".into());
        found.notes.push(format!("LVM metadata is damaged: {}", bad.join("; ")));
        if let Some(group) = &best {
            found.repair = Some(format!("vgck --updatemetadata {}", group.name));
        } else {
            found.repair = Some("vgcfgrestore VG".into());
        }
    }
    Some(found)
}

/// Offsets and sizes of the metadata areas: the second list after the header, each ended by a zero.
fn areas(label: &Bytes, mut at: usize) -> Vec<(u64, u64)> {
    let mut next = || {
        let pair = label.u64(at).zip(label.u64(at + 8));
        at += 16;
        pair.filter(|(start, _)| *start != 0)
    };
    for _ in 0..AREAS {
        if next().is_none() {
            break;
        }
    }
    (0..AREAS).map_while(|_| next()).collect()
}

/// The text of one metadata area; `None` when it holds none.
fn metadata(reader: &Reader<'_>, start: u64, size: u64) -> Result<Option<lvm_text::Group>, String> {
    let header = reader.get(start, 512).map_err(|why| why.0)?.ok_or("beyond the end of the device")?;
    if !header.is(4, MDA) || header.slice(4, 508).map(checksum) != header.u32(0) {
        return Err(format!("no header at byte {start}"));
    }
    let fields = |h: &Bytes| Some((h.u64(40)?, h.u64(48)?, h.u32(56)?));
    let (offset, length, sum) = fields(&header).ok_or("a short header")?;
    if offset == 0 || length == 0 {
        return Ok(None);
    }
    if length > TEXT || offset >= size || length > size {
        return Err(format!("{length} bytes of text at {offset} of {size}"));
    }
    // The area is a ring, whose text may go on after the header.
    let first = length.min(size - offset);
    let mut text = read(reader, start.saturating_add(offset), first)?;
    if first < length {
        text.extend(read(reader, start.saturating_add(512), length - first)?);
    }
    if checksum(&text) != sum {
        return Err(format!("the checksum of the text at byte {} is wrong", start.saturating_add(offset)));
    }
    lvm_text::parse(&String::from_utf8_lossy(&text)).map(Some).ok_or("a text without a volume group".into())
}

fn read(reader: &Reader<'_>, at: u64, length: u64) -> Result<Vec<u8>, String> {
    let length = usize::try_from(length).map_err(|e| e.to_string())?;
    Ok(reader.get(at, length).map_err(|why| why.0)?.ok_or("beyond the end of the device")?.0)
}

fn say(group: &lvm_text::Group, id: &str, found: &mut SignatureReport) {
    let plain = |id: &str| id.replace('-', "");
    let own = group.devices.iter().find(|pv| plain(&pv.id) == id);
    let mut words = format!("volume group {:?}", group.name);
    match (own, group.devices.len()) {
        (_, 1) => {}
        (Some(pv), n) => words.push_str(&format!(", {} of {n} physical volumes", pv.name)),
        (None, n) => words.push_str(&format!(" of {n} physical volumes, which does not know this one")),
    }
    let names: Vec<&str> = group.volumes.iter().map(|v| v.name.as_str()).collect();
    match names.len() {
        0 => words.push_str(", no logical volumes"),
        n @ 1..=12 => words.push_str(&format!(", {n} logical volumes: {}", names.join(", "))),
        n => words.push_str(&format!(", {n} logical volumes")),
    }
    found.notes.push(words);
    if group.exported {
        found.notes.push(format!("exported: `vgimport {}` first", group.name));
    }
    found.proof = Proof::Structure;
    found.more.insert("VG_NAME".into(), group.name.clone());
    found.more.insert("VG_UUID".into(), group.id.clone());
    found.more.insert("VG_SEQNO".into(), group.sequence.to_string());
    found.more.insert("VG_PVS".into(), group.devices.len().to_string());
    let ids: Vec<&str> = group.devices.iter().take(LISTED).map(|pv| pv.id.as_str()).collect();
    found.more.insert("VG_PV_UUIDS".into(), ids.join(" "));
    let types: Vec<&str> = group.types.iter().map(String::as_str).collect();
    found.more.insert("VG_TYPES".into(), types.join(" "));
    if group.exported {
        found.more.insert("VG_EXPORTED".into(), "1".into());
    }
    if let Some(system) = &group.system {
        found.more.insert("VG_SYSTEM_ID".into(), system.clone());
    }
    if let Some(volumes) = lvm_volumes::listed(group) {
        found.more.insert("VG_VOLUMES".into(), volumes);
    }
    if !names.is_empty() && names.len() <= 64 {
        found.more.insert("VG_LVS".into(), names.join(" "));
    }
}

/// A physical volume whose label was overwritten: its metadata stands in the next sectors.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(header) = reader.get(4096, 512)? else { return Ok(None) };
    if !header.is(4, MDA) {
        return Ok(None);
    }
    let Some(size) = header.u64(32) else { return Ok(None) };
    let mut found = SignatureReport {
        state: Some("damaged".into()),
        ..signature("LVM2_member", "raid", 4096, Proof::Fields)
    };
    found.notes.push("the label of the physical volume is gone, its metadata is there".into());
    if let Ok(Some(group)) = metadata(reader, 4096, size) {
        let bytes = reader.size();
        let same: Vec<_> = group.devices.iter().filter(|pv| pv.bytes.is_some_and(|b| b == bytes)).collect();
        if let [pv] = same.as_slice() {
            found.uuid = Some(pv.id.clone());
            found.repair =
                Some(format!("pvcreate --uuid {} --restorefile /etc/lvm/backup/{} DEV", pv.id, group.name));
        }
        say(&group, &found.uuid.clone().unwrap_or_default().replace('-', ""), &mut found);
        found.proof = Proof::Checksum;
    }
    Ok(Some(found))
}
