//! Checksums made right after a change, so that what they guard is reached too.

#![allow(clippy::cast_possible_truncation)]

use init::disk::source::{Source, crc32};

use super::sparse::Sparse;

const CASTAGNOLI: u32 = 0x82F6_3B78;

/// For the formats whose parsers go on behind the superblock's checksum.
pub(crate) fn seal(format: &str, image: &mut Sparse<'_>) {
    match format {
        "ext" => put_crc(image, 1024, 0..0x3fc, 0x3fc, false),
        "xfs" => {
            let sector = read(image, 102, 2).map_or(512, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
            put(image, 224, &[0; 4]);
            put_crc(image, 0, 0..sector, 224, true);
        }
        "btrfs" => {
            put(image, 65536 + 196, &[0; 2]);
            put_crc(image, 65536, 32..4096, 0, true);
        }
        "erofs" => {
            put(image, 1028, &[0; 4]);
            put_crc(image, 1024, 0..3072, 4, false);
        }
        "exfat" => exfat(image),
        "udf" => {
            for at in (32768..600 << 10).step_by(512) {
                tag(image, at);
            }
        }
        _ => {}
    }
}

fn read(image: &Sparse<'_>, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    at.checked_add(length as u64).filter(|end| *end <= image.size())?;
    image.read_at(at, &mut bytes).ok()?;
    Some(bytes)
}

fn put(image: &mut Sparse<'_>, at: u64, bytes: &[u8]) {
    image.put(at, bytes);
}

/// CRC-32C of a part of what begins at `start`, put at `at` behind it.
fn put_crc(image: &mut Sparse<'_>, start: u64, part: std::ops::Range<usize>, at: u64, inverted: bool) {
    if let Some(bytes) = read(image, start, part.end) {
        let sum = crc32(CASTAGNOLI, !0, &bytes[part.start.min(bytes.len())..]);
        let sum = if inverted { !sum } else { sum };
        put(image, start + at, &sum.to_le_bytes());
    }
}

fn exfat(image: &mut Sparse<'_>) {
    let Some(region) = read(image, 0, 11 * 512) else { return };
    let counted = region.iter().enumerate().filter(|(n, _)| !matches!(n, 106 | 107 | 112));
    let sum = counted.fold(0u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u32::from(*byte)));
    put(image, 11 * 512, &sum.to_le_bytes().repeat(128));
}

/// The sum of a UDF tag, where there is something that may be one.
fn tag(image: &mut Sparse<'_>, at: u64) {
    let Some(mut b) = read(image, at, 16).filter(|b| b[0] != 0 && b[0] < 10 && b[1] == 0) else { return };
    b[4] = 0;
    let sum = b.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    put(image, at + 4, &[sum]);
}
