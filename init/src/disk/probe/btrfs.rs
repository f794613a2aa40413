//! Btrfs (fs/btrfs/ondisk-format: `struct btrfs_super_block`), one device of it or the only one.

use rescue_schema::report::{Proof, SignatureReport};
use sha2::Digest;

use super::hash::{crc32c, xxh64};
use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

/// The superblock, and its mirrors on larger devices.
const PLACES: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const LENGTH: usize = 4096;
/// `BTRFS_SUPER_FLAG_ERROR`.
const ERROR: u64 = 1 << 2;
const SEEDING: u64 = 1 << 32;

fn at(reader: &Reader<'_>, place: u64) -> Answer<Bytes> {
    Ok(reader.get(place, LENGTH)?.filter(|b| b.is(64, b"_BHRfS_M") && b.u64(48) == Some(place)))
}

/// `None` for a kind of checksum that is younger than this.
fn checksum_holds(sb: &Bytes) -> Option<bool> {
    let body = sb.slice(32, LENGTH - 32)?;
    Some(match sb.u16(196)? {
        0 => sb.u32(0)? == crc32c(body),
        1 => sb.u64(0)? == xxh64(body),
        2 => sb.slice(0, 32)? == sha2::Sha256::digest(body).as_slice(),
        3 => sb.slice(0, 32)? == blake2::Blake2b::<blake2::digest::consts::U32>::digest(body).as_slice(),
        _ => return None,
    })
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    // The magic number alone is looked for: a superblock whose own address is wrong is damaged.
    let Some(sb) = reader.get(65536, LENGTH)?.filter(|b| b.is(64, b"_BHRfS_M")) else { return Ok(None) };
    let mut found = describe(&sb, 65536);
    let holds = checksum_holds(&sb);
    if holds == Some(false) || sb.u64(48) != Some(65536) || sb.u32(144) == Some(0) {
        found.notes.insert(0, "the superblock's checksum is wrong".into());
        return Ok(Some(damaged(reader, found)?));
    }
    found.proof = if holds.is_some() { Proof::Checksum } else { Proof::Fields };
    Ok(Some(found))
}

fn damaged(
    reader: &Reader<'_>,
    mut found: SignatureReport,
) -> Result<SignatureReport, crate::disk::source::Unreadable> {
    found.state = Some("damaged".into());
    for place in PLACES.into_iter().skip(1) {
        if let Some(copy) = at(reader, place)?.filter(|copy| checksum_holds(copy) == Some(true)) {
            if found.backups.is_empty() {
                let copy = describe(&copy, place);
                (found.uuid, found.label, found.size) = (copy.uuid, copy.label, copy.size);
                (found.block_size, found.more) = (copy.block_size, copy.more);
            }
            found.backups.push(place);
        }
    }
    found.notes.push(match found.backups.as_slice() {
        [] => "no mirror of the superblock was found".into(),
        places => {
            let places: Vec<String> = places.iter().map(u64::to_string).collect();
            format!("whole mirrors of the superblock at bytes {}", places.join(", "))
        }
    });
    found.repair = (!found.backups.is_empty()).then(|| "btrfs rescue super-recover -v DEV".into());
    Ok(found)
}

fn describe(sb: &Bytes, offset: u64) -> SignatureReport {
    let flags = sb.u64(56).unwrap_or(0);
    let (devices, id) = (sb.u64(136).unwrap_or(1), sb.u64(201).unwrap_or(1));
    let mut found = SignatureReport {
        uuid: sb.uuid(32),
        label: sb.text(299, 256),
        block_size: sb.u32(144).map(u64::from),
        // Of this device; that of the whole is the sum over all of them.
        size: sb.u64(209),
        state: Some(
            match () {
                () if flags & ERROR != 0 => "errors seen",
                () if sb.u64(96).is_some_and(|log| log != 0) => "needs journal recovery",
                () => "clean",
            }
            .into(),
        ),
        ..signature("btrfs", "filesystem", offset + 64, Proof::Fields)
    };
    if let Some(own) = sb.uuid(267) {
        found.more.insert("UUID_SUB".into(), own);
    }
    if devices > 1 {
        found.more.insert("BTRFS_DEVICES".into(), devices.to_string());
        found.more.insert("BTRFS_DEVICE".into(), id.to_string());
        found.notes.push(format!("device {id} of a file system on {devices} devices"));
    }
    if flags & SEEDING != 0 {
        found.notes.push("a seed: it is read-only, and others are grown from it".into());
    }
    found
}

/// Whether the root of the chunk tree, which the superblock itself says how to find, is there.
pub(super) fn confirm(reader: &Reader<'_>, _: &SignatureReport) -> Answer<bool> {
    let Some(sb) = reader.get(PLACES.into_iter().next().unwrap_or(0), LENGTH)? else { return Ok(None) };
    let (Some(root), Some(own)) = (sb.u64(88), sb.u64(201)) else { return Ok(None) };
    let end = 811 + sb.u32(160).and_then(|n| usize::try_from(n).ok()).unwrap_or(0).min(2048);
    let mut at = 811;
    while at + 17 + 80 <= end {
        // btrfs_disk_key: its offset is the chunk's logical address; btrfs_chunk; btrfs_stripe.
        let (Some(logical), Some(length), Some(stripes)) =
            (sb.u64(at + 9), sb.u64(at + 17), sb.u16(at + 17 + 44))
        else {
            return Ok(None);
        };
        let chunk = at + 17;
        if root.checked_sub(logical).is_some_and(|inside| inside < length) {
            for stripe in (0..usize::from(stripes)).map(|n| chunk + 48 + n * 32) {
                if let (Some(device), Some(physical)) = (sb.u64(stripe), sb.u64(stripe + 8))
                    && device == own
                {
                    let place = physical.saturating_add(root - logical);
                    let node = reader.get(place, 101)?;
                    return Ok(Some(
                        node.is_some_and(|n| n.slice(32, 16) == sb.slice(32, 16) && n.u64(48) == Some(root)),
                    ));
                }
            }
            return Ok(None);
        }
        at = chunk + 48 + usize::from(stripes) * 32;
    }
    Ok(None)
}

/// A file system whose first superblock is lost.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let found = damaged(reader, signature("btrfs", "filesystem", 0, Proof::Magic))?;
    Ok(found.backups.first().copied().map(|place| SignatureReport {
        offset: place + 64,
        notes: [vec!["the first superblock is lost".into()], found.notes.clone()].concat(),
        ..found
    }))
}
