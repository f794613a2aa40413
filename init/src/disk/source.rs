//! Bounded reading: what a probe may read of a device, and how much.
//!
//! Sixty formats ask for much the same places. What was read once is kept, so that a device costs a read of
//! its head, one of its tail and a handful between. A place that cannot be read is an [`Unreadable`] for
//! every probe that asks for it, and is not asked for again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

pub use super::bytes::{Bytes, Endian, crc32, hyphens};

/// Bytes that the probes of one device together (its partitions not counted) may read of it. The head
/// and the tail are 108 KiB; the largest single thing is a GPT entry array.
pub const BUDGET: u64 = 8 << 20;
/// Bytes that the probe of one format may be handed, those that were read before included. It bounds
/// the time of a probe that is led in circles.
pub const PROBE_BUDGET: u64 = 4 << 20;
/// What a reading costs a probe at least, so that many small ones are bounded too.
const LEAST: u64 = 512;
/// The head is read once and serves nearly every parser: the furthest magic number that is common
/// is that of btrfs, at 64 KiB.
const HEAD: u64 = 72 << 10;
/// The tail holds the backup GPT (33 sectors of 512 bytes) and the superblocks of RAID 1.0, DDF and Intel.
const TAIL: u64 = 36 << 10;
/// Between the two, reads are widened to this.
const GRAIN: u64 = 4096;
/// Reads that may fail before no other is tried: a dying disk takes seconds over each.
const ERRORS: u32 = 16;

