//! Volumes of which the kernel keeps records (thin ones, snapshots, RAID, cached ones) are activated, looked into
//! and taken down without a byte written to their disks; and are written to where that is asked for. So is what
//! stands behind a bcache, with the writes that are in the cache alone, and an array of version 0.90. A group that
//! lacks a disk, or in which a Linux sleeps, is not written to unasked.
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;

use crate::disk;
use crate::guest::Guest;
use crate::lab::Lab;
use crate::process;

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
/// Writes to two disks, /dev/vdc and /dev/vde, that do not leave their cache, /dev/vdd.
const CACHE: &str =
    "set -e; modprobe bcache; for d in vdd vdc vde; do echo /dev/$d >/sys/fs/bcache/register; done
    for b in 0 1; do cd /sys/block/bcache$b/bcache; echo 0 >writeback_running; echo 0 >sequential_cutoff; done
    mke2fs -q -t ext4 /dev/bcache1; mount -t ext4 /dev/bcache1 /tmp/m; echo second >/tmp/m/file; umount /tmp/m
    grep dirty state; cd ../../bcache0/bcache; mke2fs -q -t ext4 /dev/bcache0; mount -t ext4 /dev/bcache0 /tmp/m; mkdir /tmp/m/etc
    printf 'ID=debian\\nPRETTY_NAME=\"Cached\"\\n' >/tmp/m/etc/os-release; echo cached >/tmp/m/file
    umount /tmp/m; grep dirty state; cd /";
/// Ends what they make.
const STOP: &str =
    "set=$(ls /sys/fs/bcache | grep -- -); for b in /sys/block/bcache*/bcache/stop; do echo 1 >$b; done
    echo 1 >/sys/fs/bcache/$set/stop; while [ -e /sys/fs/bcache/$set ]; do sleep 1; done; sync";
const SUMS: &str =
    "sync; blockdev --flushbufs /dev/vda; blockdev --flushbufs /dev/vdb; sha256sum /dev/vda /dev/vdb";
/// What a volume holds, looked at by the means of the rescue.
const LOOK: &str = "set -e; for v in mirror plain data kept slow; do
    mount -t ext4 -o ro,noload /dev/mapper/vg0-$v /tmp/m; echo $v: $(cat /tmp/m/file); umount /tmp/m; done";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disks = lab.blanks(["a", "b"], 192)?;
    let [slow, second] = lab.blanks(["slow", "second"], 64)?;
    let fast = lab.path("fast.img");
    disk::blank(&fast, 48)?;
    let mut make = Command::new("make-bcache");
    make.args(["--bucket", "64k", "--writeback", "-B"]).arg(&slow).arg(&second).arg("-C").arg(&fast);
    process::check(&mut make, Duration::from_secs(300))?;
    let vm = lab.standard(&device)?.memory(640).disk(&disks[0]).disk(&disks[1]).disk(&slow).disk(&fast);
    let vm = vm.disk(&second).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    guest.ok(MAKE)?;
    let made = guest.ok(SUMS)?;

    let plan = guest.ok("rescue assemble --dry-run")?;
    ensure!(plan.contains("on an overlay in RAM") && !plan.contains("READ-WRITE"), "{plan}");
    ensure!(!guest.ok("ls /sys/block")?.contains("dm-"), "--dry-run activates nothing");
    guest.ok("rescue assemble")?;
    let looked = guest.ok(LOOK)?;
    let held =
        "mirror: before mirror\nplain: before plain\ndata: after\nkept: before data\nslow: before slow";
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
    sleeping(&guest)?;
    missing(&guest)?;
    cached(&guest)?;
    old_superblocks(&guest)
}

/// A Linux that sleeps, its memory in a swap of the same group that lies on the other disk: not written under.
fn sleeping(guest: &Guest) -> anyhow::Result<()> {
    guest.ok(
        "DM_DISABLE_UDEV=1 lvcreate -y -Wn -Zn -L 8M -n sleep vg0 /dev/vdb && mkswap /dev/mapper/vg0-sleep",
    )?;
    guest.ok("export DM_DISABLE_UDEV=1; printf S1SUSPEND | dd of=/dev/mapper/vg0-sleep bs=1 seek=4086 conv=notrunc && vgchange -an vg0")?;
    let refused = guest.run("rescue mount --rw 2>&1")?;
    ensure!(refused.status == 1 && refused.stdout.contains("a hibernated Linux"), "{refused:?}");
    guest.ok("rescue mount && cat /mnt/debian/file && rescue umount")?;
    guest
        .ok("export DM_DISABLE_UDEV=1; vgchange -ay vg0 && mkswap /dev/mapper/vg0-sleep && vgchange -an vg0")
        .map(drop)
}

/// One of the two disks is gone: what is whole is read all the same.
fn missing(guest: &Guest) -> anyhow::Result<()> {
    guest.ok(
        "dd if=/dev/vdb of=/tmp/label bs=4k count=1 && dd if=/dev/zero of=/dev/vdb bs=4k count=1 conv=fsync",
    )?;
    let refused = guest.run("rescue assemble")?;
    ensure!(
        refused.status == 1 && refused.stdout.contains("1 of 2 physical volumes are missing"),
        "{refused:?}"
    );
    let said = guest.ok("rescue mount --degraded /dev/mapper/vg0-plain 2>&1 && cat /mnt/vg0-plain/file")?;
    ensure!(said.contains("before plain") && !said.contains("busy"), "{said}");
    // Written to only in a word of its own, whatever else of the group cannot be there.
    let refused = guest.run("rescue mount --rw /dev/mapper/vg0-plain 2>&1")?;
    ensure!(refused.status == 1 && refused.stdout.contains("physical volumes are missing"), "{refused:?}");
    guest.ok("rescue mount --rw --degraded /dev/mapper/vg0-plain && echo written >/mnt/vg0-plain/file")?;
    guest.ok("rescue umount && rescue mount --degraded /dev/mapper/vg0-plain")?;
    ensure!(guest.ok("cat /mnt/vg0-plain/file")?.contains("written"));
    guest.ok("rescue umount && dd if=/tmp/label of=/dev/vdb conv=fsync").map(drop)
}

