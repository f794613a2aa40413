//! MBR: four entries in sector 0, logical partitions in a chain of extended boot records, and what other
//! systems put inside a partition (block/partitions/msdos.c of the kernel, whose numbers these are).

use rescue_schema::report::{PartitionReport, Proof, SignatureReport};

use super::{MOST, Table, bsd, ldm};
use crate::disk::source::{Answer, Bytes, Reader};

/// Most extended boot records that are followed; the kernel gives up after 100 empty ones.
const CHAIN: usize = 256;
const PROTECTIVE: u8 = 0xee;

/// One of the four entries of a record; in sectors.
pub(super) struct Entry {
    boot: u8,
    kind: u8,
    start: u64,
    count: u64,
}

impl Entry {
    fn used(&self) -> bool {
        self.kind != 0 && self.count != 0
    }

    fn extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

/// Sector 0 with its mark.
pub(super) struct Mbr {
    id: u32,
    entries: Vec<Entry>,
    /// Whether an entry says that there is a GPT.
    pub(super) protective: bool,
    /// Whether it is the boot sector of a file system, whose code or text stands where the entries are.
    boot_sector: bool,
}

impl Mbr {
    /// Whether it has partitions that can be meant.
    pub(super) fn is_table(&self) -> bool {
        !self.boot_sector
            && self.entries.iter().all(|e| e.boot & 0x7f == 0)
            && self.entries.iter().any(Entry::used)
    }

    /// The last sector that a protective entry covers: the last of the disk that was partitioned.
    pub(super) fn last_sector(&self) -> Option<u64> {
        let entry = self.entries.iter().find(|e| e.kind == PROTECTIVE && e.count < u64::from(u32::MAX))?;
        (entry.start + entry.count).checked_sub(1)
    }

