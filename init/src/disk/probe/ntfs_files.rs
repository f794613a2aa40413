//! As much of NTFS's file table as it takes to see whether Windows sleeps in a volume: records, their
//! attributes, the root folder (Linux fs/ntfs3/ntfs.h; libntfs-3g/volume.c, `ntfs_volume_check_hiberfile`).

use super::ntfs::Boot;
use crate::disk::source::{Answer, Bytes, Endian, Reader, Unreadable};

/// Numbers of records.
const TABLE: u64 = 0;
pub(super) const LOG: u64 = 2;
pub(super) const VOLUME: u64 = 3;
const ROOT: u64 = 5;
/// Types of attributes.
const DATA: u32 = 0x80;
const INDEX_ROOT: u32 = 0x90;
const INDEX_ALLOCATION: u32 = 0xa0;
const END: u32 = 0xffff_ffff;
/// Most attributes of a record, pieces of a file, entries of a folder's block and blocks of the root folder.
const ATTRIBUTES: usize = 64;
const RUNS: usize = 1024;
const ENTRIES: usize = 512;
const BLOCKS: u64 = 64;
/// Where Windows writes its memory.
const FILE: &str = "hiberfil.sys";

/// A piece of a file: clusters, and the first of them where it is no hole.
struct Run {
    clusters: u64,
    first: Option<u64>,
}

pub(super) struct Files<'r, 'a> {
    reader: &'r Reader<'a>,
    cluster: u64,
    record: u64,
    /// First byte of the file table.
    table: u64,
}

impl<'r, 'a> Files<'r, 'a> {
    pub(super) fn new(reader: &'r Reader<'a>, boot: &Boot, table: u64) -> Self {
        Self { reader, cluster: boot.cluster, record: boot.record, table }
    }

    /// One of the first sixteen records, which lie together; `None` when it is not whole.
    pub(super) fn record(&self, number: u64) -> Answer<Bytes> {
        self.record_at(self.table.saturating_add(number * self.record))
    }

    fn record_at(&self, at: u64) -> Answer<Bytes> {
        let length = usize::try_from(self.record).unwrap_or(0);
        Ok(self.reader.get(at, length)?.and_then(|b| whole(b, b"FILE")))
    }

    /// Any record, by the pieces of the file table.
    fn far_record(&self, number: u64) -> Answer<Bytes> {
        let Some(table) = self.record(TABLE)? else { return Ok(None) };
        let Some(runs) = runs(&table, DATA) else { return Ok(None) };
        match number.checked_mul(self.record).and_then(|at| self.place(&runs, at)) {
            Some(at) => self.record_at(at),
            None => Ok(None),
        }
    }

    /// Where byte `at` of a file lies.
    fn place(&self, runs: &[Run], mut at: u64) -> Option<u64> {
        for run in runs {
            let length = run.clusters.checked_mul(self.cluster)?;
            if at < length {
                return run.first?.checked_mul(self.cluster)?.checked_add(at);
            }
            at -= length;
        }
        None
    }

    /// Content of an attribute that stands in its record.
    pub(super) fn value(record: &Bytes, kind: u32) -> Option<Bytes> {
        let attribute = attribute(record, kind).filter(|a| a.u8(8) == Some(0))?;
        let at = usize::from(attribute.u16(20)?);
        let length = usize::try_from(attribute.u32(16)?).ok()?;
        attribute.slice(at, length).map(|b| Bytes(b.to_vec()))
    }

    /// Whether Windows is to wake up from this volume; `None` when its file could not be followed.
    pub(super) fn hibernated(&self) -> Answer<bool> {
        let Some(root) = self.record(ROOT)? else { return Ok(None) };
        let Some(number) = self.find(&root)? else { return Ok(Some(false)) };
        let Some(file) = self.far_record(number)? else { return Ok(None) };
        let head = match (Self::value(&file, DATA), runs(&file, DATA)) {
            (Some(value), _) => Some(value),
            (None, Some(runs)) => match self.place(&runs, 0) {
                Some(at) => self.reader.get(at, 8)?,
                None => return Ok(Some(false)),
            },
            (None, None) => return Ok(None),
        };
        Ok(head.map(|head| head.slice(0, 4).is_some_and(|magic| magic.eq_ignore_ascii_case(b"hibr"))))
    }

