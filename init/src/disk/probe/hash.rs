//! Checksums that file systems put on their superblocks, and that no library of ours brings.

use crate::disk::source::{Bytes, crc32};

const CASTAGNOLI: u32 = 0x82F6_3B78;

/// CRC-32C as most formats store it: begun with ones, inverted at the end.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    !crc32(CASTAGNOLI, !0, bytes)
}

/// CRC-32C begun with ones over `bytes`, those of the checksum itself (4 at `at`) taken as zeros; not inverted.
pub(super) fn crc32c_around(bytes: &[u8], at: usize) -> Option<u32> {
    let before = crc32(CASTAGNOLI, !0, bytes.get(..at)?);
    let zeros = crc32(CASTAGNOLI, before, &[0; 4]);
    Some(crc32(CASTAGNOLI, zeros, bytes.get(at.checked_add(4)?..)?))
}

/// XXH64 with seed 0 (xxHash specification, 0.1.1).
pub(super) fn xxh64(bytes: &[u8]) -> u64 {
    const P1: u64 = 0x9E37_79B1_85EB_CA87;
    const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
    const P3: u64 = 0x1656_67B1_9E37_79F9;
    const P4: u64 = 0x85EB_CA77_C2B2_AE63;
    const P5: u64 = 0x27D4_EB2F_1656_67C5;
    let word = |chunk: &[u8]| <[u8; 8]>::try_from(chunk).map_or(0, u64::from_le_bytes);
    let round =
        |acc: u64, lane: u64| acc.wrapping_add(lane.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1);
    let stripes = bytes.chunks_exact(32);
    let mut rest = stripes.remainder();
    let mut hash = if bytes.len() >= 32 {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, 0u64.wrapping_sub(P1)];
        for stripe in stripes {
            for (lane, chunk) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = round(*lane, word(chunk));
            }
        }
        let [a, b, c, d] = lanes;
        let sum = a.rotate_left(1).wrapping_add(b.rotate_left(7));
        let sum = sum.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18));
        lanes.iter().fold(sum, |h, lane| (h ^ round(0, *lane)).wrapping_mul(P1).wrapping_add(P4))
    } else {
        P5
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        hash =
            (hash ^ round(0, u64::from_le_bytes(*chunk))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = tail;
    }
    if let Some((chunk, tail)) = rest.split_first_chunk::<4>() {
        let lane = u64::from(u32::from_le_bytes(*chunk));
        hash = (hash ^ lane.wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = tail;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(P2);
    hash = (hash ^ hash >> 29).wrapping_mul(P3);
    hash ^ hash >> 32
}

/// CRC-64/WE, of bcachefs: ECMA-182's polynomial, begun with ones, inverted at the end.
pub(super) fn crc64(bytes: &[u8]) -> u64 {
    !bytes.iter().fold(!0u64, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte) << 56, |c, _| {
            if c >> 63 == 1 { c << 1 ^ 0x42F0_E1EB_A9EA_3693 } else { c << 1 }
        })
    })
}

/// CRC of ECMA-167 (1/7.2.6): x^16 + x^12 + x^5 + 1, begun with zero.
pub(super) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |c, _| if c >> 15 == 1 { c << 1 ^ 0x1021 } else { c << 1 })
    })
}

/// Fletcher's checksum of an APFS object (Apple File System Reference, "Objects") over what follows
/// its first eight bytes.
pub(super) fn fletcher64(bytes: &Bytes) -> Option<u64> {
    let (mut low, mut high) = (0u64, 0u64);
    for word in bytes.0.get(8..)?.chunks_exact(4) {
        let word = <[u8; 4]>::try_from(word).map(u32::from_le_bytes).ok()?;
        // Without the remainder at each step the sums would stay below 2^64 for 64 KiB.
        low = (low + u64::from(word)) % u64::from(u32::MAX);
        high = (high + low) % u64::from(u32::MAX);
    }
    let max = u64::from(u32::MAX);
    let first = max - (low + high) % max;
    let second = max - (low + first) % max;
    Some(second << 32 | first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_published_ones() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc64(b"123456789"), 0x62EC_59E3_F1A4_F00A);
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(xxh64(b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"abc"), 0x44BC_2CF5_AD77_0999);
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition"), 0xFBCE_A83C_8A37_8BF1);
    }
}
