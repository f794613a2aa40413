//! Drives that carry a session: config drives, NoCloud, IBM classic's and Ironic's.
//!
//! [`find`] says which block devices there are and what each is ([`Place`]): an optical drive, a removable
//! medium, a disk without a partition table, or a partition. [`label`] looks at two places of each. One
//! whose label is known is then read by `rescue sources --read`, which has it open as its standard input
//! and can do nothing else: [`open`] reads the file system, [`drive::read`] what is in it. A partition that
//! bears such a label belongs to the machine that is rescued, whose word does not count: it is refused.

use std::io;
use std::path::Path;

use super::{REMOVABLE, WHOLE_DISK, below};
use crate::sys::files::read_trimmed;

pub mod drive;
pub mod fat;
pub mod iso;

/// Bytes that may be read of a medium, and in how many pieces: what leads in circles ends there.
const BUDGET: usize = 8 << 20;
const READS: usize = 16384;
/// Largest file that is read.
pub const MAX_FILE: usize = 1 << 20;
/// Kernel names of devices that are memory, or made of others.
const NOT_MEDIA: [&str; 9] = ["loop", "ram", "zram", "dm-", "md", "nbd", "mtdblock", "bcache", "drbd"];

/// Something with bytes at offsets.
pub trait Medium {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` behind the end; those of the device.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Medium for std::fs::File {
    /// By seek and read, which a confined process may do.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        self.seek(SeekFrom::Start(offset))?;
        self.read_exact(buffer)
    }
}

impl Medium for &[u8] {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(from..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A medium of which no more is read than it is worth.
pub struct Bounded<M> {
    medium: M,
    bytes: usize,
    reads: usize,
}

impl<M: Medium> Bounded<M> {
    fn new(medium: M) -> Self {
        Self { medium, bytes: BUDGET, reads: READS }
    }

    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = self.bytes.checked_sub(length).zip(self.reads.checked_sub(1));
        (self.bytes, self.reads) = left.ok_or_else(|| wrong("over 8 MiB would have to be read"))?;
        let mut bytes = vec![0; length];
        self.medium.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A file or folder on a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    folder: bool,
    /// Where its content begins: a block of ISO 9660, a cluster of FAT.
    start: u32,
    bytes: u32,
}

/// Whether two names are one. FAT has no case, and plain ISO 9660 knows neither hyphens nor small letters.
fn same_name(a: &str, b: &str) -> bool {
    let plain = |c: char| match c.to_ascii_lowercase() {
        '-' => '_',
        c => c,
    };
    a.chars().map(plain).eq(b.chars().map(plain))
}

/// A file system.
pub enum Volume<M> {
    /// ISO 9660.
    Iso(iso::Iso<M>),
    /// FAT12, FAT16 or FAT32.
    Fat(fat::Fat<M>),
}

/// Opens the file system on a medium; `None` where it has neither ISO 9660 nor FAT.
///
/// # Errors
/// Those of the medium, and of one that begins as a file system and is none.
pub fn open<M: Medium>(mut medium: M) -> io::Result<Option<Volume<M>>> {
    if iso::is(&mut medium)? {
        return iso::Iso::open(Bounded::new(medium)).map(Volume::Iso).map(Some);
    }
    match fat::is(&mut medium)? {
        true => fat::Fat::open(Bounded::new(medium)).map(Volume::Fat).map(Some),
        false => Ok(None),
    }
}

impl<M: Medium> Volume<M> {
    /// Its label, without blanks around it.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Iso(iso) => &iso.label,
            Self::Fat(fat) => &fat.label,
        }
    }

    /// Its serial number as `blkid` writes it, where it has one.
    #[must_use]
    pub fn uuid(&self) -> Option<&str> {
        match self {
            Self::Iso(_) => None,
            Self::Fat(fat) => Some(&fat.uuid),
        }
    }

    /// Reads the file at `path`, names without a slash before them; `None` where there is none.
    ///
    /// # Errors
    /// Those of the medium; `InvalidData` for what cannot be, or is larger than [`MAX_FILE`].
    pub fn file(&mut self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let mut folder: Option<Entry> = None;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            let entries = match self {
                Self::Iso(iso) => iso.list(folder.as_ref())?,
                Self::Fat(fat) => fat.list(folder.as_ref())?,
            };
            let wants_folder = names.peek().is_some();
            let found = entries.into_iter().find(|e| e.folder == wants_folder && same_name(&e.name, name));
            let Some(entry) = found else { return Ok(None) };
            if wants_folder {
                folder = Some(entry);
                continue;
            }
            if entry.bytes as usize > MAX_FILE {
                return Err(wrong(&format!("{path} has {} bytes; at most {MAX_FILE}", entry.bytes)));
            }
            return match self {
                Self::Iso(iso) => iso.content(&entry),
                Self::Fat(fat) => fat.content(&entry),
            }
            .map(Some);
        }
        Ok(None)
    }
}

/// What the label of a medium says that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// OpenStack's config drive, and IBM classic's.
    ConfigDrive,
    /// cloud-init's NoCloud.
    NoCloud,
    /// IBM classic's, while it is being set up.
    Metadata,
    /// Ironic's virtual floppy.
    Ironic,
}

impl Kind {
    /// By label, in any case: FAT has capitals only.
    #[must_use]
    pub fn of(label: &str) -> Option<Self> {
        const LABELS: [(&str, Kind); 4] = [
            ("config-2", Kind::ConfigDrive),
            ("cidata", Kind::NoCloud),
            ("metadata", Kind::Metadata),
            ("ir-vfd-dev", Kind::Ironic),
        ];
        LABELS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(label)).map(|(_, kind)| kind)
    }
}

/// What a block device is, as far as its word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a drive, on USB, or called removable: somebody put it there.
    Removable,
    /// A disk without a partition table.
    WholeDisk,
    /// Of a disk of the machine.
    Partition,
}

impl Place {
    /// The source that it is of; a partition is of none.
    #[must_use]
    pub fn source(self) -> Option<&'static str> {
        match self {
            Self::Removable => Some(REMOVABLE),
            Self::WholeDisk => Some(WHOLE_DISK),
            Self::Partition => None,
        }
    }
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// What it is.
    pub place: Place,
    /// Its kernel name.
    pub name: String,
}

/// The block devices that are, or are part of, a drive or disk, with `root` in the place of `/`; those whose
/// word counts most first. A disk with a partition table is listed by its partitions.
#[must_use]
pub fn find(root: &Path) -> Vec<Device> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join("sys/block")).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let folder = entry.path();
        let attribute = |name: &str| read_trimmed(&folder.join(name)).unwrap_or_default();
        if NOT_MEDIA.iter().any(|prefix| name.starts_with(prefix)) || attribute("size") == "0" {
            continue;
        }
        let inside = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut parts: Vec<String> = inside
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|part| part.starts_with(&name) && folder.join(part).join("partition").exists())
            .collect();
        // SCSI's type 5 is an optical drive (SPC-4, table 140). A hybrid image in one has a table too.
        let optical = name.starts_with("sr") || attribute("device/type") == "5";
        let usb = std::fs::canonicalize(&folder).is_ok_and(|path| {
            path.components().any(|c| c.as_os_str().as_encoded_bytes().starts_with(b"usb"))
        });
        let removable = usb || attribute("removable") == "1" || name.starts_with("fd");
        if optical || (parts.is_empty() && removable) {
            found.push(Device { place: Place::Removable, name });
        } else if parts.is_empty() {
            found.push(Device { place: Place::WholeDisk, name });
        } else {
            parts.sort();
            found.extend(parts.into_iter().map(|name| Device { place: Place::Partition, name }));
        }
    }
    found.sort();
    found
}

/// The node of a device.
#[must_use]
pub fn node(root: &Path, device: &Device) -> std::path::PathBuf {
    below(root, "/dev").join(&device.name)
}

/// The label of a file system, by its first sectors alone.
///
/// # Errors
/// Those of the medium.
pub fn label(medium: &mut impl Medium) -> io::Result<Option<String>> {
    if let Some(label) = iso::label(medium)? {
        return Ok(Some(label));
    }
    fat::label(medium)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(root: &Path, name: &str, bus: &str, files: &[(&str, &str)], parts: &[&str]) {
        let real = root.join(format!("sys/devices/{bus}/block/{name}"));
        std::fs::create_dir_all(real.join("device")).unwrap();
        std::fs::write(real.join("size"), "2048\n").unwrap();
        for (file, content) in files {
            std::fs::write(real.join(file), content).unwrap();
        }
        for part in parts {
            std::fs::create_dir_all(real.join(part)).unwrap();
            std::fs::write(real.join(part).join("partition"), "1\n").unwrap();
        }
        std::fs::create_dir_all(root.join("sys/block")).unwrap();
        std::os::unix::fs::symlink(&real, root.join("sys/block").join(name)).unwrap();
    }

    #[test]
    fn each_device_is_what_its_bus_and_its_table_make_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        disk(root, "vda", "pci0000:00/virtio0", &[("removable", "0\n")], &["vda1", "vda2"]);
        disk(root, "vdb", "pci0000:00/virtio1", &[("removable", "0\n")], &[]);
        disk(root, "sr0", "pci0000:00/ata1", &[("removable", "1\n"), ("device/type", "5\n")], &[]);
        disk(root, "sr1", "pci0000:00/ata2", &[("size", "0\n"), ("device/type", "5\n")], &[]);
        disk(root, "sda", "pci0000:00/usb1/1-1", &[("removable", "0\n")], &[]);
        disk(root, "sdb", "pci0000:00/usb1/1-2", &[("removable", "1\n")], &["sdb1"]);
        disk(root, "loop0", "virtual", &[], &[]);
        disk(root, "dm-0", "virtual", &[], &[]);
        let found: Vec<_> = find(root).into_iter().map(|d| (d.name, d.place)).collect();
        let expected = [
            ("sda", Place::Removable),
            ("sr0", Place::Removable),
            ("vdb", Place::WholeDisk),
            ("sdb1", Place::Partition),
            ("vda1", Place::Partition),
            ("vda2", Place::Partition),
        ];
        assert_eq!(found, expected.map(|(name, place)| (name.to_string(), place)));
    }

    #[test]
    fn labels_are_known_in_any_case() {
        assert_eq!(Kind::of("CONFIG-2"), Some(Kind::ConfigDrive));
        assert_eq!(Kind::of("cidata"), Some(Kind::NoCloud));
        assert_eq!(Kind::of("cidata2"), None);
        assert!(same_name("META_DATA.JSON", "meta-data.json") && !same_name("a", "ab"));
    }
}
