use super::*;

struct Sys(tempfile::TempDir);

impl Sys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    /// A whole device, at its place below /sys/devices.
    fn disk(&self, name: &str, place: &str, attributes: &[(&str, &str)]) {
        let folder = format!("sys/devices/{place}/block/{name}");
        self.write(&format!("{folder}/dev"), "1:1\n");
        self.write(&format!("{folder}/size"), "2048\n");
        for (attribute, value) in attributes {
            self.write(&format!("{folder}/{attribute}"), value);
        }
        for class in ["sys/block", "sys/class/block"] {
            let class = self.0.path().join(class);
            std::fs::create_dir_all(&class).unwrap();
            let up = if class.ends_with("sys/block") { "../devices" } else { "../../devices" };
            std::os::unix::fs::symlink(format!("{up}/{place}/block/{name}"), class.join(name)).unwrap();
        }
    }
    fn tree(&self) -> Vec<BlockReport> {
        observe(self.0.path(), &[])
    }
}

#[test]
fn partitions_and_holders_are_below_their_disk() {
    let sys = Sys::new();
    for name in ["vda", "zram0", "loop0"] {
        sys.write(&format!("sys/block/{name}/x"), "");
    }
    sys.write("sys/class/block/vda/size", "4096\n");
    sys.write("sys/class/block/vda/serial", "disk-1\n");
    sys.write("sys/class/block/vda/vda1/partition", "1\n");
    sys.write("sys/class/block/vda/vda1/size", "2048\n");
    sys.write("sys/class/block/vda/vda1/dev", "254:1\n");
    sys.write("sys/class/block/vda/vda1/holders/dm-0/dm/name", "root\n");
    sys.write("sys/class/block/loop0/size", "0\n");
    sys.write("sys/class/block/vda/vda1/holders/dm-0/dm/uuid", "LVM-x\n");
    sys.write("proc/swaps", "Filename Type Size Used Priority\n/dev/dm-0 partition 1 0 -2\n");
    let mounts = super::super::mountinfo::parse(b"30 1 254:1 / /mnt/a ro - ext4 /dev/vda1 ro\n");
    let tree = observe(sys.0.path(), &mounts);
    assert_eq!(tree.len(), 1);
    let part = &tree[0].children[0];
    assert_eq!((tree[0].serial.as_deref(), part.size), (Some("disk-1"), 2048 * 512));
    assert_eq!(part.mounts[0], MountPoint { target: "/mnt/a".into(), read_only: true });
    assert_eq!((part.children[0].path.as_str(), part.children[0].kind.as_str()), ("/dev/mapper/root", "lvm"));
    assert_eq!(part.children[0].mounts[0].target, "[SWAP]");
    // Without its node in /dev/mapper it is called by the kernel's.
    sys.write("dev/dm-0", "");
    let tree = observe(sys.0.path(), &mounts);
    assert_eq!(tree[0].children[0].children[0].path, "/dev/dm-0");
}

#[test]
fn btrfs_is_mounted_under_a_number_of_its_own() {
    let sys = Sys::new();
    sys.disk("sda", "pci/ata1/0:0:0:0", &[]);
    let mounts = super::super::mountinfo::parse(b"30 1 0:44 /@ /srv rw - btrfs /dev/sda rw\n");
    let tree = observe(sys.0.path(), &mounts);
    assert_eq!(tree[0].mounts, [MountPoint { target: "/srv".into(), read_only: false }]);
}

#[test]
fn a_sata_disk_says_its_whole_model_behind_the_adapter() {
    let sys = Sys::new();
    let mut page = vec![0u8; 572];
    page[60 + 20..60 + 40].copy_from_slice(b"5SXG0N1R34          ");
    page[60 + 54..60 + 94].copy_from_slice(b"aSsmnu gSS D78 0VE O05G0                ");
    let place = "pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0";
    sys.disk("sdb", place, &[("removable", "0\n"), ("queue/rotational", "1\n")]);
    let device = format!("sys/devices/{place}/block/sdb/device");
    sys.write(&format!("{device}/vpd_pg89"), page);
    sys.write(&format!("{device}/vpd_pg80"), b"\0\x80\0\x08serial  ");
    sys.write(&format!("{device}/vendor"), "ATA     \n");
    sys.write(&format!("{device}/model"), "Samsung SSD 870 \n");
    sys.write(&format!("{device}/wwid"), "naa.5002538e00000000\n");
    sys.write(&format!("{device}/state"), "offline\n");
    std::fs::create_dir_all(sys.0.path().join(&device).join("enclosure_device:Slot 03")).unwrap();
    let disk = &sys.tree()[0];
    assert_eq!(disk.model.as_deref(), Some("Samsung SSD 870 EVO 500G"));
    assert_eq!(disk.serial.as_deref(), Some("S5GXN0R143"));
    assert_eq!(disk.slot.as_deref(), Some("Slot 03 ata3 2:0:0:0"));
    assert_eq!((disk.bus.as_deref(), disk.state.as_deref()), (Some("sata"), Some("offline")));
    assert_eq!((disk.rotational, protocol(disk)), (Some(true), Some(Protocol::Ata)));
}

