//! The orders that `netd` takes while it runs: one short datagram each, on a socket that only root can
//! write to, and one in answer. Wishes themselves are a file; the order is to read it again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// Longest order and answer, in bytes.
const MAX: usize = 4096;
/// How long `netd` may take to answer: it builds what is wished before it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// What may be asked of `netd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Read the wishes again, and bring the network in line with them.
    Reload,
    /// Try again what has not worked: leases, links that could not be built.
    Retry,
}

impl Order {
    fn word(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Retry => "retry",
        }
    }

    fn parse(word: &[u8]) -> Option<Self> {
        [Self::Reload, Self::Retry].into_iter().find(|order| order.word().as_bytes() == word)
    }
}

/// `netd`'s end.
#[derive(Debug)]
pub struct Control(UnixDatagram);

impl Control {
    /// Opens it at `path`, in place of one that an earlier run left.
    ///
    /// # Errors
    /// Those of the socket and of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// The next order and whom to answer; `None` when none waits. What is no order is answered here.
    #[must_use]
    pub fn next(&self) -> Option<(Order, SocketAddr)> {
        loop {
            let mut buffer = [0; MAX];
            let (length, from) = self.0.recv_from(&mut buffer).ok()?;
            match buffer.get(..length).and_then(Order::parse) {
                Some(order) => return Some((order, from)),
                None => self.answer(&from, "no such order"),
            }
        }
    }

    /// Answers; an empty text is contentment. Whoever has left is not waited for.
    pub fn answer(&self, to: &SocketAddr, text: &str) {
        let text = text.as_bytes();
        let _ = self.0.send_to_addr(text.get(..MAX).unwrap_or(text), to);
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives an order to the `netd` that listens at `path`; returns what it answers.
///
/// # Errors
/// `NotFound` and `ConnectionRefused` where none runs, `TimedOut` where it does not answer.
pub fn order(path: &Path, order: Order) -> io::Result<String> {
    let own = format!("rescue-net-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(own)?)?;
    socket.connect(path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(order.word().as_bytes())?;
    let mut buffer = [0; MAX];
    match socket.recv(&mut buffer) {
        Ok(length) => Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_heard_and_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netd");
        assert_eq!(order(&path, Order::Retry).unwrap_err().kind(), io::ErrorKind::NotFound);
        let control = Control::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let stranger = UnixDatagram::unbound().unwrap();
        stranger.send_to(b"frobnicate", &path).unwrap();
        stranger.send_to(b"", &path).unwrap();
        let asked = std::thread::spawn(move || order(&path, Order::Reload).unwrap());
        let (what, from) = loop {
            match control.next() {
                Some(found) => break found,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(what, Order::Reload);
        control.answer(&from, &"é".repeat(MAX));
        assert_eq!(asked.join().unwrap().len(), MAX);
        drop(control);
        let again = Control::open(&folder.path().join("netd")).unwrap();
        assert_eq!(again.next().map(|(order, _)| order), None);
    }
}
