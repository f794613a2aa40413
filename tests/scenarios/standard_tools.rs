//! The standard image meets a login in 256 MiB of memory, and every program in it starts. A shell outlives the
//! connection that was cut, and is taken up again at the next login.
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};

use crate::guest::Guest;
use crate::lab::Lab;
use crate::vm::limit;

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
    let mut first = Terminal::open(guest)?;
    first.until("a prompt", |shown| shown.contains("(rescue)"))?;
    first.say("mark=kept-$((6*7)); echo $mark >/tmp/kept\n")?;
    guest.until("cat /tmp/kept 2>/dev/null || true", |said| said.contains("kept-42"))?;
    drop(first);
    let mut second = Terminal::open(guest)?;
    second.until("the offer", |shown| shown.contains("Take it"))?;
    second.say("y\n")?;
    // The same shell: it still knows.
    second.say("echo $mark again >/tmp/again\n")?;
    guest.until("cat /tmp/again 2>/dev/null || true", |said| said.contains("kept-42 again"))
}

/// An engineer's terminal: a client with a terminal on the other side, cut without a word when it is dropped.
struct Terminal {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open(guest: &Guest) -> anyhow::Result<Self> {
        let mut command = guest.command(&[]);
        command
            .arg("-tt")
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("starting ssh")?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (kept, out) = (shown.clone(), child.stdout.take());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let Some(mut out) = out else { return };
            while let Ok(length @ 1..) = out.read(&mut buffer) {
                if let Ok(mut kept) = kept.lock() {
                    kept.extend_from_slice(&buffer[..length]);
                }
            }
        });
        Ok(Self { child, shown })
    }

    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let input = self.child.stdin.as_mut().context("the terminal has no input")?;
        input.write_all(text.as_bytes()).context("the terminal is gone")
    }

    fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let end = std::time::Instant::now() + limit(60);
        loop {
            let shown = self.shown.lock().map(|shown| String::from_utf8_lossy(&shown).into_owned());
            let shown = shown.unwrap_or_default();
            if is(&shown) {
                return Ok(());
            }
            ensure!(std::time::Instant::now() < end, "no {what}: {shown:?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
