//! A real Debian is entered: its own apt, update-grub and grub-install work as on the machine itself, and its disk
//! boots afterwards. However its shell ends, all is undone.
use anyhow::{Context, ensure};

use crate::console::Mark;
use crate::debian::{Health, debian};
use crate::guest::Guest;
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

/// What Debian's installer would have asked and written down.
pub(crate) const DEFAULTS: &str = "GRUB_TIMEOUT=0\\nGRUB_CMDLINE_LINUX=\"console=ttyS0 loglevel=4\"\\nGRUB_TERMINAL=serial\\n\
    GRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\\n";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disk = lab.path("disk.img");
    lab.alone(|| debian(&disk, Health::Whole))?;
    let mut vm = lab.standard(&device)?.memory(768).disk(&disk).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    same_addresses(&guest)?;

    inside(&guest, "apt-get check && dpkg --configure -a && dpkg --audit")?;
    inside(
        &guest,
        &format!("printf '{DEFAULTS}' >/etc/default/grub && grub-install --target=i386-pc /dev/vda"),
    )?;
    inside(&guest, "rm /boot/grub/grub.cfg && update-grub && grep -q ^menuentry /boot/grub/grub.cfg")?;
    // A whole transaction, without a network.
    let said = inside(&guest, "apt-get -y purge efibootmgr && ! command -v efibootmgr")?;
    ensure!(said.contains("1 to remove"), "{said}");

    let killed = guest.run("rescue enter --rw -- sh -c 'sleep 600 & kill -9 $$'")?;
    ensure!(killed.status == 137 && killed.stderr.contains("left running"), "{killed:?}");
    is_undone(&guest)?;
    // Its parent too: what it has mounted for itself goes, and what was mounted before it is for `umount`.
    guest.ok(
        "rescue enter -- sleep 601 >/dev/null 2>&1 & until pidof sleep; do sleep 0.1; done; kill -9 $!",
    )?;
    guest.until("pidof sleep || true", str::is_empty)?;
    guest.ok("rescue umount")?;
    is_undone(&guest)?;
    guest.run("poweroff")?;
    vm.ended("the power-off")?;

    let vm = lab.firmware()?.disk(&disk).start()?;
    vm.console.line("db7 login:", Mark::default(), limit(120)).map(drop)
}

/// Has each program that is started at the same addresses: QEMU translates a library once for each address that it is
/// at, and takes minutes to forget the thousand translations that update-grub's processes leave of one page.
pub(crate) fn same_addresses(guest: &Guest) -> anyhow::Result<()> {
    guest.ok("echo 0 >/proc/sys/kernel/randomize_va_space").map(drop)
}

/// What the system's own programs print; they must succeed. Some take minutes where all is emulated.
pub(crate) fn inside(guest: &Guest, shell: &str) -> anyhow::Result<String> {
    let line = format!("rescue enter --rw -- sh -c {}", process::quote(shell));
    let output = process::run(&mut guest.command(&["--", &line]), b"", limit(150))?;
    output.ok().with_context(|| format!("in the system: {shell}"))
}

fn is_undone(guest: &Guest) -> anyhow::Result<()> {
    let left =
        guest.ok("grep /mnt/ /proc/mounts || true; ls /mnt; pidof sleep || true; cat /sys/block/vda/ro")?;
    ensure!(left.trim() == "0", "something is left: {left}");
    Ok(())
}
