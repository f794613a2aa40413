//! Volumes of which the kernel keeps records (thin ones, snapshots, RAID, cached ones) are activated, looked into
//! and taken down without a byte written to their disks; and are written to where that is asked for.
use anyhow::ensure;

use crate::disk;
use crate::lab::Lab;

/// As an administrator makes them, with the real tools: a system on a thin volume, and one of each other kind.
const MAKE: &str = "set -e; rescue disks >/dev/null; export DM_DISABLE_UDEV=1
    for m in dm-thin-pool dm-raid raid1 dm-snapshot dm-cache dm-cache-smq ext4; do modprobe $m; done
    vgcreate vg0 /dev/vda /dev/vdb
    lvcreate -y -L 64M -T vg0/pool; lvcreate -y -V 48M -T vg0/pool -n root
    lvcreate -y -Wn -L 24M --type raid1 -m 1 --nosync -n mirror vg0
    lvcreate -y -Wn -L 16M -n plain vg0; lvcreate -y -Wn -L 16M -n data vg0
    lvcreate -y -Wn -L 24M -n slow vg0 /dev/vda; lvcreate -y -Wn -L 12M -n fast vg0 /dev/vdb
    lvconvert -y --type cache --cachevol fast vg0/slow
    mkdir -p /tmp/m; for v in root mirror plain data slow; do
      mke2fs -q -t ext4 -L $v /dev/mapper/vg0-$v; mount -t ext4 /dev/mapper/vg0-$v /tmp/m
      echo before $v >/tmp/m/file; umount /tmp/m; done
    lvcreate -y -L 8M -s -n kept vg0/data; mount -t ext4 /dev/mapper/vg0-data /tmp/m
    echo after >/tmp/m/file; umount /tmp/m
    mount -t ext4 /dev/mapper/vg0-root /tmp/m; mkdir /tmp/m/etc
    printf 'ID=debian\\nPRETTY_NAME=\"Thin\"\\n' >/tmp/m/etc/os-release
    echo '/dev/vg0/root / ext4 defaults 0 1' >/tmp/m/etc/fstab; umount /tmp/m; vgchange -an vg0; sync";
const SUMS: &str = "sync; blockdev --flushbufs /dev/vda; blockdev --flushbufs /dev/vdb; sha256sum /dev/vda /dev/vdb";
/// What a volume holds, looked at by the means of the rescue.
const LOOK: &str = "set -e; for v in mirror plain data kept slow; do
    mount -t ext4 -o ro,noload /dev/mapper/vg0-$v /tmp/m; echo $v: $(cat /tmp/m/file); umount /tmp/m; done";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disks = [lab.path("a.img"), lab.path("b.img")];
    for path in &disks {
        disk::blank(path, 192)?;
    }
    let vm = lab.standard(&device)?.memory(512).disk(&disks[0]).disk(&disks[1]).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    guest.ok(MAKE)?;
    let made = guest.ok(SUMS)?;

    let plan = guest.ok("rescue assemble --dry-run")?;
    ensure!(plan.contains("on an overlay in RAM") && !plan.contains("READ-WRITE"), "{plan}");
    ensure!(!guest.ok("ls /sys/block")?.contains("dm-"), "--dry-run activates nothing");
    guest.ok("rescue assemble")?;
    let looked = guest.ok(LOOK)?;
    let held = "mirror: before mirror\nplain: before plain\ndata: after\nkept: before data\nslow: before slow";
    ensure!(looked.trim() == held, "{looked}");
    // A RAID volume is not made equal on the overlay, and the disks below refuse writes.
    let refuses = guest.ok("cat /sys/block/vda/ro /sys/block/vdb/ro")?;
    ensure!(refuses.trim() == "1\n1", "{refuses}");
    let seen = guest.ok("rescue disks")?;
    ensure!(seen.contains("vg0-kept"), "{seen}");
    ensure!(guest.ok("rescue systems")?.contains("Thin"));
    guest.ok("rescue mount")?;
    ensure!(guest.ok("cat /mnt/debian/file")?.contains("before root"));
    ensure!(guest.run("touch /mnt/debian/x")?.stderr.contains("Read-only"), "it is mounted read-only");
    guest.ok("rescue umount")?;
    ensure!(!guest.ok("ls /sys/block")?.contains("dm-"), "all is taken down");
    ensure!(guest.ok(SUMS)? == made, "the disks were written to");

    // From read-only to writable in one command.
    guest.ok("rescue mount")?;
    let said = guest.ok("rescue mount --rw --dry-run 2>&1")?;
    ensure!(said.contains("discard rescue-overlay-"), "{said}");
    ensure!(guest.run("touch /mnt/debian/x")?.stderr.contains("Read-only"), "--dry-run changes nothing");
    guest.ok("rescue mount --rw")?;
    guest.ok("echo repaired >/mnt/debian/file && rescue umount")?;
    guest.ok("rescue assemble")?;
    ensure!(guest.ok(LOOK)?.trim() == held, "the others are as they were");
    guest.ok("rescue mount")?;
    ensure!(guest.ok("cat /mnt/debian/file")?.contains("repaired"));
    guest.ok("rescue umount")?;
    Ok(())
}