#[test]
fn nvme_has_its_namespace_and_its_paths() {
    let sys = Sys::new();
    let place = "virtual/nvme-subsystem/nvme-subsys0";
    sys.disk("nvme0n2", place, &[("nsid", "2\n"), ("wwid", "eui.0025\n")]);
    sys.disk("nvme0c0n2", "pci/nvme/nvme0", &[("hidden", "1\n")]);
    for (controller, address) in [("nvme0", "0000:01:00.0\n"), ("nvme1", "0000:02:00.0\n")] {
        sys.write(&format!("sys/devices/{place}/block/nvme0n2/device/{controller}/address"), address);
        sys.write(&format!("sys/devices/{place}/block/nvme0n2/device/{controller}/state"), "live\n");
    }
    sys.write(&format!("sys/devices/{place}/block/nvme0n2/device/model"), "KIOXIA\n");
    let tree = sys.tree();
    assert_eq!(tree.len(), 1, "{tree:?}");
    assert_eq!((tree[0].namespace, tree[0].paths.len()), (Some(2), 2));
    assert_eq!((tree[0].bus.as_deref(), protocol(&tree[0])), (Some("nvme"), Some(Protocol::Nvme)));
}

#[test]
fn paths_to_one_disk_are_one_disk() {
    let sys = Sys::new();
    for (name, place, wwid, state) in [
        ("sda", "pci/host0/target0:0:0/0:0:0:1", "naa.600a\n", "offline\n"),
        ("sdb", "pci/host1/target1:0:0/1:0:0:1", "naa.600a\n", "running\n"),
        ("sdc", "pci/host1/target1:0:0/1:0:0:2", "naa.600b\n", "running\n"),
        ("sdd", "pci/host1/target1:0:0/1:0:0:3", "t10.ATA same\n", "running\n"),
        ("sde", "pci/host1/target1:0:0/1:0:0:4", "t10.ATA same\n", "running\n"),
    ] {
        sys.disk(name, place, &[("device/wwid", wwid), ("device/state", state)]);
    }
    let tree = sys.tree();
    let names: Vec<&str> = tree.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["sdb", "sdc", "sdd", "sde"]);
    let paths: Vec<_> = tree[0].paths.iter().map(|p| (p.name.as_str(), p.state.as_deref())).collect();
    assert_eq!(paths, [("sda", Some("offline")), ("sdb", Some("running"))]);
}

#[test]
fn a_multipath_map_takes_the_place_of_its_paths() {
    let sys = Sys::new();
    for name in ["sda", "sdb"] {
        sys.disk(
            name,
            &format!("pci/{name}/0:0:0:1"),
            &[("device/model", "LUN\n"), ("device/vendor", "NETAPP\n")],
        );
        sys.write(&format!("sys/devices/pci/{name}/0:0:0:1/block/{name}/holders/dm-0/x"), "");
    }
    sys.disk("dm-0", "virtual", &[("dm/name", "mpatha\n"), ("dm/uuid", "mpath-3600a\n"), ("slaves/sda", "")]);
    let tree = sys.tree();
    assert_eq!(tree.len(), 1, "{tree:?}");
    assert_eq!((tree[0].path.as_str(), tree[0].kind.as_str()), ("/dev/mapper/mpatha", "mpath"));
    assert_eq!((tree[0].model.as_deref(), tree[0].paths.len()), (Some("NETAPP LUN"), 2));
}

#[test]
fn what_is_not_simply_there_says_so() {
    let sys = Sys::new();
    sys.disk(
        "dm-1",
        "virtual",
        &[("dm/name", "a\n"), ("dm/uuid", "CRYPT-LUKS2-x\n"), ("dm/suspended", "1\n")],
    );
    sys.disk("md0", "virtual", &[("md/level", "raid5\n"), ("md/degraded", "1\n"), ("md/raid_disks", "3\n")]);
    sys.disk("md1", "virtual", &[("md/array_state", "inactive\n"), ("size", "0\n")]);
    sys.disk("loop3", "virtual", &[("loop/backing_file", "/a b\n")]);
    let tree = sys.tree();
    let said: Vec<_> = tree.iter().map(|d| (d.kind.as_str(), d.state.as_deref())).collect();
    assert_eq!(
        said,
        [
            ("raid5", Some("degraded, 1 of 3 missing")),
            ("md", Some("inactive")),
            ("crypt", Some("suspended")),
            ("loop", None)
        ]
    );
    assert_eq!(tree[3].backing.as_deref(), Some("/a b"));
}

#[test]
fn what_lost_its_disks_is_still_shown() {
    let sys = Sys::new();
    sys.disk("md0", "virtual", &[("md/level", "raid1\n"), ("slaves/sda", ""), ("slaves/sdb", "")]);
    sys.disk("sdb", "pci", &[("holders/md0/x", "")]);
    let tree = sys.tree();
    let state = |block: &BlockReport| block.state.clone();
    assert_eq!(tree.len(), 1, "it is below the disk that is left");
    assert!(!tree[0].children[0].gone);
    assert_eq!(state(&tree[0].children[0]).as_deref(), Some("1 of the 2 devices below it gone"));
    for class in ["sys/block", "sys/class/block"] {
        std::fs::remove_file(sys.0.path().join(class).join("sdb")).unwrap();
    }
    let tree = sys.tree();
    assert_eq!(tree[0].path, "/dev/md0");
    assert!(tree[0].gone, "{tree:?}");
    assert_eq!(state(&tree[0]).as_deref(), Some("what it was on is gone"));
}
