use super::*;
use crate::disk::mount::{Plan, step};

const POOLS: &str = "rpool\t17\t218103808\tDEGRADED\ton\trpool/ROOT/pve-1\t/mnt/rpool\n\
    evil\u{1b}[2J\t18\t1\tONLINE\ton\t-\t-\nshort\t19\n-f\t20\t1\tONLINE\ton\t-\t-\n";
const DATASETS: &str = "rpool\t9\ton\t-\t-\t-\t/mnt/rpool/rpool\nrpool/ROOT\t9\toff\t-\t-\t-\t/mnt/rpool/rpool/ROOT\n\
    rpool/ROOT/pve-1\t9\ton\t-\t-\t-\t/mnt/rpool\nrpool/ROOT/pve-0\t9\tnoauto\t-\t-\t-\t/mnt/rpool\n\
    rpool/ROOT/pve-0/var\t9\ton\t-\t-\t-\t/mnt/rpool/var\n\
    rpool/home\t9\ton\tunavailable\trpool/home\t-\t/mnt/rpool/home\n\
    rpool/srv\t9\ton\t-\t-\t-\t/mnt/rpool/srv/da\tta\nrpool/swap\t9\ton\t-\t-\t-\tlegacy\n\
    rpool/../x\t9\ton\t-\t-\t-\t/\nrpool/up\t9\ton\t-\t-\t-\t/mnt/rpool/../etc\nrpoolx/y\t9\ton\t-\t-\t-\t/y\n\trpool/z\t\n";

/// A mirror whose pool is imported, and a disk beside it.
fn disks() -> Vec<BlockReport> {
    let member = |name: &str, uuid: &str| {
        let (kind, uuid) = (Some("zfs_member".into()), Some(uuid.into()));
        let probe = ProbeReport { result: ProbeResult::Found, kind, uuid, ..ProbeReport::default() };
        BlockReport { name: name.into(), path: format!("/dev/{name}"), probe, ..BlockReport::default() }
    };
    let mounts = b"31 24 0:44 / /mnt/proxmox ro - zfs rpool/ROOT/pve-1 ro\n\
        32 24 0:45 / /x rw - tmpfs rpool/ROOT/pve-1 rw\n";
    let mut disks = vec![member("vda", "17"), member("vdb", "17"), member("vdc", "18")];
    attach(&mut disks, POOLS, DATASETS, &crate::disk::mountinfo::parse(mounts));
    disks
}

fn of<'a>(disks: &'a [BlockReport], name: &str) -> &'a BlockReport {
    flat(disks).into_iter().find(|b| b.path == name).unwrap()
}

#[test]
fn a_pool_stands_below_its_devices_and_its_datasets_below_it() {
    let disks = disks();
    for disk in &disks[..2] {
        let [pool] = disk.children.as_slice() else { panic!("{disk:?}") };
        assert_eq!((pool.kind.as_str(), pool.state.as_deref()), ("zpool", Some("degraded")));
        assert!(pool.read_only && pool.path == "rpool/");
    }
    assert!(disks[2].children.is_empty());
    let names: Vec<&str> = disks[0].children[0].children.iter().map(|d| d.path.as_str()).collect();
    let there = ["rpool", "rpool/ROOT/pve-1", "rpool/ROOT/pve-0", "rpool/ROOT/pve-0/var"];
    assert_eq!(names, [&there[..], &["rpool/home", "rpool/srv", "rpool/swap", "rpool/up"]].concat());
    let root = of(&disks, "rpool/ROOT/pve-1");
    assert_eq!(root.mounts.len(), 1, "{:?}", root.mounts);
    assert!(root.mounts[0].read_only && more(root, "ZFS_MOUNTPOINT") == "/");
    assert_eq!(more(of(&disks, "rpool/srv"), "ZFS_MOUNTPOINT"), "/srv/da\tta");
}

