//! Pools as Ubuntu's installer, Proxmox and OpenZFS's own guide lay them out: of two roots each is mounted with its own
//! /boot and folders; a guest's disk is told from its host's, and mounted where it is named; keys are asked for, wanted
//! again for writing, and gone when it is let go of. Not a byte is written where that was not asked for.
use anyhow::{Context, ensure};

use crate::guest::Guest;
use crate::image::digest_of_files;
use crate::lab::Lab;
use crate::terminal::Terminal;

const MAKE: &str = include_str!("zfs_layouts.sh");

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let image = lab.bench.binaries()?.image_with_zfs(lab.bench.zfs()?, &lab.dir)?;
    let device = lab.root_device()?;
    let disks = lab.blanks(["a", "b"], 256)?;
    let vm = lab.with_image(image, &device)?.memory(1024).disk(&disks[0]).disk(&disks[1]).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    let layouts: [(&str, Look, Look); 3] = [
        ("ubuntu", two_roots, written_to),
        ("host", a_host, a_guest_written_to),
        ("encrypted", locked, unlocked_again),
    ];
    for (layout, look, write) in layouts {
        let make = guest.run_with_input(&format!("LAYOUT={layout} bash -s"), MAKE.as_bytes())?;
        make.ok().map(drop).with_context(|| format!("making the layout {layout}"))?;
        let digest = || {
            guest.ok("sync; blockdev --flushbufs /dev/vda; blockdev --flushbufs /dev/vdb")?;
            digest_of_files(&[&disks[0], &disks[1]])
        };
        let made = digest()?;
        look(&guest).with_context(|| layout.to_string())?;
        ensure!(digest()? == made, "{layout}: the disks were written to");
        ensure!(
            guest.ok("ls /mnt; zpool list 2>&1; ls /dev/zvol 2>/dev/null; true")? == "no pools available"
        );
        write(&guest).with_context(|| layout.to_string())?;
    }
    Ok(())
}

type Look = fn(&Guest) -> anyhow::Result<()>;

fn has(said: &str, all: &[&str]) -> anyhow::Result<()> {
    all.iter().try_for_each(|what| {
        ensure!(said.contains(what), "{what} is missing:\n{said}");
        Ok(())
    })
}

/// What is booted, and what is kept of before.
fn two_roots(guest: &Guest) -> anyhow::Result<()> {
    const STATES: &str = "cat state boot/state var/lib/state root/state";
    let said = guest.ok("rescue mount 2>&1; rescue systems; rescue disks")?;
    has(&said, &["import ZFS pool \"bpool\"", "Ubuntu 22.04.4 LTS", "/mnt/ub/boot/grub", "(snapshot)"])?;
    has(&said, &["ROOT/ubuntu_new/var/lib", "at /mnt/ub/var/lib, read-only"])?;
    ensure!(!said.contains("named twice") && !said.contains("pool rpool was exported"), "{said}");
    let states = guest.ok(&format!("cd /mnt/ub && {STATES} && cat boot/grub/grub.cfg"))?;
    ensure!(states == "new\nnew\nnew\nnew\ncfg", "{states}");
    let old = "ub-rpool-ROOT-ubuntu_old";
    let states =
        guest.ok(&format!("rescue umount >&2; rescue mount {old} >&2; cd /mnt/{old} && {STATES}"))?;
    ensure!(states == "old\nold\nold\nold", "{states}");
    let inside = guest.ok(&format!("rescue enter {old} -- /bin/sh -c 'read x </boot/state; echo $x'"))?;
    ensure!(inside == "old", "{inside}");
    guest.ok("rescue umount").map(drop)
}

fn written_to(guest: &Guest) -> anyhow::Result<()> {
    guest.ok(
        "rescue mount --rw && cd /mnt/ub && echo mended | tee state boot/state && cd / && rescue umount",
    )?;
    let states = guest.ok("rescue mount >&2; cat /mnt/ub/state /mnt/ub/boot/state; rescue umount >&2")?;
    ensure!(states == "mended\nmended", "{states}");
    Ok(())
}

