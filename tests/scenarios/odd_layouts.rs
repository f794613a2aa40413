//! LUKS in a volume and LUKS below a mirror, /usr on a volume, a sleeping Linux, a guest's disk in its host's volume and
//! a journal on another disk are found, mounted, entered and unmounted without a byte written; a passphrase is asked for
//! on the terminal; where one cannot be seen, it is said why; what is written to is written as the layout wants it.
use anyhow::{Context, ensure};
use rescue_schema::report::{MountReport, SystemsReport};

use crate::guest::Guest;
use crate::image::digest_of_files;
use crate::lab::Lab;
use crate::terminal::Terminal;

const MAKE: &str = include_str!("odd_layouts.sh");

fn make(guest: &Guest, systems: &str) -> anyhow::Result<()> {
    let made = guest.run_with_input(&format!("SYSTEMS='{systems}' bash -s"), MAKE.as_bytes())?;
    made.ok().map(drop).context("making the disks")
}

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let disks = lab.blanks(["a", "b", "c", "d", "e", "f", "g"], 96)?;
    let vm = disks.iter().fold(lab.standard(&device)?.memory(768), |vm, disk| vm.disk(disk));
    let vm = vm.start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    let all: Vec<_> = disks.iter().map(|path| path.as_path()).collect();

    make(&guest, "inside")?;
    let made = digest_of_files(&all)?;
    the_one_that_is_locked(&guest)?;
    ensure!(digest_of_files(&all)? == made, "the disks were written to");
    written_to_inside(&guest)?;

    make(&guest, "asleep host journal bottom")?;
    let made = digest_of_files(&all)?;
    seen_and_mounted(&guest)?;
    ensure!(guest.ok("ls /mnt; cat /sys/block/vd*/ro")? == "0\n0\n0\n0\n0\n0\n0", "all is given back");
    ensure!(digest_of_files(&all)? == made, "the disks were written to");

    let refused = guest.run("rescue mount --rw asleep 2>&1")?;
    ensure!(
        refused.status == 1 && refused.stdout.contains("a hibernated Linux is in this swap"),
        "{refused:?}"
    );
    guest.ok("rescue mount --rw journal && touch /mnt/journal/written && rescue umount")?;
    guest.ok(
        "e2fsck -fn -j /dev/vde /dev/vdd && rescue mount journal && ls /mnt/journal/written && rescue umount",
    )?;
    Ok(())
}

/// No system is seen, and one volume is locked.
fn the_one_that_is_locked(guest: &Guest) -> anyhow::Result<()> {
    let said = guest.run("rescue mount </dev/null 2>&1; rescue mount --json </dev/null 2>&1")?.stdout;
    let locked = "/dev/mapper/vi-safe is encrypted: rescue unlock /dev/mapper/vi-safe";
    ensure!(said.matches(locked).count() == 2, "without a terminal nobody is asked: {said}");
    let mut terminal = Terminal::open(guest, &["rescue mount; echo ended $?"])?;
    let asked = |times: usize| {
        move |shown: &str| shown.matches("Passphrase for /dev/mapper/vi-safe").count() == times
    };
    terminal.until("question", asked(1))?;
    terminal.say("wrong\r")?;
    terminal.until("second question", asked(2))?;
    terminal.say("secret\r")?;
    terminal.until("end", |shown| shown.contains("ended 0") && !shown.contains("secret"))?;
    let uuid = guest.ok("cryptsetup luksUUID /dev/mapper/vi-safe")?;
    ensure!(guest.ok("rescue enter inside -- cat /etc/os-release 2>&1")?.contains("Debian inside"));
    ensure!(guest.ok(&format!("rescue umount UUID={uuid}"))?.contains("unmounted /mnt/inside"));
    guest.ok("rescue umount")?;
    // By that name from nothing, the volume group not being active.
    let mut terminal = Terminal::open(guest, &[&format!("rescue mount UUID={uuid}; echo ended $?")])?;
    terminal.until("question", asked(1))?;
    terminal.say("secret\r")?;
    terminal.until("end", |shown| shown.contains("ended 0"))?;
    ensure!(guest.ok("rescue umount /dev/vi/safe")?.contains("unmounted"));
    guest.ok("rescue umount").map(drop)
}