#[test]
fn the_root_is_what_is_booted_and_the_rest_is_mounted_by_itself() {
    let disks = disks();
    let root = of(&disks, "rpool/ROOT/pve-1");
    let other = of(&disks, "rpool/ROOT/pve-0");
    assert!(may_be_root(root, &disks) && !is_kept(root, &disks));
    assert!(may_be_root(other, &disks) && is_kept(other, &disks));
    assert!(!may_be_root(of(&disks, "rpool/swap"), &disks) && !may_be_root(of(&disks, "rpool/home"), &disks));
    let mut plan = Plan { steps: step(root, "/", false, &[]).into_iter().collect(), ..Plan::default() };
    add(&mut plan, root, &disks, false);
    let steps: Vec<(&str, &str)> =
        plan.steps.iter().map(|s| (s.device.as_str(), s.target.as_str())).collect();
    let srv = ("rpool/srv", "/srv/da\tta");
    assert_eq!(steps, [("rpool/ROOT/pve-1", "/"), ("rpool", "/rpool"), srv]);
    assert_eq!(plan.trouble, ["/home: rpool/home is encrypted: rescue unlock rpool/home"]);
    assert!(plan.steps.iter().all(|s| s.read_only && s.driver == "zfs"));
    // Of the other, what is below it is its own.
    let mut plan = Plan { steps: step(other, "/", true, &[]).into_iter().collect(), ..Plan::default() };
    add(&mut plan, other, &disks, true);
    assert!(plan.steps.iter().any(|s| s.target == "/var" && !s.read_only), "{:?}", plan.steps);
}

#[test]
fn what_is_mounted_by_hand_may_be_a_root_where_nothing_says_that_it_is() {
    let mut disks = disks();
    for disk in &mut disks {
        let pool = disk.children.first_mut();
        pool.into_iter().for_each(|pool| pool.children.retain(|d| !d.path.contains("ROOT")));
    }
    assert!(may_be_root(of(&disks, "rpool/swap"), &disks) && !may_be_root(of(&disks, "rpool/srv"), &disks));
}

/// The datasets of Ubuntu's installer, after its state was reverted once: what is kept is not mounted by itself.
const UBUNTU: &str = "rpool/ROOT/ubuntu_new\t9\ton\t-\t-\t-\t/\nrpool/ROOT/ubuntu_new/var/lib\t9\ton\t-\t-\t-\t/var/lib\n\
    rpool/ROOT/ubuntu_old\t9\tnoauto\t-\t-\t-\t/\nrpool/ROOT/ubuntu_old/var/lib\t9\tnoauto\t-\t-\t-\t/var/lib\n\
    rpool/ROOT/ubuntu_old/var\t9\toff\t-\t-\t-\t/var\nrpool/tank\t9\ton\t-\t-\t-\t/tank\n\
    rpool/USERDATA/root_1\t9\ton\t-\t-\trpool/ROOT/ubuntu_new\t/root\n\
    rpool/USERDATA/root_2\t9\tnoauto\t-\t-\trpool/ROOT/ubuntu_x,rpool/ROOT/ubuntu_old\t/root\n\
    bpool/BOOT/ubuntu_new\t9\ton\t-\t-\t-\t/boot\nbpool/BOOT/ubuntu_old\t9\tnoauto\t-\t-\t-\t/boot\n\
    xpool/ROOT/other\t9\ton\t-\t-\t-\t/\nxpool/opt\t9\ton\t-\t-\t-\t/opt\n";

#[test]
fn each_of_several_roots_has_its_own_boot_and_folders() {
    let member = |name: &str, uuid: &str| {
        let (kind, uuid) = (Some("zfs_member".into()), Some(uuid.into()));
        let probe = ProbeReport { result: ProbeResult::Found, kind, uuid, ..ProbeReport::default() };
        BlockReport { name: name.into(), path: format!("/dev/{name}"), probe, ..BlockReport::default() }
    };
    let mut disks = vec![member("vda", "1"), member("vdb", "2"), member("vdc", "3")];
    let pools =
        "rpool\t1\t1\tONLINE\ton\t-\t-\nbpool\t2\t1\tONLINE\ton\t-\t-\nxpool\t3\t1\tONLINE\ton\t-\t-\n";
    attach(&mut disks, pools, UBUNTU, &[]);
    let planned = |root: &str| {
        let root = of(&disks, root);
        let mut plan = Plan { steps: step(root, "/", false, &[]).into_iter().collect(), ..Plan::default() };
        add(&mut plan, root, &disks, false);
        assert!(plan.trouble.is_empty(), "{:?}", plan.trouble);
        plan.steps.iter().skip(1).map(|s| s.device.clone()).collect::<Vec<_>>().join(" ")
    };
    let new = "bpool/BOOT/ubuntu_new rpool/tank rpool/USERDATA/root_1 rpool/ROOT/ubuntu_new/var/lib";
    let old = "bpool/BOOT/ubuntu_old rpool/tank rpool/USERDATA/root_2 rpool/ROOT/ubuntu_old/var/lib";
    let sorted = |words: &str| {
        let mut words: Vec<String> = words.split(' ').map(Into::into).collect();
        words.sort();
        words
    };
    assert_eq!(sorted(&planned("rpool/ROOT/ubuntu_new")), sorted(new));
    assert_eq!(sorted(&planned("rpool/ROOT/ubuntu_old")), sorted(old));
    assert_eq!(planned("xpool/ROOT/other"), "xpool/opt", "what is in a pool with a root is that root's");
    assert!(!is_kept(of(&disks, "rpool/ROOT/ubuntu_new"), &disks));
    assert!(is_kept(of(&disks, "rpool/ROOT/ubuntu_old"), &disks));
}