    /// Number of the file's record in the root folder.
    fn find(&self, root: &Bytes) -> Answer<u64> {
        // The header of the entries stands 16 bytes into the root of an index, 24 into a block of it.
        if let Some(found) = Self::value(root, INDEX_ROOT).and_then(|index| entry(&index, 16)) {
            return Ok(Some(found));
        }
        let Some(runs) = runs(root, INDEX_ALLOCATION) else { return Ok(None) };
        let block = Self::value(root, INDEX_ROOT).and_then(|index| index.u32(8)).unwrap_or(4096);
        if !(512..=65536).contains(&block) {
            return Ok(None);
        }
        for n in 0..BLOCKS {
            let Some(at) = self.place(&runs, n * u64::from(block)) else { break };
            let Some(bytes) = self.reader.get(at, usize::try_from(block).unwrap_or(0))? else { break };
            // A block that is not in use is not whole, and there may be others behind it.
            if let Some(found) = whole(bytes, b"INDX").and_then(|index| entry(&index, 24)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether the log has nothing to be replayed: it is empty, or its restart page says so.
    pub(super) fn log_is_clean(&self, log: &Bytes) -> Result<Option<bool>, Unreadable> {
        let Some(runs) = runs(log, DATA) else { return Ok(None) };
        let mut newest = None;
        for page in [0, 4096] {
            let Some(at) = self.place(&runs, page) else { continue };
            let Some(b) = self.reader.get(at, 4096)? else { continue };
            // mkntfs and ntfs-3g empty it with ones.
            if b.is(0, &[0xff; 4]) {
                return Ok(Some(true));
            }
            let Some(b) = whole(b, b"RSTR") else { continue };
            let area = b.u16(24).map_or(0, usize::from);
            if let (Some(lsn), Some(client), Some(flags)) = (b.u64(area), b.u16(area + 12), b.u16(area + 14))
            {
                newest = newest.max(Some((lsn, client == 0xffff || flags & 2 != 0)));
            }
        }
        Ok(newest.map(|(_, clean)| clean))
    }
}

/// A record or block with its fix-ups undone: the last two bytes of each sector are kept in its head.
/// `None` when they do not agree, so that it was not written whole.
fn whole(mut b: Bytes, magic: &[u8; 4]) -> Option<Bytes> {
    let (at, count) = (usize::from(b.u16(4)?), usize::from(b.u16(6)?));
    if !b.is(0, magic) || count < 2 || count - 1 > b.0.len() / 512 {
        return None;
    }
    let number = b.array::<2>(at)?;
    for n in 1..count {
        let kept = b.array::<2>(at + n * 2)?;
        let end = b.0.get_mut(n * 512 - 2..n * 512)?;
        if end != number {
            return None;
        }
        end.copy_from_slice(&kept);
    }
    Some(b)
}

/// The first attribute of a kind that has no name, or that of a folder's index.
fn attribute(record: &Bytes, kind: u32) -> Option<Bytes> {
    let mut at = usize::from(record.u16(20)?);
    for _ in 0..ATTRIBUTES {
        let own = record.u32(at)?;
        let length = usize::try_from(record.u32(at + 4)?).ok()?;
        if own == END || length < 16 {
            return None;
        }
        let bytes = record.slice(at, length)?;
        let index = matches!(kind, INDEX_ROOT | INDEX_ALLOCATION);
        if own == kind && (index || record.u8(at + 9) == Some(0)) {
            return Some(Bytes(bytes.to_vec()));
        }
        at = at.checked_add(length)?;
    }
    None
}

/// The pieces of an attribute that stands outside of its record.
fn runs(record: &Bytes, kind: u32) -> Option<Vec<Run>> {
    let attribute = attribute(record, kind).filter(|a| a.u8(8) == Some(1))?;
    let mut rest = attribute.0.get(usize::from(attribute.u16(32)?)..)?;
    let mut first = 0i64;
    let mut runs = Vec::new();
    while let Some((sizes, tail)) = rest.split_first() {
        let (of_length, of_offset) = (usize::from(sizes & 0xf), usize::from(sizes >> 4));
        if *sizes == 0 || runs.len() == RUNS {
            break;
        }
        let (length, tail) = tail.split_at_checked(of_length)?;
        let (offset, tail) = tail.split_at_checked(of_offset)?;
        rest = tail;
        let clusters = u64::try_from(number(length)?).ok()?;
        first = first.checked_add(number(offset)?)?;
        let place = if of_offset == 0 { None } else { Some(u64::try_from(first).ok()?) };
        runs.push(Run { clusters, first: place });
    }
    Some(runs)
}

/// A number of up to eight bytes, with its sign.
fn number(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(whole))
}

/// The record's number of the file among the entries whose header stands at `header`.
fn entry(index: &Bytes, header: usize) -> Option<u64> {
    let mut at = header.checked_add(usize::try_from(index.u32(header)?).ok()?)?;
    for _ in 0..ENTRIES {
        let length = usize::from(index.u16(at + 8)?);
        let flags = index.u16(at + 12)?;
        if flags & 2 != 0 || length < 16 {
            return None;
        }
        let units = usize::from(index.u8(at + 16 + 64)?);
        let name = index.utf16(at + 16 + 66, units * 2, Endian::Little);
        if name.is_some_and(|name| name.eq_ignore_ascii_case(FILE)) {
            // The upper 16 bits count how often the record was used.
            return Some(index.u64(at)? & 0xffff_ffff_ffff);
        }
        at = at.checked_add(length)?;
    }
    None
}
