//! XFS, versions 4 and 5 (XFS Algorithms and Data Structures, "Superblocks"), and its log on a device of its own.

use rescue_schema::report::{Proof, SignatureReport};

use super::hash::crc32c_around;
use super::signature;
use super::xfs_log;
use crate::disk::source::{Answer, Bytes, Reader};

/// `XFS_SB_FEAT_INCOMPAT_NEEDSREPAIR`.
const NEEDS_REPAIR: u32 = 1 << 4;
/// Most allocation groups whose copy of the superblock is looked at.
const GROUPS: u64 = 4;

/// What the rest needs of a superblock.
pub(super) struct Geometry {
    pub(super) block: u64,
    pub(super) blocks: u64,
    pub(super) sector: usize,
    pub(super) group: u64,
    pub(super) groups: u64,
    /// Bits of a block's number within its group.
    pub(super) group_bits: u32,
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(0, 512)?.filter(|b| b.is(0, b"XFSB")) else { return Ok(None) };
    let Some(g) = geometry(&sb) else {
        // Its numbers contradict one another: one of its copies may be whole.
        let mut found = signature("xfs", "filesystem", 0, Proof::Magic);
        found.notes.push("the fields of the superblock contradict one another".into());
        return Ok(Some(damaged(reader, found, None)?));
    };
    let mut found = describe(&sb, &g);
    if sb.be16(100).unwrap_or(0) & 0xf == 5 {
        let whole = reader.get(0, g.sector)?;
        let holds = whole.and_then(|b| crc32c_around(&b.0, 224)).map(|crc| !crc) == sb.u32(224);
        if !holds {
            found.notes.push("the superblock's checksum is wrong".into());
            return Ok(Some(damaged(reader, found, Some(&g))?));
        }
        found.proof = Proof::Checksum;
    }
    state(reader, &sb, &g, &mut found);
    Ok(Some(found))
}

fn state(reader: &Reader<'_>, sb: &Bytes, g: &Geometry, found: &mut SignatureReport) {
    if sb.be16(100).unwrap_or(0) & 0xf == 5 && sb.be32(216).unwrap_or(0) & NEEDS_REPAIR != 0 {
        found.state = Some("errors seen".into());
        found.notes.push("it is marked as needing xfs_repair".into());
        return;
    }
    if sb.u8(126) != Some(0) {
        found.notes.push("mkfs.xfs did not finish it".into());
    }
    let (Some(start), Some(blocks)) = (sb.be64(48), sb.be32(96)) else { return };
    if start == 0 {
        found.more.insert("XFS_LOG".into(), "external".into());
        found.notes.push("its log is on another device".into());
        return;
    }
    let group = start >> g.group_bits;
    let inside = start & ((1 << g.group_bits) - 1);
    let at = group.saturating_mul(g.group).saturating_add(inside).saturating_mul(g.block);
    // A log that cannot be read or understood leaves the state open.
    match xfs_log::is_clean(reader, at, u64::from(blocks) * g.block) {
        Ok(Some(true)) => found.state = Some("clean".into()),
        Ok(Some(false)) => found.state = Some("needs journal recovery".into()),
        Ok(None) => found.notes.push("the end of its log was not found".into()),
        Err(why) => found.notes.push(format!("its log cannot be read: {}", why.0)),
    }
}

fn describe(sb: &Bytes, g: &Geometry) -> SignatureReport {
    let mut found = SignatureReport {
        uuid: sb.uuid(32),
        label: sb.text(108, 12),
        version: sb.be16(100).map(|v| (v & 0xf).to_string()),
        size: g.blocks.checked_mul(g.block),
        block_size: Some(g.sector as u64),
        ..signature("xfs", "filesystem", 0, Proof::Fields)
    };
    found.more.insert("FSBLOCKSIZE".into(), g.block.to_string());
    found
}

/// The geometry, when the fields agree with one another (fs/xfs/libxfs/xfs_sb.c, `xfs_validate_sb_common`).
fn geometry(sb: &Bytes) -> Option<Geometry> {
    let block = u64::from(sb.be32(4)?);
    let blocks = sb.be64(8)?;
    let (group, groups) = (u64::from(sb.be32(84)?), u64::from(sb.be32(88)?));
    let (sector, inode) = (sb.be16(102)?, sb.be16(104)?);
    let logs = [sb.u8(120)?, sb.u8(121)?, sb.u8(122)?, sb.u8(123)?];
    let [block_log, sector_log, inode_log, per_block_log] = logs.map(u32::from);
    let extent = u64::from(sb.be32(80)?).checked_mul(block)?;
    let sane = (9..=16).contains(&block_log)
        && block == 1 << block_log
        && (9..=15).contains(&sector_log)
        && u32::from(sector) == 1 << sector_log
        && (8..=11).contains(&inode_log)
        && u32::from(inode) == 1 << inode_log
        && block_log.checked_sub(inode_log) == Some(per_block_log)
        && (4096..=1 << 30).contains(&extent)
        && sb.u8(127)? <= 100
        && groups > 0
        && group >= 64
        && blocks > 0
        && blocks <= groups.checked_mul(group)?
        && blocks >= (groups - 1).checked_mul(group)?.checked_add(64)?;
    let group_bits = u32::from(sb.u8(124)?);
    (sane && group_bits < 32).then_some(Geometry {
        block,
        blocks,
        sector: usize::from(sector),
        group,
        groups,
        group_bits,
    })
}

