//! Pools of ZFS.

use super::*;

fn pooled(name: &str, guid: &str, own: &str, label: &str, state: &str) -> BlockReport {
    let more = [("UUID_SUB", own), ("ZFS_STATE", state), ("ZFS_HOST", "db7")];
    let mut block = device(name, "zfs_member", guid, &more);
    block.probe.kind = Some("zfs_member".into());
    block.probe.signatures[0].label = Some(label.into());
    block
}

fn imported(disks: &[BlockReport], wish: Wish) -> (Vec<String>, String) {
    let plan = plan(disks, &Wish { pools: true, ..wish });
    (plan.steps.iter().map(ToString::to_string).collect(), plan.remarks.join("\n"))
}

#[test]
fn without_its_tools_a_pool_is_named_once_with_what_imports_it() {
    let disks = [pooled("a", "17", "1", "tank", "exported"), pooled("b", "17", "2", "tank", "exported")];
    let done = plan(&disks, &Wish::default());
    assert!(done.steps.is_empty() && done.incomplete && done.remarks.len() == 1, "{done:?}");
    let said = &done.remarks[0];
    assert!(said.contains("on /dev/a /dev/b:") && said.contains("zpool import -o readonly=on"), "{said}");
    let used = [disks[0].clone(), pooled("b", "17", "2", "tank", "active")];
    let said = &plan(&used, &Wish::default()).remarks[0];
    assert!(said.contains("zpool import -f -o readonly=on"), "it was not exported: {said}");
}

#[test]
fn a_pool_is_imported_by_its_number_from_its_devices() {
    let disks = [pooled("a", "17", "1", "tank", "exported"), pooled("b", "17", "2", "tank", "active")];
    let (steps, said) = imported(&disks, Wish::default());
    let line = "import ZFS pool \"tank\" (17) on /dev/a /dev/b, read-only, its intent log not replayed";
    assert_eq!((steps.as_slice(), said.as_str()), (&[line.to_string()][..], ""));
    let (steps, _) = imported(&disks, Wish { write: Write::All, ..Wish::default() });
    assert!(steps[0].contains("READ-WRITE") && steps[0].contains("not exported by db7"), "{steps:?}");
    let (steps, _) = imported(&disks[..1], Wish { write: Write::All, ..Wish::default() });
    assert!(steps[0].contains("READ-WRITE") && !steps[0].contains("not exported"), "{steps:?}");
    // One that is there already; a spare, whose label names no pool; one that was given up.
    let mut there = disks.clone();
    there[0].children.push(BlockReport {
        kind: "zpool".into(),
        path: "tank/".into(),
        ..BlockReport::default()
    });
    there[1].children = there[0].children.clone();
    assert!(imported(&there, Wish::default()).0.is_empty());
    assert!(imported(&[pooled("c", "", "3", "", "")], Wish::default()).0.is_empty());
    let mut gone = disks;
    gone.iter_mut().for_each(|d| d.probe.signatures[0].state = Some("destroyed".into()));
    let (steps, said) = imported(&gone, Wish::default());
    assert!(steps.is_empty() && said.contains("was destroyed"), "{said}");
}

#[test]
fn of_copies_and_namesakes_no_pool_is_imported_until_devices_are_named() {
    let copies = [pooled("a", "17", "1", "tank", "active"), pooled("b", "17", "1", "tank", "active")];
    let only = |name: &str| Wish { only: vec![name.into()], ..Wish::default() };
    let (steps, said) = imported(&copies, Wish::default());
    assert!(steps.is_empty() && said.contains("/dev/a /dev/b are copies of one another"), "{said}");
    assert!(imported(&copies, only("/dev/b")).0[0].contains("on /dev/b, read-only"));
    // What is not named would be found all the same, by the path that it had last.
    let mirror = [pooled("a", "17", "1", "tank", "active"), pooled("b", "17", "2", "tank", "active")];
    let (steps, said) = imported(&mirror, only("/dev/b"));
    assert!(steps.is_empty() && said.contains("ZFS would use /dev/a too"), "{said}");
    let namesakes = [pooled("a", "17", "1", "tank", "active"), pooled("b", "18", "2", "tank", "active")];
    let (steps, said) = imported(&namesakes, Wish::default());
    assert!(steps.is_empty() && said.matches("another pool here has its name").count() == 2, "{said}");
    assert!(imported(&namesakes, only("/dev/b")).0[0].contains("(18)"));
    for name in ["-f", "../x", "a/b", "", "x\u{1b}[2J"] {
        let (steps, said) = imported(&[pooled("a", "17", "1", name, "active")], Wish::default());
        assert!(steps.is_empty() && said.contains("no name of a pool") && !said.contains('\u{1b}'), "{said}");
    }
}

