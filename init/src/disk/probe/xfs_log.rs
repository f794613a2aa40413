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
    let mut head = 0;
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
    // A record that is not whole (a write that was torn, or where a tool began a log anew) is none: it ends
    // before that one.
    for _ in 0..2 {
        let Some(found) = last_record(reader, at, (blocks, head))? else { return Ok(None) };
        if found.ends != head {
            head = found.block;
            continue;
        }
        if found.operations != 1 {
            return Ok(Some(false));
        }
        let Some(operation) = reader.get(at.saturating_add(found.data * BLOCK), 12)? else { return Ok(None) };
        // xlog_op_header: transaction (4), length (4), client (1), flags (1); its first word is the
        // cycle here.
        return Ok(operation.u8(9).map(|flags| flags & UNMOUNT != 0));
    }
    Ok(Some(false))
}

/// A record in the log, in blocks.
struct Record {
    block: u64,
    /// Where its data begins.
    data: u64,
    /// The block behind it.
    ends: u64,
    operations: u32,
}

/// The last record that begins before `head`, the log being a ring of `blocks`.
fn last_record(reader: &Reader<'_>, at: u64, (blocks, head): (u64, u64)) -> Answer<Record> {
    for back in 1..=LONGEST.min(blocks) {
        let block = (head + blocks - back) % blocks;
        let Some(b) = reader.get(at.saturating_add(block * BLOCK), 512)? else { return Ok(None) };
        if b.be32(0) != Some(RECORD) {
            continue;
        }
        let (Some(length), Some(operations)) = (b.be32(12), b.be32(40)) else { return Ok(None) };
        // `xlog_logrec_hblks`: in version 2 a header for each 32 KiB of the buffer (`h_size`) that wrote it.
        let version2 = b.be32(8).is_some_and(|version| version & 2 != 0);
        let headers = match b.be32(320) {
            Some(size) if version2 && size > 32 << 10 => u64::from(size).div_ceil(32 << 10).min(8),
            _ => 1,
        };
        let data = (block + headers) % blocks;
        let ends = (block + headers + u64::from(length).div_ceil(BLOCK)) % blocks;
        return Ok(Some(Record { block, data, ends, operations }));
    }
    Ok(None)
}
