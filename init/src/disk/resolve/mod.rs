//! What an fstab calls a device, found among the devices that are there now.

use rescue_schema::report::{BlockReport, ProbeReport, ProbeResult, SignatureReport};

use super::pool;

mod names;

use names::{TAGS, Tag, by_id, by_path, kernel_name, mapped, tag};

/// Why a name stands for no device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Nothing here has that name.
    Nowhere,
    /// Several have, and nothing tells which is meant; or one, of which its signatures do not tell what it
    /// holds, with what they say in brackets. Nothing is mounted then: the journal of one format that is
    /// replayed over another destroys it. Who knows better names the device to `rescue mount`.
    Several(Vec<String>),
}

impl Missing {
    /// What the one hears who named a device so.
    pub fn said(&self, name: &str) -> String {
        match self {
            Self::Nowhere => format!("{name} is not here: `rescue disks` lists what is"),
            Self::Several(which) => format!(
                "{name} is the name of several, name the one that is meant:\n  {}",
                which.join("\n  ")
            ),
        }
    }
}

fn is_damaged(signature: &SignatureReport) -> bool {
    signature.state.as_deref() == Some("damaged")
}

/// Whether it is clear what a device holds: one thing, or one that is whole beside the ruins of others.
fn is_clear(probe: &ProbeReport) -> bool {
    match (probe.result, probe.signatures.split_first()) {
        (ProbeResult::Ambivalent, Some((first, others))) => {
            !is_damaged(first) && others.iter().all(is_damaged)
        }
        (ProbeResult::Ambivalent, None) => false,
        _ => true,
    }
}

/// A device of which it is not clear what it holds, and why.
fn doubt(block: &BlockReport) -> String {
    let reason = block.probe.notes.iter().find(|note| note.starts_with("more likely"));
    let reason = reason.map_or("several signatures", String::as_str);
    format!("{} ({reason}; `rescue probe {}` says more)", block.path, block.path)
}

/// Every device of the tree once, parents first: one that is built on several stands below each.
pub fn flat(disks: &[BlockReport]) -> Vec<&BlockReport> {
    fn walk<'a>(block: &'a BlockReport, out: &mut Vec<&'a BlockReport>) {
        if !out.iter().any(|o| o.path == block.path) {
            out.push(block);
            for child in &block.children {
                walk(child, out);
            }
        }
    }
    let mut out = Vec::new();
    for disk in disks {
        walk(disk, &mut out);
    }
    out
}

/// The device that `source` (first field of an fstab line) stands for. Of several with the same name,
/// as two copies of a disk have, the one on the same disk as `beside` is meant.
///
/// # Errors
/// [`Missing`].
pub fn device<'a>(source: &str, disks: &'a [BlockReport], beside: &str) -> Result<&'a BlockReport, Missing> {
    let (tag, value) = tag(source);
    let matches: Vec<&BlockReport> = match tag {
        Tag::Id => flat(disks).into_iter().filter_map(|b| by_id(b, &value)).collect(),
        Tag::Place => flat(disks).into_iter().filter_map(|b| by_path(b, &value)).collect(),
        tag => flat(disks).into_iter().filter(|b| is(b, tag, &value)).collect(),
    };
    if matches.is_empty() {
        let doubtful = flat(disks).into_iter().filter(|b| !is_clear(&b.probe) && may_be(b, tag, &value));
        let doubtful: Vec<String> = doubtful.map(doubt).collect();
        return Err(if doubtful.is_empty() { Missing::Nowhere } else { Missing::Several(doubtful) });
    }
    meant(&matches, disks, beside)
}

/// The encrypted device that `source`, as a crypttab has it, stands for: UUIDs and labels are those of containers.
///
/// # Errors
/// [`Missing`].
pub fn encrypted<'a>(
    source: &str,
    disks: &'a [BlockReport],
    beside: &str,
) -> Result<&'a BlockReport, Missing> {
    let (tag, value) = tag(source);
    let holds = |s: &SignatureReport| s.usage == "crypto" && has(s, tag, &value);
    let is = |b: &&BlockReport| is_clear(&b.probe) && b.probe.signatures.first().is_some_and(holds);
    let matches: Vec<&BlockReport> = flat(disks).into_iter().filter(is).collect();
    if matches.is_empty() { device(source, disks, beside) } else { meant(&matches, disks, beside) }
}

/// What an encrypted device shows, where it is open.
pub fn opened(block: &BlockReport) -> Option<&BlockReport> {
    block.children.iter().find(|child| child.kind == "crypt")
}

/// Whether `name` can be nothing but a device's: no system is called so.
pub fn is_name(name: &str) -> bool {
    name.starts_with("/dev/") || name.starts_with("ID=") || TAGS.iter().any(|t| name.starts_with(t.0))
}

