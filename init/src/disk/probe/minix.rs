//! Minix 1, 2 and 3 in both byte orders (include/uapi/linux/minix_fs.h).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader};

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(1024, 64)? else { return Ok(None) };
    // Numbers of inodes in an ext or EROFS superblock look like the magic number of Minix at times.
    if sb.is(0x38, &[0x53, 0xef]) || sb.u32(0) == Some(0xe0f5_e1e2) {
        return Ok(None);
    }
    for order in [Endian::Little, Endian::Big] {
        let (version, at) = match (sb.u16_in(16, order), sb.u16_in(24, order)) {
            (Some(0x137f | 0x138f), _) => (1, 16),
            (Some(0x2468 | 0x2478), _) => (2, 16),
            (_, Some(0x4d5a)) => (3, 24),
            _ => continue,
        };
        if let Some(mut found) = parse(&sb, version, order) {
            found.offset = 1024 + at;
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn parse(sb: &Bytes, version: u32, order: Endian) -> Option<SignatureReport> {
    let short = |at| sb.u16_in(at, order).map(u64::from);
    let long = |at| sb.u32_in(at, order).map(u64::from);
    let third = version == 3;
    let inodes = if third { long(0)? } else { short(0)? };
    let zones = if version == 1 { short(2)? } else { long(20)? };
    let (inode_map, zone_map, first) =
        if third { (short(6)?, short(8)?, short(10)?) } else { (short(4)?, short(6)?, short(8)?) };
    let zone_log = short(if third { 12 } else { 10 })?;
    let block = if third { short(28)? } else { 1024 };
    let sane = zone_log == 0
        && inodes > 0
        && inodes < u64::from(u32::MAX)
        && block.is_power_of_two()
        && inode_map * 8192 > inodes
        && first <= zones
        && zone_map * 8192 > zones - first;
    // MINIX_VALID_FS, MINIX_ERROR_FS; version 3 has no such word.
    let state = if third { None } else { Some(short(18)?) };
    if !sane || state.is_some_and(|state| state & !3 != 0) {
        return None;
    }
    let state = state.map(|state| match state {
        state if state & 2 != 0 => "errors seen",
        1 => "clean",
        _ => "not cleanly unmounted",
    });
    let mut found = SignatureReport {
        version: Some(version.to_string()),
        state: state.map(Into::into),
        size: Some(zones * block),
        block_size: Some(block),
        ..signature("minix", "filesystem", 0, Proof::Fields)
    };
    if order == Endian::Big {
        found.more.insert("ENDIANNESS".into(), "BIG".into());
    }
    Some(found)
}
