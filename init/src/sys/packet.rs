//! Packet sockets (packet(7)): IPv4 for a link that has no address yet, and ARP.
#![allow(unsafe_code)]
// Constants and sizes of the kernel's ABI, all of which fit.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const BROADCAST: [u8; 6] = [0xff; 6];

/// A socket that receives the DHCPv4 replies that arrive at one link and sends IPv4 broadcasts from
/// it. Datagrams start at the IP header.
#[derive(Debug)]
pub struct DhcpSocket {
    fd: OwnedFd,
    index: u32,
}

impl DhcpSocket {
    /// Opens it on the link of this index.
    ///
    /// # Errors
    /// Those of the socket: `EPERM` without `CAP_NET_RAW`, `ENXIO` when the link is gone.
    pub fn open(index: u32) -> io::Result<Self> {
        // Protocol 0 receives nothing: no datagram gets in before the filter stands.
        let fd = raw_socket()?;
        attach_filter(&fd, &DHCP_REPLIES)?;
        bind(&fd, index, ETH_P_IP)?;
        Ok(Self { fd, index })
    }

    /// Broadcasts an IPv4 datagram, header included.
    ///
    /// # Errors
    /// Those of the link: `ENETDOWN`, `ENOBUFS`.
    pub fn broadcast(&self, datagram: &[u8]) -> io::Result<()> {
        send(&self.fd, self.index, ETH_P_IP, datagram)
    }

    /// The next datagram, cut to the length of `buffer`; `None` when there is none.
    ///
    /// # Errors
    /// Those of the link: `ENETDOWN`.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(length) => Ok(buffer.get(..length)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for DhcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket that receives the ARP packets at one link whose senders claim one of some addresses.
#[derive(Debug)]
pub struct ArpSocket {
    fd: OwnedFd,
    index: u32,
}

impl ArpSocket {
    /// Most addresses that one filter holds; further ones are not watched.
    pub const MOST: usize = 64;

    /// Opens it on the link of this index, for these addresses.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open(index: u32, addresses: &[Ipv4Addr]) -> io::Result<Self> {
        let fd = raw_socket()?;
        attach_filter(&fd, &claims(addresses))?;
        bind(&fd, index, ETH_P_ARP)?;
        Ok(Self { fd, index })
    }

    /// Watches these addresses instead.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn watch(&self, addresses: &[Ipv4Addr]) -> io::Result<()> {
        attach_filter(&self.fd, &claims(addresses))
    }

    /// Broadcasts an ARP packet (from the hardware type on).
    ///
    /// # Errors
    /// Those of the link.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        send(&self.fd, self.index, ETH_P_ARP, packet)
    }

    /// The next packet, cut to the length of `buffer`; `None` when there is none.
    ///
    /// # Errors
    /// Those of the link.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(length) => Ok(buffer.get(..length)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for ArpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// ARP packets whose sender's IPv4 address (at byte 14) is one of these.
fn claims(addresses: &[Ipv4Addr]) -> Vec<libc::sock_filter> {
    let mut program = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 14)];
    for address in addresses.iter().take(ArpSocket::MOST) {
        program.push(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from(*address)));
        program.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, 0xffff));
    }
    program.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, 0));
    program
}

/// Broadcasts an ARP packet (from the hardware type on) from the link of this index.
///
/// # Errors
/// Those of the socket and of the link.
pub fn send_arp(index: u32, packet: &[u8]) -> io::Result<()> {
    send(&raw_socket()?, index, ETH_P_ARP, packet)
}

/// An ordinary UDP socket at the DHCP client's port, for the unicast renewal of a lease: the kernel
/// routes and resolves. It is held while the answer is awaited, so that the kernel does not refuse
/// it by ICMP.
///
/// # Errors
/// Those of the socket; `EADDRNOTAVAIL` when the address is not on this machine.
pub fn dhcp_unicast(link: &str, address: Ipv4Addr) -> io::Result<UdpSocket> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = nix::sys::socket::socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::BindToDevice, &link.into())?;
    nix::sys::socket::bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 68)))?;
    Ok(fd.into())
}

pub(super) fn raw_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed; the result is checked before it is owned.
    let fd = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel just gave us and that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn link_address(index: u32, protocol: u16, to: [u8; 6]) -> io::Result<libc::sockaddr_ll> {
    let [a, b, c, d, e, f] = to;
    Ok(libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    })
}

fn bind(fd: &OwnedFd, index: u32, protocol: u16) -> io::Result<()> {
    let address = link_address(index, protocol, [0; 6])?;
    // SAFETY: `address` is a whole sockaddr_ll that outlives the call, and its own size is passed.
    let result = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn send(fd: &OwnedFd, index: u32, protocol: u16, data: &[u8]) -> io::Result<()> {
    let address = link_address(index, protocol, BROADCAST)?;
    // SAFETY: `data` and `address` outlive the call and are passed with their own sizes.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// UDP, not a later fragment, to port 68, a BOOTREPLY. Everything else costs us no wake-up.
const DHCP_REPLIES: [libc::sock_filter; 11] = [
    op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 9),
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 8, 17),
    op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 6),
    op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 6, 0, 0x1fff),
    op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
    op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, 2),
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 3, 68),
    op(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0, 8),
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 2),
    op(libc::BPF_RET | libc::BPF_K, 0, 0, 0xffff),
    op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
];

fn attach_filter(fd: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points at `len` instructions that outlive the call; the kernel copies them
    // and never writes through the pointer.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
