//! Ending processes that are not our children.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Asks processes to end (SIGTERM), waits for `grace`, and ends those that did not (SIGKILL). `meant`
/// is asked once a process can no longer be exchanged for another with its id, just before the signal.
pub fn end(pids: &[i32], grace: Duration, meant: &dyn Fn(i32) -> bool) {
    let open = |pid: &i32| pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok().map(|fd| (*pid, fd));
    let mut left: Vec<OwnedFd> =
        pids.iter().filter_map(open).filter(|(pid, _)| meant(*pid)).map(|(_, fd)| fd).collect();
    for (signal, limit) in [(Signal::TERM, grace), (Signal::KILL, grace)] {
        left.retain(|fd| pidfd_send_signal(fd, signal).is_ok());
        let until = Instant::now() + limit;
        while let Some(first) = left.first() {
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            // Readable once the process has ended (pidfd_open(2)).
            let mut fds = [PollFd::new(first.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
            if matches!(poll(&mut fds, timeout), Ok(1..)) {
                left.remove(0);
            }
        }
    }
}