/// A host with its guests' disks.
fn a_host(guest: &Guest) -> anyhow::Result<()> {
    let said = guest.ok("rescue mount 2>&1")?;
    has(&said, &["pve1: Debian", "/mnt/pve1/var/lib/vz", "0badcafe-0000-4000-8000-000000000001"])?;
    ensure!(!said.contains("ubuntu-vg") && !said.contains("/dev/zd"), "a guest's is no host's: {said}");
    let said = guest.ok("rescue systems; rescue disks; ls -l /dev/zvol/rpool/data /dev/mapper")?;
    has(&said, &["(a guest's, on rpool/data/vm-100-disk-0)", "volume rpool/data/vm-101-disk-0"])?;
    has(&said, &["vm-100-disk-0-part1 -> /dev/zd"])?;
    ensure!(!said.contains("ubuntu--vg"), "{said}");
    let name = guest.ok("rescue mount guest >&2; cat /mnt/guest/etc/hostname")?;
    ensure!(name == "guest", "{name}");
    let said = guest.run("rescue mount --rw pve1 2>&1")?;
    ensure!(said.status == 1 && said.stdout.contains("mounted at /mnt/guest"), "{said:?}");
    let said = guest.ok("rescue assemble /dev/zvol/rpool/data/vm-101-disk-0; rescue umount")?;
    has(&said, &["activate volume group \"ubuntu-vg\"", "export ZFS pool \"rpool\""])
}

/// By its name, whatever its number is.
fn a_guest_written_to(guest: &Guest) -> anyhow::Result<()> {
    const NAMED: &str = "/dev/zvol/rpool/data/vm-100-disk-0-part1";
    let write = "cd /mnt/zd*p1 && echo mended >state && cd /";
    let said = guest.ok(&format!("rescue mount --rw {NAMED} 2>&1 && {write} && rescue umount"))?;
    has(&said, &["import ZFS pool \"rpool\" again, READ-WRITE", "ext4, READ-WRITE"])?;
    let said = guest.ok("rescue mount --rw guest >&2; cat /mnt/guest/state; rescue umount >&2")?;
    ensure!(said == "mended", "the guest's file holds {said:?}");
    Ok(())
}

/// Without its key nothing is seen; it is asked for on a terminal.
fn locked(guest: &Guest) -> anyhow::Result<()> {
    let said = guest.run("rescue mount </dev/null 2>&1")?;
    ensure!(said.status == 1, "{said:?}");
    has(&said.stdout, &["rpool is encrypted: rescue unlock rpool", "rescue unlock rpool/srv"])?;
    let wrong = guest.run("echo wrong123 | rescue unlock rpool 2>&1")?;
    ensure!(wrong.status == 1 && wrong.stdout.contains("Incorrect key"), "{wrong:?}");
    let mut terminal = Terminal::open(guest, &["rescue mount; echo ended $?"])?;
    let asked = |times: usize| move |shown: &str| shown.matches("Passphrase for rpool").count() == times;
    terminal.until("question", asked(1))?;
    terminal.say("wrong123\r")?;
    terminal.until("second question", asked(2))?;
    terminal.say("secret12\r")?;
    let left = "rescue unlock rpool/srv";
    terminal.until("end", |shown| {
        shown.contains("ended 0") && shown.contains(left) && !shown.contains("secret")
    })?;
    // On stdin, where the newline at its end may be a line's.
    let said = guest.ok("rescue unlock rpool/srv </tmp/raw && rescue mount && cat /mnt/enc/*/state")?;
    has(&said, &["mount rpool/srv on /srv (zfs, read-only)", "kept\nraw"])?;
    let said = guest.ok("rescue umount")?;
    has(&said, &["unload the key of \"rpool/srv\"", "unload the key of \"rpool\"", "export ZFS pool"])
}

fn unlocked_again(guest: &Guest) -> anyhow::Result<()> {
    guest.ok("printf secret12 >/tmp/pass; rescue mount --key-file /tmp/pass")?;
    let wrong = guest.run("echo wrong123 | rescue mount --rw 2>&1; cat /mnt/enc/home/state")?;
    has(&wrong.stdout, &["it stays read-only", "Incorrect key", "kept"])?;
    let said = guest
        .ok("echo secret12 | rescue mount --rw 2>&1; echo mended >/mnt/enc/home/state; rescue umount")?;
    has(&said, &["load the key of rpool again", "zfs, READ-WRITE"])?;
    let said =
        guest.ok("rescue mount --key-file /tmp/pass 2>/dev/null; cat /mnt/enc/home/state; rescue umount")?;
    has(&said, &["mended"])
}
