use super::*;
use crate::disk::resolve::tests::disk;

const FSTAB: &[u8] = b"UUID=aa / ext4 ro,errors=remount-ro 0 1\n\
    UUID=bb /boot/efi vfat umask=0077 0 1\nUUID=cc /boot ext4 ro 0 2\n\
    UUID=dead /srv ext4 defaults 0 2\nnas:/x /net nfs defaults\n\
    UUID=ee /data zfs defaults 0 0\nUUID=cc /boot ext4 defaults 0 0\n";

fn planned(write: bool) -> Plan {
    let disks = [disk("vda", &[("ext4", "aa"), ("vfat", "bb"), ("ext3", "cc"), ("zfs_member", "ee")])];
    plan(
        &disks[0].children[0],
        Tables { fstab: Some(FSTAB), crypttab: None, mdadm: None },
        &disks,
        Path::new("/mnt/db7"),
        Leave { write, degraded: false },
    )
}

#[test]
fn the_plan_is_in_order_and_read_only() {
    let plan = planned(false);
    let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "mount /dev/vda1 on / (ext4, read-only, journal not replayed)",
            "mount /dev/vda3 on /boot (ext4, read-only, journal not replayed)",
            "mount /dev/vda2 on /boot/efi (vfat, read-only)",
        ]
    );
    assert_eq!(plan.left_out, ["/etc/fstab line 5: nas:/x for /net: on the network, left out"]);
    assert_eq!(
        plan.trouble,
        [
            "/etc/fstab line 4: UUID=dead for /srv is on no disk here",
            "/etc/fstab line 6: UUID=ee for /data: /dev/vda4 holds zfs_member, which is not mounted here",
            "/etc/fstab line 7: UUID=cc for /boot: /boot is named twice, /dev/vda3 left out",
        ]
    );
    assert_eq!(plan.place(&plan.steps[2]), Path::new("/mnt/db7/boot/efi"));
}

#[test]
fn writing_is_as_its_fstab_allows() {
    let how: Vec<String> = planned(true).steps.iter().map(Step::how).collect();
    // Its own /boot is mounted read-only; a read-only root is remounted by the system itself.
    assert_eq!(how, ["ext4, READ-WRITE", "ext4, read-only, journal not replayed", "vfat, READ-WRITE"]);
}

#[test]
fn hostile_names_do_not_reach_a_terminal() {
    let disks = [disk("vda", &[("ext4", "aa")])];
    let fstab = b"\x1b]0;x\x07 /a\x1b[2J ext4\n/ / / /\nUUID=aa /../../etc ext4\n";
    let tables = Tables { fstab: Some(fstab), crypttab: Some(fstab), mdadm: None };
    let plan = plan(&disks[0].children[0], tables, &disks, Path::new("/mnt/x"), Leave::default());
    assert!(plan.trouble.iter().chain(&plan.left_out).all(|l| !l.chars().any(char::is_control)));
}

fn of(fstab: &str, disks: &[BlockReport]) -> Plan {
    let tables = Tables { fstab: Some(fstab.as_bytes()), crypttab: None, mdadm: None };
    plan(&disks[0].children[0], tables, disks, Path::new("/mnt/x"), Leave::default())
}

#[test]
fn what_need_not_be_here_is_no_trouble_and_is_told_in_order() {
    let disks = [disk("vda", &[("ext4", "aa"), ("vfat", "bb"), ("ext4", "cc")])];
    let plan = of(
        "UUID=aa / ext4\nUUID=bb /boot/efi vfat noauto\nUUID=dead /srv ext4 nofail\nUUID=cc /home/ ext4\n\
         UUID=cc //home ext4\nnas:/x /net nfs\n",
        &disks,
    );
    let targets: Vec<&str> = plan.steps.iter().map(|s| s.target.as_str()).collect();
    assert_eq!(targets, ["/", "/home", "/boot/efi"]);
    assert_eq!(
        plan.left_out,
        [
            "/etc/fstab line 3: UUID=dead for /srv is on no disk here; nofail, it boots without",
            "/etc/fstab line 6: nas:/x for /net: on the network, left out",
        ]
    );
    assert_eq!(
        plan.trouble,
        ["/etc/fstab line 5: UUID=cc for /home: /home is named twice, /dev/vda3 left out"]
    );
    assert!(of("", &disks).trouble[0].contains("has no entry"));
    let noise = of(&"noise\n".repeat(99), &disks).trouble;
    assert!(noise.len() == 2 && noise[1] == "/etc/fstab line 1 and 98 others are none: skipped", "{noise:?}");
}

#[test]
fn folders_that_show_each_other_do_not_multiply() {
    let disks = [disk("vda", &[("ext4", "aa")])];
    let lines: String = (0..4000).map(|n| format!("/ /m/{n} none rbind\n")).collect();
    let plan = of(&lines, &disks);
    assert_eq!(plan.steps.len(), MOST);
    assert!(plan.steps.iter().all(|s| s.driver != "rbind"), "each would double what is mounted");
    assert_eq!(of("/srv /export none rbind\n", &disks).steps[1].driver, "rbind");
}

#[test]
fn a_journal_that_is_not_replayed_is_said_where_it_matters() {
    let mut disks = [disk("vda", &[("xfs", "aa")])];
    assert!(of("UUID=aa / xfs\n", &disks).trouble.is_empty());
    disks[0].children[0].probe.state = Some("needs journal recovery".into());
    assert!(of("UUID=aa / xfs\n", &disks).trouble[0].contains("in its journal alone"));
}

