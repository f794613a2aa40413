//! The kernel's announcements of devices that come and go (`NETLINK_KOBJECT_UEVENT`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_KOBJECT_UEVENT};

/// Multicast group of what the kernel itself says; group 2 is udev's.
const KERNEL: u32 = 1;
/// Bytes of events that may wait while a driver is being loaded: a shelf of disks at once.
const QUEUE: usize = 8 << 20;

/// The announcements, from the moment of opening on.
pub struct Uevents(Socket);

impl Uevents {
    /// Subscribes.
    ///
    /// # Errors
    /// Those of netlink(7).
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT)?;
        let _ = socket.set_rx_buf_sz(QUEUE);
        socket.bind(&SocketAddr::new(0, KERNEL))?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// The next announcement that waits, as the kernel wrote it; `None` when none does. What another
    /// process says on this socket is passed over.
    ///
    /// # Errors
    /// Those of recv(2); `ENOBUFS` when the kernel had to drop announcements.
    pub fn pending(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.0.recv_from_full() {
                Ok((message, sender)) if sender.port_number() == 0 => return Ok(Some(message)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
