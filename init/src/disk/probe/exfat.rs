//! exFAT (Microsoft, exFAT file system specification, 3.1 "Main and Backup Boot Sector").

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader, Unreadable, hyphens};

/// Most clusters of the root folder that are looked through for the label.
const CLUSTERS: usize = 16;
/// Most bytes of a cluster that are looked through.
const CLUSTER_BYTES: u64 = 64 << 10;
/// Sectors of a boot region.
const REGION: u64 = 12;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(boot) = reader.get(0, 512)?.filter(|b| b.is(3, b"EXFAT   ")) else { return Ok(None) };
    if sane(&boot) && region_is_whole(reader, 0)? {
        let mut found = describe(&boot, 3);
        found.proof = Proof::Checksum;
        match label(reader, &boot) {
            Ok(label) => found.label = label,
            Err(why) => found.notes.push(format!("the root folder cannot be read: {}", why.0)),
        }
        return Ok(Some(found));
    }
    let mut found = match backup(reader)? {
        Some((place, copy)) => {
            let mut found = describe(&copy, 3);
            found.label = label(reader, &copy).ok().flatten();
            found.backups.push(place);
            found.notes.push(format!("the backup boot region at byte {place} is whole"));
            found.repair = Some("fsck.exfat DEV".into());
            found
        }
        None => {
            let mut found = signature("exfat", "filesystem", 3, Proof::Magic);
            found.notes.push("no whole backup boot region was found".into());
            found
        }
    };
    found.state = Some("damaged".into());
    found.notes.insert(0, "the checksum of the boot region is wrong".into());
    Ok(Some(found))
}

/// A volume whose first boot sector is lost.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    Ok(backup(reader)?.map(|(place, boot)| {
        let mut found = describe(&boot, place + 3);
        found.label = label(reader, &boot).ok().flatten();
        found.state = Some("damaged".into());
        found.notes.push(format!("the first boot region is lost, its backup at byte {place} is whole"));
        found.repair = Some("fsck.exfat DEV".into());
        found.backups.push(place);
        found.proof = Proof::Checksum;
        found
    }))
}

fn backup(reader: &Reader<'_>) -> Result<Option<(u64, Bytes)>, Unreadable> {
    for sector in [512u64, 4096, 1024, 2048] {
        let place = REGION * sector;
        let boot = reader.get(place, 512)?.filter(|b| b.is(3, b"EXFAT   ") && sane(b));
        if let Some(boot) = boot.filter(|b| b.u8(108).is_some_and(|log| 1 << log == sector))
            && region_is_whole(reader, place)?
        {
            return Ok(Some((place, boot)));
        }
    }
    Ok(None)
}

fn sane(boot: &Bytes) -> bool {
    let check = || {
        let (sector, cluster, fats) = (boot.u8(108)?, boot.u8(109)?, u64::from(boot.u8(110)?));
        let (fat, length) = (u64::from(boot.u32(80)?), u64::from(boot.u32(84)?));
        let (heap, clusters) = (u64::from(boot.u32(88)?), boot.u32(92)?);
        let root = boot.u32(96)?;
        Some(
            boot.is(510, &[0x55, 0xaa])
                && (9..=12).contains(&sector)
                && u16::from(cluster) + u16::from(sector) <= 25
                && (1..=2).contains(&fats)
                && fat >= 24
                && fat + length * fats <= heap
                && root >= 2
                && u64::from(root) <= u64::from(clusters) + 1,
        )
    };
    check() == Some(true)
}

/// 3.4: the sum over eleven sectors, without the flags and the percentage, fills the twelfth.
fn region_is_whole(reader: &Reader<'_>, at: u64) -> Result<bool, Unreadable> {
    let Some(log) = reader.get(at, 512)?.and_then(|b| b.u8(108)).filter(|log| (9..=12).contains(log)) else {
        return Ok(false);
    };
    let sector = 1usize << log;
    let Some(region) = reader.get(at, 12 * sector)? else { return Ok(false) };
    let (body, sums) = region.0.split_at(11 * sector);
    let sum = body.iter().enumerate().filter(|(n, _)| !matches!(n, 106 | 107 | 112));
    let sum = sum.fold(0u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u32::from(*byte)));
    Ok(sums.chunks_exact(4).all(|chunk| chunk == sum.to_le_bytes()))
}

fn describe(boot: &Bytes, offset: u64) -> SignatureReport {
    let sector = 1u64 << boot.u8(108).unwrap_or(9).min(12);
    let flags = boot.u16(106).unwrap_or(0);
    let state = match () {
        () if flags & 4 != 0 => "errors seen",
        () if flags & 2 != 0 => "not cleanly unmounted",
        () => "clean",
    };
    SignatureReport {
        uuid: boot.u32(100).map(|serial| hyphens(&format!("{serial:08X}"), &[4, 4])),
        version: boot.u8(105).zip(boot.u8(104)).map(|(major, minor)| format!("{major}.{minor}")),
        size: boot.u64(72).and_then(|sectors| sectors.checked_mul(sector)),
        block_size: Some(sector),
        state: Some(state.into()),
        ..signature("exfat", "filesystem", offset, Proof::Fields)
    }
}

/// 7.3: the entry of the volume's label in the root folder.
fn label(reader: &Reader<'_>, boot: &Bytes) -> Answer<String> {
    let place = || {
        let sector = u32::from(boot.u8(108)?.min(12));
        let cluster = sector + u32::from(boot.u8(109)?.min(25));
        Some((
            u64::from(boot.u32(88)?) << sector,
            1u64 << cluster,
            u64::from(boot.u32(80)?) << sector,
            boot.u32(96)?,
        ))
    };
    let Some((heap, cluster, fat, mut next)) = place() else { return Ok(None) };
    for _ in 0..CLUSTERS {
        if !(2..=0xffff_fff6).contains(&next) {
            break;
        }
        let at = heap.saturating_add(u64::from(next - 2).saturating_mul(cluster));
        let length = usize::try_from(cluster.min(CLUSTER_BYTES)).unwrap_or(0);
        let Some(folder) = reader.get(at, length)? else { break };
        for entry in folder.0.chunks_exact(32) {
            let entry = Bytes(entry.to_vec());
            match entry.u8(0) {
                Some(0) | None => return Ok(None),
                Some(0x83) => {
                    let units = usize::from(entry.u8(1).unwrap_or(0)).min(11);
                    return Ok(entry.utf16(2, units * 2, Endian::Little));
                }
                Some(_) => {}
            }
        }
        let Some(link) = reader.get(fat.saturating_add(u64::from(next) * 4), 4)? else { break };
        next = link.u32(0).unwrap_or(0);
    }
    Ok(None)
}