#[test]
fn a_pool_is_imported_again_to_be_written_to() {
    let mut dataset =
        BlockReport { kind: "dataset".into(), path: "tank/root".into(), ..BlockReport::default() };
    let point = |target: &str| rescue_schema::report::MountPoint { target: target.into(), read_only: true };
    dataset.mounts.push(point("/mnt/x"));
    let pool = |dataset: &BlockReport| {
        let name = "tank".to_string();
        BlockReport {
            path: format!("{name}/"),
            name,
            children: vec![dataset.clone()],
            ..BlockReport::default()
        }
    };
    let disks = |dataset: &BlockReport| {
        let member = |name, own| below(pooled(name, "17", own, "tank", "active"), "zpool", pool(dataset));
        [member("a", "1"), member("b", "2")]
    };
    let plan = reopened(&disks(&dataset), &["tank/root"]);
    assert_eq!((plan.pools.join(" "), plan.only.join(" ")), ("tank".into(), "/dev/a /dev/b".into()));
    assert!(plan.refused.is_empty() && plan.wish(false).pools, "{plan:?}");
    assert!(plan.to_string().contains("READ-WRITE: its labels are written"), "{plan}");
    dataset.mounts.push(point("/srv"));
    let busy = reopened(&disks(&dataset), &["tank/root"]).refused;
    assert!(busy[0].contains("mounted at /srv"), "{busy:?}");
    dataset.mounts.pop();
    // Of what is encrypted the key is wanted again.
    dataset.kind = "dataset".into();
    let more =
        [("ZFS_KEY".to_string(), "available".to_string()), ("ZFS_KEY_OF".into(), "tank/root".into())].into();
    dataset.probe.signatures.push(SignatureReport { more, ..SignatureReport::default() });
    let plan = reopened(&disks(&dataset), &["tank/root"]);
    assert_eq!(
        (plan.keys.as_slice(), plan.refused.is_empty()),
        (&["tank/root".to_string()][..], true),
        "{plan:?}"
    );
    assert!(plan.to_string().contains("load the key of tank/root again"), "{plan}");
}

/// A pool that is imported, with a guest's disk on a volume of it.
fn host() -> Vec<BlockReport> {
    let pool = BlockReport { name: "tank".into(), path: "tank/".into(), ..BlockReport::default() };
    let member = below(pooled("a", "17", "1", "tank", "active"), "zpool", pool);
    let guest = device("zd0p1", "LVM2_member", "g", &[("VG_UUID", "g"), ("VG_NAME", "ubuntu-vg")]);
    let mut volume = BlockReport { name: "zd0".into(), path: "/dev/zd0".into(), ..BlockReport::default() };
    (volume.kind, volume.backing) = ("zvol".into(), Some("tank/vm-1".into()));
    volume.children.push(guest);
    vec![member, volume]
}

#[test]
fn what_is_on_a_guests_disk_is_put_together_only_where_it_is_named() {
    let disks = host();
    assert_eq!(plan(&disks, &Wish { pools: true, ..Wish::default() }), Plan::default());
    let named = Wish { only: vec!["/dev/zd0".into()], ..Wish::default() };
    assert_ne!(plan(&disks, &named), Plan::default());
    let host = Wish { only: vec!["/dev/a".into()], ..Wish::default() };
    assert_eq!(plan(&disks, &host), Plan::default(), "the guest's disk is not on it");
}

#[test]
fn a_guests_disk_has_another_number_once_its_pool_is_imported_again() {
    let mut disks = host();
    let refused = reopened(&disks, &["/dev/zd0p1"]).refused;
    assert!(refused[0].contains("is called otherwise") && refused.len() == 1, "{refused:?}");
    assert!(reopened(&disks, &["tank/"]).refused.is_empty());
    // What is in use of it is in the way of its host.
    let part = &mut disks[1].children[0];
    part.mounts.push(rescue_schema::report::MountPoint { target: "/mnt/g".into(), read_only: true });
    let refused = reopened(&disks, &["tank/"]).refused;
    assert!(refused.iter().any(|r| r.contains("mounted at /mnt/g")), "{refused:?}");
}
