//! Systems whose fstab is odd, empty, missing, noise, a pipe or endless are mounted as far as it goes, each line that
//! is not is told, nothing leads out of them and no terminal obeys them; not a byte of their disks changes.
use anyhow::{Context, ensure};
use rescue_schema::report::{MountReport, SystemsReport};

use crate::image::digest_of_files;
use crate::lab::Lab;

const MAKE: &str = include_str!("odd_fstabs.sh");
/// What udev calls the place of the first disk.
const SLOT: &str =
    "rescue disks >/dev/null; SLOT=pci-$(readlink /sys/block/vda | sed 's|/virtio.*||; s|.*/||')";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disks = lab.blanks(["a", "b", "c", "d", "e", "f"], 96)?;
    let vm = disks.iter().fold(lab.standard(&device)?.memory(768), |vm, disk| vm.disk(disk));
    let vm = vm.start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    let input = guest.run_with_input(&format!("{SLOT} bash -s"), MAKE.as_bytes())?;
    input.ok().context("making the disks")?;
    guest.ok("for d in a b c d e f; do blockdev --flushbufs /dev/vd$d; done")?;
    let all: Vec<_> = disks.iter().map(|path| path.as_path()).collect();
    let made = digest_of_files(&all)?;

    // A machine under load may miss its own deadline for a disk, and says so.
    let roots = ["vda1", "vdb1", "vdc1", "vdd", "vde", "vdf"].map(|name| format!("/dev/{name},"));
    guest.until("rescue systems", |said| roots.iter().all(|root| said.contains(root.as_str())))?;
    let systems: SystemsReport = guest.json("rescue systems --json")?;
    let of = |device: &str| {
        let found = systems.systems.iter().find(|s| s.device == device);
        found.with_context(|| format!("no system on {device}: {systems:#?}"))
    };
    let mount = |device: &str| -> anyhow::Result<(MountReport, Vec<String>)> {
        let name = &of(device)?.name;
        let [report]: [MountReport; 1] = guest.json(&format!("rescue mount {name} --json"))?;
        let mounts = guest.ok(&format!("cut -d' ' -f1,2 /proc/mounts | grep /mnt/{name}"))?;
        let mounts = mounts.lines().map(|l| l.replace(&report.target, "").replace("/dev/", "")).collect();
        Ok((report, mounts))
    };
    let has = |lines: &[String], words: &[&str]| {
        for words in words {
            ensure!(lines.iter().any(|l| l.contains(words)), "nothing says {words:?}: {lines:#?}");
        }
        Ok(())
    };

    // Every name a device can have. Its name and programs are on a separate /usr.
    let old = of("/dev/vda1")?;
    ensure!(old.pretty_name.as_deref() == Some("Debian of a separate usr"), "{old:#?}");
    ensure!(old.architecture.as_deref() == Some("x86_64"), "{old:#?}");
    let (report, mounts) = mount("/dev/vda1")?;
    for row in [
        "vda1 ",
        "vda3 /boot",
        "vda4 /boot/efi",
        "vda2 /usr",
        "vda5 /home",
        "vda6 /srv",
        "vda7 /my\\040data",
        "vda1 /a",
        "vda1 /b",
    ] {
        ensure!(mounts.iter().any(|m| m == row), "{row:?} is not mounted: {mounts:#?}\n{report:#?}");
    }
    has(
        &report.left_out,
        &[
            "nas:/x for /net: on the network",
            "LABEL=gone for /opt is on no disk here; nofail",
            "tmpfs for /tmp",
            "LABEL=home for /mnt: noauto",
        ],
    )?;
    has(
        &report.trouble,
        &[
            "taken for /dev/vda2, by its number on the disk of the root",
            "LABEL=gone for /net is on no disk here",
            "line 17 is none",
            "line 18 is none",
        ],
    )?;
    // What was taken away, or never came to be, comes with the next mount.
    guest.ok("umount /mnt/old/home && rescue mount old && cat /mnt/old/home/file")?;

    // None, an empty one, noise: by the types of the partitions, then by what is on them.
    let (_, mounts) = mount("/dev/vdb1")?;
    for row in ["vdb1 ", "vdb2 /usr", "vdb3 /boot", "vdb4 /boot/efi", "vdb5 /home", "vdb6 /var"] {
        ensure!(mounts.iter().any(|m| m == row), "{row:?} is not mounted: {mounts:#?}");
    }
    let (report, mounts) = mount("/dev/vdc1")?;
    for row in ["vdc1 ", "vdc2 /boot", "vdc3 /usr", "vdc4 /boot/efi"] {
        ensure!(mounts.iter().any(|m| m == row), "{row:?} is not mounted: {mounts:#?}");
    }
    has(&report.trouble, &["/etc/fstab has no entry", "/dev/vdc2 is taken for /boot by what is on it"])?;
    let (report, mounts) = mount("/dev/vdd")?;
    ensure!(mounts == ["vdd "] && report.trouble.len() < 8, "{mounts:#?} {report:#?}");

    // What is no file, or too long, or leads out.
    let (report, mounts) = mount("/dev/vde")?;
    has(&report.trouble, &["no /etc/fstab that can be read"])?;
    ensure!(mounts == ["vde "], "{mounts:#?}");
    let (report, _) = mount("/dev/vdf")?;
    has(&report.trouble, &["no /etc/fstab that can be read"])?;
    let links = of("/dev/vdf")?;
    ensure!(links.pretty_name.as_deref() == Some("By a link") && links.machine_id.is_none(), "{links:#?}");
    let said = guest.run("rescue systems; rescue mount --all; rescue umount --dry-run")?;
    let said = format!("{}{}", said.stdout, said.stderr);
    ensure!(!said.contains(|c: char| c.is_control() && c != '\n'), "a terminal obeys that: {said:?}");
    let wide = guest.ok("rescue systems")?;
    ensure!(wide.lines().all(|l| l.starts_with('!') || l.chars().count() <= 80), "{wide}");

    guest.ok("rescue umount")?;
    ensure!(guest.ok("ls /mnt; cat /sys/block/vd*/ro")? == "0\n0\n0\n0\n0\n0", "all is given back");
    ensure!(digest_of_files(&all)? == made, "the disks were written to");
    Ok(())
}
