//! ISO 9660 (ECMA-119), with the names of Joliet or Rock Ridge where it has them.

use std::io;

use super::{Bounded, Entry, Medium, wrong};

/// Bytes of a sector, and the first one that says what the volume is.
const SECTOR: u64 = 2048;
const FIRST: u64 = 16;
/// Most volume descriptors that are looked at.
const DESCRIPTORS: u64 = 32;
/// Largest folder that is read, in bytes: some thousand names.
const MAX_FOLDER: u32 = 256 << 10;

/// A volume.
pub struct Iso<M> {
    medium: Bounded<M>,
    pub(super) label: String,
    /// Extent and length of the root folder.
    root: (u32, u32),
    /// Names are UCS-2.
    joliet: bool,
}

/// Whether a medium begins as one.
pub(super) fn is(medium: &mut impl Medium) -> io::Result<bool> {
    descriptor(medium).map(|found| found.is_some())
}

/// The label of one.
pub(super) fn label(medium: &mut impl Medium) -> io::Result<Option<String>> {
    Ok(descriptor(medium)?.map(|d| text(d.get(40..72).unwrap_or_default())))
}

/// The first volume descriptor, where there is one.
fn descriptor(medium: &mut impl Medium) -> io::Result<Option<[u8; 190]>> {
    let mut bytes = [0; 190];
    match medium.read_at(FIRST * SECTOR, &mut bytes) {
        Ok(()) => Ok((bytes.get(1..6) == Some(b"CD001")).then_some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_matches([' ', '\0']).into()
}

/// Both-byte-order fields: the little-endian half.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<M: Medium> Iso<M> {
    pub(super) fn open(mut medium: Bounded<M>) -> io::Result<Self> {
        let mut primary = None;
        let mut joliet = None;
        for at in FIRST..FIRST + DESCRIPTORS {
            let bytes = medium.read(at * SECTOR, 190)?;
            if bytes.get(1..6) != Some(b"CD001") {
                break;
            }
            // The root folder's record is at offset 156 (ECMA-119, 8.4.18).
            let root = number(&bytes, 158).zip(number(&bytes, 166));
            let escapes = bytes.get(88..91).unwrap_or_default();
            match bytes.first() {
                Some(1) if primary.is_none() => primary = root.zip(bytes.get(40..72).map(text)),
                Some(2) if [b"%/@", b"%/C", b"%/E"].iter().any(|e| *e == escapes) => joliet = joliet.or(root),
                Some(255) => break,
                _ => {}
            }
        }
        let (root, label) = primary.ok_or_else(|| wrong("ISO 9660 without a primary volume descriptor"))?;
        Ok(Self { medium, label, root: joliet.unwrap_or(root), joliet: joliet.is_some() })
    }

    pub(super) fn list(&mut self, folder: Option<&Entry>) -> io::Result<Vec<Entry>> {
        let (start, bytes) = folder.map_or(self.root, |f| (f.start, f.bytes));
        if bytes > MAX_FOLDER {
            return Err(wrong("a folder that is too large"));
        }
        let content = self.medium.read(u64::from(start) * SECTOR, bytes as usize)?;
        let mut entries = Vec::new();
        // A record does not cross the end of a sector (6.8.1.1).
        for sector in content.chunks(2048) {
            let mut rest = sector;
            while let Some((record, behind)) =
                rest.first().filter(|n| **n >= 34).and_then(|n| rest.split_at_checked(usize::from(*n)))
            {
                rest = behind;
                entries.extend(self.entry(record));
            }
        }
        Ok(entries)
    }

    /// A record of a folder; `None` for what is no plain file or folder.
    fn entry(&self, record: &[u8]) -> Option<Entry> {
        let flags = *record.get(25)?;
        // Extended attributes, interleaving and more than one extent: nothing that these media have.
        if *record.get(1)? != 0 || record.get(26..28)? != [0, 0] || flags & 0x84 != 0 {
            return None;
        }
        let length = usize::from(*record.get(32)?);
        let name = record.get(33..33 + length)?;
        if matches!(name, [0] | [1]) {
            return None;
        }
        let name = match self.joliet {
            true => {
                let units: Vec<u16> = name.as_chunks().0.iter().map(|c| u16::from_be_bytes(*c)).collect();
                String::from_utf16_lossy(&units)
            }
            // The name is padded to an even length (9.1.12).
            false => rock_ridge(record.get(33 + length + (1 - length % 2)..).unwrap_or_default())
                .unwrap_or_else(|| String::from_utf8_lossy(name).into_owned()),
        };
        let name = name.split(';').next().unwrap_or_default().trim_end_matches('.').to_string();
        Some(Entry { name, folder: flags & 2 != 0, start: number(record, 2)?, bytes: number(record, 10)? })
    }

    pub(super) fn content(&mut self, file: &Entry) -> io::Result<Vec<u8>> {
        self.medium.read(u64::from(file.start) * SECTOR, file.bytes as usize)
    }
}

/// The name among the fields that a record has beside (SUSP 1.12, section 4; RRIP 1.12, section 4.1.4).
fn rock_ridge(mut fields: &[u8]) -> Option<String> {
    let mut name = Vec::new();
    while let &[a, b, length, _, ..] = fields {
        let (field, behind) = fields.split_at_checked(usize::from(length)).filter(|_| length >= 4)?;
        // Bits 1 and 2 are names for this folder and the one above it.
        if [a, b] == *b"NM" && field.get(4)? & 0x06 == 0 {
            name.extend(field.get(5..)?);
        }
        fields = behind;
    }
    (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
}
