//! On a machine with UEFI, a Debian is entered whose firmware has no entry for it: grub-install and efibootmgr see the
//! firmware's variables, and write them with `--rw` alone. The machine boots its disk by the new entry.
use anyhow::{Context, ensure};

use super::enter_debian::{DEFAULTS, inside, same_addresses};
use crate::console::Mark;
use crate::debian::{Health, debian};
use crate::lab::Lab;
use crate::vm::{OVMF_VARIABLES, limit};

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let (disk, variables) = (lab.path("disk.img"), lab.path("variables.fd"));
    lab.alone(|| debian(&disk, Health::Whole))?;
    std::fs::copy(OVMF_VARIABLES, &variables).with_context(|| format!("copying {OVMF_VARIABLES}"))?;
    let mut vm = lab.standard(&device)?.memory(1024).uefi(&variables).disk(&disk).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    same_addresses(&guest)?;

    let entries = guest.ok("efibootmgr")?;
    ensure!(entries.contains("BootOrder") && !entries.contains("debian"), "{entries}");
    let reading = guest
        .ok("rescue enter -- sh -c 'efibootmgr; efibootmgr --delete-bootnum --bootnum 0000 2>&1; true'")?;
    ensure!(reading.contains("BootOrder") && reading.contains("Read-only file system"), "{reading}");
    ensure!(guest.ok("efibootmgr")? == entries, "read-only, and written all the same");
    guest.ok("rescue umount")?;

    let install = format!(
        "printf '{DEFAULTS}' >/etc/default/grub && grub-install --target=x86_64-efi --bootloader-id=debian && update-grub"
    );
    inside(&guest, &install)?;
    let entries = inside(&guest, "efibootmgr")?;
    ensure!(entries.lines().any(|line| line.starts_with("Boot0") && line.ends_with(" debian")), "{entries}");
    guest.run("poweroff")?;
    vm.ended("the power-off")?;

    let vm = lab.firmware()?.memory(1024).uefi(&variables).disk(&disk).start()?;
    vm.console.line("db7 login:", Mark::default(), limit(120)).map(drop)
}
