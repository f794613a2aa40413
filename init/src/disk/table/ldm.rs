//! Windows dynamic disks on MBR (block/partitions/ldm.c of the kernel, whose offsets these are): the private
//! header says where the database is, the database which volumes there are and which pieces of them are here.

use std::collections::BTreeMap;

use rescue_schema::report::PartitionReport;

use crate::disk::source::{Answer, Bytes, Reader};

const SECTOR: u64 = 512;
/// Bytes of the database that are read; 1 MiB is all of it.
const DATABASE: u64 = 1 << 20;
/// Most records that are looked at, and volumes that are named.
const RECORDS: usize = 8192;
const NAMED: usize = 16;

/// What the database says of this disk.
pub(super) struct Dynamic {
    pub(super) version: String,
    pub(super) notes: Vec<String>,
    pub(super) partitions: Vec<PartitionReport>,
}

struct Header {
    bytes: Bytes,
    /// Sectors: where data starts, and where the database is.
    data: u64,
    config: u64,
    config_size: u64,
}

fn header(reader: &Reader<'_>, at: u64) -> Answer<Header> {
    let Some(bytes) = reader.get(at, 512)? else { return Ok(None) };
    let fields = |b: &Bytes| Some((b.be64(0x11b)?, b.be64(0x12b)?, b.be64(0x133)?));
    let Some((data, config, config_size)) = fields(&bytes).filter(|_| bytes.is(0, b"PRIVHEAD")) else {
        return Ok(None);
    };
    let fits = config.checked_add(config_size).is_some_and(|end| end <= reader.size() / SECTOR);
    Ok(fits.then_some(Header { bytes, data, config, config_size }))
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<Dynamic> {
    // The second and third copy are at the end, in the database's own megabyte.
    let last = reader.size() / SECTOR;
    let places = [Some(6), last.checked_sub(192), last.checked_sub(1)];
    let mut found = None;
    let mut notes = Vec::new();
    for (index, place) in places.into_iter().enumerate() {
        let Some(place) = place else { continue };
        if let Some(header) = header(reader, place * SECTOR)? {
            if index > 0 {
                notes.push(format!("the first private header is gone; the copy at sector {place} was used"));
            }
            found = Some(header);
            break;
        }
    }
    let Some(header) = found else { return Ok(None) };
    let major = header.bytes.be16(0x0c).unwrap_or(0);
    let minor = header.bytes.be16(0x0e).unwrap_or(0);
    let version = format!("LDM {major}.{minor}");
    let group = header.bytes.text(0xf0, 32).unwrap_or_default();
    let own = header.bytes.text(0x30, 64).unwrap_or_default();
    let mut dynamic = Dynamic { version, notes: Vec::new(), partitions: Vec::new() };
    dynamic.notes.push(format!(
        "a Windows dynamic disk of the group {group:?} (disk {own}): `ldmtool create all` maps its volumes"
    ));
    dynamic.notes.append(&mut notes);
    match database(reader, &header)? {
        Some(records) => describe(&header, &own, &records, &mut dynamic),
        None => dynamic.notes.push("its database of volumes is damaged".into()),
    }
    Ok(Some(dynamic))
}

/// A record with its fields of variable length taken apart.
enum Record {
    Volume { name: String, kind: String },
    Disk { id: u64, guid: String },
    Part { name: String, start: u64, size: u64, disk: u64 },
}

/// The whole records: a record is split into pieces of one block each.
fn database(reader: &Reader<'_>, header: &Header) -> Answer<Vec<Record>> {
    let mut bitmap = None;
    for sector in [1, 2] {
        let at = header.config.saturating_add(sector).saturating_mul(SECTOR);
        let Some(toc) = reader.get(at, 512)? else { continue };
        if toc.is(0, b"TOCBLOCK") && toc.is(0x24, b"config") {
            bitmap = toc.be64(0x2e);
            break;
        }
    }
    let Some(bitmap) = bitmap.filter(|b| *b < header.config_size) else { return Ok(None) };
    let at = header.config.saturating_add(bitmap).saturating_mul(SECTOR);
    let Some(vmdb) = reader.get(at, 512)? else { return Ok(None) };
    let fields = |b: &Bytes| Some((b.be32(4)?, b.be32(8)?, b.be32(12)?));
    let Some((last, size, offset)) = fields(&vmdb).filter(|_| vmdb.is(0, b"VMDB")) else { return Ok(None) };
    if !(64..=4096).contains(&size) || last == 0 {
        return Ok(None);
    }
    let length = (u64::from(last) * u64::from(size)).min(DATABASE);
    let Some(from) = at.checked_add(u64::from(offset)) else { return Ok(None) };
    let length = length.min(reader.size().saturating_sub(from));
    let Some(bytes) = reader.get(from, usize::try_from(length).unwrap_or(0))? else { return Ok(None) };
    let mut pieces: BTreeMap<u32, BTreeMap<u16, &[u8]>> = BTreeMap::new();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    for block in bytes.0.chunks_exact(size).take(RECORDS) {
        let b = Bytes(block.get(..16).unwrap_or_default().to_vec());
        if !b.is(0, b"VBLK") {
            continue;
        }
        let (Some(group), Some(index), Some(data)) = (b.be32(8), b.be16(12), block.get(16..)) else {
            continue;
        };
        pieces.entry(group).or_default().insert(index, data);
    }
    Ok(Some(
        pieces.into_values().filter_map(|p| record(&p.into_values().collect::<Vec<_>>().concat())).collect(),
    ))
}

/// A field of variable length: a byte that says how long it is, and as many.
struct Fields<'b> {
    bytes: &'b [u8],
}

