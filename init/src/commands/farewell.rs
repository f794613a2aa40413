//! `rescue farewell`: what is known of this machine, on its consoles, before it goes back to its disk with
//! nobody having logged in. PID 1 starts it, and does not wait for it for long.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command as Process, ExitCode, Stdio};

use nix::libc::O_NOCTTY;

use super::{Command, status};
use crate::sys::log;
use crate::sys::notify::{Down, Notice};

pub(super) const COMMAND: Command =
    Command { name: "farewell", links: &[], usage: "CONSOLE…", about: "", run };

/// Most bytes of the tree of disks that are shown.
const MAX_DISKS: u64 = 64 << 10;

fn run(_: &str, consoles: &[String]) -> anyhow::Result<ExitCode> {
    let mut text = String::from("\nNobody has logged in: this machine goes back to its disk now.\n\n");
    text.push_str(&status::text(Path::new("/")));
    text.push('\n');
    text.push_str(&disks());
    log::note("pid1", "nobody has logged in: back to the disk");
    let text = text.replace('\n', "\r\n");
    let all = if consoles.is_empty() { vec!["console".to_string()] } else { consoles.to_vec() };
    for console in all {
        let path = Path::new("/dev").join(console);
        if let Ok(mut terminal) = OpenOptions::new().write(true).custom_flags(O_NOCTTY).open(path) {
            let _ = terminal.write_all(text.as_bytes());
            // A slow line still holds some of it.
            let _ = nix::sys::termios::tcdrain(&terminal);
        }
    }
    Notice::GoDown(Down::Reboot).send();
    // PID 1 would start it again.
    loop {
        nix::unistd::pause();
    }
}

/// What `rescue disks` says; a process of its own, since a disk may never answer.
fn disks() -> String {
    let started = Process::new("/proc/self/exe")
        .args(["disks", "--wait", "5"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut text = Vec::new();
    if let Ok(mut child) = started {
        if let Some(output) = child.stdout.take() {
            let _ = output.take(MAX_DISKS).read_to_end(&mut text);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    String::from_utf8_lossy(&text).into_owned()
}
