//! cramfs in both byte orders (include/uapi/linux/cramfs_fs.h).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Endian, Reader, crc32};

/// Largest image whose checksum, which is over all of it, is looked at: it tells nothing of the
/// superblock alone.
const SUMMED: u32 = 1 << 20;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    // After a boot block of 512 bytes too, as the kernel looks.
    for at in [0, 512] {
        let Some(sb) = reader.get(at, 76)? else { continue };
        let order = match sb.u32(0) {
            Some(0x28cd_3d45) => Endian::Little,
            Some(0x453d_cd28) => Endian::Big,
            _ => continue,
        };
        if !sb.is(16, b"Compressed ROMFS") {
            continue;
        }
        let (Some(size), Some(flags)) = (sb.u32_in(4, order), sb.u32_in(8, order)) else { continue };
        let second = flags & 1 != 0;
        let mut found = SignatureReport {
            label: sb.text(48, 16),
            version: Some(if second { "2" } else { "1" }.into()),
            size: second.then_some(u64::from(size)),
            ..signature("cramfs", "filesystem", at, Proof::Fields)
        };
        if order == Endian::Big {
            found.more.insert("ENDIANNESS".into(), "BIG".into());
        }
        if second && size <= SUMMED {
            let whole = reader.get(at, usize::try_from(size).unwrap_or(0))?;
            let sum = whole.and_then(|b| {
                let before = crc32(0xEDB8_8320, !0, b.slice(0, 32)?);
                Some(!crc32(0xEDB8_8320, crc32(0xEDB8_8320, before, &[0; 4]), b.0.get(36..)?))
            });
            if sum == sb.u32_in(32, order) {
                found.proof = Proof::Checksum;
            } else {
                found.state = Some("damaged".into());
                found.notes.push("the checksum of the image is wrong".into());
            }
        }
        return Ok(Some(found));
    }
    Ok(None)
}
