//! ext2, ext3 and ext4 (Documentation/filesystems/ext4/super.rst). The three are one format, told by
//! their feature bits exactly as libblkid does.

use rescue_schema::report::{Proof, SignatureReport};

use crate::disk::source::{Answer, Bytes, Reader, crc32};

const HAS_JOURNAL: u32 = 0x4;
const NEEDS_RECOVERY: u32 = 0x4;
const JOURNAL_DEVICE: u32 = 0x8;
const SIXTY_FOUR_BIT: u32 = 0x80;
const MMP: u32 = 0x100;
const METADATA_CSUM: u32 = 0x400;
/// Compatible-for-reading features that ext2 and ext3 know: sparse_super, large_file, btree_dir.
const OLD_RO_COMPAT: u32 = 0x7;
/// Incompatible features that ext3 knows: filetype, recover, meta_bg. ext2 lacks `recover`, which
/// cannot be set without a journal.
const OLD_INCOMPAT: u32 = 0x16;
const STATE_CLEAN: u16 = 1;
const STATE_ERRORS: u16 = 2;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(superblock) = reader.get(1024, 1024)? else { return Ok(None) };
    let Some(mut found) = parse(&superblock) else { return Ok(None) };
    if !checksum_holds(&superblock) {
        found.state = Some("damaged".into());
        let backups = backups(reader)?;
        found.notes.push(format!("the superblock's checksum is wrong{}", at_blocks(&backups)));
        if let Some(backup) = backups.first()
            && let Some(copy) = reader.get(backup.at, 1024)?.and_then(|b| parse(&b))
        {
            (found.uuid, found.label, found.size) = (copy.uuid, copy.label, copy.size);
            (found.kind, found.block_size) = (copy.kind, copy.block_size);
        }
        found.repair = backups.first().map(command);
        found.backups = backups.iter().map(|b| b.at).collect();
    } else if superblock.u32(0x64).unwrap_or(0) & METADATA_CSUM != 0 {
        found.proof = Proof::Checksum;
    }
    found.notes.extend(in_use(reader, &superblock)?);
    Ok(Some(found))
}

/// Multiple mount protection (ext4: `struct mmp_struct`): who has it mounted keeps counting in a block of
/// its own, and a machine beside this one may be that.
fn in_use(reader: &Reader<'_>, sb: &Bytes) -> Answer<String> {
    let block = sb.u32(0x18).map_or(0, |log| 1024u64 << log.min(6));
    let place = sb.u64(0x168).and_then(|number| number.checked_mul(block));
    let Some(place) = place.filter(|_| sb.u32(0x60).unwrap_or(0) & MMP != 0) else { return Ok(None) };
    let Some(mmp) = reader.get(place, 112)?.filter(|b| b.u32(0) == Some(0x004d_4d50)) else {
        return Ok(None);
    };
    Ok(match mmp.u32(4) {
        Some(0xff4d_4d50) | None => None,
        Some(0xe24d_4d50) => Some("e2fsck may be at work on it, on another machine".into()),
        Some(_) => {
            let node = mmp.text(16, 64).unwrap_or_else(|| "another machine".into());
            Some(format!(
                "it may be mounted on {node} now: its protection against a second mount was not released"
            ))
        }
    })
}

/// What is left of a file system whose primary superblock is lost. Asked only where nothing else was
/// found: the backups of an older file system survive most reformatting.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let backups = backups(reader)?;
    let Some(first) = backups.first() else { return Ok(None) };
    let Some(superblock) = reader.get(first.at, 1024)? else { return Ok(None) };
    let Some(mut found) = parse(&superblock) else { return Ok(None) };
    found.offset = first.at + 56;
    found.state = Some("damaged".into());
    found.notes.push(format!("the primary superblock is lost{}", at_blocks(&backups)));
    found.repair = Some(command(first));
    found.backups = backups.iter().map(|b| b.at).collect();
    Ok(Some(found))
}

/// Whether the descriptor of the first group names blocks of this file system.
pub(super) fn confirm(reader: &Reader<'_>, found: &SignatureReport) -> Answer<bool> {
    let (Some(block), Some(size)) = (found.block_size, found.size) else { return Ok(None) };
    let at = if block == 1024 { 2048 } else { block };
    let Some(group) = reader.get(at, 32)? else { return Ok(Some(false)) };
    // Its bitmaps and inode table: low halves (ext4: group descriptors, bg_*_lo).
    let inside = |at| group.u32(at).is_some_and(|b| b != 0 && u64::from(b) < size / block);
    Ok(Some([0, 4, 8].into_iter().all(inside)))
}

struct Backup {
    at: u64,
    block: u64,
    block_size: u64,
}

fn command(backup: &Backup) -> String {
    format!("e2fsck -n -b {} -B {} DEV", backup.block, backup.block_size)
}

fn at_blocks(backups: &[Backup]) -> String {
    if backups.is_empty() {
        return ", and no backup superblock was found".into();
    }
    let blocks: Vec<String> = backups.iter().map(|b| b.block.to_string()).collect();
    format!(", backup superblocks at block {}", blocks.join(", "))
}