/// Something with bytes at offsets: a device, an image, a test's vector.
pub trait Source {
    /// Bytes that it has.
    fn size(&self) -> u64;
    /// Fills `buffer` from `offset`; the caller stays inside [`Self::size`].
    ///
    /// # Errors
    /// Those of the device.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for (File, u64) {
    fn size(&self) -> u64 {
        self.1
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

impl Source for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = start
            .checked_add(buffer.len())
            .and_then(|end| self.get(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// Why a probe could not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(pub String);

/// What a parser says: this, not mine, or why it could not be read.
pub type Answer<T> = Result<Option<T>, Unreadable>;

/// A window on a source, with the budget of its probes.
pub struct Reader<'a> {
    source: &'a dyn Source,
    start: u64,
    size: u64,
    /// Bytes of a logical sector.
    pub sector: u64,
    /// Whether it may be all of a disk: no partition, and nothing that is built on others.
    disk: bool,
    left: Cell<u64>,
    probe_left: Cell<u64>,
    /// Of the whole source, its partitions included.
    errors: Rc<Cell<u32>>,
    /// What was read, by offset in the window: pieces that do not overlap, or why one could not be.
    kept: RefCell<BTreeMap<u64, Vec<u8>>>,
    /// From, to, why.
    failed: RefCell<Vec<(u64, u64, Unreadable)>>,
    wide: [Cell<bool>; 2],
}

impl<'a> Reader<'a> {
    /// A window on all of `source`.
    pub fn new(source: &'a dyn Source, sector: u64) -> Self {
        let sector = if sector.is_power_of_two() && (512..=65536).contains(&sector) { sector } else { 512 };
        Self::window(source, 0, source.size(), sector, Rc::default())
    }

    /// The same, of what is a partition or built on others.
    pub fn built(source: &'a dyn Source, sector: u64) -> Self {
        Self { disk: false, ..Self::new(source, sector) }
    }

    /// A window on a partition, cut to what there is; it has a budget of its own.
    pub fn part(&self, start: u64, size: u64) -> Self {
        let start = start.min(self.size);
        let size = size.min(self.size - start);
        let part = Self::window(self.source, self.start + start, size, self.sector, self.errors.clone());
        Self { disk: false, ..part }
    }

    /// Whether it may be all of a disk.
    pub fn is_disk(&self) -> bool {
        self.disk
    }

    fn window(source: &'a dyn Source, start: u64, size: u64, sector: u64, errors: Rc<Cell<u32>>) -> Self {
        Self {
            source,
            start,
            size,
            sector,
            disk: true,
            left: Cell::new(BUDGET),
            probe_left: Cell::new(PROBE_BUDGET),
            errors,
            kept: RefCell::default(),
            failed: RefCell::default(),
            wide: Default::default(),
        }
    }

    /// Bytes of the window.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes read of the device so far through this window.
    pub fn spent(&self) -> u64 {
        BUDGET - self.left.get()
    }

    /// The next format begins: it has its own [`PROBE_BUDGET`].
    pub fn refill(&self) {
        self.probe_left.set(PROBE_BUDGET);
    }

    /// `length` bytes at `offset`; `None` where the window ends before.
    ///
    /// # Errors
    /// When the device errs, or a budget is spent.
    pub fn get(&self, offset: u64, length: usize) -> Answer<Bytes> {
        let Some(end) = offset.checked_add(length as u64).filter(|end| *end <= self.size) else {
            return Ok(None);
        };
        let left = self.probe_left.get().checked_sub((length as u64).max(LEAST));
        self.probe_left
            .set(left.ok_or_else(|| Unreadable(format!("more than {PROBE_BUDGET} bytes to look at")))?);
        self.widen(offset, end);
        let mut bytes = Vec::with_capacity(length);
        let mut at = offset;
        while at < end {
            if !self.copy_kept(&mut at, end, &mut bytes) {
                self.keep(at, end)?;
            }
        }
        Ok(Some(Bytes(bytes)))
    }

    /// Appends what is kept from `at` on, and moves `at` past it; whether there was anything.
    fn copy_kept(&self, at: &mut u64, end: u64, bytes: &mut Vec<u8>) -> bool {
        let kept = self.kept.borrow();
        let Some((start, piece)) = kept.range(..=*at).next_back() else { return false };
        let from = usize::try_from(*at - start).unwrap_or(usize::MAX);
        let to = usize::try_from(end - start).unwrap_or(usize::MAX).min(piece.len());
        let Some(part) = piece.get(from..to).filter(|part| !part.is_empty()) else { return false };
        bytes.extend_from_slice(part);
        *at += part.len() as u64;
        true
    }

    /// Reads the head or the tail whole, once, when something in it is asked for. That this fails is
    /// nothing yet: a bad sector must not hide what is readable around it.
    fn widen(&self, offset: u64, end: u64) {
        let tail = self.size.saturating_sub(TAIL).max(HEAD.min(self.size));
        for (tried, from, to) in [(&self.wide[0], 0, HEAD.min(self.size)), (&self.wide[1], tail, self.size)] {
            if from <= offset && end <= to && !tried.replace(true) {
                let next = self.kept.borrow().range(from..to).next().is_some();
                if !next && let Ok(bytes) = self.read(from, to) {
                    self.kept.borrow_mut().insert(from, bytes);
                }
            }
        }
    }

    /// Reads the piece that `at` is in, up to what is kept already: widened first, and when that fails
    /// the sectors that are asked for alone.
    fn keep(&self, at: u64, end: u64) -> Result<(), Unreadable> {
        let kept = self.kept.borrow();
        let floor = kept.range(..=at).next_back().map_or(0, |(start, piece)| start + piece.len() as u64);
        let limit = kept.range(at..).next().map_or(self.size, |(start, _)| *start);
        drop(kept);
        let piece = |grain: u64| {
            let from = (at - at % grain).max(floor);
            let to = end.checked_next_multiple_of(grain).unwrap_or(u64::MAX).min(limit);
            (from, to)
        };
        let narrow = piece(self.sector.min(GRAIN));
        let mut failed = self.failed.borrow_mut();
        if let Some((.., why)) = failed.iter().find(|(from, to, _)| narrow.0 <= *from && *to <= narrow.1) {
            return Err(why.clone());
        }
        let wide = piece(GRAIN);
        let wide = Some(wide).filter(|w| failed.iter().all(|(from, to, _)| *to <= w.0 || w.1 <= *from));
        let mut result = Err(Unreadable(String::new()));
        for (from, to) in wide.into_iter().chain([narrow]) {
            result = self.read(from, to).map(|bytes| (from, bytes));
            match &result {
                Ok(_) => break,
                Err(why) if failed.len() < ERRORS as usize => failed.push((from, to, why.clone())),
                Err(_) => {}
            }
        }
        let (from, bytes) = result?;
        self.kept.borrow_mut().insert(from, bytes);
        Ok(())
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<u8>, Unreadable> {
        if self.errors.get() >= ERRORS {
            return Err(Unreadable(format!("{ERRORS} reads failed, and no more were tried")));
        }
        let length = to - from;
        let left = self.left.get().checked_sub(length);
        self.left.set(left.ok_or_else(|| Unreadable(format!("more than {BUDGET} bytes to read")))?);
        let mut bytes = vec![0; usize::try_from(length).map_err(|e| Unreadable(e.to_string()))?];
        self.source.read_at(self.start + from, &mut bytes).map_err(|e| {
            self.errors.set(self.errors.get() + 1);
            Unreadable(format!("reading {length} bytes at byte {from}: {e}"))
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_with_the_window_and_the_budget() {
        let source = vec![7u8; 10 << 20];
        let reader = Reader::new(&source, 512);
        assert!(reader.get((10 << 20) - 1, 2).unwrap().is_none());
        assert!(reader.get(u64::MAX, 2).unwrap().is_none());
        assert!(reader.get(0, 10).unwrap().is_some());
        assert!(reader.part((10 << 20) - 10, 1000).get(0, 11).unwrap().is_none());
        let mut at = 0;
        while reader.get(at, 30_000).is_ok() {
            at += 30_000;
            reader.refill();
        }
        assert!(reader.spent() <= BUDGET && reader.spent() > BUDGET - 40_000, "{}", reader.spent());
        while reader.get(0, 1).is_ok() {}
    }

    /// Counts its reads; some of its sectors are bad.
    struct Dying {
        reads: Cell<u32>,
        bad: Vec<u64>,
    }

    impl Source for Dying {
        fn size(&self) -> u64 {
            1 << 20
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.reads.set(self.reads.get() + 1);
            let end = offset + buffer.len() as u64;
            assert!(end <= self.size());
            for (at, byte) in (offset..).zip(buffer.iter_mut()) {
                *byte = u8::try_from(at / 512 % 251).unwrap();
            }
            let bad = self.bad.iter().any(|s| s * 512 < end && (s + 1) * 512 > offset);
            if bad { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
        }
    }

    #[test]
    fn what_was_read_is_not_read_again() {
        let disk = Dying { reads: Cell::new(0), bad: Vec::new() };
        let reader = Reader::new(&disk, 512);
        for at in [0, 65536, 100, 75_000, 75_001, 200_000, 203_000, (1 << 20) - 512, (1 << 20) - 4096] {
            let bytes = reader.get(at, 512).unwrap().unwrap();
            assert_eq!(u64::from(bytes.0[0]), at / 512 % 251, "{at}");
        }
        // Head, tail, and the grains at 75,000 and 200,000 with the one after it.
        assert_eq!(disk.reads.get(), 5);
        let across = reader.get(72_000, 10_000).unwrap().unwrap();
        assert!((72_000u64..).zip(&across.0).all(|(at, b)| u64::from(*b) == at / 512 % 251));
    }

    #[test]
    fn a_bad_sector_hides_nothing_around_it_and_is_tried_once() {
        let disk = Dying { reads: Cell::new(0), bad: vec![3] };
        let reader = Reader::new(&disk, 512);
        assert!(reader.get(1536, 10).is_err());
        assert!(reader.get(1024, 512).unwrap().is_some());
        assert!(reader.get(65536, 512).unwrap().is_some());
        let before = disk.reads.get();
        assert!(reader.get(1536, 20).is_err());
        assert_eq!(disk.reads.get(), before);
    }

    #[test]
    fn a_dead_disk_is_left_alone_after_some_errors() {
        let disk = Dying { reads: Cell::new(0), bad: (0..2048).collect() };
        let reader = Reader::new(&disk, 512);
        for at in (0..1 << 20).step_by(4096) {
            assert!(reader.get(at, 512).is_err());
            assert!(reader.part(at, 4096).get(0, 512).is_err());
        }
        assert_eq!(disk.reads.get(), ERRORS);
    }
}
