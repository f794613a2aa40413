//! FAT12, FAT16 and FAT32 (Microsoft FAT specification, 2005; fs/fat/inode.c).

use rescue_schema::report::{Proof, SignatureReport};

use crate::disk::source::{Answer, Bytes, Reader, hyphens};

/// Most clusters of a FAT32 root folder that are looked through for the label. The label is written
/// by mkfs as the first entry; a crafted chain must not keep us reading.
const ROOT_CLUSTERS: usize = 16;
/// Most bytes of a root folder that are read at once.
const ROOT_BYTES: u64 = 64 << 10;

/// The parameter block, checked.
struct Geometry {
    sector: u64,
    cluster: u64,
    reserved: u64,
    fat_sectors: u64,
    fats: u64,
    root_entries: u64,
    sectors: u64,
    bits: u32,
    clusters: u64,
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(boot) = reader.get(0, 512)? else { return Ok(None) };
    let Some(geometry) = geometry(&boot) else { return Ok(None) };
    let extended = if geometry.bits == 32 { 0x40 } else { 0x24 };
    let serial = boot.u8(extended + 2).filter(|s| *s == 0x28 || *s == 0x29);
    // Zero is none: nobody finds it by that.
    let serial = serial.and_then(|_| boot.u32(extended + 3)).filter(|serial| *serial != 0);
    // A root folder or table that cannot be read costs the label, not the answer.
    let mut notes = Vec::new();
    let label = match label(reader, &boot, &geometry) {
        Ok(label) => label,
        Err(error) => {
            notes.push(format!("the root folder cannot be read: {}", error.0));
            None
        }
    };
    let dirty = boot.u8(extended + 1).is_some_and(|s| s & 1 != 0) || fat_says_dirty(reader, &geometry);
    let size = geometry.sectors * geometry.sector;
    let mut more = std::collections::BTreeMap::new();
    let boot_label = boot.text(extended + 7, 11).filter(|l| l != "NO NAME");
    if boot.u8(extended + 2) == Some(0x29) {
        more.extend(boot_label.map(|label| ("LABEL_FATBOOT".to_string(), label)));
    }
    if geometry.bits != 32 {
        more.insert("SEC_TYPE".into(), "msdos".into());
    }
    more.insert("FSBLOCKSIZE".into(), (geometry.cluster * geometry.sector).to_string());
    let mut state = if dirty { "not cleanly unmounted" } else { "clean" };
    if geometry.bits == 32 && !info_is_whole(reader, &boot, &geometry) {
        notes.push("the FSInfo sector is damaged".into());
    }
    let backups = if geometry.bits == 32 { backup(reader, &boot, &geometry) } else { None };
    if let Some((place, false)) = backups {
        state = "errors seen";
        notes.push(format!(
            "the boot sector and its backup at byte {place} differ: `fsck.vfat -n DEV` shows in what"
        ));
    }
    Ok(Some(SignatureReport {
        kind: "vfat".into(),
        usage: "filesystem".into(),
        more,
        offset: 510,
        label,
        uuid: serial.map(|s| hyphens(&format!("{s:08X}"), &[4, 4])),
        version: Some(format!("FAT{}", geometry.bits)),
        state: Some(state.into()),
        backups: backups.map(|(place, _)| place).into_iter().collect(),
        size: Some(size),
        block_size: Some(geometry.sector),
        proof: Proof::Fields,
        notes,
        ..SignatureReport::default()
    }))
}

/// FSInfo holds counters alone; some systems leave its marks out.
fn info_is_whole(reader: &Reader<'_>, boot: &Bytes, g: &Geometry) -> bool {
    let sector = u64::from(boot.u16(48).unwrap_or(0));
    match reader.get(sector * g.sector, 512) {
        Ok(Some(info)) if sector != 0 => {
            (info.is(0, b"RRaA") || info.is(0, b"RRdA") || info.is(0, &[0; 4]))
                && (info.is(484, b"rrAa") || info.is(484, &[0; 4]))
        }
        _ => true,
    }
}

/// Where the copy of the boot sector of a FAT32 is, if there is one, and whether it has the same parameters.
fn backup(reader: &Reader<'_>, boot: &Bytes, g: &Geometry) -> Option<(u64, bool)> {
    let sector = u64::from(boot.u16(50)?);
    let place = sector.checked_mul(g.sector).filter(|_| sector > 0 && sector < g.reserved)?;
    let copy = reader.get(place, 512).ok().flatten()?;
    geometry(&copy)?;
    // All but how many sectors are hidden before it: who moves a partition changes that in one of them.
    let same = |from: usize, to: usize| copy.slice(from, to - from) == boot.slice(from, to - from);
    Some((place, same(11, 28) && same(32, 64)))
}

/// FAT32 keeps a copy of its boot sector, by custom in sector 6.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    for sector in [512u64, 1024, 2048, 4096] {
        let place = 6 * sector;
        let Some(boot) = reader.get(place, 512)? else { continue };
        let Some(g) = geometry(&boot).filter(|g| g.bits == 32 && g.sector == sector) else { continue };
        return Ok(Some(SignatureReport {
            label: label(reader, &boot, &g).ok().flatten(),
            uuid: boot.u32(0x43).filter(|serial| *serial != 0).map(|s| hyphens(&format!("{s:08X}"), &[4, 4])),
            version: Some("FAT32".into()),
            state: Some("damaged".into()),
            size: Some(g.sectors * g.sector),
            block_size: Some(g.sector),
            backups: vec![place],
            repair: Some("fsck.vfat -n DEV".into()),
            notes: vec![format!("the boot sector is lost, its backup at byte {place} is whole")],
            ..super::signature("vfat", "filesystem", place + 510, Proof::Fields)
        }));
    }
    Ok(None)
}

