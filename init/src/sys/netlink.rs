//! rtnetlink (rtnetlink(7)): links, addresses and routes, observed and set.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Largest datagram that the kernel sends: NLMSG_GOODSIZE of dumps is at most 32 KiB.
const BUFFER: usize = 32 << 10;
/// IFA_PROTO of the addresses that we set (Linux 5.18), to know them again; one of the values that
/// the kernel leaves to user space.
const OUR_ADDRESSES: u8 = 0x52;
const FOREVER: u32 = u32::MAX;

/// A network link as the kernel shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index; never used twice while the kernel runs.
    pub index: u32,
    /// Its name, which may change.
    pub name: String,
    /// Hardware address when it is one of 6 bytes.
    pub mac: Option<[u8; 6]>,
    /// ARPHRD_ETHER.
    pub ethernet: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// IFF_UP: we want it to work.
    pub up: bool,
    /// IFF_LOWER_UP: it does.
    pub carrier: bool,
    /// What virtual kind it is of (`bridge`, `veth`, …); none for hardware.
    pub kind: Option<String>,
    /// The bond or bridge that it is a port of.
    pub controller: Option<u32>,
    /// MTU in bytes.
    pub mtu: u32,
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix.
    pub length: u8,
    /// IPv4 broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// Seconds that it stays valid; none for ever.
    pub valid: Option<u32>,
    /// Whether it is known to be set by this program.
    pub ours: bool,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Index of the link.
    pub index: u32,
    /// Destination and the length of its prefix.
    pub to: (IpAddr, u8),
    /// Gateway; none for what is on the link.
    pub via: Option<IpAddr>,
    /// The gateway is reachable although no address of ours covers it.
    pub onlink: bool,
    /// Lower is preferred.
    pub metric: u32,
    /// Source address of packets that take it.
    pub source: Option<IpAddr>,
    /// Set by DHCP (RTPROT_DHCP) and not by hand (RTPROT_STATIC).
    pub dhcp: bool,
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
                links.push(link(message));
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
                addresses.extend(address(message));
            }
        })?;
        Ok(addresses)
    }

    /// The routes of the main table that DHCP or a hand has set (none of the kernel's own).
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        self.request(RouteNetlinkMessage::GetRoute(RouteMessage::default()), NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                routes.extend(route(message));
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

    /// Adds an address, or renews its lifetime.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn set_address(&mut self, address: &Address) -> io::Result<()> {
        let mut message = address_message(address);
        let valid = address.valid.unwrap_or(FOREVER);
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_preferred = valid;
        lifetime.ifa_valid = valid;
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::from(OUR_ADDRESSES)));
        if let Some(broadcast) = address.broadcast {
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RouteNetlinkMessage::NewAddress(message), flags, |_| {})
    }

    /// Removes an address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` when it is not there.
    pub fn delete_address(&mut self, address: &Address) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelAddress(address_message(address)), NLM_F_ACK, |_| {})
    }

    /// Adds a route, or replaces the one with the same destination and metric.
    ///
    /// # Errors
    /// `ENETUNREACH` when the gateway is not reachable, `ENETDOWN` when the link is down.
    pub fn set_route(&mut self, route: &Route) -> io::Result<()> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RouteNetlinkMessage::NewRoute(route_message(route)), flags, |_| {})
    }

    /// Removes a route.
    ///
    /// # Errors
    /// `ESRCH` when it is not there.
    pub fn delete_route(&mut self, route: &Route) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelRoute(route_message(route)), NLM_F_ACK, |_| {})
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
        RouteNetlinkMessage::NewLink(message) => Some(Change::Link(link(message))),
        RouteNetlinkMessage::DelLink(message) => Some(Change::LinkGone(message.header.index)),
        RouteNetlinkMessage::NewAddress(message) => address(message).map(Change::Address),
        RouteNetlinkMessage::DelAddress(message) => address(message).map(Change::AddressGone),
        _ => None,
    }
}

fn link(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        loopback: flags.contains(LinkFlags::Loopback),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

fn address(message: AddressMessage) -> Option<Address> {
    let (mut local, mut peer, mut broadcast, mut valid, mut ours) = (None, None, None, None, false);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Address(ip) => peer = Some(ip),
            AddressAttribute::Broadcast(ip) => broadcast = Some(ip),
            AddressAttribute::CacheInfo(info) => {
                valid = Some(info.ifa_valid).filter(|seconds| *seconds != FOREVER);
            }
            AddressAttribute::Protocol(protocol) => ours = u8::from(protocol) == OUR_ADDRESSES,
            _ => {}
        }
    }
    Some(Address {
        index: message.header.index,
        address: local.or(peer)?,
        length: message.header.prefix_len,
        broadcast,
        valid,
        ours,
    })
}

fn address_message(address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.address);
    message.header.prefix_len = address.length;
    message.header.scope = AddressScope::Universe;
    message.header.index = address.index;
    message.attributes.push(AddressAttribute::Local(address.address));
    message.attributes.push(AddressAttribute::Address(address.address));
    message
}

fn route(message: RouteMessage) -> Option<Route> {
    let dhcp = match message.header.protocol {
        RouteProtocol::Dhcp => true,
        RouteProtocol::Static => false,
        _ => return None,
    };
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut index = None;
    let mut route = Route {
        index: 0,
        to: (any, message.header.destination_prefix_length),
        via: None,
        onlink: message.header.flags.contains(RouteFlags::Onlink),
        metric: 0,
        source: None,
        dhcp,
    };
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.to.0 = ip(&to)?,
            RouteAttribute::Gateway(via) => route.via = Some(ip(&via)?),
            RouteAttribute::PrefSource(source) => route.source = Some(ip(&source)?),
            RouteAttribute::Priority(metric) => route.metric = metric,
            RouteAttribute::Oif(oif) => index = Some(oif),
            _ => {}
        }
    }
    route.index = index?;
    Some(route)
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.to.0);
    message.header.destination_prefix_length = route.to.1;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = if route.dhcp { RouteProtocol::Dhcp } else { RouteProtocol::Static };
    message.header.kind = RouteType::Unicast;
    message.header.scope =
        if route.via.is_none() && route.to.0.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    if route.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    if route.to.1 > 0 {
        message.attributes.push(RouteAttribute::Destination(route.to.0.into()));
    }
    if let Some(via) = route.via {
        message.attributes.push(RouteAttribute::Gateway(via.into()));
    }
    if let Some(source) = route.source {
        message.attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    message.attributes.push(RouteAttribute::Oif(route.index));
    message.attributes.push(RouteAttribute::Priority(route.metric));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
