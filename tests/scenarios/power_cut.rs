//! Disks as a power cut leaves them, journals to replay, one of them full, and a copy of it beside: looked at, mounted
//! and entered without a byte written; what is encrypted comes in by its crypttab. With --rw a journal is replayed.
use anyhow::ensure;

use crate::disk;
use crate::image::digest_of_files;
use crate::lab::Lab;

/// A small Linux in a folder, with this fstab.
const ROOT: &str = "set -e; cd /tmp; mkdir -p m
    root() { mkdir -p $1/etc $1/bin $1/usr $1/srv $1/home $1/proc $1/sys $1/dev $1/run $1/tmp $1/var/tmp
      printf \"ID=debian\\nPRETTY_NAME=\\\"Debian $1\\\"\\n\" >$1/etc/os-release; echo $1 >$1/etc/hostname
      cp /bin/busybox $1/bin/sh; echo \"$2\" >$1/etc/fstab; }; ";
/// Everything but the changes: on the disks for good, not in a journal. One command each, for slow machines.
const MAKE: &[&str] = &[
    "rescue disks >/dev/null; modprobe -a xfs btrfs
    root e4 'LABEL=e4 / ext4 defaults 0 1'; mke2fs -q -t ext4 -L e4 -d e4 /dev/vda",
    "root x 'LABEL=x / xfs defaults 0 0'; mkfs.xfs -q -L x /dev/vdb
    mount -t xfs /dev/vdb m; cp -a x/. m; umount m",
    "root b 'LABEL=b / btrfs defaults 0 0'; mkfs.btrfs -q -L b /dev/vdc
    mount -t btrfs /dev/vdc m; cp -a b/. m; umount m",
    "printf 'label: gpt\\nsize=40M, name=root\\nsize=8M, name=home\\nsize=32M, name=secret\\n' | sfdisk -q /dev/vdd
    until [ -e /dev/vdd3 ]; do sleep 0.1; done
    root full 'PARTLABEL=root / ext4 defaults 0 1'; echo 'PARTLABEL=home /home ext4 nofail 0 2' >>full/etc/fstab
    echo '/dev/mapper/data /srv ext4 defaults 0 2' >>full/etc/fstab
    echo 'data PARTLABEL=secret none luks' >full/etc/crypttab
    mke2fs -q -t ext4 -m 0 -d full /dev/vdd1; mke2fs -q -t ext4 /dev/vdd2",
    "printf secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vdd3 -
    printf secret | cryptsetup open --key-file - /dev/vdd3 data; mke2fs -q -t ext4 /dev/mapper/data
    mount -t ext4 /dev/mapper/data m; echo opened >m/file; umount m; cryptsetup close data; sync",
];
/// The changes: an open file that has no name any more, and one that a journal alone knows of.
const CHANGE: &str = "set -e; cd /tmp; mkdir -p m.a m.b m.c m.d; mount -t ext4 /dev/vda m.a
    mount -t xfs /dev/vdb m.b; mount -t btrfs -o commit=300 /dev/vdc m.c; mount -t ext4 /dev/vdd1 m.d
    dd if=/dev/zero of=m.d/fill bs=64k 2>/dev/null || true; ! dd if=/dev/zero of=m.d/more bs=64k 2>/dev/null
    exec 8>m.a/gone 9>m.b/gone; echo x >&8; echo x >&9; rm m.a/gone m.b/gone; sleep 9999 &
    for f in m.a m.b m.c; do echo new >$f/new; done; sync m.a/new m.b/new; sync
    dd if=/dev/zero of=m.c/logged bs=4k count=9 conv=fsync 2>/dev/null";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let paths = ["e4", "x", "b", "full", "copy"].map(|name| lab.path(&format!("{name}.img")));
    let disks = paths.each_ref().map(|path| path.as_path());
    for (path, mib) in disks.iter().zip([64, 320, 160, 96]) {
        disk::blank(path, mib)?;
    }
    let boot = |count: usize| {
        let vm = lab.standard(&device)?.memory(768);
        let vm = disks.iter().take(count).fold(vm, |vm, disk| vm.disk(disk)).start()?;
        vm.ready()?;
        anyhow::Ok(vm)
    };
    let vm = boot(4)?;
    let guest = vm.ssh(&device, "root")?;
    for part in MAKE {
        guest.ok(&format!("{ROOT}{part}"))?;
    }
    guest.ok(&format!("({CHANGE}) >/dev/null 2>/tmp/said </dev/null || {{ cat /tmp/said; false; }}"))?;
    drop(vm);
    disk::copy(disks[3], disks[4])?;
    let sums = || disks.iter().map(|disk| digest_of_files(&[*disk])).collect::<anyhow::Result<Vec<_>>>();
    let left = sums()?;

    let mut vm = boot(5)?;
    let guest = vm.ssh(&device, "root")?;
    let probed = guest.ok("rescue disks >/dev/null; rescue probe /dev/vda /dev/vdb /dev/vdc")?;
    ensure!(probed.matches("needs journal recovery").count() == 3, "{probed}");
    let names = guest.ok("rescue systems | grep -v '^[ !]' | cut -d' ' -f1 | xargs echo")?;
    ensure!(names.starts_with("e4 x b full-vdd1 full-vde1"), "{names}");
    // Two copies: neither is the first.
    let several = guest.run("rescue mount full")?;
    ensure!(several.status == 2 && several.stderr.contains("full-vde1"), "{several:?}");
    let said = guest.ok("rescue mount --all")?;
    ensure!(said.matches("in its journal alone").count() >= 3, "{said}");
    ensure!(said.matches("is encrypted: rescue unlock").count() == 2, "{said}");
    let homes = guest.ok("grep -E '/mnt/full-vd(d1|e1)/home' /proc/mounts | cut -d' ' -f1,2")?;
    ensure!(
        homes == "/dev/vdd2 /mnt/full-vdd1/home\n/dev/vde2 /mnt/full-vde1/home",
        "each by its own disk: {homes}"
    );
    for name in ["e4", "x", "b", "full-vdd1", "full-vde1"] {
        let inside =
            guest.ok(&format!("rescue enter {name} -- /bin/sh -c 'echo in; echo >/tmp/x; ! echo >/x'"))?;
        ensure!(inside.starts_with("in"), "{inside}");
    }
    // Once it is open, what is on it comes in by the name that crypttab gives it.
    guest.ok("printf secret | rescue unlock /dev/vdd3; rescue mount full-vdd1")?;
    ensure!(guest.ok("cat /mnt/full-vdd1/srv/file")? == "opened");
    guest.ok("rescue umount")?;
    ensure!(sums()? == left, "the disks were written to");

    let said = guest.ok("rescue mount --rw e4 && cat /mnt/e4/new && rescue umount")?;
    ensure!(said.contains("replays its journal") && said.contains("new"), "{said}");
    guest.run("poweroff")?;
    vm.ended("the power-off")?;
    disk::ext4_is_clean(disks[0])?;
    ensure!(sums()?[1..] == left[1..], "only what was mounted for writing changes");
    Ok(())
}
