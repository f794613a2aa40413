//! The names of arrays. A number is given by whoever starts them, and here is another than in the system itself; the
//! name and the UUID in their superblocks stay.

use rescue_schema::report::BlockReport;

use super::flat;
use crate::disk::mdadm;

/// The first number that mdadm gives to what has none of its own; it counts down from 127.
const GIVEN: u32 = 100;

/// That no other can be meant, which is a guess.
const ONLY: &str = "being the only one without a number of its own";

/// What a node of an array stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Array {
    /// It is no array's name, or names nothing that is here.
    Other,
    /// This device, and by what it is known.
    Is(String, &'static str),
    /// One that is not here.
    Absent,
    /// One that cannot be told: of these.
    Untold(Vec<String>),
}

/// A started array, by what one of its members says.
struct Started<'a> {
    block: &'a BlockReport,
    uuid: String,
    /// Its name without the host that made it.
    name: Option<&'a str>,
}

fn digits(uuid: &str) -> String {
    uuid.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect()
}

fn started(disks: &[BlockReport]) -> Vec<Started<'_>> {
    let mut found: Vec<Started<'_>> = Vec::new();
    for member in flat(disks).into_iter().filter(|b| b.probe.kind.as_deref() == Some("linux_raid_member")) {
        let Some(signature) = member.probe.signatures.first() else { continue };
        for block in member.children.iter().filter(|c| c.partition.is_none() && c.name.starts_with("md")) {
            if found.iter().any(|a| a.block.path == block.path) {
                continue;
            }
            let minor = signature.more.get("MD_MINOR").map(String::as_str);
            let label = signature.label.as_deref().map(|l| l.split_once(':').map_or(l, |(_, name)| name));
            found.push(Started {
                block,
                uuid: digits(signature.uuid.as_deref().unwrap_or_default()),
                name: label.or(minor),
            });
        }
    }
    found
}

impl Array {
    /// What a person is told of it, who calls it `source`.
    pub fn words(&self, source: &str) -> Option<String> {
        match self {
            Self::Is(path, why) if path != source || *why == ONLY => {
                Some(format!(": taken for {path}, {why}"))
            }
            Self::Untold(all) => Some(format!(
                ": such numbers are given anew with each start, and it may be any of {}: left out",
                all.join(", ")
            )),
            _ => None,
        }
    }
}

impl Started<'_> {
    fn has(&self, line: &mdadm::Array) -> bool {
        let bare = |name: &String| name.rsplit(':').next().map(String::from);
        match &line.uuid {
            Some(uuid) => digits(uuid) == self.uuid,
            None => line.name.as_ref().and_then(bare).is_some_and(|name| Some(name.as_str()) == self.name),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name.is_some_and(|own| own == name || mdadm::plainly(own) == name)
    }

    /// Itself, or a partition of it.
    fn part(&self, number: Option<u32>) -> Option<&BlockReport> {
        super::names::part(self.block, number)
    }
}

/// The array that is meant by a name which stays: `/dev/md/root`, `md-uuid-…` and `md-name-…` of `/dev/disk/by-id`.
pub(super) fn named<'a>(source: &str, disks: &'a [BlockReport]) -> Vec<&'a BlockReport> {
    let id = source.strip_prefix("/dev/disk/by-id/").or(source.strip_prefix("ID="));
    let id = id.map(super::names::numbered);
    let folder = source.strip_prefix("/dev/md/").map(parted);
    let is = |array: &Started<'a>| match (id, folder) {
        (Some((id, _)), _) => {
            let name = id.strip_prefix("md-name-").map(|n| n.split_once(':').map_or(n, |(_, name)| name));
            id.strip_prefix("md-uuid-").is_some_and(|uuid| digits(uuid) == array.uuid)
                || name.is_some_and(|name| Some(name) == array.name)
        }
        (None, Some((name, _))) => array.is_called(name),
        (None, None) => false,
    };
    let number = id.and_then(|(_, number)| number).or(folder.and_then(|(_, number)| number));
    let found = started(disks).into_iter().filter(is);
    found.filter_map(|array| super::names::part(array.block, number)).collect()
}

/// The name of an array, and the number of its partition: `0p1` is that of `/dev/md0p1`.
fn parted(name: &str) -> (&str, Option<u32>) {
    match name.rsplit_once('p') {
        Some((array, number)) if array.ends_with(|c: char| c.is_ascii_digit()) => {
            number.parse().map_or((name, None), |number| (array, Some(number)))
        }
        _ => (name, None),
    }
}