/// An array with superblocks of version 0.90, from nothing to writable and back.
fn old_superblocks(guest: &Guest) -> anyhow::Result<()> {
    guest.ok(
        "set -e; wipefs -qa /dev/vdc /dev/vdd; modprobe raid1
        mdadm --create /dev/md9 --run --assume-clean --level=1 --metadata=0.90 --raid-devices=2 /dev/vdc /dev/vdd
        mke2fs -q -t ext4 /dev/md9; mdadm --stop /dev/md9; sync",
    )?;
    let said = guest.ok("rescue assemble /dev/vdc /dev/vdd")?;
    let node =
        said.split_whitespace().find(|word| word.starts_with("/dev/md")).unwrap_or_default().to_string();
    let place = node.replacen("/dev", "/mnt", 1);
    guest.ok(&format!("rescue mount --rw {node} && touch {place}/written && rescue umount"))?;
    guest.ok(&format!("rescue assemble /dev/vdc /dev/vdd && rescue mount {node} && ls {place}/written"))?;
    guest.ok("rescue umount")?;
    let clean = guest.ok("mdadm --examine /dev/vdc /dev/vdd | grep -c 'State : clean'")?;
    ensure!(clean.trim() == "2", "{clean}");
    Ok(())
}

/// Two disks behind one cache, with what is written in the cache alone.
fn cached(guest: &Guest) -> anyhow::Result<()> {
    const SUMS: &str = "sync; for d in vdc vdd vde; do blockdev --flushbufs /dev/$d; sha256sum /dev/$d; done";
    guest.ok(&format!("{CACHE}; {STOP}"))?;
    let made = guest.ok(SUMS)?;
    let seen = guest.ok("rescue systems --only /dev/vdc")?;
    ensure!(!seen.contains("Cached"), "it cannot be seen without its cache: {seen}");
    for verb in ["assemble", "mount", "enter"] {
        let only = if verb == "assemble" { "" } else { "--only /dev/vdc" };
        let alone = guest.run(&format!("rescue {verb} {only} /dev/vdc 2>&1"))?;
        ensure!(alone.status == 1 && alone.stdout.contains("in its cache alone"), "{verb}: {alone:?}");
    }
    let said = guest.ok("rescue assemble /dev/vdc /dev/vdd /dev/vde")?;
    ensure!(said.contains("start /dev/vdc /dev/vde with the cache /dev/vdd, read-only"), "{said}");
    let held =
        "rescue mount /dev/bcache0 && rescue mount /dev/bcache1 && cat /mnt/bcache0/file /mnt/bcache1/file";
    ensure!(guest.ok(held)?.contains("cached\nsecond"));
    guest.ok("rescue umount")?;
    let after = guest.ok(SUMS)?;
    ensure!(after == made, "the disks were written to:\n{made}{after}");
    // One of the two is written to without the other.
    guest.ok("rescue assemble /dev/vdc /dev/vdd && rescue mount --rw /dev/bcache0")?;
    guest.ok("echo repaired >/mnt/bcache0/file && rescue umount")?;
    guest.ok("rescue assemble /dev/vdc /dev/vdd /dev/vde")?;
    ensure!(guest.ok(held)?.contains("repaired\nsecond"));
    guest.ok("rescue umount")?;
    detached(guest)
}

/// The cache is gone, for one disk with writes in it and for one that had been taken from it before.
fn detached(guest: &Guest) -> anyhow::Result<()> {
    guest.ok("for d in vdd vdc vde; do echo /dev/$d >/sys/fs/bcache/register; done; sleep 1")?;
    guest.ok(&format!(
        "cd /sys/block/bcache1/bcache; echo 0 >writeback_running; cd ../../bcache0/bcache; echo 1 >detach
        until grep 'no cache' state; do sleep 1; done; cd /; {STOP}; dd if=/dev/zero of=/dev/vdd bs=64k count=1 conv=fsync"
    ))?;
    let said = guest.run("rescue assemble /dev/vdc /dev/vde")?;
    ensure!(
        said.status == 1
            && said.stdout.contains("map /dev/mapper/bcache-vdc, read-only")
            && said.stdout.contains("/dev/vde: its last writes are in its cache alone"),
        "{said:?}"
    );
    guest.ok(
        "rescue mount --rw /dev/mapper/bcache-vdc && grep repaired /mnt/bcache-vdc/file && rescue umount",
    )?;
    guest.ok("rescue assemble --degraded /dev/vde")?;
    let refused = guest.run("rescue mount --rw --degraded /dev/mapper/bcache-vde 2>&1")?;
    ensure!(
        refused.status == 1 && refused.stdout.contains("attach the cache, or copy from it"),
        "{refused:?}"
    );
    guest.ok("rescue umount").map(drop)
}
