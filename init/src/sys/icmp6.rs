//! Sockets of neighbour discovery (icmp6(7), RFC 3542): router advertisements in, solicitations out.
#![allow(unsafe_code)]
// Constants and sizes of the kernel's ABI, all of which fit.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::mem::size_of;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, recvmsg,
    setsockopt, sockopt,
};

use super::packet::{link_address, raw_socket};

const ADVERTISEMENT: usize = 134;
/// `setsockopt` name of RFC 3542 3.2; Linux's value.
const ICMP6_FILTER: libc::c_int = 1;
const ETH_P_IPV6: u16 = 0x86dd;
/// ff02::2 on Ethernet (RFC 2464 7).
const ALL_ROUTERS: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];
/// What a neighbour sends has not passed a router (RFC 4861 6.1.2).
const HOP_LIMIT: i32 = 255;

/// Receives the router advertisements that arrive at one link. The kernel verifies their checksum.
#[derive(Debug)]
pub struct RouterSocket {
    fd: OwnedFd,
    index: u32,
}

/// What was received.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// Nothing is there.
    Nothing,
    /// Something that no router of this link can have sent.
    Foreign,
    /// An ICMPv6 message of a neighbour, from its type on, by its source address.
    Message(Ipv6Addr, &'a [u8]),
}

impl RouterSocket {
    /// Opens it on the link of this name and index.
    ///
    /// # Errors
    /// Those of the socket: `EPERM` without `CAP_NET_RAW`, `EAFNOSUPPORT` of a kernel without IPv6,
    /// `ENODEV` when the link is gone.
    pub fn open(name: &str, index: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::IcmpV6;
        let fd = nix::sys::socket::socket(AddressFamily::Inet6, SockType::Raw, flags, Some(protocol))?;
        filter(&fd)?;
        setsockopt(&fd, sockopt::BindToDevice, &name.into())?;
        setsockopt(&fd, sockopt::Ipv6RecvHopLimit, &true)?;
        Ok(Self { fd, index })
    }

    /// The next message, cut to the length of `buffer`. One that came with another hop limit, from an
    /// address that is not link-local, or over another link (before the socket was bound to this one)
    /// is foreign.
    ///
    /// # Errors
    /// Those of the link: `ENETDOWN`.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Received<'a>> {
        let mut control = nix::cmsg_space!(i32);
        let mut parts = [io::IoSliceMut::new(buffer)];
        let received =
            recvmsg::<SockaddrIn6>(self.fd.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
        let (length, from, hops) = match received {
            Ok(message) => {
                let hops = message.cmsgs().ok().and_then(|mut all| {
                    all.find_map(|one| match one {
                        ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
                        _ => None,
                    })
                });
                (message.bytes, message.address, hops)
            }
            Err(nix::errno::Errno::EAGAIN) => return Ok(Received::Nothing),
            Err(error) => return Err(error.into()),
        };
        let near = |from: &SockaddrIn6| from.ip().is_unicast_link_local() && from.scope_id() == self.index;
        Ok(match (from.filter(near), buffer.get(..length)) {
            (Some(from), Some(message)) if hops == Some(HOP_LIMIT) => Received::Message(from.ip(), message),
            _ => Received::Foreign,
        })
    }
}

impl AsFd for RouterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Lets advertisements pass and nothing else: echo requests and neighbours cost us no wake-up.
fn filter(fd: &OwnedFd) -> io::Result<()> {
    let mut blocked = [u32::MAX; 8];
    if let Some(word) = blocked.get_mut(ADVERTISEMENT >> 5) {
        *word &= !(1 << (ADVERTISEMENT & 31));
    }
    // SAFETY: `blocked` is a whole `struct icmp6_filter` (eight words) that outlives the call, and its
    // own size is passed; the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMP6_FILTER,
            blocked.as_ptr().cast(),
            size_of::<[u32; 8]>() as u32,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends IPv6 packets to all routers of a link, also from a link that has no address yet, which no
/// other kind of socket does.
#[derive(Debug)]
pub struct SolicitSocket {
    fd: OwnedFd,
    index: u32,
}

impl SolicitSocket {
    /// Opens it on the link of this index. It receives nothing. Closing it takes the kernel some 10 ms.
    ///
    /// # Errors
    /// Those of the socket: `EPERM` without `CAP_NET_RAW`.
    pub fn open(index: u32) -> io::Result<Self> {
        Ok(Self { fd: raw_socket()?, index })
    }

    /// Sends a packet, from the IPv6 header on.
    ///
    /// # Errors
    /// Those of the link: `ENETDOWN`, `ENOBUFS`.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let address = link_address(self.index, ETH_P_IPV6, ALL_ROUTERS)?;
        // SAFETY: `packet` and `address` outlive the call and are passed with their own sizes.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
