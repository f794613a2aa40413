//! Linux software RAID (include/uapi/linux/raid/md_p.h): 1.1 at the start, 1.2 at 4 KiB, 1.0 and 0.90 near
//! the end, where a member looks like its own content from the front.

use std::collections::BTreeSet;

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader, hyphens};
use crate::disk::table;

const MAGIC: u32 = 0xa92b_4efc;
/// Most devices of an array: what fits into the 4 KiB of a superblock.
const DEVICES: u32 = 1920;
const SPARE: u16 = 0xffff;
const FAULTY: u16 = 0xfffe;
const JOURNAL: u16 = 0xfffd;
/// Of a 0.90 superblock; it stands 64 to 128 KiB before the end.
const OLD: usize = 4096;
const RESERVED: u64 = 0x10000;
/// A member that leaves more than this unused before its 0.90 superblock is looked at twice.
const SLACK: u64 = 64 << 20;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let end = (reader.size() / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
    let mut unreadable = None;
    for (at, version) in [(Some(0), "1.1"), (Some(4096), "1.2"), (end, "1.0")] {
        let Some(at) = at else { continue };
        match new(reader, at, version) {
            Ok(None) => {}
            Err(why) => unreadable = unreadable.or(Some(why)),
            found => return found,
        }
    }
    match old(reader)? {
        Some(found) => Ok(Some(found)),
        None => unreadable.map_or(Ok(None), Err),
    }
}

fn new(reader: &Reader<'_>, at: u64, version: &str) -> Answer<SignatureReport> {
    let Some(head) = reader.get(at, 256)? else { return Ok(None) };
    // Where it says to be is also the proof that it belongs to this device, and not to a partition at its
    // end.
    if head.u32(0) != Some(MAGIC) || head.u32(4) != Some(1) || head.u64(144) != Some(at / 512) {
        return Ok(None);
    }
    let Some(devices) = head.u32(220).filter(|n| *n <= DEVICES) else { return Ok(None) };
    let length = 256 + 2 * usize::try_from(devices).unwrap_or(0);
    let Some(sb) = reader.get(at, length)? else { return Ok(None) };
    Ok(version_1(&sb, at, version))
}

/// The sum of all 32-bit words with the field itself taken as zero, folded once.
fn sum_1(sb: &Bytes) -> u32 {
    let words = sb.0.chunks(4).enumerate().filter(|(index, _)| *index != 216 / 4);
    let sum = words
        .fold(0u64, |sum, (_, word)| sum + word.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)));
    fold(sum)
}

