//! LVM on LUKS2 on a mirror is put together, unlocked, looked into and taken apart again without a byte written;
//! is written to in one command where that is asked for, and clean afterwards; a mirror with a stale member is
//! used only when that is asked for, and of the newer member.
use std::process::Command;

use anyhow::ensure;

use crate::guest::Guest;
use crate::image::digest_of_files;
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

/// As an engineer makes it, with the real tools.
const MAKE: &str = "set -e; rescue disks >/dev/null; export DM_DISABLE_UDEV=1; modprobe raid1
    mdadm --create /dev/md127 --run --assume-clean --level=1 --raid-devices=2 --bitmap=internal /dev/vda /dev/vdb
    cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/md127 /tmp/k
    cryptsetup open --key-file /tmp/k /dev/md127 c
    pvcreate /dev/mapper/c; vgcreate vg0 /dev/mapper/c; lvcreate -y -Wn -Zn -L 32M -n root vg0
    for v in home srv; do lvcreate -y -Wn -Zn -L 8M -n $v vg0; mke2fs -q -t ext4 /dev/mapper/vg0-$v; done
    mke2fs -q -t ext4 /dev/mapper/vg0-root; mkdir -p /tmp/m; mount -t ext4 /dev/mapper/vg0-root /tmp/m
    cd /tmp/m; mkdir etc srv bin proc sys dev run tmp; cp /init bin/rescue; ln -s rescue bin/sh; cd /; printf 'ID=debian\\nPRETTY_NAME=\"Layered\"\\n' >/tmp/m/etc/os-release
    printf '/dev/vg0/root / ext4\\n/dev/vg0/srv /srv ext4\\n' >/tmp/m/etc/fstab; echo older >/tmp/m/file
    umount /tmp/m; vgchange -an vg0; cryptsetup close c; mdadm --stop /dev/md127; sync";
/// Writes with one member alone: the other is stale after it.
const WRITE_WITH_ONE: &str = "set -e; export DM_DISABLE_UDEV=1
    mdadm --assemble --run /dev/md127 /dev/vda; cryptsetup open --key-file /tmp/k /dev/md127 c
    vgchange -ay vg0; mount -t ext4 /dev/mapper/vg0-root /tmp/m; echo newer >/tmp/m/file
    umount /tmp/m; vgchange -an vg0; cryptsetup close c; mdadm --stop /dev/md127; sync";
