use super::*;
use rescue_schema::report::{ProbeReport, ProbeResult, SignatureReport};

fn device(name: &str, kind: &str, uuid: &str, more: &[(&str, &str)]) -> BlockReport {
    let more = more.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let state = Some("clean".to_string());
    let signature = SignatureReport {
        kind: kind.into(),
        uuid: Some(uuid.into()),
        version: Some("1.2".into()),
        state,
        more,
        ..SignatureReport::default()
    };
    let probe =
        ProbeReport { result: ProbeResult::Found, signatures: vec![signature], ..ProbeReport::default() };
    BlockReport { name: name.into(), path: format!("/dev/{name}"), probe, ..BlockReport::default() }
}

fn member(name: &str, id: &str, role: &str, events: &str, present: &str) -> BlockReport {
    let same = [("MD_LEVEL", "raid1"), ("MD_LAYOUT", "0"), ("MD_SIZE", "64"), ("MD_CHUNK", "0")];
    let data = [("MD_DATA_OFFSET", "8"), ("MD_DATA_SIZE", "64"), ("MD_DEVICES", "2")];
    let own = [("UUID_SUB", id), ("MD_ROLE", role), ("MD_EVENTS", events), ("MD_PRESENT", present)];
    device(name, "linux_raid_member", "u", &[&same[..], &data, &own].concat())
}

/// A physical volume of a group with the volumes `root`, on the first of the group's, and what `more` says.
fn volume(name: &str, id: &str, group: (&str, &str), ids: &str, more: &str) -> BlockReport {
    let volumes = format!("root:r:w:0+8l@0/2048 {more}");
    let more = [("VG_NAME", group.0), ("VG_UUID", group.1), ("VG_PV_UUIDS", ids), ("VG_VOLUMES", &volumes)];
    device(name, "LVM2_member", id, &more)
}

fn planned(disks: &[BlockReport], degraded: bool, only: &[&str]) -> (Vec<String>, String) {
    let only = only.iter().map(ToString::to_string).collect();
    let plan = plan(disks, &Wish { degraded, only, ..Wish::default() });
    (plan.steps.iter().map(ToString::to_string).collect(), plan.remarks.join("\n"))
}

const BOTH: &str = "start /dev/md127 (raid1, 2 of 2 members: /dev/a /dev/b), read-only, no resync";

#[test]
fn a_member_that_is_one_event_behind_is_taken_and_a_stale_one_is_not() {
    let whole = [member("a", "1", "0", "10", "0 1"), member("b", "2", "1", "9", "0 1")];
    assert_eq!(planned(&whole, false, &[]).0, [BOTH]);
    let stale = [member("a", "1", "0", "20", "0"), member("b", "2", "1", "9", "0 1")];
    let (steps, said) = planned(&stale, false, &[]);
    assert!(steps.is_empty() && said.contains("/dev/b is stale") && said.contains("--degraded"), "{said}");
    let one = "start /dev/md127 (raid1, 1 of 2 members: /dev/a), read-only, no resync";
    assert_eq!(planned(&stale, true, &[]).0, [one]);
}

#[test]
fn halves_that_were_both_written_to_are_not_mixed() {
    let parted = [member("a", "1", "0", "20", "0"), member("b", "2", "1", "25", "1")];
    let (steps, said) = planned(&parted, true, &[]);
    assert!(steps.is_empty() && said.contains("without the other"), "{said}");
    assert_eq!(planned(&parted, true, &["/dev/a"]).0.len(), 1);
}

#[test]
fn of_copies_none_is_taken_until_devices_are_named() {
    let pair = |x, y| [member(x, "1", "0", "5", "0 1"), member(y, "2", "1", "5", "0 1")];
    let all = [pair("a", "b"), pair("c", "d")].concat();
    let (steps, said) = planned(&all, true, &[]);
    assert!(steps.is_empty() && said.contains("copies of one another"), "{said}");
    assert_eq!(planned(&all, false, &["/dev/a", "/dev/b"]).0, [BOTH]);
    let group = ("vg", "g");
    let volumes = [volume("a", "p", group, "p", ""), volume("b", "p", group, "p", "")];
    assert!(planned(&volumes, true, &[]).0.is_empty());
    let one = "activate volume group \"vg\" on /dev/b, read-only: root";
    assert_eq!(planned(&volumes, false, &["/dev/b"]).0, [one]);
}

#[test]
fn groups_of_one_name_missing_volumes_and_hostile_names() {
    let two = [volume("a", "p", ("vg", "g"), "p", ""), volume("b", "q", ("vg", "h"), "q", "")];
    assert!(planned(&two, false, &[]).0.is_empty() && planned(&two, false, &["/dev/b"]).0.len() == 1);
    let lacking = [volume("a", "p", ("vg", "g"), "p q", "half:h:w:0+8l@0/4096,8+8l@1/2048 thin:t:wk:")];
    let (steps, said) = planned(&lacking, false, &[]);
    assert!(
        steps[0].ends_with("read-only: root, with holes where physical volumes are missing"),
        "{steps:?}"
    );
    assert!(
        said.contains("1 of 2 physical volumes are missing") && said.contains("not activated: thin"),
        "{said}"
    );
    assert!(planned(&lacking, true, &[]).0[0].contains("root, half, with holes"));
    for name in ["-y", "a b", ".", ".."] {
        let (steps, said) = planned(&[volume("a", "p", (name, "g"), "p", "")], true, &[]);
        assert!(steps.is_empty() && !said.is_empty(), "{name}");
    }
}

