//! A packet socket (packet(7)) for what the switch at the other end of a cable says of itself: LLDP, LACP
//! and CDP.
#![allow(unsafe_code)]
// Constants and sizes of the kernel's ABI, all of which fit.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

/// Largest frame that is read, header included.
pub const MAX_FRAME: usize = 1522;
/// `PACKET_IGNORE_OUTGOING`, Linux 4.20.
const IGNORE_OUTGOING: i32 = 23;
/// What waits unread, in bytes; a flood fills no more.
const QUEUE: usize = 32 << 10;

/// Nearest bridge (LLDP), slow protocols (LACP), and Cisco's. A card passes them on once it is told to.
const GROUPS: [[u8; 6]; 3] = [
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e],
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x02],
    [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc],
];

/// Receives the frames of these protocols that arrive at one card, from the Ethernet header on.
#[derive(Debug)]
pub struct NeighbourSocket {
    fd: OwnedFd,
}

impl NeighbourSocket {
    /// Opens it on the link of this index. It hears what arrives even where the link is a port of a bond,
    /// whose driver keeps LACP to itself.
    ///
    /// # Errors
    /// Those of the socket: `EPERM` without `CAP_NET_RAW`, `ENXIO` when the link is gone.
    pub fn open(index: u32) -> io::Result<Self> {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0 receives nothing: no frame gets in before the filter stands.
        // SAFETY: no pointer is passed; the result is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that the kernel just gave us and that nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let program = libc::sock_fprog { len: FRAMES.len() as u16, filter: FRAMES.as_ptr().cast_mut() };
        // The kernel copies the program and never writes through the pointer.
        set(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        // Without this the kernel would copy each frame that is sent, to have it filtered out.
        set(&fd, libc::SOL_PACKET, IGNORE_OUTGOING, &1_i32)?;
        setsockopt(&fd, sockopt::RcvBuf, &QUEUE)?;
        let ifindex = i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        for [a, b, c, d, e, f] in GROUPS {
            let group = libc::packet_mreq {
                mr_ifindex: ifindex,
                mr_type: libc::PACKET_MR_MULTICAST as u16,
                mr_alen: 6,
                mr_address: [a, b, c, d, e, f, 0, 0],
            };
            set(&fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &group)?;
        }
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: ifindex,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `address` is a whole sockaddr_ll that outlives the call, and its own size is passed.
        let bound = unsafe {
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { fd }) }
    }

    /// The next frame, cut to the length of `buffer`; `None` when there is none.
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

impl NeighbourSocket {
    /// Sends a whole frame.
    ///
    /// # Errors
    /// Those of the link: `ENETDOWN`, `ENOBUFS`.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.fd, frame)?;
        Ok(())
    }
}

impl AsFd for NeighbourSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `T` is one of the kernel's own structures for this option.
fn set<T>(fd: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is a whole T that outlives the call, and its own size is passed; the kernel reads
    // no more than that.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const *value).cast(), size_of::<T>() as u32)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// LLDP; slow protocols of subtype 1 (LACP); SNAP of Cisco's with protocol 0x2000 (CDP). Everything else
/// costs no wake-up.
const FRAMES: [libc::sock_filter; 12] = [
    op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 12),
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 8, 0, 0x88cc),
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 5, 0, 0x8809),
    op(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 7, 0, 1500),
    op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 14),
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 5, 0xaaaa_0300),
    op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 18),
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 2, 3, 0x000c_2000),
    op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 14),
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 1),
    op(libc::BPF_RET | libc::BPF_K, 0, 0, MAX_FRAME as u32),
    op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
];
