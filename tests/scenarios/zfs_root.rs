//! A system on a mirror of ZFS that was never exported, as after a power cut: found, mounted by its datasets and its
//! fstab, entered and let go of without a byte written; written to in one command, and exported then. A copy of one
//! of its disks is not used by guess, what lacks a disk only where that is asked for; what is encrypted is named.
use anyhow::ensure;

use crate::guest::Guest;
use crate::image::digest_of_files;
use crate::lab::Lab;

/// As Proxmox and Ubuntu lay it out, with the real tools.
const MAKE: &str = r#"set -e; rescue disks >/dev/null; modprobe zfs
    for d in vda vdb; do printf 'label: gpt\nsize=40M, type=uefi\n,\n' | sfdisk -q /dev/$d; done
    until [ -e /dev/vda2 ] && [ -e /dev/vdb2 ]; do sleep 0.1; done; mkfs.vfat -i 0badcafe /dev/vda1
    zpool create -o cachefile=none -R /tmp/r -m none rpool mirror /dev/vda2 /dev/vdb2
    zfs create -o canmount=off rpool/ROOT; zfs create -o mountpoint=/ -o canmount=noauto rpool/ROOT/debian
    zpool set bootfs=rpool/ROOT/debian rpool; zfs mount rpool/ROOT/debian
    zfs create -o mountpoint=/home rpool/home; zfs create -o mountpoint=legacy rpool/opt
    echo secret12 | zfs create -o mountpoint=/srv -o encryption=on -o keyformat=passphrase rpool/srv
    cd /tmp/r; mkdir -p etc bin boot/efi opt proc sys dev run tmp var/tmp; cp /bin/busybox bin/sh
    printf 'ID=debian\nPRETTY_NAME="Debian on ZFS"\n' >etc/os-release; echo pve >etc/hostname
    printf 'UUID=0BAD-CAFE /boot/efi vfat defaults 0 1\nrpool/opt /opt zfs defaults 0 0\n' >etc/fstab
    mount -t zfs rpool/opt opt; echo opt >opt/file; echo home >home/file
    zfs snapshot rpool/ROOT/debian@kept
    zfs clone -o canmount=noauto -o mountpoint=/ rpool/ROOT/debian@kept rpool/ROOT/old
    cd /; zpool sync; sync"#;
/// What is on its way to the disks gets there: what is in the images is looked at from outside.
const FLUSH: &str = "sync; blockdev --flushbufs /dev/vda; blockdev --flushbufs /dev/vdb";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let image = lab.bench.binaries()?.image_with_zfs(lab.bench.zfs()?, &lab.dir)?;
    let device = lab.root_device()?;
    let disks = lab.blanks(["a", "b", "copy"], 256)?;
    let boot = || {
        let vm =
            lab.with_image(image.clone(), &device)?.memory(1024).disk(&disks[0]).disk(&disks[1]).start()?;
        vm.ready()?;
        anyhow::Ok(vm)
    };
    let vm = boot()?;
    vm.ssh(&device, "root")?.ok(MAKE)?;
    drop(vm);
    let made = digest_of_files(&[&disks[0], &disks[1]])?;
    let mut vm = boot()?;
    let guest = vm.ssh(&device, "root")?;
    let unchanged = || {
        guest.ok(FLUSH)?;
        ensure!(digest_of_files(&[&disks[0], &disks[1]])? == made, "the disks were written to");
        anyhow::Ok(())
    };
    looked_at(&guest)?;
    unchanged()?;

    // A copy of one.
    vm.plug_disk(&disks[2], "copy")?;
    guest.until("ls /sys/block", |said| said.contains("vdc"))?;
    guest.ok("cat /dev/vdb >/dev/vdc; sync; blockdev --rereadpt /dev/vdc")?;
    guest.until("ls /dev", |said| said.contains("vdc2"))?;
    let said = guest.run("rescue assemble 2>&1")?;
    ensure!(said.status == 1 && said.stdout.contains("/dev/vdb2 /dev/vdc2 are copies"), "{said:?}");
    let said = guest.run("rescue assemble /dev/vda2 2>&1")?;
    ensure!(said.status == 1 && said.stdout.contains("ZFS would use /dev/vdb2 /dev/vdc2 too"), "{said:?}");
    let said = guest.ok("rescue assemble /dev/vda2 /dev/vdc2 && zpool status -P rpool")?;
    ensure!(said.contains("/dev/vdc2") && !said.contains("/dev/vdb2 "), "{said}");
    guest.ok("rescue umount; dd if=/dev/zero of=/dev/vdc bs=1M; sync; blockdev --rereadpt /dev/vdc")?;
    unchanged()?;
    written_to(&guest)?;
    lacking(&guest)
}