/// Which of several with one name is meant.
fn meant<'a>(
    matches: &[&'a BlockReport],
    disks: &'a [BlockReport],
    beside: &str,
) -> Result<&'a BlockReport, Missing> {
    match matches {
        [] => Err(Missing::Nowhere),
        [one] if !is_clear(&one.probe) => Err(Missing::Several(vec![doubt(one)])),
        [one] => Ok(one),
        // The devices of one btrfs have its names together, and any of them stands for it.
        [first, ..] if pool::are_one(matches, disks) => {
            Ok(matches.iter().find(|b| b.path == beside).unwrap_or(first))
        }
        several => {
            let home = disk_of(disks, beside);
            let mut near = several.iter().filter(|b| home.is_some_and(|d| holds(d, &b.path)));
            match (near.next(), near.next()) {
                (Some(one), None) if !is_clear(&one.probe) => Err(Missing::Several(vec![doubt(one)])),
                (Some(one), None) => Ok(one),
                _ => Err(Missing::Several(several.iter().map(|b| b.path.clone()).collect())),
            }
        }
    }
}

fn holds(disk: &BlockReport, path: &str) -> bool {
    flat(std::slice::from_ref(disk)).iter().any(|b| b.path == path)
}

fn disk_of<'a>(disks: &'a [BlockReport], path: &str) -> Option<&'a BlockReport> {
    disks.iter().find(|d| holds(d, path))
}

/// What `source` is called now, when disks had other names in the system itself: one whose fstab says
/// `/dev/sda1` for the root that is on `/dev/vdb1` here means `/dev/vdb5` by `/dev/sda5`, whatever `/dev/sda`
/// is here. Where its root is named otherwise, the first disk of a kind that is not here (`/dev/hda5`,
/// `/dev/xvda5`) is the disk of the root.
pub fn today(source: &str, fstab_root: &str, root: &BlockReport, disks: &[BlockReport]) -> String {
    let now = || {
        let (old, number) = kernel_name(source)?;
        let same = kernel_name(fstab_root)
            .map(|(disk, n)| disk == old && root.partition.as_ref().is_some_and(|p| p.number == n));
        let first = old.ends_with('a') || old.ends_with("0n1p") || old.ends_with("blk0p");
        let gone = !disks.iter().any(|d| d.path == old.trim_end_matches('p'));
        if !same.unwrap_or(first && gone) {
            return None;
        }
        let partitions = &disk_of(disks, &root.path)?.children;
        let found = partitions.iter().find(|c| c.partition.as_ref().is_some_and(|p| p.number == number));
        found.map(|c| c.path.clone())
    };
    now().unwrap_or_else(|| source.into())
}

/// Whether it is no container, which shows what it holds to nobody.
fn holds_itself(signature: &SignatureReport) -> bool {
    signature.usage != "raid" && signature.usage != "crypto"
}

/// Whether one of several signatures has this UUID or label.
fn may_be(block: &BlockReport, tag: Tag, value: &str) -> bool {
    block.probe.signatures.iter().filter(|s| holds_itself(s)).any(|s| has(s, tag, value))
}

/// Whether a signature has this UUID or label.
fn has(signature: &SignatureReport, tag: Tag, value: &str) -> bool {
    !value.is_empty()
        && match tag {
            Tag::Uuid => signature.uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(value)),
            Tag::Label => signature.label.as_deref() == Some(value),
            _ => false,
        }
}

