//! ReFS: only its boot sector is documented (Microsoft, `FILE_SYSTEM_RECOGNITION_STRUCTURE`); the fields
//! behind that are those which Windows itself shows with `fsutil fsinfo refsinfo`.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(boot) = reader.get(0, 512)?.filter(|b| b.is(0, b"\0\0\0ReFS\0")) else { return Ok(None) };
    let mut found = describe(&boot, 0);
    if boot.is(16, b"FSRS") && !checksum_holds(&boot) {
        found.state = Some("damaged".into());
        found.notes.push("the checksum of the boot sector is wrong".into());
        if let Some(place) = backup(reader)? {
            found.backups.push(place);
            found.notes.push(format!("its backup at byte {place} is whole"));
        }
    }
    Ok(Some(found))
}

/// The backup stands in the last sector.
fn backup(reader: &Reader<'_>) -> Answer<u64> {
    let Some(place) = reader.size().checked_sub(reader.sector) else { return Ok(None) };
    let boot = reader.get(place, 512)?;
    Ok(boot.filter(|b| b.is(0, b"\0\0\0ReFS\0") && checksum_holds(b)).map(|_| place))
}

pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(place) = backup(reader)? else { return Ok(None) };
    let Some(boot) = reader.get(place, 512)? else { return Ok(None) };
    let mut found = describe(&boot, place);
    found.state = Some("damaged".into());
    found.notes.push(format!("the first boot sector is lost, its backup at byte {place} is whole"));
    found.backups.push(place);
    Ok(Some(found))
}

/// A 16-bit sum, turned right before each byte, over what follows the jump, itself left out.
fn checksum_holds(boot: &Bytes) -> bool {
    let length = usize::from(boot.u16(20).unwrap_or(0));
    if !boot.is(16, b"FSRS") || !(24..=512).contains(&length) {
        return false;
    }
    let Some(bytes) = boot.slice(0, length) else { return false };
    let counted = bytes.iter().enumerate().filter(|(n, _)| *n >= 3 && !matches!(n, 22 | 23));
    let sum = counted.fold(0u16, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u16::from(*byte)));
    boot.u16(22) == Some(sum)
}

fn describe(boot: &Bytes, offset: u64) -> SignatureReport {
    let sector = boot.u32(32).map(u64::from).filter(|s| s.is_power_of_two() && (512..=4096).contains(s));
    let proof = if checksum_holds(boot) { Proof::Checksum } else { Proof::Magic };
    SignatureReport {
        uuid: boot.u64(56).filter(|serial| *serial != 0).map(|serial| format!("{serial:016X}")),
        version: boot
            .u8(40)
            .zip(boot.u8(41))
            .filter(|v| v.0 != 0)
            .map(|(major, minor)| format!("{major}.{minor}")),
        size: boot.u64(24).zip(sector).and_then(|(sectors, sector)| sectors.checked_mul(sector)),
        block_size: sector,
        ..signature("ReFS", "filesystem", offset, proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot sector as the documentation has it, of a volume of 64 MiB.
    fn boot() -> Vec<u8> {
        let mut b = vec![0u8; 512];
        b[3..7].copy_from_slice(b"ReFS");
        b[16..20].copy_from_slice(b"FSRS");
        b[20..22].copy_from_slice(&512u16.to_le_bytes());
        b[24..32].copy_from_slice(&(131_072u64).to_le_bytes());
        b[32..36].copy_from_slice(&512u32.to_le_bytes());
        b[36..40].copy_from_slice(&8u32.to_le_bytes());
        b[40] = 3;
        b[41] = 4;
        b[56..64].copy_from_slice(&0x1234_5678_9abc_def0u64.to_le_bytes());
        let mut sum = 0u16;
        for (n, byte) in b.iter().enumerate().skip(3).filter(|(n, _)| !matches!(n, 22 | 23)) {
            let _ = n;
            sum = sum.rotate_right(1).wrapping_add(u16::from(*byte));
        }
        b[22..24].copy_from_slice(&sum.to_le_bytes());
        b
    }

    #[test]
    fn a_boot_sector_and_its_backup() {
        let mut disk = boot();
        disk.resize(64 << 20, 0);
        let end = disk.len() - 512;
        disk.splice(end.., boot());
        let look = |disk: &Vec<u8>| probe(&Reader::new(disk, 512)).unwrap();
        let found = look(&disk).unwrap();
        assert_eq!(found.uuid.as_deref(), Some("123456789ABCDEF0"));
        assert_eq!((found.version.as_deref(), found.size), (Some("3.4"), Some(64 << 20)));
        assert_eq!((found.proof, found.state), (Proof::Checksum, None));
        disk[60] ^= 1;
        let found = look(&disk).unwrap();
        assert_eq!((found.state.as_deref(), found.backups[0]), (Some("damaged"), 67_108_352));
        disk[..512].fill(0);
        assert_eq!(look(&disk), None);
        let found = remains(&Reader::new(&disk, 512)).unwrap().unwrap();
        assert_eq!((found.kind.as_str(), found.offset), ("ReFS", 67_108_352));
    }
}
