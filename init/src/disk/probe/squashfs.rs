//! Squashfs 1 to 4 in both byte orders (fs/squashfs/squashfs_fs.h).

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Endian, Reader};

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(b) = reader.get(0, 96)? else { return Ok(None) };
    Ok(match b.slice(0, 4) {
        Some(b"hsqs") => parse(&b, Endian::Little),
        Some(b"sqsh") => parse(&b, Endian::Big),
        _ => None,
    })
}

fn parse(b: &Bytes, order: Endian) -> Option<SignatureReport> {
    let (major, minor) = (b.u16_in(28, order)?, b.u16_in(30, order)?);
    let mut found = signature("squashfs", "filesystem", 0, Proof::Fields);
    found.version = Some(format!("{major}.{minor}"));
    if major >= 4 {
        // Version 4 exists in one order only.
        let block = b.u32(12).filter(|block| order == Endian::Little && block.is_power_of_two())?;
        if u32::from(b.u16(22)?) != block.trailing_zeros() {
            return None;
        }
        found.block_size = Some(u64::from(block));
        found.size = b.u64(40);
        let compressor = ["gzip", "lzma", "lzo", "xz", "lz4", "zstd"];
        let name = usize::from(b.u16(20)?).checked_sub(1).and_then(|n| compressor.get(n));
        found.notes.extend(name.map(|name| format!("compressed with {name}")));
    } else {
        // libblkid's name for what Linux 2.6.29 and later do not mount.
        found.kind = "squashfs3".into();
        found.block_size = Some(1024);
        if order == Endian::Big {
            found.more.insert("ENDIANNESS".into(), "BIG".into());
        }
    }
    Some(found)
}