/// What an fstab means by a node of an array: by the system's own mdadm.conf, by the name in its superblock, or because
/// no other can be meant.
pub fn array(source: &str, config: Option<&[u8]>, disks: &[BlockReport]) -> Array {
    let Some(node) = source.strip_prefix("/dev/md").filter(|n| !n.is_empty()) else { return Array::Other };
    let (node, number) = parted(node);
    let node = mdadm::plainly(&format!("/dev/md{node}"));
    let all = started(disks);
    let lines = mdadm::parse(config.unwrap_or_default());
    let line = lines.iter().find(|line| !node.is_empty() && line.node == node);
    if let Some(line) = line.filter(|line| line.uuid.is_some() || line.name.is_some()) {
        // That it is not here says that no other is meant.
        let found = all.iter().find(|array| array.has(line)).and_then(|array| array.part(number));
        return found.map_or(Array::Absent, |b| Array::Is(b.path.clone(), "by its mdadm.conf"));
    }
    let of = |array: &&Started<'_>| array.is_called(&node);
    let called: Vec<&Started<'_>> = all.iter().filter(of).collect();
    if let [one] = called.as_slice() {
        let found = one.part(number);
        return found.map_or(Array::Absent, |b| Array::Is(b.path.clone(), "by the name in its superblock"));
    }
    let Ok(given) = node.parse::<u32>() else { return Array::Other };
    if called.is_empty() && given < GIVEN {
        return Array::Other;
    }
    // One that has a number of its own, or a line, is called otherwise.
    let is_numbered =
        |array: &Started<'_>| array.name.is_some_and(|n| mdadm::plainly(n).parse::<u32>().is_ok());
    let has_line = |array: &Started<'_>| lines.iter().any(|l| !l.node.is_empty() && array.has(l));
    let free: Vec<&Started<'_>> = if called.is_empty() {
        all.iter().filter(|array| !is_numbered(array) && !has_line(array)).collect()
    } else {
        called
    };
    match free.as_slice() {
        [] => Array::Other,
        [one] => {
            let found = one.part(number);
            found.map_or(Array::Absent, |b| Array::Is(b.path.clone(), ONLY))
        }
        several => Array::Untold(several.iter().map(|a| a.block.path.clone()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::resolve::{Missing, device, tests::disk};
    use rescue_schema::report::SignatureReport;

    /// Arrays of one member each: kernel name, name in the superblock, UUID.
    fn arrays(all: &[(&str, &str, &str)]) -> Vec<BlockReport> {
        let one = |(at, (node, label, uuid)): (usize, &(&str, &str, &str))| {
            let mut member = disk(&format!("sd{at}"), &[("linux_raid_member", uuid)]);
            member.children[0].probe.signatures = vec![SignatureReport {
                kind: "linux_raid_member".into(),
                label: Some((*label).into()),
                uuid: Some((*uuid).into()),
                ..SignatureReport::default()
            }];
            member.children[0].children = vec![disk(node, &[("ext4", "in")])];
            member
        };
        all.iter().enumerate().map(one).collect()
    }

    fn meant(source: &str, config: &str, disks: &[BlockReport]) -> String {
        match array(source, Some(config.as_bytes()), disks) {
            Array::Is(path, why) => format!("{path} {why}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn numbers_of_arrays_are_those_of_the_system_itself() {
        let disks = arrays(&[
            ("md127", "db7:root", "aaaa-0001"),
            ("md126", "db7:0", "aaaa-0002"),
            ("md5", "other:5", "aaaa-0003"),
        ]);
        let config =
            "ARRAY /dev/md/1 UUID=aaaa:0001\nARRAY /dev/md127 UUID=aaaa0003 name=x\nARRAY /dev/md7 UUID=b\n";
        for (source, found) in [
            ("/dev/md1", "/dev/md127 by its mdadm.conf"),
            ("/dev/md1p1", "/dev/md1271 by its mdadm.conf"),
            ("/dev/md127", "/dev/md5 by its mdadm.conf"),
            ("/dev/md0", "/dev/md126 by the name in its superblock"),
            ("/dev/md/0", "/dev/md126 by the name in its superblock"),
            ("/dev/md/root", "/dev/md127 by the name in its superblock"),
            // Named by a line, and no other is meant by it.
            ("/dev/md7", "Absent"),
            ("/dev/md1p9", "Absent"),
            ("/dev/md125", "Other"),
            ("/dev/md", "Other"),
            ("/dev/sda1", "Other"),
        ] {
            assert_eq!(meant(source, config, &disks), found, "{source}");
        }
        // Without a line the array that has no number of its own had to be given one.
        assert!(meant("/dev/md127", "", &disks).starts_with("/dev/md127 being the only one"));
        assert_eq!(meant("/dev/md3", "", &disks), "Other");
        let two = arrays(&[("md127", "db7:root", "aa"), ("md126", "db7:home", "bb")]);
        assert_eq!(meant("/dev/md127", "", &two), r#"Untold(["/dev/md127", "/dev/md126"])"#);
        let twice = arrays(&[("md0", "a:0", "aa"), ("md127", "b:0", "bb")]);
        assert_eq!(meant("/dev/md0", "", &twice), r#"Untold(["/dev/md0", "/dev/md127"])"#);
    }

    #[test]
    fn names_of_arrays_find_them_whatever_their_number() {
        let disks = arrays(&[("md127", "db7:root", "3ce7664f-5715"), ("md126", "db7:home", "bb")]);
        let named = |source: &str| device(source, &disks, "/dev/sda1").map(|b| b.path.clone());
        for source in [
            "/dev/md/root",
            "/dev/disk/by-id/md-name-db7:root",
            "/dev/disk/by-id/md-name-root",
            "/dev/disk/by-id/md-uuid-3ce7664f:5715",
        ] {
            assert_eq!(named(source).as_deref(), Ok("/dev/md127"), "{source}");
        }
        assert_eq!(named("/dev/disk/by-id/md-name-db7:home-part1").as_deref(), Ok("/dev/md1261"));
        for none in ["/dev/md/srv", "/dev/disk/by-id/md-uuid-", "/dev/disk/by-id/md-name-", "/dev/md/"] {
            assert_eq!(named(none), Err(Missing::Nowhere), "{none}");
        }
    }
}