/// The sparse_super groups 1, 3, 5 and 7 at the group size that mkfs gives each block size; and group 1 with the
/// clusters of bigalloc (16 blocks), and with blocks of 64 KiB.
fn backups(reader: &Reader<'_>) -> Result<Vec<Backup>, crate::disk::source::Unreadable> {
    let mut found = Vec::new();
    let usual: &[u16] = &[1, 3, 5, 7];
    let kinds: [(u32, u64, u64, &[u16]); 5] = [
        (2, 4096, 1, usual),
        (1, 2048, 1, usual),
        (0, 1024, 1, usual),
        (2, 4096, 16, &[1]),
        (6, 65536, 1, &[1]),
    ];
    for (log, block_size, cluster, groups) in kinds {
        for &group in groups {
            let first_data = u64::from(block_size == 1024);
            let block = first_data + u64::from(group) * block_size * 8 * cluster;
            let at = block * block_size;
            let Some(bytes) = reader.get(at, 1024)? else { continue };
            let right = bytes.u16(0x5a) == Some(group) && bytes.u32(0x18) == Some(log);
            if right && parse(&bytes).is_some() && checksum_holds(&bytes) {
                found.push(Backup { at, block, block_size });
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    Ok(found)
}

fn checksum_holds(superblock: &Bytes) -> bool {
    if superblock.u32(0x64).unwrap_or(0) & METADATA_CSUM == 0 {
        return true;
    }
    let sum = superblock.slice(0, 0x3fc).map(|b| crc32(0x82F6_3B78, !0, b));
    sum == superblock.u32(0x3fc)
}

fn parse(sb: &Bytes) -> Option<SignatureReport> {
    if sb.u16(0x38)? != 0xef53 {
        return None;
    }
    let (compat, incompat, ro_compat) = (sb.u32(0x5c)?, sb.u32(0x60)?, sb.u32(0x64)?);
    let log = sb.u32(0x18)?;
    let mut blocks = u64::from(sb.u32(4)?);
    if incompat & SIXTY_FOUR_BIT != 0 {
        blocks |= u64::from(sb.u32(0x150)?) << 32;
    }
    // Two magic bytes are little proof; 64 KiB is the largest block the format has, and every file
    // system has blocks and inodes.
    let journal_device = incompat & JOURNAL_DEVICE != 0;
    if log > 6 || blocks == 0 || !journal_device && (sb.u32(0)? == 0 || sb.u32(0x20)? == 0) {
        return None;
    }
    let block_size = 1024u64 << log;
    let journal = compat & HAS_JOURNAL != 0;
    let old = ro_compat & !OLD_RO_COMPAT == 0 && incompat & !OLD_INCOMPAT == 0;
    let kind = match (journal_device, old, journal) {
        (true, ..) => "jbd",
        (_, true, false) => "ext2",
        (_, true, true) => "ext3",
        (_, false, _) => "ext4",
    };
    let mut notes = Vec::new();
    let mut more = std::collections::BTreeMap::new();
    if kind == "jbd" {
        more.extend(sb.uuid(0x68).map(|uuid| ("LOGUUID".to_string(), uuid)));
    }
    if journal && let Some(uuid) = sb.uuid(0xd0) {
        notes.push(format!("its journal is on the device with UUID {uuid}"));
        more.insert("EXT_JOURNAL".into(), uuid);
    }
    // What ext2 could mount too, read-only at least.
    if matches!(kind, "ext3" | "ext4") && incompat & !0x12 == 0 {
        more.insert("SEC_TYPE".into(), "ext2".into());
    }
    let flags = sb.u16(0x3a)?;
    let state = match () {
        () if flags & STATE_ERRORS != 0 => "errors seen",
        () if incompat & NEEDS_RECOVERY != 0 => "needs journal recovery",
        () if flags & STATE_CLEAN == 0 => "not cleanly unmounted",
        () => "clean",
    };
    if flags & STATE_ERRORS != 0 && incompat & NEEDS_RECOVERY != 0 {
        notes.push("its journal needs recovery too".into());
    }
    if let Some(mounted) = sb.text(0x88, 64) {
        notes.push(format!("last mounted at {mounted}"));
    }
    if sb.u32(0xe8).is_some_and(|inode| inode != 0) {
        notes.push("files that were deleted while open wait to be freed".into());
    }
    Some(SignatureReport {
        kind: kind.into(),
        usage: if kind == "jbd" { "other" } else { "filesystem" }.into(),
        more,
        offset: 1024 + 0x38,
        label: sb.text(0x78, 16),
        uuid: sb.uuid(0x68),
        version: Some(format!("{}.{}", sb.u32(0x4c)?, sb.u16(0x3e)?)),
        state: Some(state.into()),
        size: blocks.checked_mul(block_size),
        block_size: Some(block_size),
        proof: Proof::Fields,
        notes,
        ..SignatureReport::default()
    })
}
