//! The cloud kernel that is built from `kernel-configs/` meets a login, and finds a disk, with no module loaded,
//! also locked down, and while another disk takes 40 s for each read. No serial line keeps it before /init. It has
//! the driver of NTFS, which Debian's lacks: a Windows is found and shown without a byte written, written to when
//! it was shut down whole, and not when it is hibernated or its volume is dirty.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

use crate::device::Device;
use crate::disk;
use crate::guest::Guest;
use crate::image::Image;
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

/// The hive of a Windows Server, written by hivex.
const SOFTWARE: &[u8] = include_bytes!("../../init/fuzz/corpus/registry/software");
/// What a kernel says long before it starts /init.
const SAID_FIRST: &str = "Linux version";
/// First sector of C:, behind the ESP and the reserved partition.
const C: u64 = 2048 + (8 + 1) * 2048;
/// Sectors of C:.
const LENGTH: u64 = 50 * 2048;
/// A Windows on /dev/vdb, and on /dev/vdc a copy of it that sleeps.
const FILL: &str = "set -e; mkdir -p /tmp/m; mount -t ntfs3 -o iocharset=utf8 /dev/vdb3 /tmp/m; cd /tmp/m; rm pad*
    mkdir -p Windows/System32/config; cat /tmp/SOFTWARE >Windows/System32/config/SOFTWARE; echo kept >журнал
    cd /; umount /tmp/m; dd if=/dev/vdb of=/dev/vdc bs=1M; sync; blockdev --rereadpt /dev/vdc
    mount -t ntfs3 /dev/vdc3 /tmp/m; (printf HIBR; head -c 9000 /dev/zero) >/tmp/m/hiberfil.sys; umount /tmp/m; sync";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (image, _) = lab.bench.binaries()?.image_of_own_kernel("cloud", "minimal", &lab.dir)?;
    let device = lab.root_device()?;
    let disk = lab.path("disk.img");
    disk::ext4_of(&disk, 16, "data", &[])?;
    waits_for_no_disk(lab, image.clone(), &device, &disk)?;
    let locked = "lockdown=integrity module.sig_enforce=1";
    let (clean, asleep, dirty) = (lab.path("clean.img"), lab.path("asleep.img"), lab.path("dirty.img"));
    disk::blank(&asleep, 64)?;
    windows(lab, &clean, false)?;
    windows(lab, &dirty, true)?;
    let vm = lab
        .with_image(image, &device)?
        .append(locked)
        .disk(&disk)
        .disk(&clean)
        .disk(&asleep)
        .disk(&dirty)
        .start()?;
    vm.ready()?;
    let shown = vm.console.lines();
    ensure!(!shown.iter().any(|line| line.contains(SAID_FIRST)), "the console waits for: {shown:#?}");
    let guest = vm.ssh(&device, "root")?;
    let kept = guest.ok("dmesg")?;
    ensure!(kept.contains(SAID_FIRST), "it is not kept: {kept}");
    let loaded = guest.ok("cat /proc/modules")?;
    ensure!(loaded.is_empty(), "modules are loaded:\n{loaded}");
    let level = guest.ok("cat /sys/kernel/security/lockdown")?;
    ensure!(level.contains("[integrity]"), "the kernel is not locked down: {level}");
    let links = guest.ok("ls /sys/class/net")?;
    ensure!(!links.contains("bond0") && !links.contains("dummy0"), "links that nobody asked for: {links}");
    guest.until("rescue disks", |said| said.contains("ext4"))?;
    guest.run_with_input("cat >/tmp/SOFTWARE", SOFTWARE)?;
    guest.ok(FILL)?;
    looked_at(&guest)?;
    written_to(&guest)
}

