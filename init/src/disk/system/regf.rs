//! Registry hives of Windows (regf), read by key and value name. Field offsets: libregf, "Windows NT Registry
//! File (REGF) format". No log is replayed: what a hive did not flush is not seen, and that is said by [`Hive::dirty`].

use crate::disk::bytes::{Bytes, Endian};
use crate::disk::source::{Reader, Unreadable};

/// Where the cells begin.
const BINS: u64 = 4096;
/// Most entries of one list of subkeys or values that are looked at.
const ENTRIES: usize = 16384;
/// Longest data of a value that is read, in bytes.
const DATA: usize = 4096;
/// Longest list cell that is read, in bytes.
const LIST: usize = 1 << 17;
/// Deepest nesting of index roots.
const DEPTH: u32 = 3;
const NONE: u32 = u32::MAX;

/// Answers of a hive: nothing there is no error.
type Answer<T> = Result<Option<T>, Unreadable>;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// REG_SZ, REG_EXPAND_SZ.
    Text(String),
    /// REG_DWORD.
    Number(u32),
    /// Any other type: its number and its bytes.
    Other(u32, Vec<u8>),
}

/// An open hive.
pub struct Hive<'a> {
    reader: &'a Reader<'a>,
    root: u32,
    /// Whether it was not written whole: the rest is in its logs.
    pub dirty: bool,
}

