//! bcache (drivers/md/bcache/bcache_ondisk.h): a backing device or a cache.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

const MAGIC: [u8; 16] =
    [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81];
const AT: u64 = 4096;
/// Bytes before the journal buckets, and most of these.
const FIXED: usize = 208;
const BUCKETS: u16 = 256;

/// CRC-64 of ECMA-182, the most significant bit first, inverted at both ends (lib/crc64.c).
fn crc64(bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0x42F0_E1EB_A9EA_3693;
    !bytes.iter().fold(!0u64, |crc, byte| {
        (0..8).fold(
            crc ^ u64::from(*byte) << 56,
            |c, _| if c >> 63 == 1 { c << 1 ^ POLYNOMIAL } else { c << 1 },
        )
    })
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(sb) = reader.get(AT, FIXED + 8 * usize::from(BUCKETS))? else { return Ok(None) };
    // bcachefs began with this magic number, and has other fields where the place of the superblock is.
    if !sb.is(24, &MAGIC) || sb.u64(8) != Some(AT / 512) {
        return Ok(None);
    }
    Ok(parse(&sb))
}

fn parse(sb: &Bytes) -> Option<SignatureReport> {
    let version = sb.u64(16)?;
    let keys = sb.u16(206)?;
    let length = FIXED + 8 * usize::from(keys.min(BUCKETS)) - 8;
    let whole = keys <= BUCKETS && sb.slice(8, length).map(crc64) == sb.u64(0);
    let backing = matches!(version, 1 | 4 | 6);
    let set = sb.uuid(56);
    let mut found = SignatureReport {
        uuid: sb.uuid(40),
        label: sb.text(72, 32),
        version: Some(version.to_string()),
        block_size: sb.u16(192).map(|sectors| u64::from(sectors) * 512).filter(|size| *size > 0),
        ..signature("bcache", "other", AT + 24, if whole { Proof::Checksum } else { Proof::Magic })
    };
    let mut state = "clean";
    if backing {
        let at = if version == 1 { 16 } else { sb.u64(184)? };
        found.more.insert("BCACHE_OFFSET".into(), at.to_string());
        let (short, words) = match sb.u64(104)? >> 61 & 3 {
            0 => ("none", "no cache is attached"),
            1 => ("clean", "its cache is clean"),
            2 => {
                state = "needs its cache";
                ("dirty", "writes are still in its cache alone: do not use it without")
            }
            _ => {
                state = "damaged";
                ("stale", "its cache was lost with writes in it")
            }
        };
        if whole {
            found.more.insert("BCACHE_STATE".into(), short.into());
        }
        found.notes.push(format!("a backing device whose data starts at sector {at}; {words}"));
    } else {
        found.notes.push(format!("a cache, device {} of {}", sb.u16(198)?, sb.u16(196)?));
    }
    if let Some(set) = set {
        found.more.insert("BCACHE_SET".into(), set);
    }
    found.more.insert("BCACHE_ROLE".into(), if backing { "backing" } else { "cache" }.into());
    if !whole {
        state = "damaged";
        found.notes.push("the checksum of the superblock is wrong".into());
    }
    found.state = Some(state.into());
    Some(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(super::crc64(b"123456789"), 0x62EC_59E3_F1A4_F00A);
    }
}
