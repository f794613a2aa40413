//! IPv6 settings of a link (`Documentation/networking/ip-sysctl.rst`), and the socket of DHCPv6.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, setsockopt, sockopt};

/// Port of clients.
const CLIENT: u16 = 546;
/// Port of servers.
const SERVER: u16 = 547;
/// All_DHCP_Relay_Agents_and_Servers (RFC 8415 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// What is set. The kernel neither follows router advertisements nor forms addresses of them, because
/// `netd` does; and an address may be used while duplicates are looked for (RFC 4429), which otherwise
/// takes one to two seconds in which a link with carrier has no usable address. Kernels without
/// `CONFIG_IPV6_OPTIMISTIC_DAD` do not have the latter two.
const SETTINGS: [(&str, &str); 4] =
    [("accept_ra", "0"), ("autoconf", "0"), ("optimistic_dad", "1"), ("use_optimistic", "1")];

/// Takes a link's IPv6 over from the kernel. It should be done before the link is set up, as its
/// link-local address is formed then. What cannot be set (a kernel without IPv6) is left.
pub fn take_over(link: &str) {
    // The names of links come from the kernel, which lets none be a path.
    if link.is_empty() || link.starts_with('.') || link.contains('/') {
        return;
    }
    for (setting, value) in SETTINGS {
        let path = format!("/proc/sys/net/ipv6/conf/{link}/{setting}");
        // Read first: in a container the settings may be right and not ours to write.
        if std::fs::read(&path).is_ok_and(|now| now.trim_ascii() != value.as_bytes()) {
            let _ = std::fs::write(&path, value);
        }
    }
}

/// The socket of a DHCPv6 client on one link.
#[derive(Debug)]
pub struct Dhcp6Socket {
    socket: UdpSocket,
    index: u32,
}

impl Dhcp6Socket {
    /// Opens it on the link of this name and index.
    ///
    /// # Errors
    /// Those of the socket; `EAFNOSUPPORT` of a kernel without IPv6.
    pub fn open(name: &str, index: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = nix::sys::socket::socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
        setsockopt(&fd, sockopt::BindToDevice, &name.into())?;
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        let any = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT, 0, 0));
        nix::sys::socket::bind(fd.as_raw_fd(), &any)?;
        Ok(Self { socket: fd.into(), index })
    }

    /// Sends a message to every server and relay on the link. The kernel chooses the link-local address
    /// as its source, as RFC 8415 7.2 has it.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` while the link has no address that can be used, and those of the link.
    pub fn ask(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, SocketAddrV6::new(SERVERS, SERVER, 0, self.index)).map(drop)
    }

    /// The next datagram, cut to the length of `buffer`; `None` when there is none.
    ///
    /// # Errors
    /// Those of the link.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match self.socket.recv(&mut *buffer) {
            Ok(length) => Ok(buffer.get(..length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl std::os::fd::AsFd for Dhcp6Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