impl<'a> Hive<'a> {
    /// Opens a hive; `None` when this is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(reader: &'a Reader<'a>) -> Answer<Self> {
        let Some(head) = reader.get(0, 512)? else { return Ok(None) };
        if !head.is(0, b"regf") {
            return Ok(None);
        }
        // Windows reads none whose first 508 bytes do not match their sum without its logs.
        let sum = (0..508).step_by(4).map_while(|at| head.u32(at)).fold(0, |sum, word| sum ^ word);
        let sum = if sum == 0 { 1 } else { sum.min(u32::MAX - 1) };
        let dirty = head.u32(4) != head.u32(8) || head.u32(508) != Some(sum);
        Ok(head.u32(0x24).map(|root| Self { reader, root, dirty }))
    }

    /// The bytes of a cell, at most `limit` of them.
    fn cell(&self, at: u32, limit: usize) -> Answer<Bytes> {
        if at == NONE {
            return Ok(None);
        }
        let at = BINS + u64::from(at);
        let Some(size) = self.reader.get(at, 4)?.and_then(|b| b.u32(0)) else { return Ok(None) };
        // Cells that are in use have a negative size.
        let size = size.cast_signed();
        let Some(size) = size.checked_neg().and_then(|s| usize::try_from(s).ok()).filter(|s| *s > 4) else {
            return Ok(None);
        };
        self.reader.get(at + 4, (size - 4).min(limit))
    }

    /// A value of a key: `value(&["Microsoft", "Windows NT", "CurrentVersion"], "ProductName")`. Names are
    /// compared without regard to case.
    ///
    /// # Errors
    /// When the hive cannot be read.
    pub fn value(&self, path: &[&str], name: &str) -> Answer<Value> {
        // A key has hundreds of others beside it, each of which is looked at: some ten questions would spend it all.
        self.reader.refill();
        let Some(mut key) = self.key(self.root)? else { return Ok(None) };
        for part in path {
            let Some(list) = key.u32(0x1C) else { return Ok(None) };
            let mut left = ENTRIES;
            let Some(next) = self.subkey(list, part, DEPTH, &mut left)? else { return Ok(None) };
            key = next;
        }
        let (Some(count), Some(list)) = (key.u32(0x24), key.u32(0x28)) else { return Ok(None) };
        let Some(list) = self.cell(list, LIST)? else { return Ok(None) };
        let count = usize::try_from(count).unwrap_or(0).min(ENTRIES);
        for at in (0..count).map_while(|n| list.u32(n * 4)) {
            let Some(cell) = self.cell(at, 1024)? else { continue };
            if cell.is(0, b"vk")
                && named(&cell, 2, 0x10, 1, 0x14).is_some_and(|n| n.eq_ignore_ascii_case(name))
            {
                return self.data(&cell);
            }
        }
        Ok(None)
    }

    fn key(&self, at: u32) -> Answer<Bytes> {
        Ok(self.cell(at, 1024)?.filter(|cell| cell.is(0, b"nk")))
    }

    fn subkey(&self, list: u32, name: &str, depth: u32, left: &mut usize) -> Answer<Bytes> {
        let Some(cell) = self.cell(list, LIST)? else { return Ok(None) };
        let Some(count) = cell.u16(2) else { return Ok(None) };
        let step = if cell.is(0, b"lf") || cell.is(0, b"lh") { 8 } else { 4 };
        let index = cell.is(0, b"ri");
        if !(index || step == 8 || cell.is(0, b"li")) || depth == 0 {
            return Ok(None);
        }
        for at in (0..usize::from(count)).map_while(|n| cell.u32(4 + n * step)) {
            let Some(rest) = left.checked_sub(1) else { return Ok(None) };
            *left = rest;
            if index {
                if let Some(found) = self.subkey(at, name, depth - 1, left)? {
                    return Ok(Some(found));
                }
            } else if let Some(key) = self.key(at)?
                && named(&key, 0x48, 2, 0x20, 0x4C).is_some_and(|n| n.eq_ignore_ascii_case(name))
            {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn data(&self, value: &Bytes) -> Answer<Value> {
        let (Some(size), Some(kind)) = (value.u32(4), value.u32(0x0C)) else { return Ok(None) };
        let length = usize::try_from(size & 0x7FFF_FFFF).unwrap_or(usize::MAX).min(DATA);
        // Up to four bytes lie where the offset would be.
        let bytes = match size >> 31 {
            1 => value.slice(8, length.min(4)).map(<[u8]>::to_vec),
            _ => {
                let Some(at) = value.u32(8) else { return Ok(None) };
                self.cell(at, length)?.and_then(|c| c.slice(0, length.min(c.0.len())).map(<[u8]>::to_vec))
            }
        };
        let Some(bytes) = bytes.map(Bytes) else { return Ok(None) };
        Ok(Some(match kind {
            1 | 2 => Value::Text(bytes.utf16(0, bytes.0.len(), Endian::Little).unwrap_or_default()),
            4 => bytes.u32(0).map_or(Value::Other(4, Vec::new()), Value::Number),
            _ => Value::Other(kind, bytes.0),
        }))
    }
}

/// The name in a cell: its length in bytes at `length`, in Latin-1 where the bit `narrow` of the flags at
/// `flags` is set, else in UTF-16.
fn named(cell: &Bytes, length: usize, flags: usize, narrow: u16, at: usize) -> Option<String> {
    let length = usize::from(cell.u16(length)?);
    if cell.u16(flags)? & narrow != 0 {
        return Some(cell.slice(at, length)?.iter().map(|b| char::from(*b)).collect());
    }
    cell.utf16(at, length, Endian::Little).or(Some(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hive whose root has this many keys, the last of which is `last` and has a value `v`.
    fn hive(keys: u32) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[..4].copy_from_slice(b"regf");
        let cell = |bytes: &mut Vec<u8>, content: &[u8]| {
            let (at, size) = (bytes.len() - 4096, (content.len() + 4).next_multiple_of(8));
            bytes.extend((-i32::try_from(size).unwrap()).to_le_bytes());
            bytes.extend(content);
            bytes.resize(4096 + at + size, 0);
            u32::try_from(at).unwrap()
        };
        let key = |name: &str, subkeys: u32, values: u32| {
            let mut content = vec![0; 0x4C];
            content[..4].copy_from_slice(b"nk\x20\0");
            content[0x1C..0x20].copy_from_slice(&subkeys.to_le_bytes());
            content[0x24..0x28].copy_from_slice(&u32::from(values != NONE).to_le_bytes());
            content[0x28..0x2C].copy_from_slice(&values.to_le_bytes());
            content[0x48..0x4A].copy_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
            content.extend(name.as_bytes());
            content
        };
        let value = b"vk\x01\0\x04\0\0\x80\x2A\0\0\0\x04\0\0\0\x01\0\0\0v";
        let value = cell(&mut bytes, value);
        let values = cell(&mut bytes, &value.to_le_bytes());
        let mut list = b"li".to_vec();
        list.extend(u16::try_from(keys).unwrap().to_le_bytes());
        for number in 1..keys {
            list.extend(cell(&mut bytes, &key(&format!("key {number}"), NONE, NONE)).to_le_bytes());
        }
        list.extend(cell(&mut bytes, &key("last", NONE, values)).to_le_bytes());
        let list = cell(&mut bytes, &list);
        let root = cell(&mut bytes, &key("root", list, NONE));
        bytes[0x24..0x28].copy_from_slice(&root.to_le_bytes());
        let sum = bytes[..508].chunks(4).fold(0, |sum, w| sum ^ u32::from_le_bytes(w.try_into().unwrap()));
        bytes[508..512].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn a_question_leaves_as_much_for_the_next() {
        let bytes = hive(1000);
        let reader = Reader::new(&bytes, 512);
        let hive = Hive::open(&reader).unwrap().unwrap();
        assert!(!hive.dirty);
        for _ in 0..20 {
            assert_eq!(hive.value(&["LAST"], "V"), Ok(Some(Value::Number(42))));
        }
        assert_eq!(hive.value(&["last"], "w"), Ok(None));
    }

    #[test]
    fn a_head_that_does_not_match_its_sum_is_not_whole() {
        for (at, byte) in [(508, 1), (4, 1), (0x30, 7)] {
            let mut bytes = hive(1);
            bytes[at] ^= byte;
            let reader = Reader::new(&bytes, 512);
            let hive = Hive::open(&reader).unwrap().unwrap();
            assert!(hive.dirty, "{at}");
            assert_eq!(hive.value(&["last"], "v"), Ok(Some(Value::Number(42))));
        }
    }
}
