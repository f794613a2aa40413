//! FAT12, FAT16 and FAT32 (Microsoft, FAT32 File System Specification 1.03), with long names.

use std::io;

use super::{Bounded, Entry, Medium, wrong};

/// Largest folder that is read, in bytes: 8192 entries.
const MAX_FOLDER: usize = 256 << 10;
/// An entry of a folder.
const ENTRY: usize = 32;
/// Attributes: a volume's label, a folder, and all of the first four for a piece of a long name.
const LABEL: u8 = 0x08;
const FOLDER: u8 = 0x10;
const LONG: u8 = 0x0f;

/// Bits of an entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

/// A volume.
pub struct Fat<M> {
    medium: Bounded<M>,
    pub(super) label: String,
    pub(super) uuid: String,
    width: Width,
    /// Bytes: of a cluster, and where the table, the root folder (of FAT12 and FAT16) and the clusters begin.
    cluster: usize,
    table: u64,
    root: u64,
    data: u64,
    /// Bytes of the root folder of FAT12 and FAT16.
    root_bytes: usize,
    /// First cluster of the root folder of FAT32.
    root_cluster: u32,
    /// Number of clusters.
    clusters: u32,
}

fn boot_sector(medium: &mut impl Medium) -> io::Result<Option<[u8; 512]>> {
    let mut bytes = [0; 512];
    match medium.read_at(0, &mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the extended boot record is, whose byte 0x29 promises a serial number and a label; `None` for
/// what is no FAT.
fn extended(sector: &[u8; 512]) -> Option<usize> {
    let byte = |at: usize| sector.get(at).copied().unwrap_or_default();
    let jump = byte(0) == 0xeb || byte(0) == 0xe9;
    let sector_bytes = u16::from_le_bytes([byte(11), byte(12)]);
    let sound = jump
        && (512..=4096).contains(&sector_bytes)
        && sector_bytes.is_power_of_two()
        && byte(13).is_power_of_two()
        && [byte(14), byte(15)] != [0, 0]
        && (1..=2).contains(&byte(16));
    let at = if [byte(22), byte(23)] == [0, 0] { 64 } else { 36 };
    sound.then_some(at)
}

/// Whether a medium begins as one.
pub(super) fn is(medium: &mut impl Medium) -> io::Result<bool> {
    Ok(boot_sector(medium)?.is_some_and(|sector| extended(&sector).is_some()))
}

/// The label that the boot sector has: mkfs.fat writes it there, and into the root folder.
pub(super) fn label(medium: &mut impl Medium) -> io::Result<Option<String>> {
    let Some(sector) = boot_sector(medium)? else { return Ok(None) };
    Ok(extended(&sector).and_then(|at| label_in(&sector, at)))
}

fn label_in(sector: &[u8], at: usize) -> Option<String> {
    let promised = matches!(sector.get(at + 2), Some(0x28 | 0x29));
    promised.then(|| text(sector.get(at + 7..at + 18).unwrap_or_default()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']).into()
}

fn short(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u16::from_le_bytes(*b).into())
}

fn long(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b))
}

impl<M: Medium> Fat<M> {
    pub(super) fn open(mut medium: Bounded<M>) -> io::Result<Self> {
        let sector = medium.read(0, 512)?;
        let array: &[u8; 512] = sector.first_chunk().ok_or_else(|| wrong("no boot sector"))?;
        let at = extended(array).ok_or_else(|| wrong("no FAT"))?;
        let sector_bytes = short(&sector, 11);
        let per_cluster = sector.get(13).copied().unwrap_or(1);
        let reserved = short(&sector, 14);
        let tables = u32::from(sector.get(16).copied().unwrap_or(1));
        let root_entries = short(&sector, 17);
        let either = |small: u32, large: u32| if small == 0 { large } else { small };
        let total = either(short(&sector, 19), long(&sector, 32));
        let table_sectors = either(short(&sector, 22), long(&sector, 36));
        let root_sectors = (root_entries * 32).div_ceil(sector_bytes);
        let before = u64::from(reserved) + u64::from(tables) * u64::from(table_sectors);
        let data = before + u64::from(root_sectors);
        let clusters =
            u64::from(total).checked_sub(data).ok_or_else(|| wrong("FAT: more tables than room"))?
                / u64::from(per_cluster);
        let clusters = u32::try_from(clusters).map_err(|_| wrong("FAT: too large"))?;
        let width = match clusters {
            // A table that is too long for its size has none (section 3.5); FAT32 has no root folder of its own.
            _ if at == 64 => Width::ThirtyTwo,
            0..4085 => Width::Twelve,
            _ => Width::Sixteen,
        };
        let bytes = |sectors: u64| sectors * u64::from(sector_bytes);
        let mut fat = Self {
            medium,
            label: label_in(&sector, at).unwrap_or_default(),
            uuid: format!("{:04X}-{:04X}", long(&sector, at + 3) >> 16, long(&sector, at + 3) & 0xffff),
            width,
            cluster: sector_bytes as usize * usize::from(per_cluster),
            table: bytes(reserved.into()),
            root: bytes(before),
            data: bytes(data),
            root_bytes: root_entries as usize * ENTRY,
            root_cluster: long(&sector, 44),
            clusters,
        };
        let content = fat.folder(None)?;
        // The one in the root folder is the one that is changed later.
        let label =
            content.as_chunks::<ENTRY>().0.iter().take_while(|e| e.first() != Some(&0)).find_map(|e| {
                let is = e.first() != Some(&0xe5) && e.get(11).is_some_and(|a| a & (LABEL | FOLDER) == LABEL);
                (is && e.get(11) != Some(&LONG)).then(|| text(e.get(..11).unwrap_or_default()))
            });
        if let Some(label) = label.filter(|label| !label.is_empty()) {
            fat.label = label;
        }
        Ok(fat)
    }

    fn folder(&mut self, folder: Option<&Entry>) -> io::Result<Vec<u8>> {
        match folder {
            None if self.width != Width::ThirtyTwo => {
                self.medium.read(self.root, self.root_bytes.min(MAX_FOLDER))
            }
            None => self.chain(self.root_cluster, MAX_FOLDER),
            Some(folder) => self.chain(folder.start, MAX_FOLDER),
        }
    }

    pub(super) fn list(&mut self, folder: Option<&Entry>) -> io::Result<Vec<Entry>> {
        let content = self.folder(folder)?;
        let mut entries = Vec::new();
        let mut pieces: Vec<(u8, Vec<u16>)> = Vec::new();
        for entry in content.as_chunks::<ENTRY>().0 {
            let attributes = entry.get(11).copied().unwrap_or_default();
            match entry.first() {
                Some(0) | None => break,
                Some(0xe5) => pieces.clear(),
                Some(number) if attributes & 0x3f == LONG => {
                    // Thirteen characters in three places (section 7); the last piece comes first.
                    let units = [1..11, 14..26, 28..32].into_iter().filter_map(|place| entry.get(place));
                    let units =
                        units.flat_map(|bytes| bytes.as_chunks().0.iter().map(|c| u16::from_le_bytes(*c)));
                    if pieces.len() < 20 {
                        pieces.push((*number & 0x3f, units.take_while(|unit| *unit != 0).collect()));
                    }
                }
                Some(_) if attributes & LABEL != 0 => pieces.clear(),
                Some(_) => {
                    let name = long_name(std::mem::take(&mut pieces)).unwrap_or_else(|| short_name(entry));
                    entries.push(Entry {
                        name,
                        folder: attributes & FOLDER != 0,
                        start: short(entry, 26) | short(entry, 20) << 16,
                        bytes: long(entry, 28),
                    });
                }
            }
        }
        Ok(entries)
    }

    pub(super) fn content(&mut self, file: &Entry) -> io::Result<Vec<u8>> {
        let mut content = self.chain(file.start, file.bytes as usize)?;
        if content.len() < file.bytes as usize {
            return Err(wrong(&format!("{}: its chain of clusters ends early", file.name)));
        }
        content.truncate(file.bytes as usize);
        Ok(content)
    }

    /// The clusters from `cluster` on, up to about `most` bytes.
    fn chain(&mut self, mut cluster: u32, most: usize) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        while content.len() < most {
            let Some(number) = cluster.checked_sub(2).filter(|n| *n < self.clusters) else { break };
            let at = self.data + u64::from(number) * self.cluster as u64;
            content.extend(self.medium.read(at, self.cluster)?);
            if content.len() < most {
                cluster = self.next(cluster)?;
            }
        }
        Ok(content)
    }

    /// The cluster behind this one, from the first table; any number that is none ends the chain.
    fn next(&mut self, cluster: u32) -> io::Result<u32> {
        let wide = u64::from(cluster);
        Ok(match self.width {
            Width::Twelve => {
                let pair = short(&self.medium.read(self.table + wide + wide / 2, 2)?, 0);
                if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }
            }
            Width::Sixteen => short(&self.medium.read(self.table + wide * 2, 2)?, 0),
            Width::ThirtyTwo => long(&self.medium.read(self.table + wide * 4, 4)?, 0) & 0x0fff_ffff,
        })
    }
}

fn long_name(mut pieces: Vec<(u8, Vec<u16>)>) -> Option<String> {
    pieces.sort_by_key(|(number, _)| *number);
    let whole = pieces.iter().zip(1..).all(|((number, _), expected)| *number == expected);
    let units: Vec<u16> = pieces.into_iter().flat_map(|(_, units)| units).collect();
    (whole && !units.is_empty()).then(|| String::from_utf16_lossy(&units))
}

fn short_name(entry: &[u8]) -> String {
    let part = |range: std::ops::Range<usize>| text(entry.get(range).unwrap_or_default());
    match (part(0..8), part(8..11)) {
        (name, extension) if extension.is_empty() => name,
        (name, extension) => format!("{name}.{extension}"),
    }
}
