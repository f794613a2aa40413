//! How the logical volumes of a group lie on its physical ones, for whoever maps them: in one line a program can
//! carry.
//!
//! A line has a word a volume, `NAME:ID:FLAGS:SEGMENT,SEGMENT…`. Flags: `w` may be written to, `k` the kernel keeps
//! records of it on the disks, or it is laid out in another way that is not known here. A segment is `START+SECTORS`, what it is (`l` on one volume, `s128` striped with that many sectors
//! a chunk, `e` errors, `z` zeros) and its areas, `@DEVICE/SECTOR`: the number of the physical volume among those of
//! the group, and where on it. Volumes that LVM2 itself does not show are parts of others, and are left out.

use std::collections::BTreeSet;

use super::lvm_text::Group;

/// Most bytes of a line; a segment takes some 30.
const LONGEST: usize = 128 << 10;
/// Most segments of one volume, and areas of one segment.
const MOST: usize = 4096;

/// A logical volume as the text has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) name: String,
    id: String,
    status: String,
    flags: String,
    parts: Vec<Part>,
}

/// One of its segments.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    start: u64,
    count: u64,
    kind: String,
    chunk: u64,
    areas: Vec<(String, u64)>,
    /// What it names of a snapshot.
    of: Option<String>,
    store: Option<String>,
}

impl Volume {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A segment begins.
    pub(super) fn begin(&mut self) {
        if self.parts.len() < MOST {
            self.parts.push(Part::default());
        }
    }

    /// `key = value` of the volume.
    pub(super) fn own(&mut self, key: &str, value: &str) {
        match key {
            "id" => self.id = value.into(),
            "status" => self.status = value.into(),
            "flags" => self.flags = value.into(),
            _ => {}
        }
    }

    /// `key = value` of its last segment.
    pub(super) fn segment(&mut self, key: &str, value: &str) {
        let Some(part) = self.parts.last_mut() else { return };
        let number = || value.parse().unwrap_or(0);
        match key {
            "start_extent" => part.start = number(),
            "extent_count" => part.count = number(),
            "type" => part.kind = value.into(),
            "stripe_size" => part.chunk = number(),
            "origin" => part.of = Some(value.into()),
            "cow_store" | "merging_store" => part.store = Some(value.into()),
            _ => {}
        }
    }

    /// `"pv0", 12` of its last segment.
    pub(super) fn area(&mut self, line: &str) {
        let Some(part) = self.parts.last_mut().filter(|p| p.areas.len() < MOST) else { return };
        // One that cannot be read is of no device, and so its volume is none that is mapped here.
        let (name, at) = line.trim_end_matches(',').split_once(',').unwrap_or((line, ""));
        part.areas.push((name.trim().trim_matches('"').into(), at.trim().parse().unwrap_or(u64::MAX)));
    }

    fn is(&self, word: &str) -> bool {
        self.status.contains(&format!("\"{word}\""))
    }
}

/// The line of a group; `None` where there is nothing to map or it would be too long.
pub(super) fn listed(group: &Group) -> Option<String> {
    let parts = || group.volumes.iter().flat_map(|v| &v.parts);
    let stores: BTreeSet<&str> = parts().filter_map(|p| p.store.as_deref()).collect();
    let origins: BTreeSet<&str> = parts().filter_map(|p| p.of.as_deref()).collect();
    let clean = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+_.-".contains(&b))
    };
    let mut line = String::new();
    // What people see of a snapshot is what it takes note in: LVM2 hides that, and shows one of a name of its own.
    let shown = |v: &&Volume| {
        let snapshot = v.parts.iter().any(|p| p.kind == "snapshot");
        stores.contains(v.name.as_str()) || v.is("VISIBLE") && !snapshot
    };
    for volume in group.volumes.iter().filter(shown) {
        let pool = |p: &Part| matches!(p.kind.as_str(), "thin-pool" | "cache-pool" | "vdo-pool");
        // What is in a pool is a volume of its own; one to be skipped is activated by name alone (lvm(8), -K).
        if volume.parts.iter().any(pool) || volume.flags.contains("\"ACTIVATION_SKIP\"") {
            continue;
        }
        if !clean(&volume.name) || !clean(&volume.id) || line.len() > LONGEST {
            return None;
        }
        let name = volume.name.as_str();
        // What a snapshot is of, and what it takes note in, go together.
        let odd =
            stores.contains(name) || origins.contains(name) || volume.is("LOCKED") || volume.is("PVMOVE");
        let table: Option<Vec<String>> =
            if odd { None } else { volume.parts.iter().map(|part| segment(part, group)).collect() };
        let mut flags = String::new();
        flags.extend(volume.is("WRITE").then_some('w'));
        flags.extend(table.is_none().then_some('k'));
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&format!("{name}:{}:{flags}:{}", volume.id, table.unwrap_or_default().join(",")));
    }
    (!line.is_empty() && line.len() <= LONGEST).then_some(line)
}

