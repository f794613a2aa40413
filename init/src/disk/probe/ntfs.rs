//! NTFS: the boot sector and what the file table says of the volume (Linux fs/ntfs3/ntfs.h).

use rescue_schema::report::{Proof, SignatureReport};

use super::ntfs_files::{Files, LOG, VOLUME};
use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader, Unreadable};

/// Types of attributes.
const VOLUME_NAME: u32 = 0x60;
const VOLUME_INFORMATION: u32 = 0x70;
/// `VOLUME_FLAG_DIRTY`.
const DIRTY: u16 = 1;

/// The boot sector, checked.
pub(super) struct Boot {
    pub(super) sector: u64,
    /// Bytes of a cluster and of a record of the file table.
    pub(super) cluster: u64,
    pub(super) record: u64,
    /// First bytes of the file table and of its mirror.
    pub(super) table: u64,
    pub(super) mirror: u64,
    sectors: u64,
    serial: u64,
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(b) = reader.get(0, 512)?.filter(|b| b.is(3, b"NTFS    ")) else { return Ok(None) };
    let Some(boot) = parse(&b) else {
        let Some((place, boot)) = backup(reader)? else { return Ok(None) };
        let mut found = describe(&boot, 3);
        found.notes.push(format!("the boot sector is damaged, its backup at byte {place} is whole"));
        damaged(&mut found, Some(place));
        return Ok(Some(found));
    };
    let mut found = describe(&boot, 3);
    let files = Files::new(reader, &boot, boot.table);
    match files.record(VOLUME)? {
        Some(volume) => {
            found.proof = Proof::Structure;
            facts(&files, &volume, &mut found);
        }
        None => {
            found.notes.push("the file table is not where the boot sector says".into());
            // The mirror keeps the first four records, that of the volume among them.
            if let Some(volume) = Files::new(reader, &boot, boot.mirror).record(VOLUME)? {
                facts(&files, &volume, &mut found);
                found.notes.push("its mirror is whole".into());
                found.backups.push(boot.mirror);
            }
            damaged(&mut found, None);
        }
    }
    if found.size.is_some_and(|own| own > reader.size())
        && let Ok(Some((place, other))) = backup(reader)
        && let Some(right) = other.sectors.checked_mul(other.sector)
    {
        found.notes.push(format!("the backup of its boot sector at byte {place} says {right} bytes"));
        damaged(&mut found, Some(place));
    }
    Ok(Some(found))
}

fn damaged(found: &mut SignatureReport, place: Option<u64>) {
    found.state = Some("damaged".into());
    found.backups.extend(place);
    found.repair = (!found.backups.is_empty()).then(|| "ntfsfix -n DEV".into());
}

/// A volume whose boot sector is lost: Windows keeps a copy behind its last sector.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some((place, boot)) = backup(reader)? else { return Ok(None) };
    let mut found = describe(&boot, place + 3);
    found.notes.push(format!("the boot sector is lost, its backup at byte {place} is whole"));
    damaged(&mut found, Some(place));
    if let Some(volume) = Files::new(reader, &boot, boot.table).record(VOLUME)? {
        found.label = name(&volume);
        found.proof = Proof::Structure;
    }
    Ok(Some(found))
}

fn backup(reader: &Reader<'_>) -> Result<Option<(u64, Boot)>, Unreadable> {
    for sector in [512, reader.sector, 4096] {
        let Some(place) = (reader.size() / sector).checked_sub(1).map(|last| last * sector) else { continue };
        let boot = reader.get(place, 512)?.filter(|b| b.is(3, b"NTFS    ")).and_then(|b| parse(&b));
        if let Some(boot) = boot.filter(|boot| boot.sectors.saturating_mul(boot.sector) == place) {
            return Ok(Some((place, boot)));
        }
    }
    Ok(None)
}

fn parse(b: &Bytes) -> Option<Boot> {
    let sector = u64::from(b.u16(11)?);
    let per_cluster = match b.u8(13)? {
        n if n.is_power_of_two() => u64::from(n),
        n @ 240..=249 => 1u64 << (256 - u32::from(n)),
        _ => return None,
    };
    let cluster = sector * per_cluster;
    // What FAT uses of the parameter block is zero here.
    let unused =
        [14, 17, 19, 22].into_iter().all(|at| b.u16(at) == Some(0)) && b.u8(16)? == 0 && b.u32(32)? == 0;
    let record = match b.u8(64)? {
        n @ 1..=64 if n.is_power_of_two() => u64::from(n) * cluster,
        n @ 0xe1..=0xf7 => 1u64 << (256 - u32::from(n)),
        _ => return None,
    };
    let (sectors, table, mirror) = (b.u64(40)?, b.u64(48)?, b.u64(56)?);
    let clusters = sectors / per_cluster;
    let sane = sector.is_power_of_two()
        && (256..=4096).contains(&sector)
        && cluster <= 2 << 20
        && (512..=65536).contains(&record)
        && unused
        && table <= clusters
        && mirror <= clusters;
    sane.then_some(Boot {
        sector,
        cluster,
        record,
        table: table.checked_mul(cluster)?,
        mirror: mirror.checked_mul(cluster)?,
        sectors,
        serial: b.u64(72)?,
    })
}

fn describe(boot: &Boot, offset: u64) -> SignatureReport {
    let mut found = SignatureReport {
        uuid: Some(format!("{:016X}", boot.serial)),
        size: boot.sectors.checked_mul(boot.sector),
        block_size: Some(boot.sector),
        ..signature("ntfs", "filesystem", offset, Proof::Fields)
    };
    found.more.insert("FSBLOCKSIZE".into(), boot.cluster.to_string());
    found
}

fn name(volume: &Bytes) -> Option<String> {
    let value = Files::value(volume, VOLUME_NAME)?;
    value.utf16(0, value.0.len(), Endian::Little)
}

/// What can be told without writing or replaying: hibernated before all else, since then not even a clean
/// log makes it safe to write.
fn facts(files: &Files<'_, '_>, volume: &Bytes, found: &mut SignatureReport) {
    found.label = name(volume);
    let Some(information) = Files::value(volume, VOLUME_INFORMATION) else { return };
    found.version = information.u8(8).zip(information.u8(9)).map(|(major, minor)| format!("{major}.{minor}"));
    let dirty = information.u16(10).is_some_and(|flags| flags & DIRTY != 0);
    let hibernated = files.hibernated().unwrap_or_else(|why| {
        found.notes.push(format!("whether Windows hibernates cannot be told: {}", why.0));
        None
    });
    let log = files.record(LOG).ok().flatten().and_then(|log| files.log_is_clean(&log).ok().flatten());
    let state = match () {
        () if hibernated == Some(true) => "hibernated",
        () if dirty => "not cleanly unmounted",
        () if log == Some(false) => "needs journal recovery",
        () => "clean",
    };
    if hibernated == Some(true) {
        found.notes.push(
            "Windows hibernates here (or has Fast Startup on): it goes on with what it remembers, do not write to it"
                .into(),
        );
    }
    found.state = Some(state.into());
}