const SUMS: &str =
    "blockdev --flushbufs /dev/vda; blockdev --flushbufs /dev/vdb; sha256sum /dev/vda /dev/vdb";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disks = lab.blanks(["a", "b"], 96)?;
    let booted = || lab.standard(&device)?.memory(512).disk(&disks[0]).disk(&disks[1]).start();
    let mut vm = booted()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    guest.ok("printf secret >/tmp/k")?;
    guest.ok(MAKE)?;
    guest.run("poweroff")?;
    vm.ended("the power-off")?;
    let made = digest_of_files(&[&disks[0], &disks[1]])?;

    let mut vm = booted()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    let plan = guest.ok("rescue assemble --dry-run")?;
    ensure!(plan.contains("2 of 2 members: /dev/vda /dev/vdb), read-only, no resync"), "{plan}");
    ensure!(!guest.ok("ls /sys/block")?.contains("md127"), "--dry-run starts nothing");
    let said = guest.ok("rescue assemble")?;
    ensure!(said.contains("is encrypted: rescue unlock /dev/md"), "{said}");
    let wrong = guest.run("printf wrong | rescue unlock /dev/md127")?;
    ensure!(wrong.status == 1 && wrong.stderr.contains("No key available"), "{wrong:?}");
    let said = guest.ok("printf secret | rescue unlock /dev/md127")?;
    ensure!(said.contains("activate volume group \"vg0\""), "{said}");
    let systems = guest.ok("rescue systems")?;
    ensure!(systems.contains("Layered") && systems.contains("/dev/mapper/vg0-root"), "{systems}");
    ensure!(guest.ok("rescue mount && cat /mnt/debian/file")?.contains("older"));
    ensure!(guest.ok("rescue enter debian -- /bin/true; echo status $?")?.contains("status"), "enter ends");
    // What was put together goes with the last mount.
    let closed = guest.ok("rescue umount")?;
    ensure!(closed.contains("close /dev/mapper/") && closed.contains("stop /dev/md127"), "{closed}");
    let left = guest.ok("ls /sys/block")?;
    ensure!(!left.contains("md127") && !left.contains("dm-"), "all is taken apart: {left}");
    // So it does with the machine.
    guest.ok("rescue assemble; printf secret | rescue unlock /dev/md127; rescue mount")?;
    guest.run("poweroff")?;
    vm.ended("the power-off")?;
    for said in ["going down: close /dev/mapper/", "going down: stop /dev/md127"] {
        ensure!(vm.console.lines().iter().any(|line| line.contains(said)), "{said} is not on the console");
    }
    ensure!(digest_of_files(&[&disks[0], &disks[1]])? == made, "the disks were written to");

    let mut vm = booted()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    guest.ok("printf secret >/tmp/k; mkdir -p /tmp/m")?;
    written_to(&guest)?;
    guest.ok("rescue disks >/dev/null; modprobe raid1")?;
    guest.ok(WRITE_WITH_ONE)?;
    let before = guest.ok(SUMS)?;
    let refused = guest.run("rescue assemble")?;
    let text = format!("{}{}", refused.stdout, refused.stderr);
    ensure!(refused.status == 1 && text.contains("--degraded") && text.contains("/dev/vdb"), "{text}");
    let said = guest.ok("rescue assemble --degraded")?;
    ensure!(said.contains("1 of 2 members: /dev/vda)"), "{said}");
    guest.ok("printf secret | rescue unlock /dev/md127")?;
    ensure!(guest.ok("rescue mount && cat /mnt/debian/file")?.contains("newer"));
    guest.ok("rescue umount && rescue assemble --stop")?;
    let after = guest.ok(SUMS)?;
    ensure!(after == before, "the disks were written to:\n{before}{after}");
    // To write to what is left of it is asked for in a word of its own.
    guest.run("rescue assemble --degraded")?;
    guest.ok("printf secret | rescue unlock /dev/md127; rescue mount")?;
    let refused = guest.run("rescue mount --rw --key-file /tmp/k 2>&1")?;
    ensure!(refused.status == 1 && refused.stdout.contains("degraded"), "{refused:?}");
    guest.ok(
        "rescue mount --rw --degraded --key-file /tmp/k && echo newest >/mnt/debian/file && rescue umount",
    )?;
    let stale = guest.ok("mdadm --examine /dev/vda /dev/vdb | grep Events | sort -u")?;
    ensure!(stale.trim().lines().count() == 2, "the one that was left out was not written to: {stale}");
    clean(&guest, "/dev/vda")?;
    // The machine leaves it so, too.
    guest.run("rescue assemble --degraded")?;
    guest.ok("printf secret | rescue unlock /dev/md127; rescue mount --rw --degraded --key-file /tmp/k")?;
    guest.ok("echo last >/mnt/debian/file")?;
    guest.run("poweroff")?;
    vm.ended("the power-off")?;
    let left = process::check(Command::new("mdadm").arg("--examine").arg(&disks[0]), limit(60))?;
    ensure!(left.contains("State : clean"), "{left}");
    Ok(())
}

