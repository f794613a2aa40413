//! Intel Matrix Storage, Rapid Storage, VROC (super-intel.c of mdadm): an anchor in the last but one sector.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

const MAGIC: &[u8] = b"Intel Raid ISM Cfg Sig. ";
/// Bytes before the disks, of a disk, and of a volume up to its map.
const HEAD: usize = 216;
const DISK: usize = 48;
const VOLUME: usize = 112;
/// Largest metadata that is read, in bytes.
const METADATA: u64 = 32 << 10;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let mut sectors = vec![reader.sector, 512, 4096];
    sectors.dedup();
    for sector in sectors {
        let Some(at) = (reader.size() / sector).checked_sub(2).map(|n| n * sector) else { continue };
        let Some(anchor) = reader.get(at, 512)?.filter(|a| a.is(0, MAGIC)) else { continue };
        return describe(reader, &anchor, at, sector);
    }
    Ok(None)
}

fn describe(reader: &Reader<'_>, anchor: &Bytes, at: u64, sector: u64) -> Answer<SignatureReport> {
    let mut found = SignatureReport {
        version: anchor.text(MAGIC.len(), 6),
        state: Some("clean".into()),
        ..signature("isw_raid_member", "raid", at, Proof::Fields)
    };
    // What does not fit into the anchor's sector stands in those before it.
    let size = anchor.u32(36).map_or(0, u64::from);
    if !(216..=METADATA).contains(&size) {
        found.state = Some("damaged".into());
        found.notes.push("its metadata says to have an impossible size".into());
        return Ok(Some(found));
    }
    let rest = size.saturating_sub(sector).div_ceil(sector) * sector;
    let Some(first) = reader.get(at, usize::try_from(sector).unwrap_or(512))? else { return Ok(Some(found)) };
    let mut bytes = first.0;
    if rest > 0 {
        let more = at
            .checked_sub(rest)
            .map_or(Ok(None), |from| reader.get(from, usize::try_from(rest).unwrap_or(0)))?;
        bytes.extend(more.map(|b| b.0).unwrap_or_default());
    }
    bytes.truncate(usize::try_from(size).unwrap_or(0));
    let words = bytes.chunks_exact(4).filter_map(|w| <[u8; 4]>::try_from(w).ok()).map(u32::from_le_bytes);
    let own = anchor.u32(32).unwrap_or(0);
    let whole = words.fold(0u32, u32::wrapping_add).wrapping_sub(own) == own;
    if whole {
        found.proof = Proof::Checksum;
    } else {
        found.state = Some("damaged".into());
        found.notes.push("the checksum of its metadata is wrong".into());
    }
    let metadata = Bytes(bytes);
    let (disks, volumes) = (metadata.u8(56).unwrap_or(0), metadata.u8(57).unwrap_or(0));
    let family = metadata.u32(64).filter(|f| *f != 0).or(metadata.u32(40)).unwrap_or(0);
    let mut words = format!("an Intel RAID of {disks} disks and {volumes} volumes");
    let volume = HEAD + DISK * usize::from(disks);
    if volumes > 0
        && let Some(name) = metadata.text(volume, 16)
    {
        let state = match metadata.u8(volume + VOLUME + 14) {
            Some(0) => "normal",
            Some(1) => "not initialised",
            Some(2) => "degraded",
            Some(3) => "failed",
            _ => "of unknown state",
        };
        let level = metadata.u8(volume + VOLUME + 15).unwrap_or(0);
        let level = if level == 1 && metadata.u8(volume + VOLUME + 16) > Some(2) { 10 } else { level };
        words.push_str(&format!(", the first is {name}: raid{level}, {state}"));
        found.more.insert("ISW_VOLUME".into(), name);
        if matches!(state, "degraded" | "failed") && whole {
            found.state = Some(state.into());
        } else if metadata.u8(volume + 90).is_some_and(|dirty| dirty & 1 != 0) && whole {
            found.state = Some("needs resync".into());
        }
    }
    found.notes.push(words);
    found.more.insert("ISW_FAMILY".into(), format!("{family:08x}"));
    Ok(Some(found))
}
