//! F2FS (include/linux/f2fs_fs.h).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader, Unreadable, crc32};

const MAGIC: u32 = 0xF2F5_2010;
/// The two superblocks, each 1 KiB into its block.
const PLACES: [u64; 2] = [1024, 5120];
const LENGTH: usize = 3072;
/// Bytes of them that are the same in both: geometry, UUID, label.
const SAME: usize = 0x47c;
/// Flags of a checkpoint.
const UNMOUNTED: u32 = 0x1;
const ERROR: u32 = 0x8;
const NEEDS_FSCK: u32 = 0x10;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let mut copies = Vec::new();
    for place in PLACES {
        let copy = reader.get(place, LENGTH)?.filter(|b| b.u32(0) == Some(MAGIC) && sane(b));
        copies.push((place, copy.as_ref().map(holds), copy));
    }
    // Without checksums, that of the two which the device has room for.
    let fits =
        |copy: &Option<Bytes>| copy.as_ref().and_then(blocks).is_some_and(|bytes| bytes <= reader.size());
    let whole = copies.iter().position(|(_, holds, copy)| *holds == Some(true) && fits(copy));
    let whole = whole.or_else(|| copies.iter().position(|(_, holds, _)| *holds == Some(true)));
    let differ = match copies.as_slice() {
        [(_, Some(true), Some(a)), (_, Some(true), Some(b))] => a.slice(0, SAME) != b.slice(0, SAME),
        _ => false,
    };
    let any = copies.iter().position(|(.., copy)| copy.is_some());
    let Some((offset, _, Some(sb))) = whole.or(any).and_then(|n| copies.get(n)) else { return Ok(None) };
    let mut found = describe(sb, *offset);
    found.backups =
        copies.iter().filter(|(at, holds, _)| *at != 1024 && *holds == Some(true)).map(|c| c.0).collect();
    match whole {
        Some(0) => state(reader, sb, &mut found),
        Some(_) => {
            found.state = Some("damaged".into());
            found.notes.push("the first superblock is damaged, the second is whole".into());
            found.repair = Some("fsck.f2fs DEV".into());
        }
        None => {
            found.state = Some("damaged".into());
            found.proof = Proof::Magic;
            found.notes.push("the checksums of both superblocks are wrong".into());
            found.repair = Some("fsck.f2fs DEV".into());
        }
    }
    if differ {
        found.state = Some("damaged".into());
        found.notes.push("its two superblocks differ: `fsck.f2fs --dry-run DEV` says in what".into());
    }
    Ok(Some(found))
}

/// Bytes of it.
fn blocks(sb: &Bytes) -> Option<u64> {
    sb.u64(36)?.checked_mul(1u64 << sb.u32(16)?.min(16))
}

fn sane(sb: &Bytes) -> bool {
    sb.u32(16).is_some_and(|log| (9..=16).contains(&log)) && sb.u16(4).is_some_and(|major| major > 0)
}

/// Older versions have no checksum; there is nothing then that could be wrong.
fn holds(sb: &Bytes) -> bool {
    match sb.u32(32).and_then(|at| usize::try_from(at).ok()) {
        Some(0) => true,
        Some(at) => sum(sb, at),
        None => false,
    }
}

fn sum(block: &Bytes, at: usize) -> bool {
    block.slice(0, at).map(|bytes| crc32(0xEDB8_8320, MAGIC, bytes)) == block.u32(at) && at > 0
}

fn describe(sb: &Bytes, offset: u64) -> SignatureReport {
    let block = 1u64 << sb.u32(16).unwrap_or(12).min(16);
    SignatureReport {
        label: sb.utf16(0x7c, 1024, Endian::Little),
        uuid: sb.uuid(0x6c),
        version: sb.u16(4).zip(sb.u16(6)).map(|(major, minor)| format!("{major}.{minor}")),
        size: blocks(sb),
        block_size: Some(block),
        ..signature(
            "f2fs",
            "filesystem",
            offset,
            if sb.u32(32) == Some(0) { Proof::Fields } else { Proof::Checksum },
        )
    }
}

/// From the newer of the two checkpoints that is whole.
fn state(reader: &Reader<'_>, sb: &Bytes, found: &mut SignatureReport) {
    match checkpoint(reader, sb) {
        Ok(Some((_, flags))) => {
            found.state = Some(
                match () {
                    () if flags & (ERROR | NEEDS_FSCK) != 0 => "errors seen",
                    () if flags & UNMOUNTED == 0 => "needs journal recovery",
                    () => "clean",
                }
                .into(),
            );
        }
        Ok(None) => {
            found.state = Some("damaged".into());
            found.notes.push("no checkpoint of it is whole".into());
            found.repair = Some("fsck.f2fs DEV".into());
        }
        Err(why) => found.notes.push(format!("its checkpoints cannot be read: {}", why.0)),
    }
}

fn checkpoint(reader: &Reader<'_>, sb: &Bytes) -> Result<Option<(u64, u32)>, Unreadable> {
    let (Some(start), Some(log), Some(segment)) = (sb.u32(0x4c), sb.u32(16), sb.u32(20)) else {
        return Ok(None);
    };
    let mut newest = None;
    for pack in [0, 1u64 << segment.min(20)] {
        let at = (u64::from(start) + pack) << log.min(16);
        let Some(b) = reader.get(at, 4096)? else { continue };
        let right = b.u32(164).and_then(|at| usize::try_from(at).ok()).is_some_and(|at| sum(&b, at));
        if let (true, Some(version), Some(flags)) = (right, b.u64(0), b.u32(132)) {
            newest = newest.max(Some((version, flags)));
        }
    }
    Ok(newest)
}
