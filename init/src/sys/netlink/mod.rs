//! rtnetlink (rtnetlink(7)): links, addresses, routes and rules, observed and set.

mod address;
mod bond;
mod build;
mod link;
mod route;
mod rule;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use address::Address;
pub use bond::{BondOption, bond_lacks, mode as bond_mode};
pub use build::Make;
pub use link::Link;
pub use route::{MAIN_TABLE, Route};
pub use rule::Rule;

/// Largest datagram that the kernel sends: NLMSG_GOODSIZE of dumps is at most 32 KiB.
const BUFFER: usize = 32 << 10;

/// Who gave an address or route. Marked in the kernel, so that a later run of this program knows
/// again what an earlier one left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A document or an engineer.
    #[default]
    Static,
    /// A DHCPv4 server.
    Dhcp4,
    /// A router's advertisements.
    Router,
    /// A DHCPv6 server.
    Dhcp6,
}

impl Origin {
    const ALL: [Self; 4] = [Self::Static, Self::Dhcp4, Self::Router, Self::Dhcp6];

    /// IFA_PROTO of its addresses (Linux 5.18): values that the kernel leaves to user space.
    fn address_protocol(self) -> u8 {
        match self {
            Self::Static => 0x52,
            Self::Dhcp4 => 0x53,
            Self::Router => 0x54,
            Self::Dhcp6 => 0x55,
        }
    }
}

/// A change that the kernel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link appeared or changed.
    Link(Link),
    /// The link of this index is gone.
    LinkGone(u32),
    /// An address appeared or changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
}

/// The kernel's notifications.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Subscribes to links and addresses.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
        for group in [1, 5, 9] {
            socket.add_membership(group)?;
        }
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// What has changed since the last call; empty when nothing has.
    ///
    /// # Errors
    /// `ENOBUFS` when changes were lost: look at everything again.
    pub fn changes(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        loop {
            match receive(&self.socket, &mut self.buffer, |_, payload| {
                if let NetlinkPayload::InnerMessage(message) = payload {
                    changes.extend(change(message));
                }
            }) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket for requests; each waits for the kernel's answer, which is immediate.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// Opens it.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, buffer: vec![0; BUFFER], sequence: 0 })
    }

    /// Every link.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewLink(message) = message {
                links.push(link::parse(message));
            }
        })?;
        Ok(links)
    }

    /// Every address.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let mut addresses = Vec::new();
        self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewAddress(message) = message {
                addresses.extend(address::parse(message));
            }
        })?;
        Ok(addresses)
    }

    /// The routes that this program may have set, of all tables (none of the kernel's own).
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        self.request(RouteNetlinkMessage::GetRoute(RouteMessage::default()), NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                routes.extend(route::parse(message));
            }
        })?;
        Ok(routes)
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, |_| {})
    }

    /// Sets the MTU of a link, in bytes.
    ///
    /// # Errors
    /// `EINVAL` where the driver does not take it.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, |_| {})
    }

    /// Adds an address (`first`), or renews its lifetime.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn set_address(&mut self, address: &Address, first: bool) -> io::Result<()> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RouteNetlinkMessage::NewAddress(address::message(address, first)), flags, |_| {})
    }

    /// Removes an address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` when it is not there.
    pub fn delete_address(&mut self, address: &Address) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelAddress(address::name(address)), NLM_F_ACK, |_| {})
    }

    /// Adds a route, or replaces the one with the same destination and metric.
    ///
    /// # Errors
    /// `ENETUNREACH` when the gateway is not reachable, `ENETDOWN` when the link is down.
    pub fn set_route(&mut self, route: &Route) -> io::Result<()> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RouteNetlinkMessage::NewRoute(route::message(route)), flags, |_| {})
    }

    /// Removes a route.
    ///
    /// # Errors
    /// `ESRCH` when it is not there.
    pub fn delete_route(&mut self, route: &Route) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelRoute(route::message(route)), NLM_F_ACK, |_| {})
    }

    /// The rules that this program has set.
    ///
    /// # Errors
    /// Those of the kernel; `EOPNOTSUPP` of one without policy routing.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            self.request(RouteNetlinkMessage::GetRule(message), NLM_F_DUMP, |message| {
                if let RouteNetlinkMessage::NewRule(message) = message {
                    rules.extend(rule::parse(message));
                }
            })?;
        }
        Ok(rules)
    }

    /// Adds a rule; one that is there already stays.
    ///
    /// # Errors
    /// `InvalidInput` for one that names no prefix, and those of the kernel.
    pub fn set_rule(&mut self, rule: &Rule) -> io::Result<()> {
        let message = rule::message(rule).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.request(RouteNetlinkMessage::NewRule(message), flags, |_| {}) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// `ENOENT` when it is not there.
    pub fn delete_rule(&mut self, rule: &Rule) -> io::Result<()> {
        let message = rule::message(rule).ok_or(io::ErrorKind::InvalidInput)?;
        self.request(RouteNetlinkMessage::DelRule(message), NLM_F_ACK, |_| {})
    }

    /// Sends a request and reads its answers to their end: the end of a dump, or the acknowledgement.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut end = None;
        while end.is_none() {
            let sequence = self.sequence;
            receive(&self.socket, &mut self.buffer, |number, payload| {
                if number != sequence {
                    return;
                }
                match payload {
                    NetlinkPayload::Done(_) => end = Some(Ok(())),
                    NetlinkPayload::Error(error) if error.code.is_none() => end = Some(Ok(())),
                    NetlinkPayload::Error(error) => end = Some(Err(error.to_io())),
                    NetlinkPayload::InnerMessage(message) => each(message),
                    _ => {}
                }
            })?;
        }
        end.unwrap_or(Ok(()))
    }
}

/// Receives one datagram and hands on each message of it that can be read, with its sequence number.
fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    mut each: impl FnMut(u32, NetlinkPayload<RouteNetlinkMessage>),
) -> io::Result<()> {
    let length = loop {
        match socket.recv(&mut &mut *buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    let mut rest = buffer.get(..length).unwrap_or_default();
    // struct nlmsghdr begins with the length of the message; messages are aligned to four bytes.
    while let Some(size) = rest.first_chunk().map(|b| u32::from_ne_bytes(*b) as usize) {
        let Some(bytes) = rest.get(..size).filter(|b| b.len() >= 16) else { break };
        if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
            each(message.header.sequence_number, message.payload);
        }
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

fn change(message: RouteNetlinkMessage) -> Option<Change> {
    match message {
        // A bridge tells its ports' states in messages of its own family: one of them that is gone
        // has left the bridge, not the machine.
        RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)
            if message.header.interface_family != AddressFamily::Unspec =>
        {
            None
        }
        RouteNetlinkMessage::NewLink(message) => Some(Change::Link(link::parse(message))),
        RouteNetlinkMessage::DelLink(message) => Some(Change::LinkGone(message.header.index)),
        RouteNetlinkMessage::NewAddress(message) => address::parse(message).map(Change::Address),
        RouteNetlinkMessage::DelAddress(message) => address::parse(message).map(Change::AddressGone),
        _ => None,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
