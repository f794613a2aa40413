//! Sockets between a virtual machine and its host (vsock(7)).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, bind, connect, socket};

/// The last port that only root may bind, by which a host knows who speaks to it.
const LAST_PRIVILEGED: u32 = 1023;
/// `VMADDR_CID_ANY`.
const ANY: u32 = u32::MAX;

/// How a vsock carries what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `SOCK_DGRAM`, which few transports have.
    Datagram,
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_SEQPACKET`.
    Packets,
}

/// Begins a connection to a port of the host (`cid` 2) or of another machine, from a privileged port where
/// one is free. Once the socket is writable, it is there or has an error.
///
/// # Errors
/// `ENODEV`, `EAFNOSUPPORT`, `ESOCKTNOSUPPORT` where there is no vsock, or none of this kind; those of
/// connect(2) that are known at once.
pub fn begin(kind: Kind, cid: u32, port: u32) -> io::Result<OwnedFd> {
    let kind = match kind {
        Kind::Datagram => SockType::Datagram,
        Kind::Stream => SockType::Stream,
        Kind::Packets => SockType::SeqPacket,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Vsock, kind, flags, None)?;
    for own in (1..=LAST_PRIVILEGED).rev() {
        match bind(socket.as_raw_fd(), &VsockAddr::new(ANY, own)) {
            Err(Errno::EADDRINUSE) => {}
            // Taken, or not to be had: the kernel picks one then.
            _ => break,
        }
    }
    let to = VsockAddr::new(cid, port);
    match connect(socket.as_raw_fd(), &to) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}