#[allow(clippy::cast_possible_truncation)]
fn fold(sum: u64) -> u32 {
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

fn level(number: u32) -> String {
    match number.cast_signed() {
        -1 => "linear".into(),
        -4 => "multipath".into(),
        -5 => "faulty".into(),
        n => format!("raid{n}"),
    }
}

fn version_1(sb: &Bytes, at: u64, version: &str) -> Option<SignatureReport> {
    let features = sb.u32(8)?;
    let (kind, wanted) = (level(sb.u32(72)?), sb.u32(92)?);
    let (data, data_size) = (sb.u64(128)?, sb.u64(136)?);
    let (own, events, resync) = (sb.u32(160)?, sb.u64(200)?, sb.u64(208)?);
    let roles: Vec<u16> =
        (0..usize::try_from(sb.u32(220)?).ok()?).filter_map(|i| sb.u16(256 + 2 * i)).collect();
    let role = usize::try_from(own).ok().and_then(|own| roles.get(own).copied());
    let present: BTreeSet<u16> = roles.iter().copied().filter(|r| u32::from(*r) < wanted).collect();
    let mut notes = Vec::new();
    let words = match role {
        Some(SPARE) => "a spare".into(),
        Some(FAULTY) | None => "no longer a part of it".into(),
        Some(JOURNAL) => "its journal".into(),
        Some(number) => format!("device {number}"),
    };
    notes.push(format!("{kind} of {wanted} devices, this is {words}; {events} events"));
    let missing = u64::from(wanted).saturating_sub(present.len() as u64);
    if missing > 0 {
        notes.push(format!("{missing} of {wanted} devices were missing when this one was last written"));
    }
    if features & 2 != 0 {
        notes.push(format!("this device was being rebuilt, up to sector {}", sb.u64(152)?));
    }
    if features & 4 != 0 {
        notes.push(format!(
            "a reshape to {} is under way, at sector {}: it must not be assembled without its backup file",
            level(sb.u32(104)?),
            sb.u64(108)?
        ));
    }
    let whole = sum_1(sb) == sb.u32(216)?;
    if !whole {
        notes.push("the checksum of the superblock is wrong".into());
    }
    let synced = resync == u64::MAX || matches!(sb.u32(72)?.cast_signed(), 0 | -1);
    let state = match () {
        () if !whole => "damaged",
        () if matches!(role, Some(FAULTY) | None) => "faulty",
        () if missing > 0 => "degraded",
        () if !synced => "needs resync",
        () => "clean",
    };
    let name = sb.text(32, 32);
    let mut found = SignatureReport {
        uuid: sb.uuid(16),
        label: name.clone(),
        version: Some(version.into()),
        state: Some(state.into()),
        size: data.checked_add(data_size).and_then(|sectors| sectors.checked_mul(512)),
        notes,
        ..signature("linux_raid_member", "raid", at, if whole { Proof::Checksum } else { Proof::Magic })
    };
    let role = match role {
        Some(SPARE) => "spare".into(),
        Some(FAULTY) | None => "faulty".into(),
        Some(JOURNAL) => "journal".into(),
        Some(number) => number.to_string(),
    };
    let list = |numbers: &BTreeSet<u16>| numbers.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
    let mut more = vec![
        ("UUID_SUB", sb.uuid(168).unwrap_or_default()),
        ("MD_LEVEL", kind),
        ("MD_LAYOUT", sb.u32(76)?.to_string()),
        ("MD_SIZE", sb.u64(80)?.to_string()),
        ("MD_CHUNK", u64::from(sb.u32(88)?).saturating_mul(512).to_string()),
        ("MD_DATA_OFFSET", data.to_string()),
        ("MD_DATA_SIZE", data_size.to_string()),
        ("MD_FEATURES", features.to_string()),
        ("MD_PRESENT", list(&present)),
        ("MD_DEVICES", wanted.to_string()),
        ("MD_ROLE", role),
        ("MD_EVENTS", events.to_string()),
        ("MD_UPDATED", (sb.u64(192)? & 0xff_ffff_ffff).to_string()),
        ("MD_MISSING", missing.to_string()),
    ];
    more.extend(name.map(|name| ("MD_NAME", name)));
    found.more = more.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.into(), v)).collect();
    Some(found)
}

/// 0.90, whose numbers are those of the machine that made it.
fn old(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(at) = (reader.size() & !(RESERVED - 1)).checked_sub(RESERVED) else { return Ok(None) };
    let Some(head) = reader.get(at, 64)? else { return Ok(None) };
    let order = match (head.u32(0), head.be32(0)) {
        (Some(MAGIC), _) => Endian::Little,
        (_, Some(MAGIC)) => Endian::Big,
        _ => return Ok(None),
    };
    if head.u32_in(4, order) != Some(0) {
        return Ok(None);
    }
    let Some(sb) = reader.get(at, OLD)? else { return Ok(None) };
    let word = |index: usize| sb.u32_in(index * 4, order);
    let used = u64::from(word(8).unwrap_or(0)) << 10;
    if used > at {
        return Ok(None);
    }
    // The superblock says nowhere where its device starts: at the end of a disk it may be that of the last
    // partition, which ends at the same place. The partition has it then.
    if at - used > SLACK && within_a_partition(reader, at)? {
        return Ok(None);
    }
    Ok(version_0(&sb, order, at, used))
}