/// From read-only to writable, and back to nothing.
fn written_to(guest: &Guest) -> anyhow::Result<()> {
    guest.ok("rescue assemble; printf secret | rescue unlock /dev/md127; rescue mount; rescue mount /dev/mapper/vg0-home")?;
    // Another volume of the group, which would go with what is below it.
    let refused = guest.run("rescue mount --rw --key-file /tmp/k 2>&1")?;
    ensure!(
        refused.status == 1 && refused.stdout.contains("/dev/mapper/vg0-home is mounted at"),
        "{refused:?}"
    );
    guest.ok("rescue umount /dev/mapper/vg0-home")?;
    let said = guest.ok("rescue mount --rw --dry-run 2>&1")?;
    ensure!(
        said.contains("start /dev/md127 again, READ-WRITE") && said.contains("nothing was done"),
        "{said}"
    );
    let wrong = guest.run("printf wrong | rescue mount --rw 2>&1")?;
    ensure!(wrong.status == 1 && wrong.stdout.contains("No key available"), "{wrong:?}");
    ensure!(
        guest.ok("cat /mnt/debian/file; touch /mnt/debian/x 2>&1 || true")?.contains("Read-only"),
        "it stays"
    );
    // No terminal, and stdin is the command's own: it is said what to do.
    let refused = guest.run("rescue enter --rw debian -- /bin/true </dev/null 2>&1")?;
    ensure!(refused.status != 0 && refused.stdout.contains("rescue unlock --rw /dev/md127"), "{refused:?}");
    guest.ok("printf secret | rescue mount --rw && echo written >/mnt/debian/file")?;
    // As one that was killed before its end leaves it: the rest is mounted, of what was read-only again.
    guest.ok("umount /mnt/debian/srv && dmsetup remove vg0-srv")?;
    let said = guest.ok("rescue mount --rw 2>&1")?;
    ensure!(said.contains("map vg0-srv again, READ-WRITE"), "{said}");
    guest.ok("touch /mnt/debian/srv/x && rescue umount")?;
    ensure!(!guest.ok("ls /sys/block")?.contains("md127"), "all is taken apart");
    ["/dev/vda", "/dev/vdb"].into_iter().try_for_each(|member| clean(guest, member))?;
    guest.ok("rescue assemble; printf secret | rescue unlock /dev/md127")?;
    let entered = guest.ok("rescue enter --rw --key-file /tmp/k -- /bin/rescue help 2>&1")?;
    ensure!(entered.contains("start /dev/md127 again") && entered.contains("rescue: see what"), "{entered}");
    ensure!(!guest.ok("cat /proc/mounts")?.contains("/mnt/"), "what was mounted for it is unmounted");
    guest.ok("rescue umount")?;
    ["/dev/vda", "/dev/vdb"].into_iter().try_for_each(|member| clean(guest, member))?;
    // By hand, for fsck.
    guest.ok("rescue assemble --rw && printf secret | rescue unlock --rw /dev/md127")?;
    guest.ok("e2fsck -fy /dev/mapper/vg0-root")?;
    ensure!(guest.ok("rescue mount && cat /mnt/debian/file")?.contains("written"));
    guest.ok("rescue umount")?;
    // From nothing, in one command; and by the name that a crypttab has.
    let wrong = guest.run("printf wrong >/tmp/w; rescue mount --key-file /tmp/w 2>&1")?;
    ensure!(wrong.status == 1 && wrong.stdout.contains("/dev/md127 stays closed"), "{wrong:?}");
    let said = guest.ok("rescue mount --key-file /tmp/k 2>&1 && cat /mnt/debian/file && rescue umount")?;
    ensure!(said.contains("/dev/md127 is open, read-only") && said.contains("written"), "{said}");
    guest.ok("rescue mount --rw --key-file /tmp/k && touch /mnt/debian/x && rescue umount")?;
    guest.ok(
        "rescue assemble && printf secret | rescue unlock UUID=$(cryptsetup luksUUID /dev/md127) && rescue umount",
    )?;
    ["/dev/vda", "/dev/vdb"].into_iter().try_for_each(|member| clean(guest, member))
}

fn clean(guest: &Guest, member: &str) -> anyhow::Result<()> {
    let said = guest.ok(&format!("mdadm --examine {member}"))?;
    ensure!(said.contains("State : clean"), "{said}");
    Ok(())
}