fn looked_at(guest: &Guest) -> anyhow::Result<()> {
    let said = guest.ok("rescue systems")?;
    ensure!(said.contains("pools are not put together") && !said.contains("Debian on ZFS"), "{said}");
    let said = guest.ok("rescue assemble --dry-run; ! zpool list")?;
    ensure!(
        said.contains("import ZFS pool \"rpool\"") && said.contains("on /dev/vda2 /dev/vdb2, read-only"),
        "{said}"
    );
    let said = guest.run("rescue assemble && zpool list && rescue assemble --stop && zpool list")?;
    ensure!(said.status == 0 && said.stdout.contains("export ZFS pool \"rpool\""), "{said:?}");
    ensure!(said.stdout.contains("no pools available"), "it is exported: {said:?}");

    let said = guest.ok("rescue mount 2>&1")?;
    for what in
        ["Debian on ZFS", "/srv: rpool/srv is encrypted: rescue unlock rpool/srv", "/mnt/pve/boot/efi"]
    {
        ensure!(said.contains(what), "{what} is missing: {said}");
    }
    let files = guest.ok("cat /mnt/pve/home/file /mnt/pve/opt/file")?;
    ensure!(files == "home\nopt", "{files}");
    ensure!(guest.run("touch /mnt/pve/x")?.stderr.contains("Read-only"), "it is mounted read-only");
    let said = guest.ok("rescue systems; rescue disks")?;
    for what in
        ["rpool/ROOT/debian, zfs, at /mnt/pve", "pve-rpool-ROOT-old", "(snapshot)", "imported read-only"]
    {
        ensure!(said.contains(what), "{what} is missing:\n{said}");
    }
    let inside = guest.ok("rescue enter pve -- /bin/sh -c 'cat /etc/hostname /home/file'")?;
    ensure!(inside == "pve\nhome", "{inside}");
    // What somebody opens by hand is not closed under his feet.
    guest.ok("echo secret12 | zfs load-key rpool/srv && zfs mount rpool/srv")?;
    let said = guest.run("rescue mount --rw </dev/null 2>&1; rescue umount 2>&1")?;
    ensure!(
        said.stdout.contains("something of it is mounted at")
            && said.stdout.contains("rpool/srv is mounted at"),
        "{said:?}"
    );
    guest
        .ok("zfs unmount rpool/srv && rescue mount && ls /mnt/pve/srv && rescue umount && ! zpool list rpool")
        .map(drop)
}

fn written_to(guest: &Guest) -> anyhow::Result<()> {
    guest.ok("rescue mount")?;
    let said = guest.ok("rescue mount --rw 2>&1")?;
    ensure!(said.contains("READ-WRITE: its labels are written, its intent log is replayed"), "{said}");
    guest.ok("echo repaired >/mnt/pve/home/file; rescue umount")?;
    let said = guest.ok("rescue probe /dev/vda2; rescue mount; cat /mnt/pve/home/file; rescue umount")?;
    ensure!(said.contains("was exported") && said.contains("repaired"), "{said}");
    Ok(())
}

/// One of the two is gone.
fn lacking(guest: &Guest) -> anyhow::Result<()> {
    guest.ok("zpool labelclear -f /dev/vdb2")?;
    let said = guest.run("rescue mount 2>&1; zpool list 2>&1")?;
    for what in ["it is degraded", "--degraded", "no pools available"] {
        ensure!(said.stdout.contains(what), "{what} is missing: {said:?}");
    }
    let said =
        guest.ok("rescue mount --degraded; cat /mnt/pve/home/file; zpool list -H -o health,readonly")?;
    ensure!(said.contains("repaired\nDEGRADED\ton"), "{said}");
    let said = guest.run("rescue mount --rw 2>&1")?;
    ensure!(said.status == 1 && said.stdout.contains("zpool status rpool"), "{said:?}");
    guest.ok("rescue umount").map(drop)
}