fn within_a_partition(reader: &Reader<'_>, at: u64) -> Result<bool, crate::disk::source::Unreadable> {
    let partitions = table::probe(reader)?.map(|(_, partitions)| partitions).unwrap_or_default();
    Ok(partitions.iter().any(|p| p.start > 0 && p.start <= at && at < p.start.saturating_add(p.size)))
}

fn version_0(sb: &Bytes, order: Endian, at: u64, used: u64) -> Option<SignatureReport> {
    let word = |index: usize| sb.u32_in(index * 4, order);
    let id: Option<String> = [5, 13, 14, 15].iter().map(|i| word(*i).map(|w| format!("{w:08x}"))).collect();
    let (kind, wanted) = (level(word(7)?), word(10)?);
    let (state, active, failed, spare) = (word(33)?, word(34)?, word(36)?, word(37)?);
    let (low, high) = if order == Endian::Little { (39, 40) } else { (40, 39) };
    let events = u64::from(word(high)?) << 32 | u64::from(word(low)?);
    let sum = (0..OLD / 4).filter(|i| *i != 38).try_fold(0u64, |sum, i| Some(sum + u64::from(word(i)?)))?;
    let whole = fold(sum) == word(38)?;
    let (own, flags) = (word(995)?, word(996)?);
    let missing = wanted.saturating_sub(active);
    let words = match flags {
        f if f & 1 != 0 => "faulty".to_string(),
        f if f & 6 == 6 => format!("device {own}"),
        _ => "a spare".into(),
    };
    let mut notes = vec![format!("{kind} of {wanted} devices, this is {words}; {events} events")];
    if missing > 0 {
        notes.push(format!("{missing} of {wanted} devices were missing when this one was last written"));
    }
    if !whole {
        notes.push("the checksum of the superblock is wrong".into());
    }
    let state = match () {
        () if !whole => "damaged",
        () if flags & 1 != 0 => "faulty",
        () if missing > 0 => "degraded",
        () if state & 1 == 0 => "needs resync",
        () => "clean",
    };
    let proof = if whole { Proof::Checksum } else { Proof::Magic };
    // The kernel's bits: active and in sync.
    let present = (0..27usize).filter(|i| word(128 + 32 * i + 4).is_some_and(|s| s & 7 == 6));
    let present: Vec<String> =
        present.filter_map(|i| word(128 + 32 * i + 3)).map(|r| r.to_string()).collect();
    let more = [
        ("MD_LEVEL", kind),
        ("MD_LAYOUT", word(64)?.to_string()),
        ("MD_SIZE", (used / 512).to_string()),
        ("MD_CHUNK", word(65)?.to_string()),
        ("MD_DATA_OFFSET", "0".into()),
        ("MD_DATA_SIZE", (used / 512).to_string()),
        // A reshape is told by the minor version there, and by a feature later.
        ("MD_FEATURES", if word(2)? >= 91 { "4" } else { "0" }.into()),
        ("MD_PRESENT", present.join(" ")),
        ("MD_MINOR", word(11)?.to_string()),
        ("MD_DEVICES", wanted.to_string()),
        ("MD_ROLE", if flags & 6 == 6 { own.to_string() } else { "spare".into() }),
        ("MD_EVENTS", events.to_string()),
        ("MD_UPDATED", word(32)?.to_string()),
        ("MD_MISSING", missing.to_string()),
        ("MD_FAILED", failed.to_string()),
        ("MD_SPARES", spare.to_string()),
    ];
    Some(SignatureReport {
        uuid: id.map(|w| hyphens(&w, &[8, 4, 4, 4, 12])),
        version: Some(format!("{}.{}.{}", word(1)?, word(2)?, word(3)?)),
        state: Some(state.into()),
        size: Some(used),
        notes,
        more: more.into_iter().map(|(k, v)| (k.into(), v)).collect(),
        ..signature("linux_raid_member", "raid", at, proof)
    })
}
