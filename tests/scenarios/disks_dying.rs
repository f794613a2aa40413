//! A disk that is dead, one with a bad region, one that fails for a time and one that never answers are shown as
//! that by `rescue disks`, and the rest of the tree is there in time. While the kernel waits for one that takes 40 s
//! for each read, drivers are loaded, also of the management controller and of a network card that is plugged in
//! meanwhile, and the other disks are mounted.
use std::process::Command;

use rescue_schema::report::{BlockReport, DisksReport, ProbeResult};

use crate::disk::{blank, ext4};
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

const MAKE: &str = "modprobe -a dm-mod dm-flakey
    make() { dmsetup create $1 >&2; }
    echo '0 65536 error' | make dead
    printf '0 65536 linear /dev/vda 0\\n65536 2048 error\\n67584 63488 linear /dev/vda 67584\\n' | make scratched
    echo '0 131072 flakey /dev/vdb 0 0 3600' | make flaky
    echo '0 131072 linear /dev/vdb 0' | make silent
    dmsetup suspend --noflush --nolockfs silent";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disks = ["one.img", "two.img"].map(|name| lab.path(name));
    for disk in &disks {
        ext4(disk, 64, "good")?;
    }
    let slow = lab.path("slow.img");
    blank(&slow, 64)?;
    process::check(Command::new("sgdisk").arg("-n1:2048:+20M").arg(&slow), limit(60))?;
    let file = slow.to_string_lossy().replace(',', ",,");
    let drive = format!("if=none,id=slow,format=raw,file={file},throttling.bps-total=100");
    let mut vm = lab
        .standard(&device)?
        .disk(&disks[0])
        .disk(&disks[1])
        .qemu(&["-device", "ich9-ahci,id=ahci", "-drive", &drive, "-device", "ide-hd,bus=ahci.0,drive=slow"])
        .qemu(&["-device", "ipmi-bmc-sim,id=bmc", "-device", "isa-ipmi-kcs,bmc=bmc"])
        .start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    // Its driver looks for partitions now: the module that this begins with is loaded and never done.
    guest.until("ls /sys/block; grep sd_mod /proc/modules || true", |said| {
        said.contains("sda") && said.contains("sd_mod")
    })?;
    let mounted = guest.ok("mount -t ext4 -o ro /dev/vda /mnt && umount /mnt; cat /proc/partitions")?;
    assert!(!mounted.contains("sda1"), "the slow disk has answered:\n{mounted}");
    vm.plug_card("e1000")?;
    let seen = "ls /sys/bus/pci/drivers/e1000 /dev/ipmi0 2>&1; cat /proc/partitions";
    guest.until(seen, |said| said.contains("0000:") && !said.contains("ipmi0:"))?;
    let seen = guest.ok(seen)?;
    assert!(!seen.contains("sda1"), "the slow disk has answered:\n{seen}");
    assert_eq!(guest.ok("cat /proc/sys/kernel/tainted")?, "0", "the kernel warns of a driver");
    guest.ok("rescue disks --wait 2 >/dev/null")?;
    guest.ok(MAKE)?;
    let report: DisksReport = guest.json("rescue disks --wait 2 --json")?;
    let find = |name: &str| {
        let mut all: Vec<&BlockReport> = report.disks.iter().collect();
        while let Some(block) = all.pop() {
            if block.name == name || block.path.ends_with(&format!("/{name}")) {
                return Some(block);
            }
            all.extend(&block.children);
        }
        None
    };
    let result = |name: &str| find(name).map(|block| block.probe.result);
    assert_eq!(result("vda"), Some(ProbeResult::Found), "{report:?}");
    assert_eq!(result("dead"), Some(ProbeResult::Unreadable), "{report:?}");
    assert_eq!(result("scratched"), Some(ProbeResult::Found), "{report:?}");
    assert_eq!(result("flaky"), Some(ProbeResult::Unreadable), "{report:?}");
    assert_eq!(result("silent"), Some(ProbeResult::Unreadable), "{report:?}");
    let text = guest.ok("rescue disks --wait 2")?;
    assert!(text.contains("good") && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let probe = guest.run("rescue probe /dev/mapper/silent")?;
    assert!(probe.status == 1 && probe.stdout.contains("suspended"), "{probe:?}");
    guest.ok("dmsetup resume silent")?;
    let report: DisksReport = guest.json("rescue disks --wait 2 --json")?;
    assert!(format!("{report:?}").matches("Unreadable").count() == 3, "{report:?}");
    Ok(())
}