#[test]
fn a_key_is_named_by_the_dataset_that_it_is_of() {
    let mut disks = disks();
    let more = "rpool\t9\toff\tunavailable\trpool\t-\t/\nrpool/ROOT/pve-1\t9\ton\tunavailable\trpool\t-\t/\n\
        rpool/srv\t9\ton\tunavailable\trpool/srv\t-\t/srv\nrpool/a\t9\ton\tavailable\trpool/a\t-\t/a\n";
    disks.iter_mut().for_each(|disk| disk.children.clear());
    attach(&mut disks, POOLS, more, &[]);
    assert_eq!(locked_keys(&disks, false), ["rpool", "rpool/srv"]);
    assert_eq!(locked_keys(&disks, true), ["rpool"], "the root is under that");
    for (name, keys) in [
        ("rpool", &["rpool"][..]),
        ("rpool/ROOT/pve-1", &["rpool"]),
        ("rpool/srv", &["rpool/srv"]),
        ("/dev/vdb", &["rpool", "rpool/srv"]),
        ("rpool/", &["rpool", "rpool/srv"]),
        ("vg/root", &[]),
        ("/dev/vdc", &[]),
        ("", &[]),
    ] {
        assert_eq!(locked_of(name, &disks), keys, "{name}");
    }
    assert_eq!(pool_named("rpool/a", &disks).map(|pool| keys(pool, true)), Some(vec!["rpool/a".into()]));
    assert_eq!(
        locked(of(&disks, "rpool/ROOT/pve-1")).as_deref(),
        Some("rpool/ROOT/pve-1 is encrypted: rescue unlock rpool")
    );
}

#[test]
fn a_volume_is_named_and_what_is_on_it_is_a_guests() {
    use crate::disk::resolve::{self, tests::disk};
    let mut disks = disks();
    disks.push(disk("vdz", &[("ext4", "aa"), ("vfat", "bb")]));
    let volume = |name: &str, of: &str, uuid: &str| BlockReport {
        kind: "zvol".into(),
        backing: Some(of.into()),
        ..disk(name, &[("ext4", uuid), ("swap", "cc")])
    };
    disks.push(volume("zd0", "rpool/data/vm-1", "aa"));
    disks.push(volume("zd16", "rpool/data/vm-2-part1", "dd"));
    let named = |name: &str, beside: &str| resolve::device(name, &disks, beside).map(|b| b.path.clone());
    for (name, path) in [
        ("/dev/zvol/rpool/data/vm-1", "/dev/zd0"),
        ("/dev/zvol/rpool/data/vm-1-part2", "/dev/zd02"),
        ("/dev/zvol/rpool/data/vm-2-part1", "/dev/zd16"),
        ("/dev/zvol/rpool/data/vm-2-part1-part1", "/dev/zd161"),
    ] {
        assert_eq!(named(name, "/dev/vdz1").as_deref(), Ok(path), "{name}");
        let block = flat(&disks).into_iter().find(|b| b.path == path).unwrap();
        assert_eq!(guest(path, &disks).and_then(|volume| link_of(block, volume)).as_deref(), Some(name));
    }
    assert_eq!(named("/dev/zvol/rpool/data/vm-3", "").ok(), None);
    // The host's own is meant by its fstab, the guest's by that of the guest.
    assert_eq!(named("UUID=aa", "/dev/vdz2").as_deref(), Ok("/dev/vdz1"));
    assert_eq!(named("UUID=aa", "rpool/ROOT/pve-1").as_deref(), Ok("/dev/vdz1"));
    assert_eq!(named("UUID=aa", "/dev/zd02").as_deref(), Ok("/dev/zd01"));
    assert_eq!(named("UUID=dd", "/dev/vdz1").ok(), None, "that is on a guest's disk alone");
    assert_eq!(named("UUID=dd", "").as_deref(), Ok("/dev/zd161"), "but a person may mean it");
    assert!(guest("/dev/vdz1", &disks).is_none());
    assert_eq!(pool_of(guest("/dev/zd01", &disks).unwrap(), &disks).map(|p| p.path.as_str()), Some("rpool/"));
}