    /// Whether partitions stand beside the protective entry.
    pub(super) fn hybrid(&self) -> Vec<(u64, u64, u8)> {
        let real = self.entries.iter().filter(|e| e.used() && e.kind != PROTECTIVE);
        real.map(|e| (e.start, e.count, e.kind)).collect()
    }
}

fn entries(sector: &Bytes) -> Option<Vec<Entry>> {
    if !sector.is(510, &[0x55, 0xaa]) {
        return None;
    }
    (0..4usize)
        .map(|i| {
            let at = 446 + i * 16;
            Some(Entry {
                boot: sector.u8(at)?,
                kind: sector.u8(at + 4)?,
                start: u64::from(sector.u32(at + 8)?),
                count: u64::from(sector.u32(at + 12)?),
            })
        })
        .collect()
}

/// The boot sector of FAT, NTFS, exFAT or BitLocker ends in the same two bytes.
fn is_boot_sector(b: &Bytes) -> bool {
    let named = [&b"NTFS    "[..], b"EXFAT   ", b"-FVE-FS-", b"MSWIN4.1"].iter().any(|name| b.is(3, name));
    let jump = b.is(0, &[0xe9]) || (b.is(0, &[0xeb]) && b.is(2, &[0x90]));
    let sector = b.u16(11).unwrap_or(0);
    let fat = jump
        && matches!(sector, 512 | 1024 | 2048 | 4096)
        && b.u8(13).is_some_and(u8::is_power_of_two)
        && b.u16(14).is_some_and(|reserved| reserved != 0)
        && matches!(b.u8(16), Some(1 | 2))
        && matches!(b.u8(21), Some(0xf0 | 0xf8..=0xff));
    (named && jump) || fat
}

/// Whether what stands where the entries are can be nothing but entries: they lie on the disk, apart from one
/// another, and what is not used is empty. Text and code never look so.
fn is_sound(entries: &[Entry], sectors: u64) -> bool {
    let mut used: Vec<&Entry> = entries.iter().filter(|e| e.used()).collect();
    used.sort_by_key(|e| e.start);
    let inside = used.iter().all(|e| e.start > 0 && e.start + e.count <= sectors);
    let apart = used.iter().zip(used.iter().skip(1)).all(|(a, b)| a.start + a.count <= b.start);
    let empty = |e: &Entry| (e.boot, e.kind, e.start, e.count) == (0, 0, 0, 0);
    let marks = entries.iter().all(|e| matches!(e.boot, 0 | 0x80) && (e.used() || empty(e)));
    !used.is_empty() && inside && apart && marks
}

/// Sector 0, when it ends in the mark of a boot record.
pub(super) fn read(reader: &Reader<'_>) -> Answer<Mbr> {
    let Some(sector) = reader.get(0, 512)? else { return Ok(None) };
    let Some(entries) = entries(&sector) else { return Ok(None) };
    // AIX disks carry the mark too, and no table that is one (libblkid's dos.c).
    if sector.is(0, &[0xc9, 0xc2, 0xd4, 0xc1]) {
        return Ok(None);
    }
    Ok(Some(Mbr {
        id: sector.u32(440).unwrap_or(0),
        protective: entries.iter().any(|e| e.kind == PROTECTIVE),
        boot_sector: is_boot_sector(&sector) && !is_sound(&entries, reader.size() / reader.sector),
        entries,
    }))
}

pub(super) fn probe(reader: &Reader<'_>, mbr: &Mbr) -> Answer<Table> {
    if !mbr.is_table() {
        return Ok(None);
    }
    let mut table = Walk { reader, id: mbr.id, partitions: Vec::new(), notes: Vec::new() };
    for (number, entry) in (1u32..).zip(&mbr.entries).filter(|(_, e)| e.used()) {
        table.add(number, entry, 0);
    }
    for (number, entry) in (1u32..).zip(&mbr.entries).filter(|(_, e)| e.used() && e.extended()) {
        table.follow(number, entry.start, entry.count);
    }
    for (number, entry) in (1u32..).zip(&mbr.entries).filter(|(_, e)| e.used()) {
        if let Some(system) = bsd::system(entry.kind) {
            table.slices(number, entry, system);
        }
    }
    let Walk { mut partitions, mut notes, .. } = table;
    let mut version = None;
    let mut repair = None;
    if mbr.protective {
        notes.push(
            "protective MBR, and no GPT is left: what was partitioned can only be searched for (`testdisk DEV`)"
                .into(),
        );
        repair = Some("testdisk DEV".into());
    }
    if mbr.entries.iter().any(|e| e.kind == 0x42) {
        match ldm::probe(reader) {
            Ok(Some(dynamic)) => {
                version = Some(dynamic.version);
                notes.extend(dynamic.notes);
                if !dynamic.partitions.is_empty() {
                    partitions = dynamic.partitions;
                }
            }
            Ok(None) => notes.push("marked as a Windows dynamic disk, but its database is not there".into()),
            Err(why) => {
                notes.push(format!("a Windows dynamic disk whose database cannot be read: {}", why.0))
            }
        }
    }
    let broken = mbr.protective || notes.iter().any(|n| n.starts_with(CHAIN_BREAKS));
    let signature = SignatureReport {
        kind: "dos".into(),
        usage: "partition-table".into(),
        offset: 510,
        uuid: (mbr.id != 0).then(|| format!("{:08x}", mbr.id)),
        version,
        proof: Proof::Fields,
        state: Some(if broken { "damaged" } else { "clean" }.into()),
        repair,
        notes,
        ..SignatureReport::default()
    };
    Ok(Some((signature, partitions)))
}

const CHAIN_BREAKS: &str = "the chain of logical partitions";

/// Partitions as they are met.
struct Walk<'r> {
    reader: &'r Reader<'r>,
    id: u32,
    partitions: Vec<PartitionReport>,
    notes: Vec<String>,
}