/// Whether the first entry of the table repeats the media byte.
pub(super) fn confirm(reader: &Reader<'_>, _: &SignatureReport) -> Answer<bool> {
    let Some(boot) = reader.get(0, 512)? else { return Ok(None) };
    let Some(g) = geometry(&boot) else { return Ok(None) };
    let Some(table) = reader.get(g.reserved * g.sector, 2)? else { return Ok(Some(false)) };
    Ok(Some(table.u8(0) == boot.u8(21) && table.u8(1) == Some(0xff)))
}

fn geometry(boot: &Bytes) -> Option<Geometry> {
    let named = boot.is(0x52, b"MSWIN")
        || boot.is(0x52, b"FAT32   ")
        || boot.is(0x36, b"MSDOS")
        || [b"FAT16   ", b"FAT12   ", b"FAT     "].iter().any(|name| boot.is(0x36, *name));
    // OS/2 puts a parameter block on JFS and HPFS too; BitLocker To Go (its GUID at 424) on what it
    // encrypted, so that old Windows shows a reader for it.
    let other = boot.is(0x36, b"JFS     ")
        || boot.is(0x36, b"HPFS    ")
        || boot.is(3, b"NTFS    ")
        || boot.is(3, b"EXFAT   ")
        || boot.is(3, b"-FVE-FS-")
        || boot.is(424, b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01");
    if other || !(named || boot.is(510, &[0x55, 0xaa])) {
        return None;
    }
    let sector = u64::from(boot.u16(11)?);
    let cluster = u64::from(boot.u8(13)?);
    let (reserved, fats) = (u64::from(boot.u16(14)?), u64::from(boot.u8(16)?));
    let root_entries = u64::from(boot.u16(17)?);
    let media = boot.u8(21)?;
    let short = u64::from(boot.u16(19)?);
    let sectors = if short == 0 { u64::from(boot.u32(32)?) } else { short };
    let fat16 = u64::from(boot.u16(22)?);
    let fat_sectors = if fat16 == 0 { u64::from(boot.u32(36)?) } else { fat16 };
    let sane = matches!(sector, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && reserved > 0
        && (1..=8).contains(&fats)
        && (media >= 0xf8 || media == 0xf0)
        && fat_sectors > 0
        && sectors > 0;
    if !sane {
        return None;
    }
    let meta = reserved + fats * fat_sectors + (root_entries * 32).div_ceil(sector);
    let clusters = sectors.checked_sub(meta)? / cluster;
    // The specification tells the three by the count of clusters alone, and small FAT32 volumes (an ESP
    // made with `mkfs.vfat -F 32`) break it; the kernel and blkid take an absent 16-bit length for FAT32.
    let bits = match () {
        () if fat16 == 0 => 32,
        () if clusters < 4085 => 12,
        () if clusters < 65525 => 16,
        () => return None,
    };
    Some(Geometry { sector, cluster, reserved, fat_sectors, fats, root_entries, sectors, bits, clusters })
}

fn label(reader: &Reader<'_>, boot: &Bytes, g: &Geometry) -> Answer<String> {
    let tables = (g.reserved + g.fats * g.fat_sectors) * g.sector;
    if g.bits != 32 {
        return Ok(volume_entry(reader, tables, g.root_entries * 32)?.flatten());
    }
    let mut cluster = u64::from(boot.u32(44).unwrap_or(0));
    for _ in 0..ROOT_CLUSTERS {
        if cluster < 2 || cluster - 2 >= g.clusters {
            break;
        }
        let at = tables + (cluster - 2) * g.cluster * g.sector;
        if let Some(end) = volume_entry(reader, at, g.cluster * g.sector)? {
            return Ok(end);
        }
        let Some(next) = reader.get(g.reserved * g.sector + cluster * 4, 4)? else { break };
        cluster = u64::from(next.u32(0).unwrap_or(0) & 0x0fff_ffff);
    }
    Ok(None)
}

/// `Some(label)` when the folder ended here or the label was found, `None` when it goes on.
fn volume_entry(reader: &Reader<'_>, at: u64, length: u64) -> Answer<Option<String>> {
    let length = usize::try_from(length.min(ROOT_BYTES)).unwrap_or(0);
    let Some(folder) = reader.get(at, length)? else { return Ok(Some(None)) };
    for entry in folder.0.chunks_exact(32) {
        let entry = Bytes(entry.to_vec());
        match (entry.u8(0), entry.u8(11)) {
            (Some(0), _) => return Ok(Some(None)),
            (Some(0xe5), _) => {}
            // The volume label's own bit and not a folder's, no long-name entry (which has all four low
            // bits), and no content.
            (_, Some(attributes))
                if attributes & 0x18 == 0x08
                    && attributes & 0x3f != 0x0f
                    && entry.u16(20) == Some(0)
                    && entry.u16(26) == Some(0) =>
            {
                let mut name = entry.slice(0, 11).unwrap_or_default().to_vec();
                // 0xe5 would say that it was deleted, so that 5 stands for it.
                name.iter_mut().take(1).filter(|c| **c == 5).for_each(|c| *c = 0xe5);
                return Ok(Some(Bytes(name).text(0, 11)));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Bit 15 (FAT16) or 27 (FAT32) of the second entry is cleared by some systems while it is mounted.
fn fat_says_dirty(reader: &Reader<'_>, g: &Geometry) -> bool {
    let at = g.reserved * g.sector;
    match (g.bits, reader.get(at, 8)) {
        (16, Ok(Some(fat))) => fat.u16(2).is_some_and(|e| e & 1 << 15 == 0),
        (32, Ok(Some(fat))) => fat.u32(4).is_some_and(|e| e & 1 << 27 == 0),
        _ => false,
    }
}
