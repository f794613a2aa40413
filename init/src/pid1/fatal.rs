//! The fatal path: PID 1 itself cannot go on.
//!
//! It says so on every console and in kmsg, syncs with a limit, and does what the kernel's `panic=`
//! asks (`Documentation/admin-guide/kernel-parameters.txt`): negative, reboot at once; positive, after
//! so many seconds; zero, stay. To stay is to keep reaping, so that sessions that are open live on
//! and an engineer can still save what can be saved.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::consoles;
use super::shutdown::synced;
use crate::sys::files::read_trimmed;
use crate::sys::notify::Down;
use crate::sys::power::down_now;
use crate::sys::process::{reap, with_limit};
use crate::sys::{log, spawn};

/// How long the final sync may take.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

static UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Makes a panic of this process take the fatal path.
pub(super) fn install() {
    std::panic::set_hook(Box::new(|info| end(&info.to_string())));
}

/// Takes the fatal path.
pub(super) fn end(why: &str) -> ! {
    // A second failure on this path must not come back here.
    if UNDER_WAY.swap(true, Ordering::Relaxed) {
        down_now(Down::Reboot);
    }
    spawn::protect_from_oom_killer();
    let line = format!("rescue: fatal: {why}");
    log::kmsg_error(&line);
    let timeout =
        read_trimmed(Path::new("/proc/sys/kernel/panic")).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
    let next = match timeout {
        0 => "PID 1 serves no more; open sessions live on (panic=0)".to_string(),
        n if n < 0 => "rebooting now".into(),
        n => format!("rebooting in {n} s"),
    };
    let ttys = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let ttys: Vec<String> = ttys.split_whitespace().map(str::to_string).collect();
    consoles::say(&ttys, true, &format!("\r\n{line}\r\nrescue: {next}\r\n"));
    let _ = with_limit(SYNC_LIMIT, synced);
    if timeout > 0 {
        std::thread::sleep(Duration::from_secs(timeout.unsigned_abs()));
    }
    if timeout != 0 {
        let error = down_now(Down::Reboot);
        log::kmsg_error(&format!("rescue: fatal: rebooting: {error}"));
    }
    let children = SigSet::from(Signal::SIGCHLD);
    let _ = children.thread_block();
    loop {
        while reap().is_some() {}
        let _ = children.wait();
    }
}