impl Walk<'_> {
    fn next(&self) -> u32 {
        self.partitions.iter().map(|p| p.number).max().map_or(5, |n| n.max(4) + 1)
    }

    fn add(&mut self, number: u32, e: &Entry, base: u64) {
        let unit = self.reader.sector;
        let mut flags = Vec::new();
        if e.boot == 0x80 {
            flags.push("active".to_string());
        }
        if matches!(e.kind, 0x11 | 0x14 | 0x16 | 0x17 | 0x1b | 0x1c | 0x1e | 0x27) {
            flags.push("hidden".into());
        }
        self.partitions.push(PartitionReport {
            number,
            start: base.saturating_add(e.start).saturating_mul(unit),
            size: e.count.saturating_mul(unit),
            kind: format!("{:#x}", e.kind),
            purpose: purpose(e.kind).map(Into::into),
            uuid: (self.id != 0).then(|| format!("{:08x}-{number:02x}", self.id)),
            bootable: e.boot == 0x80,
            flags,
            ..PartitionReport::default()
        });
    }

    /// The logical partitions below one extended one.
    fn follow(&mut self, extended: u32, base: u64, count: u64) {
        let (mut link, mut seen) = (0u64, Vec::new());
        loop {
            if seen.contains(&link) {
                self.notes.push(format!("{CHAIN_BREAKS} in {extended} is a loop at sector {}", base + link));
                return;
            }
            if seen.len() >= CHAIN || self.partitions.len() >= MOST {
                self.notes.push(format!("{CHAIN_BREAKS} in {extended} goes on past {} records", seen.len()));
                return;
            }
            seen.push(link);
            let at = (base + link).saturating_mul(self.reader.sector);
            let record = match self.reader.get(at, 512) {
                Ok(Some(sector)) => entries(&sector).ok_or("no record".to_string()),
                Ok(None) => Err("beyond the end".into()),
                Err(why) => Err(why.0),
            };
            let record = match record {
                Ok(record) => record,
                Err(why) => {
                    let sector = base + link;
                    self.notes.push(format!("{CHAIN_BREAKS} in {extended} breaks at sector {sector}: {why}"));
                    return;
                }
            };
            for (index, e) in record.iter().enumerate().filter(|(_, e)| e.used() && !e.extended()) {
                // The third and fourth entry are often not zero and mean nothing (the kernel's msdos.c).
                let outside = (link + e.start).saturating_add(e.count) > count;
                if index < 2 || !outside {
                    self.add(self.next(), e, base + link);
                }
            }
            match record.iter().find(|e| e.extended() && e.count != 0) {
                Some(next) => link = next.start,
                None => return,
            }
        }
    }

    /// What a BSD put into its partition.
    fn slices(&mut self, parent: u32, entry: &Entry, system: &str) {
        let unit = self.reader.sector;
        let (start, size) = (entry.start.saturating_mul(unit), entry.count.saturating_mul(unit));
        match bsd::slices(self.reader, start, size, system) {
            Ok(Some(slices)) => {
                self.notes.push(format!("partition {parent} holds a {system} disklabel"));
                for mut slice in slices {
                    slice.number = self.next();
                    slice.parent = Some(parent);
                    self.partitions.push(slice);
                }
            }
            Ok(None) => {}
            Err(why) => {
                self.notes.push(format!("the disklabel in partition {parent} cannot be read: {}", why.0))
            }
        }
    }
}

/// What an MBR type is for.
fn purpose(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x01 => "FAT12",
        0x04 | 0x06 | 0x0e => "FAT16",
        0x05 | 0x0f | 0x85 => "extended",
        0x07 => "Windows",
        0x0b | 0x0c => "FAT32",
        0x11 | 0x14 | 0x16 | 0x1b | 0x1c | 0x1e => "hidden FAT",
        0x12 => "Compaq diagnostics",
        0x17 => "hidden NTFS",
        0x27 => "Windows recovery",
        0x41 => "PPC PReP boot",
        0x42 => "Windows dynamic disk",
        0x63 => "GNU HURD or SysV",
        0x81 => "Minix",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x84 => "hibernation",
        0x86 | 0x87 => "NTFS volume set",
        0x88 => "Linux plaintext",
        0x8e => "Linux LVM",
        0xa0 => "hibernation",
        0xa5 => "FreeBSD",
        0xa6 => "OpenBSD",
        0xa8 => "Darwin UFS",
        0xa9 => "NetBSD",
        0xab => "Darwin boot",
        0xaf => "HFS or HFS+",
        0xbe => "Solaris boot",
        0xbf => "Solaris",
        0xda => "no file system",
        0xde => "Dell utility",
        0xea => "Linux extended boot",
        0xeb => "BeOS",
        0xee => "GPT protective",
        0xef => "EFI system",
        0xfb => "VMware VMFS",
        0xfc => "VMware swap",
        0xfd => "Linux RAID",
        _ => return None,
    })
}
