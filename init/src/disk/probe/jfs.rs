//! JFS (fs/jfs/jfs_superblock.h).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

/// `SUPER1_OFF` and `SUPER2_OFF`.
const FIRST: u64 = 0x8000;
const SECOND: u64 = 0xf000;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(FIRST, 184)?.filter(|b| b.is(0, b"JFS1")) else { return Ok(None) };
    if let Some(found) = parse(&sb, FIRST) {
        return Ok(Some(found));
    }
    let mut found = signature("jfs", "filesystem", FIRST, Proof::Magic);
    if let Some(copy) = remains(reader)? {
        found = SignatureReport { offset: FIRST, ..copy };
    }
    found.state = Some("damaged".into());
    found.notes.insert(0, "the fields of the superblock contradict one another".into());
    Ok(Some(found))
}

pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let sb = reader.get(SECOND, 184)?.filter(|b| b.is(0, b"JFS1"));
    Ok(sb.and_then(|sb| parse(&sb, SECOND)).map(|mut found| {
        found.state = Some("damaged".into());
        found.notes.push(format!("the second superblock, at byte {SECOND}, is whole"));
        found.repair = Some("jfs_fsck -n DEV".into());
        found.backups.push(SECOND);
        found
    }))
}

fn parse(sb: &Bytes, offset: u64) -> Option<SignatureReport> {
    let (block, physical) = (sb.u32(16)?, sb.u32(24)?);
    let (block_log, physical_log) = (u32::from(sb.u16(20)?), u32::from(sb.u16(28)?));
    let agrees = block_log <= 16
        && block == 1 << block_log
        && physical_log <= block_log
        && physical == 1 << physical_log
        && u32::from(sb.u16(22)?) == block_log - physical_log;
    if !agrees {
        return None;
    }
    // FM_MOUNT, FM_DIRTY, FM_LOGREDO
    let state = match sb.u32(40)? {
        state if state & 2 != 0 => "errors seen",
        state if state & 4 != 0 => "errors seen",
        state if state & 1 != 0 => "needs journal recovery",
        _ => "clean",
    };
    Some(SignatureReport {
        label: sb.text(152, 16),
        uuid: sb.uuid(136),
        state: Some(state.into()),
        size: sb.u64(8)?.checked_mul(u64::from(physical)),
        block_size: Some(u64::from(block)),
        ..signature("jfs", "filesystem", offset, Proof::Fields)
    })
}
