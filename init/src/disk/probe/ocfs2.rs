//! OCFS2 (fs/ocfs2/ocfs2_fs.h): the superblock is an inode.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

/// Byte of the first backup of the superblock; the others follow at four times the place each.
const BACKUP: u64 = 1 << 30;
const BACKUPS: u32 = 6;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    // It is the third block, of 512 bytes to 4 KiB.
    for log in 9..=12 {
        if let Some(sb) = at(reader, 2 << log)?.filter(|sb| sb.u32(248) == Some(log)) {
            return Ok(parse(&sb, 2 << log));
        }
    }
    Ok(None)
}

fn at(reader: &Reader<'_>, place: u64) -> Answer<Bytes> {
    Ok(reader.get(place, 512)?.filter(|b| b.is(0, b"OCFSV2")))
}

/// A volume whose first superblock is lost.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let mut found: Option<SignatureReport> = None;
    let mut first = 0;
    for n in 0..BACKUPS {
        let place = BACKUP << (2 * n);
        let Some(copy) = at(reader, place)?.and_then(|sb| parse(&sb, place)) else { continue };
        if found.is_none() {
            first = n + 1;
        }
        found.get_or_insert(copy).backups.push(place);
    }
    Ok(found.map(|mut found| {
        found.state = Some("damaged".into());
        found.notes.push("the first superblock is lost, backups of it are there".into());
        found.repair = Some(format!("fsck.ocfs2 -n -r {first} DEV"));
        found
    }))
}

fn parse(sb: &Bytes, place: u64) -> Option<SignatureReport> {
    let (block_log, cluster_log) = (sb.u32(248)?, sb.u32(252)?);
    if !(9..=12).contains(&block_log) || !(12..=20).contains(&cluster_log) {
        return None;
    }
    Some(SignatureReport {
        label: sb.text(272, 64),
        uuid: sb.uuid(336),
        version: Some(format!("{}.{}", sb.u16(192)?, sb.u16(194)?)),
        size: Some(u64::from(sb.u32(20)?) << cluster_log),
        block_size: Some(1 << block_log),
        ..signature("ocfs2", "filesystem", place, Proof::Fields)
    })
}