impl<'b> Fields<'b> {
    fn next(&mut self) -> Option<&'b [u8]> {
        let (length, rest) = self.bytes.split_first()?;
        let (field, rest) = rest.split_at_checked(usize::from(*length))?;
        self.bytes = rest;
        Some(field)
    }

    fn number(&mut self) -> Option<u64> {
        let field = self.next().filter(|f| f.len() <= 8)?;
        Some(field.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn text(&mut self) -> Option<String> {
        self.next().map(|f| String::from_utf8_lossy(f).into_owned())
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.get(bytes..)?;
        Some(())
    }
}

/// A record: state (2), flags (1), type (1), length (4), then its fields.
fn record(bytes: &[u8]) -> Option<Record> {
    let kind = *bytes.get(3)?;
    let mut fields = Fields { bytes: bytes.get(8..)? };
    let id = fields.number()?;
    let name = fields.text()?;
    match kind {
        0x51 => {
            let kind = fields.text()?;
            Some(Record::Volume { name, kind })
        }
        // The GUID of a disk is text in version 3 and 16 bytes in version 4.
        0x34 => Some(Record::Disk { id, guid: fields.text()? }),
        0x44 => {
            let bytes = Bytes(fields.bytes.get(..16)?.to_vec());
            Some(Record::Disk { id, guid: bytes.uuid(0)? })
        }
        0x33 => {
            // Four bytes of state and eight of a log commit id.
            fields.skip(12)?;
            let b = Bytes(fields.bytes.get(..16)?.to_vec());
            let start = b.be64(0)?;
            fields.skip(16)?;
            let size = fields.number()?;
            let _component = fields.number()?;
            let disk = fields.number()?;
            Some(Record::Part { name, start, size, disk })
        }
        _ => None,
    }
}

fn describe(header: &Header, own: &str, records: &[Record], dynamic: &mut Dynamic) {
    let mut volumes = Vec::new();
    let mut this = None;
    for record in records {
        match record {
            Record::Volume { name, kind } => volumes.push(format!("{name} ({kind})")),
            Record::Disk { id, guid } if guid.eq_ignore_ascii_case(own) => this = Some(*id),
            _ => {}
        }
    }
    let count = volumes.len();
    volumes.truncate(NAMED);
    if count > 0 {
        dynamic.notes.push(format!("{count} volumes: {}", volumes.join(", ")));
    }
    let mut parts: Vec<_> = records
        .iter()
        .filter_map(|r| match r {
            Record::Part { name, start, size, disk } if Some(*disk) == this => Some((*start, *size, name)),
            _ => None,
        })
        .collect();
    parts.sort();
    for (number, (start, size, name)) in (1u32..).zip(parts) {
        dynamic.partitions.push(PartitionReport {
            number,
            start: header.data.saturating_add(start).saturating_mul(SECTOR),
            size: size.saturating_mul(SECTOR),
            kind: "0x42".into(),
            purpose: Some("Windows dynamic volume".into()),
            name: Some(name.clone()),
            ..PartitionReport::default()
        });
    }
}