fn is(block: &BlockReport, tag: Tag, value: &str) -> bool {
    let same = |own: Option<&String>| own.is_some_and(|o| !o.is_empty() && o == value);
    let like = |own: Option<&String>| own.is_some_and(|o| !o.is_empty() && o.eq_ignore_ascii_case(value));
    let partition = block.partition.as_ref();
    // A member of an array shows the UUID and label of what the array holds to nobody.
    let ruins = block.probe.result == ProbeResult::Ambivalent;
    let content = matches!(block.probe.result, ProbeResult::Found | ProbeResult::Ambivalent)
        && is_clear(&block.probe)
        && block.probe.signatures.iter().all(|s| ruins && is_damaged(s) || holds_itself(s));
    match tag {
        Tag::Uuid => content && like(block.probe.uuid.as_ref()),
        Tag::Label => content && same(block.probe.label.as_ref()),
        Tag::PartUuid => like(partition.and_then(|p| p.uuid.as_ref())),
        Tag::PartLabel => same(partition.and_then(|p| p.name.as_ref())),
        Tag::Id | Tag::Place => false,
        Tag::Path => {
            block.path == value
                || block.path.starts_with("/dev/") && format!("/dev/{}", block.name) == value
                || mapped(value).is_some_and(|m| m == block.path)
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rescue_schema::report::PartitionReport;

    /// A disk with partitions of these types and UUIDs.
    pub(crate) fn disk(name: &str, parts: &[(&str, &str)]) -> BlockReport {
        let part = |(number, (kind, uuid)): (u32, &(&str, &str))| BlockReport {
            name: format!("{name}{number}"),
            path: format!("/dev/{name}{number}"),
            partition: Some(PartitionReport {
                number,
                name: Some(format!("part {number}")),
                uuid: Some(format!("{uuid}-0{number}")),
                ..PartitionReport::default()
            }),
            probe: ProbeReport {
                result: ProbeResult::Found,
                kind: Some((*kind).into()),
                uuid: Some((*uuid).into()),
                label: Some(format!("{kind} {uuid}")),
                ..ProbeReport::default()
            },
            ..BlockReport::default()
        };
        BlockReport {
            name: name.into(),
            path: format!("/dev/{name}"),
            serial: Some(format!("S{name}")),
            children: (1..).zip(parts).map(part).collect(),
            ..BlockReport::default()
        }
    }

    #[test]
    fn every_name_of_a_device_finds_it() {
        let disks = [disk("vda", &[("ext4", "aA"), ("vfat", "BB")]), disk("vdb", &[("xfs", "cc")])];
        for name in [
            "UUID=Aa",
            "LABEL=ext4 aA",
            "PARTUUID=AA-01",
            "PARTLABEL=part 1",
            "/dev/vda1",
            "/dev/disk/by-uuid/aA",
            "/dev/disk/by-label/ext4\\x20aA",
            "/dev/disk/by-partuuid/aa-01",
            "/dev/disk/by-id/virtio-Svda-part1",
            "/dev/disk/by-id/ata-MODEL_Svda-part1",
        ] {
            let found = device(name, &disks, "/dev/vda2").map(|b| b.path.as_str());
            assert_eq!(found, Ok("/dev/vda1"), "{name}");
        }
        for name in
            ["UUID=", "LABEL=", "UUID=dd", "/dev/sda1", "/dev/disk/by-id/virtio-vda-part1", "", "\\x2"]
        {
            assert_eq!(device(name, &disks, "/dev/vda1"), Err(Missing::Nowhere), "{name}");
        }
    }

    #[test]
    fn of_two_copies_the_one_beside_the_root_is_meant() {
        let disks =
            [disk("vda", &[("ext4", "aa"), ("vfat", "bb")]), disk("vdb", &[("ext4", "aa"), ("vfat", "bb")])];
        assert_eq!(device("UUID=bb", &disks, "/dev/vdb1").unwrap().path, "/dev/vdb2");
        let both = Missing::Several(vec!["/dev/vda2".into(), "/dev/vdb2".into()]);
        assert_eq!(device("UUID=bb", &disks, "/dev/vdc1"), Err(both));
    }

    #[test]
    fn what_may_be_something_else_is_offered_with_the_reason_and_never_taken() {
        let signature = |kind: &str, usage: &str, uuid: &str, state: &str| SignatureReport {
            kind: kind.into(),
            usage: usage.into(),
            uuid: Some(uuid.into()),
            state: Some(state.into()),
            ..SignatureReport::default()
        };
        let of = |signatures: Vec<SignatureReport>| {
            let mut disks = [disk("vda", &[("ext4", "aa"), ("vfat", "bb")])];
            let probe = &mut disks[0].children[0].probe;
            probe.result = ProbeResult::Ambivalent;
            probe.notes = vec!["more likely ext4 than xfs: xfs looks older".into()];
            probe.signatures = signatures;
            disks
        };
        let both = of(vec![
            signature("ext4", "filesystem", "aa", "clean"),
            signature("xfs", "filesystem", "ee", "clean"),
        ]);
        let why =
            "/dev/vda1 (more likely ext4 than xfs: xfs looks older; `rescue probe /dev/vda1` says more)";
        for name in ["UUID=AA", "UUID=ee", "/dev/vda1", "PARTUUID=aa-01", "/dev/disk/by-id/virtio-Svda-part1"]
        {
            let refused = Missing::Several(vec![why.into()]);
            assert_eq!(device(name, &both, "/dev/vda2"), Err(refused), "{name}");
        }
        assert_eq!(device("UUID=bb", &both, "/dev/vda1").unwrap().path, "/dev/vda2");
        assert_eq!(device("UUID=", &both, "/dev/vda1"), Err(Missing::Nowhere));
        // What is left of something older is no doubt; nor is a container, which is nobody's by its UUID.
        let ruin = of(vec![
            signature("ext4", "filesystem", "aa", "clean"),
            signature("crypto_LUKS", "crypto", "ee", "damaged"),
        ]);
        assert_eq!(device("UUID=aa", &ruin, "/dev/vda2").unwrap().path, "/dev/vda1");
        assert_eq!(device("/dev/vda1", &ruin, "/dev/vda2").unwrap().path, "/dev/vda1");
        assert_eq!(device("UUID=ee", &ruin, "/dev/vda2"), Err(Missing::Nowhere));
        let luks = of(vec![
            signature("crypto_LUKS", "crypto", "ee", "clean"),
            signature("ext4", "filesystem", "aa", "damaged"),
        ]);
        assert_eq!(device("UUID=ee", &luks, "/dev/vda2"), Err(Missing::Nowhere));
    }

    #[test]
    fn what_is_encrypted_is_found_by_its_container() {
        let mut disks = [disk("vda", &[("crypto_LUKS", "ee"), ("ext4", "aa")])];
        disks[0].children[0].probe.signatures = vec![SignatureReport {
            usage: "crypto".into(),
            uuid: Some("EE".into()),
            label: Some("safe".into()),
            ..SignatureReport::default()
        }];
        let names = ["UUID=ee", "/dev/disk/by-uuid/ee", "LABEL=safe", "PARTLABEL=part 1", "/dev/vda1"];
        for name in names {
            assert_eq!(encrypted(name, &disks, "").map(|b| b.path.as_str()), Ok("/dev/vda1"), "{name}");
            assert!(is_name(name), "{name}");
        }
        assert_eq!(device("UUID=ee", &disks, ""), Err(Missing::Nowhere), "it is no file system's");
        assert_eq!(encrypted("UUID=", &disks, ""), Err(Missing::Nowhere));
        let twins = [
            disks[0].clone(),
            BlockReport {
                children: vec![BlockReport { path: "/dev/vdb1".into(), ..disks[0].children[0].clone() }],
                path: "/dev/vdb".into(),
                ..disks[0].clone()
            },
        ];
        let both = Missing::Several(vec!["/dev/vda1".into(), "/dev/vdb1".into()]);
        assert_eq!(encrypted("UUID=ee", &twins, ""), Err(both));
        assert_eq!(encrypted("UUID=ee", &twins, "/dev/vdb").map(|b| b.path.as_str()), Ok("/dev/vdb1"));
        assert!(!is_name("debian-vda") && !is_name("UUID"));
    }

    #[test]
    fn old_names_follow_the_disk_of_the_root() {
        let disks = [disk("sda", &[("ext4", "x")]), disk("vdb", &[("ext4", "aa"), ("vfat", "bb")])];
        let root = &disks[1].children[0];
        let now = |source| today(source, "/dev/sda1", root, &disks);
        assert_eq!(now("/dev/sda2"), "/dev/vdb2");
        assert_eq!(now("/dev/sda9"), "/dev/sda9");
        assert_eq!(now("UUID=1"), "UUID=1");
        // Its sda is here, and may be another disk: the name stays what it is.
        assert_eq!(today("/dev/sda2", "UUID=1", root, &disks), "/dev/sda2");
        for old in ["/dev/hda2", "/dev/xvda2", "/dev/nvme0n1p2"] {
            assert_eq!(today(old, "UUID=1", root, &disks), "/dev/vdb2", "{old}");
        }
        assert_eq!(today("/dev/hdb2", "UUID=1", root, &disks), "/dev/hdb2");
    }

    #[test]
    fn names_of_place_world_and_volume() {
        let mut disk = disk("sdb", &[("ext4", "x")]);
        disk.slot = Some("0000:00:05.0".into());
        disk.wwn = Some("naa.5000c500a1b2c3d4".into());
        let volume = BlockReport { path: "/dev/mapper/vg--a-root".into(), ..BlockReport::default() };
        let disks = [disk, volume];
        let find = |name| device(name, &disks, "/dev/sda1").map(|b| b.path.as_str());
        assert_eq!(find("/dev/disk/by-path/pci-0000:00:05.0-part1"), Ok("/dev/sdb1"));
        assert_eq!(find("/dev/disk/by-path/virtio-pci-0000:00:05.0"), Ok("/dev/sdb"));
        assert_eq!(find("/dev/disk/by-id/wwn-0x5000c500a1b2c3d4-part1"), Ok("/dev/sdb1"));
        assert_eq!(find("/dev/vg-a/root"), Ok("/dev/mapper/vg--a-root"));
        assert_eq!(find("/dev/mapper/vg--a-root"), Ok("/dev/mapper/vg--a-root"));
    }
}
