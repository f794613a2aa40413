//! HFS (Inside Macintosh: Files, "Master Directory Blocks") and HFS+ (Apple TN1150), which may lie inside a
//! wrapper of the former.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader, Unreadable, hyphens};

const BIG: Endian = Endian::Big;
/// `kHFSVolumeUnmountedBit`, `kHFSBootVolumeInconsistentBit`, `kHFSVolumeJournaledBit`.
const UNMOUNTED: u32 = 1 << 8;
const INCONSISTENT: u32 = 1 << 11;
const JOURNALED: u32 = 1 << 13;

fn is_plus(header: &Bytes, at: usize) -> bool {
    header.is(at, b"H+") || header.is(at, b"HX")
}

pub(super) fn hfs(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(mdb) = reader.get(1024, 512)?.filter(|b| b.is(0, b"BD") && !is_plus(b, 124)) else {
        return Ok(None);
    };
    let (Some(block), Some(blocks)) = (mdb.be32(20), mdb.be16(18)) else { return Ok(None) };
    if block == 0 || block % 512 != 0 || blocks == 0 {
        return Ok(None);
    }
    let clean = mdb.be16(10).is_some_and(|flags| u32::from(flags) & UNMOUNTED != 0);
    Ok(Some(SignatureReport {
        label: mdb.text(37, usize::from(mdb.u8(36).unwrap_or(0)).min(27)),
        uuid: uuid(&mdb, 116),
        state: Some(if clean { "clean" } else { "not cleanly unmounted" }.into()),
        size: Some(u64::from(block) * u64::from(blocks)),
        ..signature("hfs", "filesystem", 1024, Proof::Fields)
    }))
}

/// Apple makes a UUID of version 3 from the eight bytes in Finder's information; so does libblkid.
fn uuid(header: &Bytes, at: usize) -> Option<String> {
    const SPACE: [u8; 16] =
        [0xb3, 0xe2, 0x0f, 0x39, 0xf2, 0x92, 0x11, 0xd6, 0x97, 0xa4, 0x00, 0x30, 0x65, 0x43, 0xec, 0xac];
    let own = header.slice(at, 8).filter(|id| id.iter().any(|b| *b != 0))?;
    let mut digest = md5::compute([&SPACE, own].concat()).0;
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut digest;
    *version = 0x30 | *version & 0x0f;
    *variant = 0x80 | *variant & 0x3f;
    let text: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    Some(hyphens(&text, &[8, 4, 4, 4, 12]))
}

pub(super) fn hfsplus(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(outer) = reader.get(1024, 512)? else { return Ok(None) };
    let mut start = 0;
    let header = if outer.is(0, b"BD") && is_plus(&outer, 124) {
        let (Some(block), Some(first), Some(embedded)) = (outer.be32(20), outer.be16(28), outer.be16(126))
        else {
            return Ok(None);
        };
        if block < 512 || block % 512 != 0 {
            return Ok(None);
        }
        start = u64::from(first) * 512 + u64::from(embedded) * u64::from(block);
        reader.get(start.saturating_add(1024), 512)?
    } else {
        Some(outer)
    };
    let Some(header) = header.filter(|b| is_plus(b, 0)) else { return Ok(None) };
    let Some(found) = describe(&header, start) else {
        // An alternate header may be whole.
        return Ok(alternate(reader)?.map(|mut found| {
            found.notes.insert(0, "the fields of the volume header contradict one another".into());
            found
        }));
    };
    let (mut found, block) = found;
    if let Err(why) = label(reader, &header, start, block).map(|label| found.label = label) {
        found.notes.push(format!("the catalogue cannot be read: {}", why.0));
    }
    let flags = header.be32(4).unwrap_or(0);
    let state = match () {
        () if flags & INCONSISTENT != 0 => Some("errors seen"),
        () if flags & UNMOUNTED != 0 => Some("clean"),
        () if flags & JOURNALED == 0 => Some("not cleanly unmounted"),
        () => match journal_is_empty(reader, &header, start, block) {
            Ok(Some(true)) => Some("clean"),
            Ok(Some(false)) => Some("needs journal recovery"),
            _ => Some("not cleanly unmounted"),
        },
    };
    found.state = state.map(Into::into);
    if start != 0 {
        found.notes.push(format!("inside an HFS wrapper, from byte {start}"));
    }
    Ok(Some(found))
}

