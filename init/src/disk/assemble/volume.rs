//! A logical volume that a mapping alone makes, from the line that the probe gives of its group: pure.

use std::fmt;

use crate::sys::dm::Target;

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What LVM2 calls it.
    pub name: String,
    /// Its mapping's: `vg-root`.
    pub mapped: String,
    /// The mapping's UUID, by which LVM2 knows it again.
    pub uuid: String,
    /// Whether it may be written to, by its group and by who asked.
    pub write: bool,
    /// Where it lies; empty where the kernel keeps records of it on the disks, so that LVM2 is to activate it.
    pub table: Vec<Segment>,
}

/// A piece of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First sector.
    pub start: u64,
    /// How many.
    pub sectors: u64,
    /// What it is.
    pub how: How,
}

/// What a segment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// A part of one physical volume: its number in the group, and the sector.
    Linear(usize, u64),
    /// Turn by turn on several: sectors of a chunk.
    Striped(u64, Vec<(usize, u64)>),
    /// Reads fail.
    Error,
    /// Reads as zeros.
    Zero,
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The volumes of a group's line; `None` where it says what cannot be.
pub(super) fn parse(line: &str, group: &str, group_id: &str) -> Option<Vec<Volume>> {
    let doubled = |name: &str| name.replace('-', "--");
    let plain = |id: &str| id.replace('-', "");
    let volume = |word: &str| {
        let mut parts = word.splitn(4, ':');
        let (name, id, flags, table) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+_.-".contains(&b);
        if name.is_empty()
            || !name.bytes().all(allowed)
            || name.starts_with('-')
            || name == "."
            || name == ".."
        {
            return None;
        }
        let table: Option<Vec<Segment>> = table.split(',').filter(|s| !s.is_empty()).map(segment).collect();
        let table = table?;
        let mut next = 0;
        for segment in &table {
            // One after the other, as the device mapper wants them.
            if segment.start != next {
                return None;
            }
            next = segment.start.checked_add(segment.sectors)?;
        }
        (flags.contains('k') != (next > 0)).then(|| Volume {
            name: name.into(),
            mapped: format!("{}-{}", doubled(group), doubled(name)),
            uuid: format!("LVM-{}{}", plain(group_id), plain(id)),
            write: flags.contains('w'),
            table,
        })
    };
    line.split(' ').filter(|word| !word.is_empty()).map(volume).collect()
}

fn segment(text: &str) -> Option<Segment> {
    let (start, rest) = text.split_once('+')?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (sectors, rest) = rest.split_at_checked(end)?;
    let mut areas = rest.split('@');
    let what = areas.next()?;
    let area = |text: &str| {
        let (device, sector) = text.split_once('/')?;
        Some((device.parse().ok()?, sector.parse().ok()?))
    };
    let areas: Option<Vec<(usize, u64)>> = areas.map(area).collect();
    let areas = areas?;
    let how = match (what.split_at_checked(1)?, areas.as_slice()) {
        (("l", ""), &[(device, sector)]) => How::Linear(device, sector),
        (("s", chunk), [_, _, ..]) => How::Striped(chunk.parse().ok().filter(|n| *n > 0)?, areas),
        (("e", ""), []) => How::Error,
        (("z", ""), []) => How::Zero,
        _ => return None,
    };
    Some(Segment { start: start.parse().ok()?, sectors: sectors.parse().ok().filter(|n| *n > 0)?, how })
}

impl Volume {
    /// Whether the kernel keeps records of it on the disks.
    pub fn is_kept(&self) -> bool {
        self.table.is_empty()
    }

    /// Numbers, in the group, of the physical volumes that it lies on.
    pub(super) fn lies_on(&self) -> Vec<usize> {
        let of = |segment: &Segment| match &segment.how {
            How::Linear(device, _) => vec![*device],
            How::Striped(_, areas) => areas.iter().map(|(device, _)| *device).collect(),
            How::Error | How::Zero => Vec::new(),
        };
        self.table.iter().flat_map(of).collect()
    }

    /// As the device mapper is told it. `numbers` are `major:minor` of the physical volumes; a segment on one
    /// that is not here reads as errors.
    pub(super) fn targets(&self, numbers: &[Option<String>]) -> Vec<Target> {
        let place = |(device, sector): &(usize, u64)| {
            let number = numbers.get(*device)?.as_ref()?;
            Some(format!("{number} {sector}"))
        };
        let target = |segment: &Segment| {
            let (kind, parameters) = match &segment.how {
                How::Linear(device, sector) => ("linear", place(&(*device, *sector))),
                How::Striped(chunk, areas) => {
                    let places: Option<Vec<String>> = areas.iter().map(place).collect();
                    ("striped", places.map(|p| format!("{} {chunk} {}", areas.len(), p.join(" "))))
                }
                How::Error => ("error", Some(String::new())),
                How::Zero => ("zero", Some(String::new())),
            };
            let (kind, parameters) = parameters.map_or(("error", String::new()), |p| (kind, p));
            Target { start: segment.start, sectors: segment.sectors, kind, parameters }
        };
        self.table.iter().map(target).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_tables() {
        let line = "ro-ot:a-b:w:0+32l@0/2056,32+16l@1/4096 fast:c::0+32s128@0/2120@1/4168 thin:d:wk:";
        let volumes = parse(line, "v-g", "G-1").unwrap();
        let root = &volumes[0];
        assert_eq!((root.mapped.as_str(), root.uuid.as_str()), ("v--g-ro--ot", "LVM-G1ab"));
        let numbers = [Some("8:1".to_string()), None];
        let lines = |v: &Volume| -> Vec<String> {
            v.targets(&numbers)
                .iter()
                .map(|t| format!("{} {} {} {}", t.start, t.sectors, t.kind, t.parameters))
                .collect()
        };
        assert_eq!(lines(root), ["0 32 linear 8:1 2056", "32 16 error "]);
        assert_eq!(lines(&volumes[1]), ["0 32 error "], "half of a stripe is none");
        let both = [Some("8:1".to_string()), Some("8:2".to_string())];
        assert_eq!(volumes[1].targets(&both)[0].parameters, "2 128 8:1 2120 8:2 4168");
        assert!(volumes[2].is_kept() && !volumes[1].write);
    }

    #[test]
    fn what_cannot_be_is_none() {
        for line in [
            "a:b:w:5+3l@0/1",
            "a:b:w:0+3l@0/1,4+3l@0/1",
            "a:b:w:",
            "a:b:k:0+3l@0/1",
            "..:b:w:0+3e",
            "-a:b:w:0+3e",
            "a:b:w:0+3s0@0/1@1/1",
            "a:b:w:0+3s8@0/1",
            "a:b:w:0+3l",
            "a:b:w:0+0e",
            "a",
            "a:b:w:0+3é",
            "a:b:w:+",
            "a/b:c:w:0+3e",
            "a:b:w:18446744073709551615+1e",
        ] {
            assert!(parse(line, "vg", "g").is_none(), "{line}");
        }
    }
}
