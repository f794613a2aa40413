//! What the monitor of a connection says to the listener, and hears from it.
//!
//! Each message is a byte. The monitor: [`ASK`], [`DONE`], [`REFUSED`], [`ADMITTED`]. The listener: [`GO`], after an
//! [`ASK`]. Whoever finds the other gone goes on alone.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Somebody has logged in.
pub(super) const ADMITTED: u8 = b'A';
/// A password was wrong.
pub(super) const REFUSED: u8 = b'R';
/// May a password be checked?
pub(super) const ASK: u8 = b'P';
/// It may.
pub(super) const GO: u8 = b'G';
/// It was checked.
pub(super) const DONE: u8 = b'D';

/// The process's end.
#[derive(Debug)]
pub(super) struct Control(Mutex<Option<UnixStream>>);

impl Control {
    /// Takes the socket over, which blocks.
    pub(super) fn new(socket: UnixStream) -> Self {
        Self(Mutex::new(Some(socket)))
    }

    /// Says that somebody has logged in, after which there is nothing more to say.
    pub(super) fn admitted(&self) {
        if let Some(mut socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = socket.write_all(&[ADMITTED]);
        }
    }

    /// Says that a password was wrong.
    pub(super) fn refused(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = socket.write_all(&[REFUSED]);
        }
    }

    /// Runs `check` when the listener lets it; blocks until then.
    pub(super) fn in_turn<T>(&self, check: impl FnOnce() -> T) -> T {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(socket) = socket.as_mut() else { return check() };
        if socket.write_all(&[ASK]).is_ok() {
            let _ = socket.read_exact(&mut [0]);
        }
        let result = check();
        let _ = socket.write_all(&[DONE]);
        result
    }
}

/// What a connection does about passwords, as the listener knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing.
    None,
    /// It waits, since then.
    Waits(Instant),
    /// It checks one.
    Runs,
}

/// The connection that may check a password now, when at most `limit` may at once: of the source that
/// checks the fewest, the one that has waited longest.
pub(super) fn next(connections: &[(IpAddr, Check)], limit: usize) -> Option<usize> {
    let running = |of: Option<IpAddr>| {
        let counted =
            |(source, check): &&(IpAddr, Check)| *check == Check::Runs && of.is_none_or(|of| of == *source);
        connections.iter().filter(counted).count()
    };
    if running(None) >= limit {
        return None;
    }
    let waiting = connections.iter().enumerate().filter_map(|(at, (source, check))| match check {
        Check::Waits(since) => Some((running(Some(*source)), *since, at)),
        _ => None,
    });
    waiting.min().map(|(_, _, at)| at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn checks_are_few_and_no_source_has_them_all() {
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let start = Instant::now();
        let after = |seconds| Check::Waits(start + Duration::from_secs(seconds));
        let mut list = vec![(a, after(1)), (a, after(0)), (a, after(2)), (b, after(9)), (b, Check::None)];
        let mut order = Vec::new();
        while let Some(at) = next(&list, 3) {
            list[at].1 = Check::Runs;
            order.push(at);
        }
        assert_eq!(order, [1, 3, 0]);
        list[3].1 = Check::None;
        assert_eq!(next(&list, 3), Some(2));
        assert_eq!(next(&list, 2), None);
        assert_eq!(next(&[], 3), None);
    }

    #[test]
    fn a_check_waits_for_its_turn_and_not_for_a_listener_that_is_gone() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let control = Control::new(ours);
        let listener = std::thread::spawn(move || {
            let mut listener = theirs;
            let mut said = [0; 1];
            listener.read_exact(&mut said).unwrap();
            assert_eq!(said, [ASK]);
            listener.write_all(&[GO]).unwrap();
            listener.read_exact(&mut said).unwrap();
            assert_eq!(said, [DONE]);
        });
        assert_eq!(control.in_turn(|| 7), 7);
        listener.join().unwrap();
        assert_eq!(control.in_turn(|| 8), 8);
        control.admitted();
        assert_eq!(control.in_turn(|| 9), 9);
    }
}
