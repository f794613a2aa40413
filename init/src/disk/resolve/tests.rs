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
    for name in ["UUID=", "LABEL=", "UUID=dd", "/dev/sda1", "/dev/disk/by-id/virtio-vda-part1", "", "\\x2"] {
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
    let why = "/dev/vda1 (more likely ext4 than xfs: xfs looks older; `rescue probe /dev/vda1` says more)";
    for name in ["UUID=AA", "UUID=ee", "/dev/vda1", "PARTUUID=aa-01", "/dev/disk/by-id/virtio-Svda-part1"] {
        let refused = Missing::Several(vec![why.into()]);
        assert_eq!(device(name, &both, "/dev/vda2"), Err(refused), "{name}");
    }
    assert_eq!(device("UUID=bb", &both, "/dev/vda1").unwrap().path, "/dev/vda2");
    assert_eq!(device("UUID=", &both, "/dev/vda1"), Err(Missing::Nowhere));
    assert_eq!(named("/dev/vda1", &both).unwrap().path, "/dev/vda1", "who names the device means it");
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
    assert_eq!(named("UUID=ee", &disks).map(|b| b.path.as_str()), Ok("/dev/vda1"));
    assert_eq!(named("UUID=aa", &disks).map(|b| b.path.as_str()), Ok("/dev/vda2"));
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
    assert_eq!(encrypted("UUID=ee", &twins, ""), Err(both.clone()));
    assert_eq!(named("UUID=ee", &twins), Err(both));
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