/// A volume whose header is gone: the alternate one stands 1 KiB before the end.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    alternate(reader)
}

fn alternate(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(place) = reader.size().checked_sub(1024) else { return Ok(None) };
    let Some(header) = reader.get(place, 512)?.filter(|b| is_plus(b, 0)) else { return Ok(None) };
    let Some((mut found, block)) = describe(&header, 0) else { return Ok(None) };
    found.label = label(reader, &header, 0, block).ok().flatten();
    found.state = Some("damaged".into());
    found.notes.push(format!("the alternate volume header at byte {place} is whole"));
    found.repair = Some("fsck.hfsplus -n DEV".into());
    found.backups.push(place);
    found.offset = place;
    Ok(Some(found))
}

fn describe(header: &Bytes, start: u64) -> Option<(SignatureReport, u64)> {
    let block = header.be32(40).filter(|block| block.is_power_of_two() && *block >= 512).map(u64::from)?;
    let blocks = u64::from(header.be32(44)?);
    // The catalogue lies inside.
    if blocks == 0 || u64::from(header.be32(288)?) >= blocks {
        return None;
    }
    let found = SignatureReport {
        uuid: uuid(header, 104),
        size: blocks.checked_mul(block),
        block_size: Some(block),
        ..signature("hfsplus", "filesystem", start + 1024, Proof::Fields)
    };
    Some((found, block))
}

/// The name of the root folder, which is the first record of the catalogue's first leaf.
fn label(reader: &Reader<'_>, header: &Bytes, start: u64, block: u64) -> Result<Option<String>, Unreadable> {
    let extent =
        |n: usize| Some((u64::from(header.be32(288 + n * 8)?), u64::from(header.be32(292 + n * 8)?)));
    let Some((first, _)) = extent(0) else { return Ok(None) };
    let Some(node) = reader.get(start.saturating_add(first * block), 64)? else { return Ok(None) };
    let (Some(leaf), Some(size)) = (node.be32(24), node.be16(32)) else { return Ok(None) };
    if size < 512 || node.be32(20) == Some(0) {
        return Ok(None);
    }
    // The leaf's place in the file, then on the volume.
    let mut inside = u64::from(leaf) * u64::from(size);
    for n in 0..8 {
        let Some((first, count)) = extent(n).filter(|(_, count)| *count != 0) else { break };
        if inside < count * block {
            let at = start.saturating_add(first * block).saturating_add(inside);
            let Some(b) = reader.get(at, usize::from(size))? else { return Ok(None) };
            let units = usize::from(b.be16(20).unwrap_or(0)).min(255);
            let root = b.u8(8) == Some(0xff) && b.be16(10) != Some(0) && b.be32(16) == Some(1);
            return Ok(if root { b.utf16(22, units * 2, BIG) } else { None });
        }
        inside -= count * block;
    }
    Ok(None)
}

/// TN1150, "Journal": the header's start and end are the same when nothing is to be replayed.
fn journal_is_empty(reader: &Reader<'_>, header: &Bytes, start: u64, block: u64) -> Answer<bool> {
    let Some(info) = header.be32(12).filter(|info| *info != 0) else { return Ok(None) };
    let Some(info) = reader.get(start.saturating_add(u64::from(info) * block), 52)? else { return Ok(None) };
    let Some(place) = info.be64(36).filter(|_| info.be32(0).is_some_and(|flags| flags & 1 != 0)) else {
        return Ok(None);
    };
    let Some(journal) = reader.get(start.saturating_add(place), 24)? else { return Ok(None) };
    // It is written in the byte order of the machine.
    for order in [BIG, Endian::Little] {
        if journal.u32_in(0, order) == Some(0x4a4e_4c78) && journal.u32_in(4, order) == Some(0x1234_5678) {
            return Ok(Some(journal.u64_in(8, order) == journal.u64_in(16, order)));
        }
    }
    Ok(None)
}
