//! Bounded reading: what a probe may read of a device, and how much.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Bytes that one probe of one device (its partitions not counted) may read. The head and the tail
/// are 136 KiB; the largest single thing is a GPT entry array.
pub const BUDGET: u64 = 8 << 20;
/// The head is read once and serves nearly every parser: the furthest magic number that is common
/// is that of btrfs, at 64 KiB.
const HEAD: u64 = 68 << 10;

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

/// A window on a source, with the budget of one probe.
pub struct Reader<'a> {
    source: &'a dyn Source,
    start: u64,
    size: u64,
    /// Bytes of a logical sector.
    pub sector: u64,
    left: Rc<Cell<u64>>,
    head: OnceCell<Option<Vec<u8>>>,
}

impl<'a> Reader<'a> {
    /// A window on all of `source`.
    pub fn new(source: &'a dyn Source, sector: u64) -> Self {
        let sector = if sector.is_power_of_two() && (512..=65536).contains(&sector) { sector } else { 512 };
        let left = Rc::new(Cell::new(BUDGET));
        Self { source, start: 0, size: source.size(), sector, left, head: OnceCell::new() }
    }

    /// A window on a partition, cut to what there is; it has a budget of its own.
    pub fn part(&self, start: u64, size: u64) -> Self {
        let start = start.min(self.size);
        Self {
            source: self.source,
            start: self.start + start,
            size: size.min(self.size - start),
            sector: self.sector,
            left: Rc::new(Cell::new(BUDGET)),
            head: OnceCell::new(),
        }
    }

    /// Bytes of the window.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes read so far.
    pub fn spent(&self) -> u64 {
        BUDGET - self.left.get()
    }

    /// `length` bytes at `offset`; `None` where the window ends before.
    ///
    /// # Errors
    /// When the device errs, or the budget is spent.
    pub fn get(&self, offset: u64, length: usize) -> Answer<Bytes> {
        let Some(end) = offset.checked_add(length as u64).filter(|end| *end <= self.size) else {
            return Ok(None);
        };
        if end <= HEAD {
            // A bad sector in the head must not hide what is readable around it: without a head
            // each read is tried by itself.
            let head = self.head.get_or_init(|| {
                let length = usize::try_from(HEAD.min(self.size)).ok()?;
                self.fetch(0, length).ok()
            });
            if let (Some(head), Ok(from), Ok(to)) = (head, usize::try_from(offset), usize::try_from(end)) {
                return Ok(head.get(from..to).map(|b| Bytes(b.to_vec())));
            }
        }
        self.fetch(offset, length).map(|b| Some(Bytes(b)))
    }

    fn fetch(&self, offset: u64, length: usize) -> Result<Vec<u8>, Unreadable> {
        let left = self.left.get().checked_sub(length as u64);
        self.left.set(left.ok_or_else(|| Unreadable(format!("more than {BUDGET} bytes to read")))?);
        let mut bytes = vec![0; length];
        self.source
            .read_at(self.start + offset, &mut bytes)
            .map_err(|e| Unreadable(format!("reading {length} bytes at byte {offset}: {e}")))?;
        Ok(bytes)
    }
}

/// Bytes with fields at offsets; a field past the end is `None`.
#[derive(Debug, Clone)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }
    /// One byte.
    pub fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }
    /// Little-endian.
    pub fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }
    /// Little-endian.
    pub fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }
    /// Little-endian.
    pub fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
    /// Big-endian.
    pub fn be32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }
    /// Big-endian.
    pub fn be16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }
    /// Whether `magic` stands at `at`.
    pub fn is(&self, at: usize, magic: &[u8]) -> bool {
        self.slice(at, magic.len()) == Some(magic)
    }
    /// A part.
    pub fn slice(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.0.get(at..at.checked_add(length)?)
    }
    /// Text up to a NUL, without the blanks at its end; `None` when nothing is left.
    pub fn text(&self, at: usize, length: usize) -> Option<String> {
        let bytes = self.slice(at, length)?;
        let bytes = bytes.split(|b| *b == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(bytes).trim_end().to_string();
        (!text.is_empty()).then_some(text)
    }
    /// A UUID in the byte order of RFC 9562; `None` when it is all zero.
    pub fn uuid(&self, at: usize) -> Option<String> {
        let b: [u8; 16] = self.array(at)?;
        (b != [0; 16]).then(|| hyphens(&hex(&b), &[8, 4, 4, 4, 12]))
    }
    /// A GUID, whose first three fields are little-endian (UEFI 2.10, appendix A).
    pub fn guid(&self, at: usize) -> Option<String> {
        let b: [u8; 16] = self.array(at)?;
        let [a, b1, c, d, e, f, g, h, rest @ ..] = b;
        Some(hyphens(&(hex(&[d, c, b1, a, f, e, h, g]) + &hex(&rest)), &[8, 4, 4, 4, 12]))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Cuts `text` into groups of these lengths, joined by hyphens.
pub fn hyphens(text: &str, groups: &[usize]) -> String {
    let mut rest = text.chars();
    let parts: Vec<String> = groups.iter().map(|n| rest.by_ref().take(*n).collect()).collect();
    parts.join("-")
}

/// CRC-32 with a reflected polynomial: 0xEDB88320 (IEEE, GPT) or 0x82F63B78 (Castagnoli, ext4).
/// `seed` is the register at the start; the caller inverts the result where the format says so.
pub fn crc32(polynomial: u32, seed: u32, bytes: &[u8]) -> u32 {
    let mut table = [0u32; 256];
    for (value, entry) in (0u32..).zip(table.iter_mut()) {
        *entry = (0..8).fold(value, |c, _| if c & 1 == 1 { c >> 1 ^ polynomial } else { c >> 1 });
    }
    bytes.iter().fold(seed, |c, b| {
        let [low, ..] = c.to_le_bytes();
        c >> 8 ^ table.get(usize::from(low ^ b)).copied().unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crcs_are_the_published_ones() {
        assert_eq!(!crc32(0xEDB8_8320, !0, b"123456789"), 0xCBF4_3926);
        assert_eq!(!crc32(0x82F6_3B78, !0, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn reads_end_with_the_window_and_the_budget() {
        let source = vec![7u8; 100_000];
        let reader = Reader::new(&source, 512);
        assert!(reader.get(99_999, 2).unwrap().is_none());
        assert!(reader.get(u64::MAX, 2).unwrap().is_none());
        assert!(reader.get(0, 10).unwrap().is_some());
        assert!(reader.part(99_990, 1000).get(0, 11).unwrap().is_none());
        while reader.get(70_000, 30_000).is_ok() {}
        assert!(reader.spent() <= BUDGET);
    }

    #[test]
    fn guids_are_mixed_endian() {
        let esp =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(Bytes(esp.to_vec()).guid(0).unwrap(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }
}
