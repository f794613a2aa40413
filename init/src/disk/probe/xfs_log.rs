//! Whether the log of an XFS was left by an unmount (fs/xfs/xfs_log_recover.c, `xlog_find_head` and
//! `xlog_check_unmount_rec`): its last record says so. Nothing is replayed.

use crate::disk::source::{Answer, Reader};

/// `XLOG_HEADER_MAGIC_NUM`.
pub(super) const RECORD: u32 = 0xFEED_BABE;
/// `XLOG_UNMOUNT_TRANS` among the flags of an operation.
const UNMOUNT: u8 = 0x20;
/// Bytes of a log's block.
const BLOCK: u64 = 512;
/// Blocks of the longest record: 256 KiB with its headers.
const LONGEST: u64 = 520;

/// `None` where the log's end was not found. The log lies at byte `at` and has `length` bytes.
pub(super) fn is_clean(reader: &Reader<'_>, at: u64, length: u64) -> Answer<bool> {
    let blocks = length / BLOCK;
    if blocks < 2 {
        return Ok(None);
    }
    // Every block begins with the number of the cycle in which it was written, a header with its magic
    // number and the cycle behind it.
    let cycle = |block: u64| -> Answer<u32> {
        let Some(b) = reader.get(at.saturating_add(block * BLOCK), 8)? else { return Ok(None) };
        Ok(if b.be32(0) == Some(RECORD) { b.be32(4) } else { b.be32(0) })
    };
    let (Some(first), Some(last)) = (cycle(0)?, cycle(blocks - 1)?) else { return Ok(None) };
    let mut head = blocks;
    if first != last {
        // The head is the first block of the older cycle.
        let mut low = 0;
        head = blocks - 1;
        while head - low > 1 {
            let middle = low + (head - low) / 2;
            match cycle(middle)? {
                Some(c) if c == last => head = middle,
                Some(_) => low = middle,
                None => return Ok(None),
            }
        }
    }
    for back in 1..LONGEST.min(blocks) {
        let block = (head + blocks - back) % blocks;
        let Some(b) = reader.get(at.saturating_add(block * BLOCK), 64)? else { return Ok(None) };
        if b.be32(0) != Some(RECORD) {
            continue;
        }
        let (Some(size), Some(operations)) = (b.be32(12), b.be32(40)) else { return Ok(None) };
        let version2 = b.be32(8).is_some_and(|v| v & 2 != 0);
        // A record of more than 32 KiB has further headers; one that unmounts has never that much.
        if operations != 1 || back != 1 + u64::from(size).div_ceil(BLOCK) && !(version2 && size > 32 << 10) {
            return Ok(Some(false));
        }
        let data = (block + 1) % blocks;
        let Some(operation) = reader.get(at.saturating_add(data * BLOCK), 12)? else { return Ok(None) };
        // xlog_op_header: transaction (4), length (4), client (1), flags (1); its first word is the
        // cycle here.
        return Ok(operation.u8(9).map(|flags| flags & UNMOUNT != 0));
    }
    Ok(None)
}