#[test]
fn what_cannot_be_written_to_is_left_read_only_and_said() {
    let disks = [disk("vda", &[("ext4", "aa"), ("ext4", "bb")])];
    let fstab = b"UUID=aa / ext4\nUUID=bb /srv ext4\n";
    let tables = Tables { fstab: Some(fstab), crypttab: None, mdadm: None };
    let leave = Leave { write: true, degraded: true };
    let mut plan = plan(&disks[0].children[0], tables, &disks, Path::new("/mnt/x"), leave);
    assert!(plan.spare("/dev/vda2", &disks));
    assert_eq!(plan.steps[1].how(), "ext4, read-only, journal not replayed");
    assert!(plan.trouble[0].contains("stays read-only"), "{:?}", plan.trouble);
    assert!(!plan.spare("/dev/vda1", &disks), "nothing of it is written to without its root");
}

#[test]
fn what_is_called_by_a_count_is_taken_only_where_the_count_may_be_right() {
    let volume = |number: u32, uuid: &str| {
        let part = disk("vda", &[("ext4", uuid)]).children.remove(0);
        BlockReport {
            name: format!("dm-{number}"),
            path: format!("/dev/mapper/vg-{uuid}"),
            partition: None,
            ..part
        }
    };
    let disks = [BlockReport { children: vec![volume(0, "aa"), volume(3, "bb")], ..disk("vda", &[]) }];
    let plan = of("/dev/dm-0 / ext4\n/dev/dm-3 /home ext4\n", &disks);
    assert_eq!(plan.steps[1].device, "/dev/mapper/vg-bb");
    assert!(
        plan.trouble[0].contains("/dev/dm-3 for /home: taken for /dev/mapper/vg-bb"),
        "{:?}",
        plan.trouble
    );
    let plan = of("/dev/dm-1 / ext4\n/dev/dm-3 /home ext4\n", &disks);
    assert_eq!(plan.steps.len(), 1, "{plan:?}");
    assert!(plan.trouble[0].contains("its own root is not /dev/dm-1"), "{:?}", plan.trouble);
}

#[test]
fn a_journal_on_another_device_is_named_to_be_written_to() {
    let mut disks = [disk("vda", &[("ext4", "aa"), ("jbd", "jj")])];
    let more = [("EXT_JOURNAL".to_string(), "jj".to_string())].into();
    disks[0].children[0].probe.signatures =
        vec![rescue_schema::report::SignatureReport { more, ..Default::default() }];
    let of = |disks: &[BlockReport], write| {
        alone(&disks[0].children[0], disks, Path::new("/mnt/x"), Leave { write, degraded: false })
    };
    let plan = of(&disks, true);
    assert_eq!(plan.steps[0].devices().collect::<Vec<_>>(), ["/dev/vda1", "/dev/vda2"]);
    assert!(of(&disks, false).steps[0].devices().count() == 1, "it is not replayed");
    disks[0].children.truncate(1);
    assert!(of(&disks, true).refused.is_some_and(|why| why.contains("is not here")));
    assert!(of(&disks, false).refused.is_none());
}

#[test]
fn an_array_is_mounted_by_what_its_system_calls_it() {
    let mut disks = [disk("vda", &[("ext4", "aa"), ("linux_raid_member", "bb")])];
    let signature = rescue_schema::report::SignatureReport {
        label: Some("db7:0".into()),
        uuid: Some("bb".into()),
        ..Default::default()
    };
    disks[0].children[1].probe.signatures = vec![signature];
    let content = disk("x", &[("ext4", "cc")]).children.remove(0);
    disks[0].children[1].children =
        vec![BlockReport { name: "md127".into(), path: "/dev/md127".into(), partition: None, ..content }];
    let plan = of("/dev/vda1 / ext4\n/dev/md0 /home ext4\n/dev/md9 /srv ext4\n", &disks);
    assert_eq!(plan.steps.get(1).map(|s| s.device.as_str()), Some("/dev/md127"), "{plan:?}");
    assert_eq!(
        plan.trouble,
        [
            "/etc/fstab line 2: /dev/md0 for /home: taken for /dev/md127, by the name in its superblock",
            "/etc/fstab line 3: /dev/md9 for /srv is on no disk here",
        ]
    );
}

#[test]
fn an_xfs_is_mounted_with_its_log_or_not_at_all() {
    let signature = |kind: &str, key: &str, value: &str| {
        vec![rescue_schema::report::SignatureReport {
            kind: kind.into(),
            more: [(key.to_string(), value.to_string())].into(),
            ..Default::default()
        }]
    };
    let mut disks = [disk("vda", &[("xfs", "aa"), ("xfs_external_log", ""), ("xfs_external_log", "")])];
    disks[0].children[0].probe.signatures = signature("xfs", "XFS_LOG", "external");
    disks[0].children[1].probe.signatures = signature("xfs_external_log", "LOGUUID", "bb");
    disks[0].children[2].probe.signatures = signature("xfs_external_log", "LOGUUID", "aa");
    let of = |disks: &[BlockReport]| {
        alone(&disks[0].children[0], disks, Path::new("/mnt/x"), Leave { write: false, degraded: false })
    };
    let plan = of(&disks);
    assert!(plan.steps[0].options.contains(&"logdev=/dev/vda3".to_string()), "{plan:?}");
    assert_eq!(plan.steps[0].protected().collect::<Vec<_>>(), ["/dev/vda1"]);
    disks[0].children.truncate(2);
    assert!(of(&disks).refused.is_some_and(|why| why.contains("its log, on a device")));
}
