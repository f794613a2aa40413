//! Processes as PID 1 sees them.
#![allow(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Runs `work` in a forked child and waits for it, but no longer than `limit`: for calls that a
/// dying disk can hold for ever (umount, sync). Says whether it ended in time and well; a child that
/// did not is killed, and left behind where not even that ends it.
///
/// Only for a process with one thread. Other children that end meanwhile are not reaped here.
///
/// # Errors
/// When there can be no child.
pub fn with_limit(limit: Duration, work: impl FnOnce() -> bool) -> io::Result<bool> {
    // SAFETY: this process has one thread (PID 1 starts none), so the child may do anything.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            let status = if work() { 0 } else { 1 };
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { nix::libc::_exit(status) }
        }
        ForkResult::Parent { child } => child,
    };
    let until = Instant::now() + limit;
    let mut nap = Duration::from_millis(1);
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(status) => return Ok(matches!(status, WaitStatus::Exited(_, 0))),
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= until {
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
            return Ok(false);
        }
        // No descriptor tells of a child's end that would not also swallow PID 1's SIGCHLD.
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(50));
    }
}

/// Makes a process that goes on from here as this one does: its id, or none in the child.
///
/// Only for a process with one thread.
///
/// # Errors
/// Those of fork(2).
pub fn split() -> io::Result<Option<u32>> {
    // SAFETY: the process has one thread (its caller says so), so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(None),
        ForkResult::Parent { child } => Ok(Some(child.as_raw().cast_unsigned())),
    }
}

/// Waits for a child that is ending; one that is not is ended first, or left behind where not even SIGKILL does.
pub fn end(child: u32, late: bool) {
    let child = Pid::from_raw(child.cast_signed());
    if late {
        let _ = kill(child, Signal::SIGKILL);
    }
    let _ = waitpid(child, late.then_some(WaitPidFlag::WNOHANG));
}

/// A child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub pid: i32,
    /// How.
    pub how: How,
    /// Whether it left a core.
    pub core: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// Reaps one child that has ended, ours or an orphan that became ours. `None` when no more have.
pub fn reap() -> Option<Ended> {
    loop {
        return match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => {
                Some(Ended { pid: pid.as_raw(), how: How::Exit(status), core: false })
            }
            Ok(WaitStatus::Signaled(pid, signal, core)) => {
                Some(Ended { pid: pid.as_raw(), how: How::Signal(signal as i32), core })
            }
            Err(Errno::EINTR) => continue,
            // A real-time signal, which nix has no name for: the child is reaped, and was no service.
            Err(Errno::EINVAL) => continue,
            _ => None,
        };
    }
}

/// Signals every process but this one and the kernel's own (kill(2), pid -1).
pub fn signal_all(signal: Signal) {
    let _ = kill(Pid::from_raw(-1), signal);
}

/// Whether this process still has children.
pub fn has_children() -> bool {
    use nix::sys::wait::{Id, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::All, flags), Err(Errno::ECHILD))
}

/// When a process started, in clock ticks after the kernel (proc(5), `starttime`); none when it is not
/// there.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = super::files::read_capped(std::path::Path::new(&format!("/proc/{pid}/stat")), 4096).ok()?;
    // The name, in brackets, may hold anything, brackets and spaces too.
    let after = stat.rsplit(|b| *b == b')').next()?;
    std::str::from_utf8(after).ok()?.split_whitespace().nth(19)?.parse().ok()
}