#[test]
fn what_the_kernel_keeps_records_of_is_on_an_overlay_until_it_is_written_to() {
    let group = [volume("a", "p", ("vg", "g"), "p", "thin:t:wk: snap:s:k:")];
    let said = &planned(&group, false, &[]).0[0];
    assert!(
        said.ends_with("root, thin, snap (of thin, snap the kernel keeps records: on an overlay in RAM)"),
        "{said}"
    );
    // They share a pool: one that is written to takes the others along, and the plain one stays read-only.
    let write = Write::Volumes(vec!["vg-thin".into()]);
    let steps = plan(&group, &Wish { write, ..Wish::default() }).steps;
    let said = steps[0].to_string();
    assert!(said.contains("READ-WRITE: thin, snap, read-only: root (being active,"), "{said}");
}

fn below(mut block: BlockReport, kind: &str, child: BlockReport) -> BlockReport {
    block.children.push(BlockReport { kind: kind.into(), read_only: true, ..child });
    block
}

/// LVM on LUKS on a mirror of two, all of it read-only, as the tree shows it: below each member.
fn layered(mounted: &str) -> Vec<BlockReport> {
    let mapped =
        |path: &str| BlockReport { name: "dm-1".into(), path: path.into(), ..BlockReport::default() };
    let mut root = mapped("/dev/mapper/vg-root");
    root.mounts.push(rescue_schema::report::MountPoint { target: mounted.into(), read_only: true });
    let mut group = volume("dm-0", "p", ("vg", "g"), "p", "home:h:w:0+8l@0/4096");
    group.path = "/dev/mapper/luks-md127".into();
    let group = below(below(group, "lvm", root), "lvm", mapped("/dev/mapper/vg-home"));
    let array = below(device("md127", "crypto_LUKS", "l", &[]), "crypt", group);
    ["0", "1"]
        .iter()
        .zip(["a", "b"])
        .map(|(role, name)| below(member(name, role, role, "10", "0 1"), "raid1", array.clone()))
        .collect()
}

fn reopened(disks: &[BlockReport], targets: &[&str]) -> reopen::Reopen {
    let gives_way = |mount: &str| mount.starts_with("/mnt/x");
    let held = |_: &str| false;
    reopen::plan(disks, &reopen::Aim { targets, degraded: false, gives_way: &gives_way, held: &held })
}

#[test]
fn writing_to_a_volume_takes_what_it_is_on_along() {
    let plan = reopened(&layered("/mnt/x"), &["/dev/mapper/vg-root"]);
    assert_eq!(
        (plan.arrays.as_slice(), plan.only.as_slice()),
        (&["md127".to_string()][..], &["/dev/a".to_string(), "/dev/b".into()][..])
    );
    assert_eq!(
        (plan.volumes.as_slice(), plan.others.as_slice()),
        (&["vg-root".to_string()][..], &["vg-home".to_string()][..])
    );
    assert_eq!(plan.opened.iter().map(|o| o.device.as_str()).collect::<Vec<_>>(), ["/dev/md127"]);
    assert!(plan.refused.is_empty(), "{:?}", plan.refused);
    let said = plan.to_string();
    assert!(said.contains("start /dev/md127 again") && said.contains("passphrase"), "{said}");
    // What is mounted elsewhere is in the way.
    let busy = reopened(&layered("/srv"), &["/dev/mapper/vg-root"]);
    assert!(busy.refused[0].contains("mounted at /srv"), "{:?}", busy.refused);
}

#[test]
fn a_volume_of_a_disk_is_mapped_again_by_itself_and_what_lacks_members_is_refused() {
    let mapped = |path: &str| BlockReport { path: path.into(), ..BlockReport::default() };
    let group = volume("a", "p", ("vg", "g"), "p", "home:h:w:0+8l@0/4096");
    let group =
        below(below(group, "lvm", mapped("/dev/mapper/vg-root")), "lvm", mapped("/dev/mapper/vg-home"));
    let plan = reopened(&[group], &["/dev/mapper/vg-home"]);
    assert_eq!((plan.volumes.as_slice(), plan.others.len()), (&["vg-home".to_string()][..], 0));
    let array = BlockReport { name: "md127".into(), path: "/dev/md127".into(), ..BlockReport::default() };
    let lone = [below(member("a", "1", "0", "10", "0"), "raid1", array)];
    let plan = reopened(&lone, &["/dev/md127"]);
    assert!(plan.refused.iter().any(|why| why.contains("--degraded --rw")), "{:?}", plan.refused);
    // One that can be written to already is left alone.
    let mut open = layered("/mnt/x");
    fn writable(block: &mut BlockReport) {
        block.read_only = false;
        block.children.iter_mut().for_each(writable);
    }
    open.iter_mut().for_each(writable);
    assert!(reopened(&open, &["/dev/mapper/vg-root"]).is_empty());
}
