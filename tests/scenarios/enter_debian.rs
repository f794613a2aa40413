//! A real Debian is entered under UEFI: its own apt, update-initramfs, update-grub, grub-install and efibootmgr work as
//! on the machine itself, and its disk boots by either firmware afterwards. However its shell ends, all is undone.
use std::path::Path;

use anyhow::{Context, ensure};

use crate::console::Mark;
use crate::debian::{Health, debian};
use crate::guest::Guest;
use crate::lab::Lab;
use crate::process;
use crate::vm::{VmBuilder, limit};

/// The firmware, and the variables that it begins with.
const OVMF: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];
/// What Debian's installer would have asked and written down.
const DEFAULTS: &str = "GRUB_TIMEOUT=0\\nGRUB_CMDLINE_LINUX=\"console=ttyS0 loglevel=4\"\\nGRUB_TERMINAL=serial\\n\
    GRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\\n";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let (disk, variables) = (lab.path("disk.img"), lab.path("variables.fd"));
    lab.alone(|| debian(&disk, Health::Whole))?;
    std::fs::copy(OVMF[1], &variables).with_context(|| format!("copying {} (package ovmf)", OVMF[1]))?;
    let mut vm = uefi(lab.standard(&device)?.disk(&disk), &variables).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;

    let said = inside(&guest, "apt-get check && dpkg --configure -a && dpkg --audit && efibootmgr")?;
    ensure!(said.contains("BootOrder") && !said.contains("debian"), "{said}");
    inside(&guest, &format!("printf '{DEFAULTS}' >/etc/default/grub && grub-install --target=i386-pc /dev/vda"))?;
    let said = inside(&guest, "grub-install --target=x86_64-efi --bootloader-id=debian && efibootmgr")?;
    ensure!(said.contains("* debian"), "the firmware has no entry: {said}");
    inside(&guest, "rm /boot/grub/grub.cfg && update-grub && grep -q ^menuentry /boot/grub/grub.cfg")?;
    inside(&guest, "update-initramfs -u && find /boot -name 'initrd.img-*' -newer /etc/default/grub | grep -q .")?;
    // A whole transaction, without a network.
    let said = inside(&guest, "apt-get -y purge efibootmgr && ! command -v efibootmgr")?;
    ensure!(said.contains("1 to remove"), "{said}");

    let killed = guest.run("rescue enter --rw -- sh -c 'sleep 600 & kill -9 $$'")?;
    ensure!(killed.status == 137 && killed.stderr.contains("left running"), "{killed:?}");
    is_undone(&guest)?;
    // Its parent too: what it has mounted for itself goes, and what was mounted before it is for `umount`.
    guest.ok("rescue enter -- sleep 601 >/dev/null 2>&1 & until pidof sleep; do sleep 0.1; done; kill -9 $!")?;
    guest.until("pidof sleep || true", str::is_empty)?;
    guest.ok("rescue umount")?;
    is_undone(&guest)?;
    guest.run("poweroff")?;
    vm.ended("the power-off")?;

    for machine in [uefi(lab.firmware()?.disk(&disk), &variables), lab.firmware()?.disk(&disk)] {
        let vm = machine.start()?;
        vm.console.line("db7 login:", Mark::default(), limit(120))?;
    }
    Ok(())
}

/// What the system's own programs print; they must succeed. Making an initrd takes minutes where all is emulated.
fn inside(guest: &Guest, shell: &str) -> anyhow::Result<String> {
    let line = format!("rescue enter --rw -- sh -c {}", process::quote(shell));
    let output = process::run(&mut guest.command(&["--", &line]), b"", limit(150))?;
    output.ok().with_context(|| format!("in the system: {shell}"))
}

fn is_undone(guest: &Guest) -> anyhow::Result<()> {
    let left = guest.ok("grep /mnt/ /proc/mounts || true; ls /mnt; pidof sleep || true; cat /sys/block/vda/ro")?;
    ensure!(left.trim() == "0", "something is left: {left}");
    Ok(())
}

fn uefi(machine: VmBuilder, variables: &Path) -> VmBuilder {
    let code = format!("if=pflash,format=raw,readonly=on,file={}", OVMF[0]);
    let variables = format!("if=pflash,format=raw,file={}", variables.to_string_lossy().replace(',', ",,"));
    machine.memory(768).qemu(&["-machine", "q35", "-drive", &code, "-drive", &variables])
}
