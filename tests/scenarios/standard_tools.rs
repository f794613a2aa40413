//! The standard image meets a login in 256 MiB of memory, and every program in it starts.
use crate::lab::Lab;

/// Programs and the words with which they say something and end well.
const TOOLS: &[&str] = &[
    "e2fsck -V", "mke2fs -V", "debugfs -V", "fsck.fat --help", "sfdisk --version", "fdisk --version", "blkid -V",
    "lsblk --version", "wipefs --version", "sgdisk --version", "mdadm --version", "lvm version", "pvs",
    "dmsetup version", "cryptsetup --version", "xfs_repair -V", "xfs_db -V", "smartctl --version", "nvme version",
    "efibootmgr --version", "ddrescue --version", "ethtool --version", "rsync --version", "tmux -V", "rescue help",
];

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let vm = lab.standard(&device)?.memory(256).start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    let failed: Vec<String> = TOOLS
        .iter()
        .map(|tool| Ok((tool, guest.run(&format!("{tool} >/dev/null 2>/tmp/why || {{ cat /tmp/why; false; }}"))?)))
        .filter_map(|ran: anyhow::Result<_>| match ran {
            Ok((_, output)) if output.status == 0 => None,
            Ok((tool, output)) => Some(format!("{tool}: {}{}", output.stdout, output.stderr)),
            Err(error) => Some(format!("{error:#}")),
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // A session that outlives its connection.
    guest.ok("tmux new-session -d -s kept 'echo $((6*7)) >/tmp/answer; sleep 600'")?;
    guest.until("cat /tmp/answer; tmux ls", |said| said.contains("42") && said.contains("kept"))
}
