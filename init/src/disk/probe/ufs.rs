//! UFS1 and UFS2 in both byte orders (FreeBSD sys/ufs/ffs/fs.h, `struct fs`).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader};

/// Where superblocks are: UFS2 at 64 KiB, UFS1 at 8 KiB, floppies at 0, and "piggy" ones at 256 KiB.
const PLACES: [u64; 3] = [65536, 8192, 0];
const PIGGY: u64 = 256 << 10;
/// Where newfs puts the copy of the first cylinder group (`fs_sblkno`), by format and size of a block: UFS1 of 8
/// or 16 KiB and of 32 KiB, UFS2 of 8, 16, 32 and 64 KiB.
const COPIES: [u64; 6] = [16384, 32768, 73728, 81920, 98304, 131_072];
const LENGTH: usize = 1376;
const MAGIC_AT: usize = 1372;
const UFS2: u32 = 0x1954_0119;
/// UFS1 and its variants: long names, 4 GB, features, security.
const UFS1: [u32; 5] = [0x0001_1954, 0x0019_5612, 0x0009_5014, 0x0061_2195, 0x0523_1994];

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    for place in PLACES {
        if let Some(found) = at(reader, place)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Asked only where nothing else was found: it costs reads of its own.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    if let Some(found) = at(reader, PIGGY)? {
        return Ok(Some(found));
    }
    for place in COPIES {
        let Some(mut found) = at(reader, place)? else { continue };
        found.state = Some("damaged".into());
        found.backups = vec![place];
        found.repair = Some(format!("fsck_ffs -n -b {} DEV", place / 512));
        found.notes.push(format!("the superblock is lost, a copy of it stands at byte {place}"));
        return Ok(Some(found));
    }
    Ok(None)
}

fn at(reader: &Reader<'_>, place: u64) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(place, LENGTH)? else { return Ok(None) };
    for order in [Endian::Little, Endian::Big] {
        let magic = sb.u32_in(MAGIC_AT, order);
        if magic == Some(UFS2) || magic.is_some_and(|m| UFS1.contains(&m)) {
            return Ok(parse(&sb, place, order, magic == Some(UFS2)));
        }
    }
    Ok(None)
}

fn parse(sb: &Bytes, place: u64, order: Endian, second: bool) -> Option<SignatureReport> {
    let (block, fragment) = (sb.u32_in(48, order)?, sb.u32_in(52, order)?);
    let agrees = block.is_power_of_two()
        && fragment.is_power_of_two()
        && (512..=65536).contains(&fragment)
        && fragment.checked_mul(sb.u32_in(56, order)?) == Some(block);
    let (low, high) = (sb.u32_in(144, order)?, sb.u32_in(148, order)?);
    let fragments = if second { sb.u64_in(1080, order)? } else { u64::from(sb.u32_in(36, order)?) };
    // FS_NEEDSFSCK; fs_clean is 1 when it was unmounted (Sun: a state that counts on).
    let (clean, flags) = (sb.u8(209)?, sb.u8(211)?);
    let state = match () {
        () if flags & 4 != 0 => "errors seen",
        () if clean == 0 => "not cleanly unmounted",
        () => "clean",
    };
    let mut found = SignatureReport {
        label: if second { sb.text(680, 32) } else { None },
        uuid: (low != 0 || high != 0).then(|| format!("{low:08x}{high:08x}")),
        version: Some(if second { "2" } else { "1" }.into()),
        state: Some(state.into()),
        size: fragments.checked_mul(u64::from(fragment)),
        block_size: Some(u64::from(fragment)),
        ..signature(
            "ufs",
            "filesystem",
            place + MAGIC_AT as u64,
            if agrees { Proof::Fields } else { Proof::Magic },
        )
    };
    if order == Endian::Big {
        found.more.insert("ENDIANNESS".into(), "BIG".into());
    }
    if let Some(mounted) = sb.text(212, if second { 468 } else { 512 }) {
        found.notes.push(format!("last mounted at {mounted}"));
    }
    Some(found)
}
