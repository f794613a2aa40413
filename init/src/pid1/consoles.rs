//! The consoles: every terminal that the kernel speaks on, serial and screen.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use rescue_schema::report::StageResult;

use super::boot::Boot;
use super::stages::Outcome;
use crate::sys::files::read_trimmed;

/// Most consoles that get a login; a kernel has eight at the most.
const MAX_CONSOLES: usize = 8;

/// Finds the consoles, and makes sure of one that can be written to.
pub(super) fn stage(boot: &mut Boot) -> Outcome {
    boot.consoles = observe(Path::new("/"));
    // With no console at all (a cloud image without serial port) the rescue is reached by SSH alone,
    // which is what it is for: the kernel's own /dev/console exists even then.
    match Path::new("/dev/console").exists() || !boot.consoles.is_empty() {
        true => (StageResult::Ok, boot.consoles.join(" ")),
        false => (StageResult::Failed, "no console: /dev/console is missing".into()),
    }
}

/// Names of the terminals to log in on, from `<root>/sys/class/tty/console/active`.
fn observe(root: &Path) -> Vec<String> {
    let active = read_trimmed(&root.join("sys/class/tty/console/active")).unwrap_or_default();
    logins(&active).into_iter().filter(|tty| root.join("dev").join(tty).exists()).collect()
}

/// `tty0` stands for whichever virtual terminal is in front; a login wants the first one itself.
fn logins(active: &str) -> Vec<String> {
    let mut ttys: Vec<String> = Vec::new();
    for name in active.split_whitespace() {
        let tty = if name == "tty0" { "tty1" } else { name };
        let plain = tty.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if plain && !ttys.iter().any(|t| t == tty) && ttys.len() < MAX_CONSOLES {
            ttys.push(tty.into());
        }
    }
    ttys
}

/// Writes to every console and, with `sessions`, to every terminal that somebody is logged in on.
/// Never blocks: a serial line with nobody at its end and flow control on must not hold PID 1 up.
pub(super) fn say(consoles: &[String], sessions: bool, text: &str) {
    let mut targets: Vec<PathBuf> = consoles.iter().map(|tty| Path::new("/dev").join(tty)).collect();
    if targets.is_empty() {
        targets.push("/dev/console".into());
    }
    if sessions {
        let terminals =
            std::fs::read_dir("/dev/pts").into_iter().flatten().flatten().map(|entry| entry.path());
        targets.extend(terminals.filter(|path| path.file_name().is_some_and(|name| name != "ptmx")));
    }
    for target in targets {
        let opened = OpenOptions::new().write(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(target);
        if let Ok(mut terminal) = opened {
            let _ = terminal.write_all(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_and_screen_each_get_a_login_once() {
        assert_eq!(logins("tty0 ttyS0\n"), ["tty1", "ttyS0"]);
        assert_eq!(logins("ttyS0 ttyS0 hvc0"), ["ttyS0", "hvc0"]);
        assert!(logins("").is_empty());
        assert!(logins("../sda").is_empty());
    }

    #[test]
    fn only_terminals_that_exist_count() {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path().join("sys/class/tty/console");
        std::fs::create_dir_all(&sys).unwrap();
        std::fs::create_dir_all(root.path().join("dev")).unwrap();
        std::fs::write(sys.join("active"), "ttyS0 ttyS1\n").unwrap();
        std::fs::write(root.path().join("dev/ttyS1"), "").unwrap();
        assert_eq!(observe(root.path()), ["ttyS1"]);
    }
}
