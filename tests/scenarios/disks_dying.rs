//! A disk that is dead, one with a bad region, one that fails for a time and one that never answers are shown as
//! that by `rescue disks`, and the rest of the tree is there in time.
use rescue_schema::report::{BlockReport, DisksReport, ProbeResult};

use crate::disk::ext4;
use crate::lab::Lab;

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
    let vm = lab.standard(&device)?.disk(&disks[0]).disk(&disks[1]).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    guest.ok("rescue disks >/dev/null")?;
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
    let report: DisksReport = guest.json("rescue disks --json")?;
    assert!(format!("{report:?}").matches("Unreadable").count() == 2, "{report:?}");
    Ok(())
}
