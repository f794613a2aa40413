//! Going down in order: sessions told, processes ended, file systems unmounted in reverse order,
//! caches synced, each with a limit, because a machine with a dying disk must go down as well.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sys_mount::{UnmountFlags, unmount};

use super::boot::Boot;
use super::consoles;
use crate::disk::assemble;
use crate::disk::mountinfo::planned_unmounts;
use crate::sys::files::read_capped;
use crate::sys::log;
use crate::sys::notify::Down;
use crate::sys::power::down_now;
use crate::sys::process::{has_children, reap, signal_all, with_limit};

/// How long processes have to end after they were asked to, and after they were killed.
const TERM_LIMIT: Duration = Duration::from_secs(5);
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// How long one unmount may take: a journal is written back, on a disk that may be dying.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(20);
/// How long all arrays and volumes may take to be closed.
const APART_LIMIT: Duration = Duration::from_secs(20);
/// How long the final sync may take.
const SYNC_LIMIT: Duration = Duration::from_secs(20);

/// Takes the machine down. Returns only when the kernel refuses.
pub(super) fn go_down(boot: &mut Boot, way: Down) {
    let verb = match way {
        Down::Reboot => "rebooting",
        Down::PowerOff => "powering off",
        Down::Halt => "halting",
    };
    log::kmsg(&format!("rescue: going down: {verb}"));
    consoles::say(&boot.consoles, true, &format!("\r\nThe rescue is {verb} now.\r\n"));
    boot.services.stop();
    end_processes();
    unmount_all();
    take_apart();
    if !with_limit(SYNC_LIMIT, synced).unwrap_or(false) {
        log::kmsg_error("rescue: going down: the disks took too long to sync");
    }
    log::kmsg(&format!("rescue: down: {}", way.word()));
    let error = down_now(way);
    log::kmsg_error(&format!("rescue: {}: {error}", way.word()));
}

fn end_processes() {
    // An interactive shell ignores SIGTERM, and SIGHUP is what tells it that its terminal is gone. A
    // stopped process acts on neither until it is continued.
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCONT] {
        signal_all(signal);
    }
    if !all_ended(TERM_LIMIT) {
        log::note("pid1", "going down: killing what did not end by itself");
        signal_all(Signal::SIGKILL);
        all_ended(KILL_LIMIT);
    }
}

/// Reaps until no child is left. All processes are children of PID 1 in the end: what loses its
/// parent becomes one.
fn all_ended(limit: Duration) -> bool {
    let until = Instant::now() + limit;
    let children = SigSet::from(Signal::SIGCHLD);
    let waiter = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    loop {
        while reap().is_some() {}
        if !has_children() {
            return true;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        match &waiter {
            Ok(fd) => {
                let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
                let _ = fd.read_signal();
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn unmount_all() {
    let mounts = read_capped(Path::new("/proc/self/mountinfo"), 4 << 20).unwrap_or_default();
    for target in planned_unmounts(&mounts) {
        match with_limit(UNMOUNT_LIMIT, || unmounted(&target)) {
            Ok(true) => log::note("pid1", &format!("unmounted {}", target.display())),
            _ => log::kmsg_error(&format!("rescue: going down: {} is still mounted", target.display())),
        }
    }
}

/// What `rescue assemble` and `rescue mount` have put together: a volume that is still open keeps what is below
/// it from being let go in order.
fn take_apart() {
    match with_limit(APART_LIMIT, taken_apart) {
        Ok(true) => {}
        _ => log::kmsg_error("rescue: going down: not all that was put together could be taken apart"),
    }
}

/// In the child of [`with_limit`].
fn taken_apart() -> bool {
    let Ok((done, stuck)) = assemble::teardown(false) else { return false };
    done.iter().for_each(|line| log::kmsg(&format!("rescue: going down: {line}")));
    stuck.iter().for_each(|line| log::kmsg_error(&format!("rescue: going down: {line}")));
    stuck.is_empty()
}

/// In the child of [`with_limit`]. Where it is busy, read-only at least: its journal is then written
/// back and the file system marked clean.
fn unmounted(target: &Path) -> bool {
    unmount(target, UnmountFlags::empty()).is_ok()
        || rustix::mount::mount_remount(target, rustix::mount::MountFlags::RDONLY, c"").is_ok()
            && unmount(target, UnmountFlags::DETACH).is_ok()
}

/// sync(2), as something that [`with_limit`] runs.
pub(super) fn synced() -> bool {
    rustix::fs::sync();
    true
}
