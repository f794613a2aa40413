//! Connections that are begun and not waited for (connect(2)).

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpStream};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

/// Begins a connection, through this card alone where one is named (`SO_BINDTODEVICE`): there the address is
/// taken to be on its link where no route tells. Once the socket is writable, it is there or has an error.
///
/// # Errors
/// Those of connect(2) that are known at once: no route, no such card.
pub fn begin(to: SocketAddr, link: Option<&str>) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    if let Some(link) = link {
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(link))?;
    }
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}
