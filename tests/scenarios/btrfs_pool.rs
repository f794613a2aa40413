//! A system on a btrfs of two devices: found, mounted by its own fstab and unmounted without a byte written; with
//! a copy of one of its devices beside it, or without one, nothing is put together by guess, and it is said why; what
//! lacks a device is used without it when that is asked for.
use anyhow::ensure;

use crate::image::digest_of_files;
use crate::lab::Lab;

/// As an installer makes it, with the real tools: subvolumes for `/` and `/home`, and a snapshot.
const MAKE: &str = "set -e; rescue disks >/dev/null; modprobe btrfs
    mkfs.btrfs -q -L pool -d raid1 -m raid1 /dev/vda /dev/vdb; mkdir -p /tmp/m
    mount -t btrfs -o device=/dev/vda,device=/dev/vdb /dev/vda /tmp/m
    btrfs -q subvolume create /tmp/m/@; btrfs -q subvolume create /tmp/m/@home
    mkdir /tmp/m/@/etc /tmp/m/@/home; printf 'ID=debian\\nPRETTY_NAME=\"Pooled\"\\n' >/tmp/m/@/etc/os-release
    echo 'LABEL=pool / btrfs subvol=@ 0 0' >/tmp/m/@/etc/fstab
    echo 'LABEL=pool /home btrfs subvol=/@home 0 0' >>/tmp/m/@/etc/fstab
    dd if=/dev/urandom of=/tmp/m/@home/file bs=1M count=8; mkdir -p /tmp/m/.snapshots/1
    btrfs -q subvolume snapshot -r /tmp/m/@ /tmp/m/.snapshots/1/snapshot
    sha256sum </tmp/m/@home/file >/tmp/file.sum; umount /tmp/m; sync";
/// What is on its way to the disks gets there: what is in the images is looked at from outside.
const FLUSH: &str = "sync; blockdev --flushbufs /dev/vda; blockdev --flushbufs /dev/vdb";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disks = lab.blanks(["a", "b", "copy"], 256)?;
    let mut vm = lab.standard(&device)?.memory(512).disk(&disks[0]).disk(&disks[1]).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    guest.ok(MAKE)?;
    let sums = || {
        guest.ok(FLUSH)?;
        digest_of_files(&[&disks[0], &disks[1]])
    };
    let made = sums()?;

    let systems = guest.ok("rescue systems")?;
    ensure!(systems.contains("Pooled"), "{systems}");
    let mounted = guest.ok("rescue mount")?;
    ensure!(!mounted.contains(" ! "), "{mounted}");
    guest.ok("sha256sum </mnt/debian/home/file | cmp - /tmp/file.sum")?;
    ensure!(guest.run("touch /mnt/debian/x")?.stderr.contains("Read-only"), "it is mounted read-only");
    // Both devices refuse writes for as long as it is mounted.
    let refuses = guest.ok("cat /sys/block/vda/ro /sys/block/vdb/ro")?;
    ensure!(refuses.trim() == "1\n1", "both are protected: {refuses}{mounted}");
    ensure!(guest.ok("rescue systems")?.contains("Pooled"), "it is seen while it is mounted");
    guest.ok("rescue umount")?;
    ensure!(guest.ok("cat /sys/block/vda/ro /sys/block/vdb/ro")?.trim() == "0\n0", "both are given back");
    ensure!(sums()? == made, "the disks were written to");

    // A copy of one.
    vm.plug_disk(&disks[2], "copy")?;
    guest.until("ls /sys/block", |said| said.contains("vdc"))?;
    guest.ok("cat /dev/vdb >/dev/vdc; sync")?;
    let said = guest.run("rescue systems 2>&1; rescue mount 2>&1")?.stdout;
    ensure!(said.contains("/dev/vdb and /dev/vdc are copies") && !said.contains("Pooled"), "{said}");
    ensure!(!guest.ok("cat /proc/mounts")?.contains("btrfs"), "nothing is mounted by guess");
    ensure!(sums()? == made, "the disks were written to");

    // Neither of the two: it is seen, and not used by guess.
    guest.ok("for d in vdb vdc; do wipefs -qa /dev/$d; done")?;
    let said = guest.run("rescue systems 2>&1; rescue mount /dev/vda 2>&1")?;
    ensure!(said.stdout.contains("1 of its 2 devices are here (/dev/vda is 1)"), "{said:?}");
    ensure!(said.status == 1 && said.stdout.contains("Pooled"), "{said:?}");
    let said = guest.run("rescue mount --rw 2>&1; rescue enter -- /bin/true 2>&1")?;
    ensure!(said.stdout.matches("or use it without them: --degraded").count() >= 2, "{said:?}");
    ensure!(!guest.ok("cat /proc/mounts")?.contains("btrfs"), "nothing is mounted without leave");
    let lacking = sums()?;
    let said =
        guest.ok("rescue mount --degraded && sha256sum </mnt/debian/home/file | cmp - /tmp/file.sum")?;
    ensure!(said.contains("used without the others") && said.contains("read-only"), "{said}");
    guest.ok("rescue umount")?;
    ensure!(sums()? == lacking, "the disk was written to");
    let said = guest.ok("rescue mount --degraded --rw && touch /mnt/debian/etc/changed && rescue umount")?;
    ensure!(said.contains("READ-WRITE, without what is missing, which is stale then"), "{said}");
    Ok(())
}