fn damaged(
    reader: &Reader<'_>,
    mut found: SignatureReport,
    g: Option<&Geometry>,
) -> Result<SignatureReport, crate::disk::source::Unreadable> {
    found.state = Some("damaged".into());
    let places: Vec<u64> = match g {
        Some(g) => (1..g.groups.min(GROUPS)).map(|n| n * g.group * g.block).collect(),
        None => by_free_space(reader).chain(usual_places(reader.size())).collect(),
    };
    let mut first = None;
    for at in places {
        let Some(copy) = reader.get(at, 512)?.filter(|b| b.is(0, b"XFSB")) else { continue };
        if let Some(geometry) = geometry(&copy) {
            found.backups.push(at);
            first.get_or_insert_with(|| describe(&copy, &geometry));
        }
    }
    match first {
        Some(copy) => {
            found.notes.push(format!("copies of the superblock at bytes {}", list(&found.backups)));
            found.uuid = copy.uuid;
            found.label = copy.label;
            found.version = copy.version;
            found.size = copy.size;
            found.block_size = copy.block_size;
        }
        None => found.notes.push("no copy of the superblock was found where mkfs.xfs puts them".into()),
    }
    found.repair = Some("xfs_repair -n DEV".into());
    Ok(found)
}

fn list(places: &[u64]) -> String {
    places.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Where the second group begins, by the length of the first that the header of its free space knows, which
/// stands a sector behind the superblock (`xfs_agf`). It counts in blocks, whose size the superblock had.
fn by_free_space(reader: &Reader<'_>) -> impl Iterator<Item = u64> + use<> {
    let header = |sector: u64| reader.get(sector, 24).ok().flatten().filter(|b| b.is(0, b"XAGF"));
    let length = [512, 4096].into_iter().find_map(header).filter(|b| b.be32(8) == Some(0));
    let length = length.and_then(|b| b.be32(12)).map(u64::from);
    length
        .into_iter()
        .flat_map(|blocks| [4096, 1024, 2048, 512, 8192, 16384, 65536].map(|size| blocks * size))
}

/// Where mkfs.xfs (`calc_default_ag_geometry`) puts the second group of a device of this size: it makes
/// 1, 2, 4, 8, 16 or 32 of them, or groups of 1 TiB; on a RAID (`align_ag_geometry`) in whole stripe units, and
/// one less where they would all begin on the same disk.
fn usual_places(size: u64) -> Vec<u64> {
    /// Usual stripe units in blocks: 64, 128, 256 and 512 KiB.
    const UNITS: [u64; 4] = [16, 32, 64, 128];
    const LARGEST: u64 = (1 << 28) - 1;
    let blocks = size / 4096;
    let mut places: Vec<u64> = (1..=5).map(|shift| blocks.div_ceil(1 << shift)).collect();
    places.extend([LARGEST, 1 << 28]);
    let striped = match size {
        _ if blocks >= 1 << 30 => LARGEST,
        _ if size > 512 << 30 => blocks.div_ceil(1 << 5),
        _ if size > 8 << 30 => blocks.div_ceil(1 << 4),
        _ => blocks.div_ceil(1 << 3),
    };
    for unit in UNITS {
        let whole = striped.div_ceil(unit) * unit;
        let whole = if whole > LARGEST { whole - unit } else { whole };
        places.extend([whole, whole.saturating_sub(unit)]);
    }
    let mut seen = std::collections::BTreeSet::new();
    places.retain(|place| *place > 0 && seen.insert(*place));
    places.into_iter().map(|place| place * 4096).collect()
}

/// A file system whose first superblock is lost.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let found = damaged(reader, signature("xfs", "filesystem", 0, Proof::Magic), None)?;
    Ok(found.backups.first().copied().map(|offset| SignatureReport {
        offset,
        notes: [vec!["the first superblock is lost".into()], found.notes.clone()].concat(),
        ..found
    }))
}

/// Whether the header of the first group's free space stands behind the superblock.
pub(super) fn confirm(reader: &Reader<'_>, found: &SignatureReport) -> Answer<bool> {
    let Some(sector) = found.block_size else { return Ok(None) };
    let Some(free) = reader.get(sector, 4)? else { return Ok(Some(false)) };
    Ok(Some(free.is(0, b"XAGF")))
}

/// Whether a sector is the header of a log record (`xlog_rec_header`).
fn is_record(b: &Bytes, at: usize) -> bool {
    b.be32(at) == Some(xfs_log::RECORD)
        && matches!(b.be32(at + 8), Some(1 | 2))
        && b.be32(at + 12).is_some_and(|length| length > 0 && length <= i32::MAX.unsigned_abs())
        && matches!(b.be32(at + 300), Some(1..=3))
}

fn log_within(reader: &Reader<'_>, length: usize) -> Answer<SignatureReport> {
    let length = length.min(usize::try_from(reader.size()).unwrap_or(length)) / 512 * 512;
    let Some(b) = reader.get(0, length)? else { return Ok(None) };
    for at in (0..length).step_by(512) {
        if b.is(at, b"XFSB") {
            return Ok(None);
        }
        if is_record(&b, at) {
            let mut found = signature("xfs_external_log", "other", at as u64, Proof::Fields);
            if let Some(uuid) = b.uuid(at + 304) {
                found.more.insert("LOGUUID".into(), uuid);
            }
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A log on a device of its own begins with a record, unless it has wrapped in the middle of one.
pub(super) fn log(reader: &Reader<'_>) -> Answer<SignatureReport> {
    log_within(reader, 32 << 10)
}

/// A record is at most 256 KiB, so that a header stands in the first 256 KiB of a log.
pub(super) fn log_remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    log_within(reader, 256 << 10)
}
