//! Reiserfs 3.5, 3.6 and with its journal elsewhere (fs/reiserfs/reiserfs.h), and Reiser4.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Reader};

/// Where the superblock was put, by age, and where in it the magic number stands.
const PLACES: [(u64, usize); 3] = [(65536, 52), (8192, 52), (8192, 20)];

pub(super) fn third(reader: &Reader<'_>) -> Answer<SignatureReport> {
    for (place, at) in PLACES {
        let Some(sb) = reader.get(place, 116)? else { continue };
        let version = match sb.slice(at, 9) {
            Some(b"ReIsEr2Fs") => "3.6",
            Some(b"ReIsEr3Fs") => "JR",
            Some([b'R', b'e', b'I', b's', b'E', b'r', b'F', b's', _]) => "3.5",
            _ => continue,
        };
        let (Some(block), Some(journal)) = (sb.u16(44).map(u64::from), sb.u32(12)) else { continue };
        // A copy in the journal is not the one; the journal begins two blocks behind the superblock.
        if !block.is_power_of_two() || block < 512 || place / block > u64::from(journal) {
            continue;
        }
        let named = version != "3.5";
        // fs_state, s_umount_state
        let state = match (sb.u16(62), sb.u16(50)) {
            (Some(1..), _) => "errors seen",
            (_, Some(1)) => "clean",
            _ => "not cleanly unmounted",
        };
        return Ok(Some(SignatureReport {
            label: if named { sb.text(100, 16) } else { None },
            uuid: if named { sb.uuid(84) } else { None },
            version: Some(version.into()),
            state: Some(state.into()),
            size: sb.u32(0).map(|blocks| u64::from(blocks) * block),
            block_size: Some(block),
            ..signature("reiserfs", "filesystem", place + at as u64, Proof::Fields)
        }));
    }
    Ok(None)
}

/// The master superblock of Reiser4.
pub(super) fn fourth(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(65536, 52)?.filter(|b| b.is(0, b"ReIsEr4")) else { return Ok(None) };
    let Some(block) = sb.u16(18).filter(|block| block.is_power_of_two() && *block >= 512) else {
        return Ok(None);
    };
    // The superblock of its disk format stands in the next block.
    let format = reader.get(65536 + u64::from(block), 68)?.filter(|b| b.is(52, b"ReIsEr40FoRmAt"));
    Ok(Some(SignatureReport {
        size: format.and_then(|b| b.u64(0)?.checked_mul(u64::from(block))),
        label: sb.text(36, 16),
        uuid: sb.uuid(20),
        version: Some("4".into()),
        block_size: Some(u64::from(block)),
        ..signature("reiser4", "filesystem", 65536, Proof::Fields)
    }))
}