/// The volume that is encrypted is written to as well.
fn written_to_inside(guest: &Guest) -> anyhow::Result<()> {
    let said = guest
        .ok("rescue mount --rw --key-file /tmp/k 2>&1 && echo x >/mnt/inside/written && rescue umount")?;
    ensure!(said.contains("map vi-safe again, READ-WRITE"), "{said}");
    guest.ok("rescue mount --key-file /tmp/k && cat /mnt/inside/written && rescue umount").map(drop)
}

fn seen_and_mounted(guest: &Guest) -> anyhow::Result<()> {
    // Its volumes get their numbers first.
    guest.ok("rescue assemble /dev/vdb; rescue assemble; printf secret | rescue unlock /dev/vdf")?;
    let found: SystemsReport = guest.json("rescue systems --json")?;
    let pretty = |name: &str| {
        let system = found.systems.iter().find(|s| s.name == name);
        system.map(|s| s.pretty_name.clone()).with_context(|| format!("{name} is not found: {found:#?}"))
    };
    ensure!(
        pretty("asleep")?.as_deref() == Some("Debian asleep"),
        "its os-release is on its /usr: {found:#?}"
    );
    ensure!(pretty("host")?.is_none() && pretty("journal")?.is_some(), "{found:#?}");
    for (words, why) in [
        ("/dev/vdg is encrypted", "one of the two is locked"),
        ("1 of 2 members are here: not started", "the mirror lacks it"),
        ("/dev/mapper/vh-guest is divided into partitions", "a guest's disk"),
    ] {
        ensure!(found.unseen.iter().any(|line| line.contains(words)), "{why}: {:#?}", found.unseen);
    }
    // With its other half it is no longer left out.
    guest.ok("printf secret | rescue unlock /dev/vdg")?;
    let found: SystemsReport = guest.json("rescue systems --json")?;
    ensure!(!found.unseen.iter().any(|line| line.contains("members")), "{:#?}", found.unseen);

    let [asleep]: [MountReport; 1] = guest.json("rescue mount asleep --json")?;
    let mounts = guest.ok("grep -c /mnt/asleep /proc/mounts; cat /mnt/asleep/usr/lib/os-release")?;
    ensure!(mounts.starts_with("3\n"), "root, /usr and /home: {mounts} {asleep:#?}");
    for words in
        ["/dev/dm-3 for /home: taken for /dev/mapper/va-home", "/dev/md127 for /srv is on no disk here"]
    {
        ensure!(asleep.trouble.iter().any(|line| line.contains(words)), "nothing says {words}: {asleep:#?}");
    }
    let reads = guest.ok(
        "dmesg -c >/dev/null; rescue mount journal >/dev/null && dmesg | grep -c '(vdd): mounted' && rescue umount journal",
    )?;
    ensure!(reads.starts_with("1\n"), "looked into and mounted, it is read once: {reads}");
    for name in ["asleep", "host", "journal", "bottom"] {
        guest.ok(&format!(
            "rescue mount {name} && rescue enter {name} -- cat /etc/fstab && rescue umount {name}"
        ))?;
    }
    // Of the device that is named, and not of what else is locked or lacks members.
    for (device, why) in [
        ("/dev/va/home", "/dev/mapper/va-home holds ext4, and no system"),
        ("/dev/vde", "/dev/vde holds jbd, which cannot be mounted"),
        ("/dev/vdb", "/dev/vdb itself is no system's root; on it is: asleep: name that"),
        ("/dev/vdx", "/dev/vdx is not here"),
    ] {
        let refused = guest.run(&format!("rescue enter {device} -- cat 2>&1 </dev/null"))?;
        let said = refused.stdout.lines().last().unwrap_or_default();
        ensure!(refused.status == 1 && said.contains(why) && !said.contains("vda"), "{device}: {refused:?}");
    }
    let refused = guest.run("rescue mount /dev/vh/guest 2>&1")?;
    ensure!(
        refused.status == 1 && refused.stdout.contains("losetup -rfP /dev/mapper/vh-guest"),
        "{refused:?}"
    );
    guest.ok("losetup -rfP /dev/mapper/vh-guest && rescue systems >/dev/null")?;
    ensure!(guest.ok("rescue mount guest && cat /mnt/guest/etc/os-release")?.contains("Debian guest"));
    guest.ok("rescue umount guest")?;
    let stuck = guest.run("rescue umount 2>&1")?;
    ensure!(
        stuck.status == 1 && stuck.stdout.contains("on it is /dev/loop0: losetup -d /dev/loop0"),
        "{stuck:?}"
    );
    guest.ok("losetup -D; rescue umount").map(drop)
}