/// With modules a kernel has no disk to wait for; this one has their drivers, and waits for none all the same.
fn waits_for_no_disk(lab: &Lab<'_>, image: Image, device: &Device, disk: &Path) -> anyhow::Result<()> {
    let slow = lab.path("slow.img");
    disk::blank(&slow, 64)?;
    process::check(Command::new("sgdisk").arg("-n1:2048:+20M").arg(&slow), limit(60))?;
    let file = slow.to_string_lossy().replace(',', ",,");
    let drive = format!("if=none,id=slow,format=raw,file={file},throttling.bps-total=100");
    let vm = lab
        .with_image(image, device)?
        .qemu(&["-device", "ich9-ahci,id=ahci", "-drive", &drive, "-device", "ide-hd,bus=ahci.0,drive=slow"])
        .append("loglevel=7")
        .disk(disk)
        .start()?;
    vm.ready()?;
    let shown = vm.console.lines();
    ensure!(shown.iter().any(|line| line.contains(SAID_FIRST)), "loglevel= is not obeyed: {shown:#?}");
    let guest = vm.ssh(device, "root")?;
    guest.until("rescue disks --wait 2", |said| said.contains("vda") && said.contains("\"data\""))?;
    guest.until("cat /proc/partitions", |said| said.contains("sda"))?;
    let known = guest.ok("cat /proc/partitions")?;
    ensure!(!known.contains("sda1"), "the slow disk has answered:\n{known}");
    Ok(())
}

/// A disk as Windows lays it out: ESP, reserved, and C: by the real mkntfs.
fn windows(lab: &Lab<'_>, disk: &Path, dirty: bool) -> anyhow::Result<()> {
    let soon = limit(300);
    disk::blank(disk, 64)?;
    let mut table = Command::new("sgdisk");
    table.args(["-n1:2048:+8M", "-t1:EF00", "-n2:0:+1M", "-t2:0C01"]);
    table.arg(format!("-n3:{C}:{}", C + LENGTH - 1)).arg("-t3:0700").arg(disk);
    process::check(&mut table, soon)?;
    let volume = lab.path("volume");
    disk::blank(&volume, LENGTH / 2048)?;
    let mut make = Command::new("mkntfs");
    make.args(["-q", "-F", "-Q", "-L", "Windows", "-s", "512", "-p", &C.to_string()]).arg(&volume);
    process::check(&mut make, soon)?;
    // The driver cannot extend the table of files of a volume that has never had one.
    let pad: PathBuf = lab.path("pad");
    std::fs::write(&pad, [0; 3000])?;
    for number in 0..40 {
        let mut copy = Command::new("ntfscp");
        copy.args(["-q", "-f"]).args([&volume, &pad]).arg(format!("pad{number}"));
        process::check(&mut copy, soon)?;
    }
    if dirty {
        process::check(Command::new("ntfsfix").arg(&volume), soon)?;
    }
    let mut put = Command::new("dd");
    put.args(["bs=512", "conv=notrunc", "status=none", &format!("seek={C}")]);
    put.arg(format!("if={}", volume.display())).arg(format!("of={}", disk.display()));
    process::check(&mut put, soon).map(drop)
}

fn looked_at(guest: &Guest) -> anyhow::Result<()> {
    const SUMS: &str = "for d in vdb vdc vdd; do blockdev --flushbufs /dev/$d; sha256sum /dev/$d; done";
    let made = guest.ok(SUMS)?;
    let seen = guest.ok("rescue disks")?;
    ensure!(seen.contains("Windows reserved") && seen.contains("not cleanly unmounted"), "{seen}");
    let said = guest.ok("rescue systems")?;
    for what in
        ["Windows Server 2022 Standard", "build 20348.2113", "/dev/vdb3, ntfs", "! hibernated, or shut"]
    {
        ensure!(said.contains(what), "{what} is missing:\n{said}");
    }
    guest.ok("rescue mount --all && rescue mount /dev/vdd3")?;
    let mounted = guest.ok("cat /proc/mounts /mnt/*vdb3/журнал")?;
    ensure!(mounted.matches("ntfs3 ro").count() == 3 && mounted.contains("kept"), "{mounted}");
    guest.ok("rescue umount")?;
    let after = guest.ok(SUMS)?;
    ensure!(after == made, "the disks were written to:\n{made}{after}");
    Ok(())
}

fn written_to(guest: &Guest) -> anyhow::Result<()> {
    guest.ok("rescue mount --rw windows-vdb3 && echo repaired >/mnt/windows-vdb3/file && rescue umount")?;
    guest.ok("rescue mount windows-vdb3 && grep repaired /mnt/windows-vdb3/file && rescue umount")?;
    for (disk, why) in [("/dev/vdc3", "shutdown /s /f /t 0"), ("/dev/vdd3", "chkdsk /f")] {
        let refused = guest.run(&format!("rescue mount --rw {disk}"))?;
        ensure!(refused.status == 1 && refused.stderr.contains(why), "{refused:?}");
    }
    Ok(())
}