fn segment(part: &Part, group: &Group) -> Option<String> {
    let sectors = |extents: u64| extents.checked_mul(group.extent).filter(|n| *n < 1 << 54);
    let (start, count) = (sectors(part.start)?, sectors(part.count).filter(|n| *n > 0)?);
    let what = match (part.kind.as_str(), part.areas.len()) {
        ("striped" | "linear", 1) => "l".to_string(),
        ("striped", n) if n > 1 && part.chunk > 0 => format!("s{}", part.chunk),
        ("error", _) => "e".into(),
        ("zero", _) => "z".into(),
        _ => return None,
    };
    let mut text = format!("{start}+{count}{what}");
    for (name, extent) in part.areas.iter().filter(|_| what != "e" && what != "z") {
        let number = group.devices.iter().position(|pv| pv.name == *name)?;
        let device = group.devices.get(number)?;
        let at = sectors(*extent)?.checked_add(device.start)?;
        text.push_str(&format!("@{number}/{at}"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::lvm_text::parse;
    use super::*;

    /// As LVM2 writes it: a linear volume with a snapshot, a striped one, a thin one in its pool.
    const TEXT: &str = "vg {\nid = \"AA\"\nextent_size = 8\nphysical_volumes {\npv0 {\nid = \"P0\"\npe_start = 2048\n}\n\
        pv1 {\nid = \"P1\"\npe_start = 4096\n}\n}\nlogical_volumes {\n\
        root {\nid = \"R\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nsegment1 {\nstart_extent = 0\nextent_count = 1\n\
        type = \"striped\"\nstripe_count = 1\nstripes = [\n\"pv0\", 30\n]\n}\n}\n\
        home {\nid = \"H\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nsegment_count = 2\n\
        segment1 {\nstart_extent = 0\nextent_count = 4\ntype = \"striped\"\nstripe_count = 1\nstripes = [\n\"pv0\", 1\n]\n}\n\
        segment2 {\nstart_extent = 4\nextent_count = 2\ntype = \"striped\"\nstripe_count = 1\nstripes = [\n\"pv1\", 0\n]\n}\n}\n\
        fast {\nid = \"F\"\nstatus = [\"READ\", \"VISIBLE\"]\nsegment1 {\nstart_extent = 0\nextent_count = 4\ntype = \"striped\"\n\
        stripe_count = 2\nstripe_size = 128\nstripes = [\n\"pv0\", 9,\n\"pv1\", 9\n]\n}\n}\n\
        kept {\nid = \"K\"\nstatus = [\"READ\", \"WRITE\"]\nsegment1 {\nstart_extent = 0\nextent_count = 1\n\
        type = \"striped\"\nstripe_count = 1\nstripes = [\n\"pv0\", 20\n]\n}\n}\n\
        snapshot0 {\nid = \"S\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nsegment1 {\ntype = \"snapshot\"\norigin = \"root\"\ncow_store = \"kept\"\n}\n}\n\
        pool {\nid = \"P\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nsegment1 {\nextent_count = 1\ntype = \"thin-pool\"\n}\n}\n\
        thin {\nid = \"T\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nsegment1 {\nextent_count = 1\ntype = \"thin\"\nthin_pool = \"pool\"\n}\n}\n}\n}\n";

    #[test]
    fn what_a_mapping_alone_makes_is_told_from_what_the_kernel_keeps_records_of() {
        let line = listed(&parse(TEXT).unwrap()).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(
            words,
            [
                "root:R:wk:",
                "home:H:w:0+32l@0/2056,32+16l@1/4096",
                "fast:F::0+32s128@0/2120@1/4168",
                "kept:K:wk:",
                "thin:T:wk:",
            ]
        );
    }

    #[test]
    fn numbers_and_names_that_cannot_be_are_refused() {
        for (from, to) in [("home {", "ho me {"), ("id = \"H\"", "id = \"H:\"")] {
            assert_eq!(listed(&parse(&TEXT.replace(from, to)).unwrap()), None, "{to}");
        }
        let huge = TEXT.replace("extent_size = 8", "extent_size = 18446744073709551615");
        assert!(listed(&parse(&huge).unwrap()).unwrap().starts_with("root:R:wk: home:H:wk:"));
        let gone = TEXT.replace("\"pv1\", 0", "\"pv9\", 0");
        assert!(listed(&parse(&gone).unwrap()).unwrap().starts_with("root:R:wk: home:H:wk:"));
    }
}
