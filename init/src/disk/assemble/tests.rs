use super::*;
use rescue_schema::report::{ProbeReport, ProbeResult, SignatureReport};

mod pools;

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
    assert!(steps[0].ends_with("read-only: root"), "{steps:?}");
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

fn mapped_on(name: &str, path: &str, kind: &str) -> BlockReport {
    BlockReport { path: path.into(), ..device(name, kind, "u", &[]) }
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
    reopen::plan(
        disks,
        &reopen::Aim { targets, degraded: false, gives_way: &gives_way, held: &held, protected: &held },
    )
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
    // So it does where it is the volume that is encrypted.
    let mut root = mapped_on("dm-1", "/dev/mapper/vg-root", "crypto_LUKS");
    root = below(root, "crypt", mapped_on("dm-2", "/dev/mapper/luks-mapper-vg-root", "ext4"));
    let disk = [below(volume("a", "p", ("vg", "g"), "p", ""), "lvm", root.clone())];
    let inside = reopened(&disk, &["/dev/mapper/luks-mapper-vg-root"]);
    assert_eq!(inside.volumes, ["vg-root"], "{inside:?}");
    assert_eq!(inside.opened.iter().map(|o| o.device.as_str()).collect::<Vec<_>>(), ["/dev/mapper/vg-root"]);
    // On an overlay, too.
    let thin = BlockReport { path: "/dev/mapper/vg-thin".into(), ..root };
    let own = volume("dm-9", "p", ("vg", "g"), "p", "thin:t:wk:");
    let own = BlockReport { path: "/dev/mapper/rescue-overlay-a".into(), ..own };
    let group = volume("a", "p", ("vg", "g"), "p", "thin:t:wk:");
    let disk = [below(group, "overlay", below(own, "lvm", thin))];
    let inside = reopened(&disk, &["/dev/mapper/luks-mapper-vg-root"]);
    assert_eq!((inside.volumes.len(), inside.overlays.len()), (1, 1), "{inside:?}");
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

#[test]
fn what_one_device_needs_is_told_from_the_rest() {
    let other = |name: &str, role: &str| {
        let more = [("MD_LEVEL", "raid1"), ("MD_LAYOUT", "0"), ("MD_SIZE", "64"), ("MD_CHUNK", "0")];
        let data = [("MD_DATA_OFFSET", "8"), ("MD_DATA_SIZE", "64"), ("MD_DEVICES", "1"), ("MD_EVENTS", "1")];
        let own = [("MD_ROLE", role), ("MD_PRESENT", "0"), ("MD_MINOR", "9")];
        device(name, "linux_raid_member", "v", &[&more[..], &data, &own].concat())
    };
    let disks = [
        member("a", "1", "0", "10", "0 1"),
        member("b", "2", "1", "10", "0 1"),
        other("c", "0"),
        volume("d", "p", ("v-g", "g"), "p", ""),
    ];
    let plan = plan(&disks, &Wish::default());
    let made_of = |device: &str| made_of(&plan, device).map(|all| all.join(" "));
    assert_eq!(made_of("/dev/md127").as_deref(), Some("/dev/a /dev/b"));
    assert_eq!(made_of("/dev/md127p1").as_deref(), Some("/dev/a /dev/b"));
    assert_eq!(made_of("/dev/md9").as_deref(), Some("/dev/c"));
    for name in ["/dev/mapper/v--g-root", "/dev/v-g/root"] {
        assert_eq!(made_of(name).as_deref(), Some("/dev/d"), "{name}");
    }
    assert_eq!(made_of("/dev/mapper/vg0-home"), None);
    // It may be on any of the arrays, and not in a group that says what it holds.
    assert_eq!(members(&plan, true).join(" "), "/dev/a /dev/b /dev/c");
    assert_eq!(members(&plan, false).join(" "), "/dev/a /dev/b /dev/c /dev/d");
}

#[test]
fn a_disk_that_refuses_writes_by_itself_is_said_before_anything_is_taken_down() {
    let mut disks = layered("/mnt/x");
    disks.iter_mut().for_each(|d| d.kind = "disk".into());
    assert!(reopened(&disks, &["/dev/mapper/vg-root"]).refused.is_empty());
    disks[1].read_only = true;
    let said = reopened(&disks, &["/dev/mapper/vg-root"]).refused;
    assert!(said[0].starts_with("/dev/b: the device itself refuses writes"), "{said:?}");
}

fn cached(name: &str, id: &str, role: &str, state: &str) -> BlockReport {
    let more = [("BCACHE_ROLE", role), ("BCACHE_STATE", state), ("BCACHE_OFFSET", "16"), ("BCACHE_SET", "s")];
    BlockReport { size: 1 << 20, ..device(name, "bcache", id, &more) }
}

#[test]
fn what_is_behind_a_cache_is_mapped_where_the_cache_holds_nothing_more() {
    let clean = [cached("a", "1", "backing", "clean"), cached("b", "2", "cache", "")];
    let mapped = "map /dev/mapper/bcache-a, read-only: the data of /dev/a, without its cache";
    assert_eq!(planned(&clean, false, &[]).0, [mapped]);
    let write = |disks: &[BlockReport]| plan(disks, &Wish { write: Write::All, ..Wish::default() });
    let said = write(&clean).steps[0].to_string();
    assert!(said.starts_with("start /dev/a with the cache /dev/b, READ-WRITE"), "{said}");
    let plan = write(&clean[..1]);
    assert!(plan.steps.is_empty() && plan.remarks[0].contains("would not know"), "{plan:?}");

    let dirty = [cached("a", "1", "backing", "dirty"), cached("b", "2", "cache", "")];
    assert!(planned(&dirty, false, &[]).0[0].contains("goes to overlays in RAM"));
    let (steps, said) = planned(&dirty[..1], false, &[]);
    assert!(steps.is_empty() && said.contains("in its cache alone") && said.contains("--degraded"), "{said}");
    assert_eq!(planned(&dirty[..1], true, &[]).0, [mapped]);
    assert!(planned(&dirty[..1], true, &[]).1.contains("may not fit together"));

    let alone = [cached("a", "1", "backing", "none")];
    assert!(write(&alone).steps[0].to_string().contains("bcache-a, READ-WRITE"));
    let twins = [cached("a", "1", "backing", "none"), cached("c", "1", "backing", "none")];
    assert!(planned(&twins, false, &[]).0.is_empty() && planned(&twins, false, &["/dev/c"]).0.len() == 1);
    // A superblock whose checksum is wrong says nothing of its state.
    assert!(planned(&[cached("a", "1", "backing", "")], false, &[]).1.contains("damaged"));
}

/// A device of a pool.
#[test]
fn a_volume_that_is_not_whole_is_told_apart_before_it_is_taken_down() {
    let mapped = |path: &str| BlockReport { path: path.into(), ..BlockReport::default() };
    let group = volume("a", "p", ("vg", "g"), "p q", "half:h:w:0+8l@0/4096,8+8l@1/2048");
    let group =
        below(below(group, "lvm", mapped("/dev/mapper/vg-root")), "lvm", mapped("/dev/mapper/vg-half"));
    let targets = &["/dev/mapper/vg-root", "/dev/mapper/vg-half"];
    let disks = [group];
    let plan = |degraded| {
        let no = |_: &str| false;
        reopen::plan(&disks, &reopen::Aim { targets, degraded, gives_way: &no, held: &no, protected: &no })
    };
    assert!(plan(false).refused[0].contains("1 of 2 physical volumes are missing"));
    assert!(plan(true).refused.is_empty());
    assert_eq!(plan(true).partial, ["/dev/mapper/vg-half"]);
}

#[test]
fn what_was_not_active_before_is_not_missed_by_what_is_written_to() {
    let mapped = |path: &str| BlockReport { path: path.into(), ..BlockReport::default() };
    let no = |_: &str| false;
    let plan = |target: &str, degraded| {
        let group = volume("a", "p", ("vg", "g"), "p q", "thin:t:wk:");
        let disks = [below(group, "lvm", mapped(target))];
        let targets = &[target];
        reopen::plan(&disks, &reopen::Aim { targets, degraded, gives_way: &no, held: &no, protected: &no })
    };
    let whole = plan("/dev/mapper/vg-root", true);
    assert!(whole.refused.is_empty() && whole.volumes == ["vg-root"], "{whole:?}");
    assert!(!plan("/dev/mapper/vg-root", false).refused.is_empty(), "it is asked for in a word of its own");
    // One that somebody activated by hand would not come back.
    assert!(plan("/dev/mapper/vg-thin", true).refused[0].contains("not activated: thin"));
}

#[test]
fn a_volume_of_a_group_that_is_not_whole_is_known() {
    let here = volume("a", "p", ("vg", "g"), "p q", "");
    let there = volume("b", "q", ("vg", "g"), "p q", "");
    assert!(lvm::lacks(std::slice::from_ref(&here), "/dev/mapper/vg-root"));
    assert!(!lvm::lacks(std::slice::from_ref(&here), "/dev/a"), "it is no volume of the group");
    assert!(!lvm::lacks(&[here, there], "/dev/mapper/vg-root"));
}

#[test]
fn what_is_left_out_is_said_until_it_is_put_together() {
    let lone = member("a", "1", "0", "10", "0 1");
    let left_of = |disks: &[BlockReport]| {
        let left = left(disks, false);
        (!left.members.is_empty(), left.why)
    };
    let (can, why) = left_of(std::slice::from_ref(&lone));
    assert!(!can && why.len() == 1 && why[0].contains("1 of 2 members are here: not started"), "{why:?}");
    let started = [below(lone, "raid1", device("md127", "ext4", "f", &[]))];
    assert_eq!(left_of(&started), (false, Vec::new()));
    let volume =
        |name: &str| BlockReport { path: format!("/dev/mapper/vg-{name}"), ..BlockReport::default() };
    let group = self::volume("a", "p", ("vg", "g"), "p q", "half:h:w:0+8l@0/4096,8+8l@1/2048 thin:t:wk:");
    let (can, why) = left_of(std::slice::from_ref(&group));
    assert!(can && why.len() == 2 && why[1].contains("only whole volumes"), "{why:?}");
    // With holes: what LVM alone could activate is what is left.
    let group = [below(below(group, "lvm", volume("root")), "lvm", volume("half"))];
    let (can, why) = left_of(&group);
    assert!(!can && why.len() == 1 && why[0].contains("not activated: thin"), "{why:?}");
}
