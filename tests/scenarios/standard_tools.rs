//! The standard image meets a login in 256 MiB of memory, and every program in it starts. A shell outlives the
//! connection that was cut, and is taken up again at the next login.
use crate::guest::Guest;
use crate::lab::Lab;
use crate::terminal::Terminal;

/// Programs and the words with which they say something and end well.
const TOOLS: &[&str] = &[
    "e2fsck -V",
    "mke2fs -V",
    "debugfs -V",
    "fsck.fat --help",
    "sfdisk --version",
    "fdisk --version",
    "blkid -V",
    "lsblk --version",
    "wipefs --version",
    "sgdisk --version",
    "mdadm --version",
    "lvm version",
    "pvs",
    "dmsetup version",
    "cryptsetup --version",
    "xfs_repair -V",
    "xfs_db -V",
    "smartctl --version",
    "nvme version",
    "efibootmgr --version",
    "ddrescue --version",
    "ethtool --version",
    "rsync --version",
    "tmux -V",
    "rescue help",
    // Its driver is a module, and is loaded because this opens /dev/loop-control.
    "losetup -f",
];

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.standard(&device)?.memory(256).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    let failed: Vec<String> = TOOLS
        .iter()
        .map(|tool| {
            Ok((tool, guest.run(&format!("{tool} >/dev/null 2>/tmp/why || {{ cat /tmp/why; false; }}"))?))
        })
        .filter_map(|ran: anyhow::Result<_>| match ran {
            Ok((_, output)) if output.status == 0 => None,
            Ok((tool, output)) => Some(format!("{tool}: {}{}", output.stdout, output.stderr)),
            Err(error) => Some(format!("{error:#}")),
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    a_shell_outlives_its_connection(&guest)
}

fn a_shell_outlives_its_connection(guest: &Guest) -> anyhow::Result<()> {
    let mut first = Terminal::open(guest, &[])?;
    first.until("a prompt", |shown| shown.contains("(rescue)"))?;
    first.say("mark=kept-$((6*7)); echo $mark >/tmp/kept\n")?;
    guest.until("cat /tmp/kept 2>/dev/null || true", |said| said.contains("kept-42"))?;
    drop(first);
    let mut second = Terminal::open(guest, &[])?;
    second.until("the offer", |shown| shown.contains("Take it"))?;
    second.say("y\n")?;
    // The same shell: it still knows.
    second.say("echo $mark again >/tmp/again\n")?;
    guest.until("cat /tmp/again 2>/dev/null || true", |said| said.contains("kept-42 again"))
}
