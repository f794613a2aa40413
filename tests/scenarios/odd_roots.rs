//! Systems as their installers lay them out: openSUSE's root that is a snapshot, Fedora's subvolumes with a /boot of
//! entries, an XFS with its log on another disk, NixOS, CoreOS, a root with an LVM snapshot beside it, and systemd-boot
//! with two FAT partitions. Each is one system, mounted with its parts and entered, and not a byte of the disks changes.
use std::path::Path;

use anyhow::{Context, ensure};
use rescue_schema::report::{MountReport, SystemsReport};

use crate::guest::Guest;
use crate::image::digest_of_files;
use crate::lab::Lab;

const MAKE: &str = include_str!("odd_roots.sh");
/// Each system, and what its mounts are, in order.
#[rustfmt::skip]
const SYSTEMS: &[(&str, &[&str])] = &[
    ("suse", &["/dev/vda on /", "/dev/vda on /var"]),
    ("fed",  &["/dev/vdb3 on /", "/dev/vdb2 on /boot", "/dev/vdb3 on /home"]),
    ("xlog", &["/dev/vdc on /"]),
    ("nix",  &["/dev/vdd2 on /"]),
    ("shot", &["/dev/mapper/vs-root on /"]),
    ("arch", &["/dev/vdf3 on /", "/dev/vdf2 on /boot", "/dev/vdf1 on /efi"]),
];

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disks = lab.blanks(["a", "b", "c", "d", "e", "f", "g"], 320)?;
    let vm = disks.iter().fold(lab.standard(&device)?.memory(768), |vm, disk| vm.disk(disk));
    let vm = vm.start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    guest.run_with_input("bash -s", MAKE.as_bytes())?.ok().context("making the disks")?;
    let all: Vec<&Path> = disks.iter().map(|path| path.as_path()).collect();
    let made = digest_of_files(&all)?;
    found(&guest)?;
    for (name, places) in SYSTEMS {
        let [mounted]: [MountReport; 1] = guest.json(&format!("rescue mount {name} --json"))?;
        let steps: Vec<&str> =
            mounted.steps.iter().filter_map(|s| s.strip_prefix("mount ")?.split(" (").next()).collect();
        ensure!(steps == *places, "{name}: {mounted:#?}");
        let host = guest.ok(&format!("rescue enter {name} -- cat /etc/hostname"))?;
        ensure!(host.trim() == *name, "{name} calls itself {host}");
    }
    guest.ok("grep variable /mnt/suse/var/file && grep since /mnt/shot/since && ls /mnt/arch/boot/EFI/Linux/arch.efi")?;
    // Its root is below the file system's own.
    let refused = guest.run("rescue enter core -- cat 2>&1")?;
    ensure!(
        refused.status == 1 && refused.stdout.contains("/ostree/deploy/fedora/deploy/0123.0"),
        "{refused:?}"
    );
    guest.ok("rescue mount core && ls /mnt/core/ostree/deploy/fedora/deploy/0123.0/bin/sh")?;
    guest.ok("rescue umount")?;
    ensure!(digest_of_files(&all)? == made, "the disks were written to");
    // The log is on a disk of its own, and is written to with it.
    guest.ok("rescue mount --rw xlog && touch /mnt/xlog/written && rescue umount && rescue mount xlog")?;
    guest.ok("ls /mnt/xlog/written && rescue umount").map(drop)
}

fn found(guest: &Guest) -> anyhow::Result<()> {
    guest.ok("rescue assemble")?;
    let found: SystemsReport = guest.json("rescue systems --json")?;
    let live: Vec<&str> = found.systems.iter().filter(|s| !s.snapshot).map(|s| s.name.as_str()).collect();
    let wanted: Vec<&str> = SYSTEMS.iter().map(|(name, _)| *name).chain(["core"]).collect();
    ensure!(live == wanted, "{found:#?}");
    let kept: Vec<&str> = found.systems.iter().filter(|s| s.snapshot).map(|s| s.name.as_str()).collect();
    ensure!(kept == ["suse-snapshots-2-snapshot", "shot-vs-before"], "{kept:?}");
    let fed = found.systems.iter().find(|s| s.name == "fed").context("fed")?;
    ensure!(fed.kernels == ["vmlinuz-6.5"] && fed.esp.is_none(), "a /boot is no ESP: {fed:#?}");
    let arch = found.systems.iter().find(|s| s.name == "arch").context("arch")?;
    ensure!(arch.esp.as_deref() == Some("/dev/vdf1"), "{arch:#?}");
    Ok(())
}
