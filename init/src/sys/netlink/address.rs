//! Addresses of links.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};

use super::{Origin, family};

const FOREVER: u32 = u32::MAX;

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
    /// Seconds that it is preferred; none for ever.
    pub preferred: Option<u32>,
    /// IPv6: its prefix is not taken to be on the link (IFA_F_NOPREFIXROUTE).
    pub no_prefix_route: bool,
    /// Who gave it; none when it was not set by this program.
    pub origin: Option<Origin>,
    /// IPv6, observed: duplicate address detection goes on, and it cannot be used yet.
    pub tentative: bool,
    /// IPv6, observed: another host has it, and it is not used (RFC 4862 5.4).
    pub duplicate: bool,
}

pub(super) fn parse(message: AddressMessage) -> Option<Address> {
    let (mut local, mut peer, mut broadcast, mut origin) = (None, None, None, None);
    let (mut valid, mut preferred) = (None, None);
    // The upper bits are in an attribute (Linux 3.14), which has all of them.
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Address(ip) => peer = Some(ip),
            AddressAttribute::Broadcast(ip) => broadcast = Some(ip),
            AddressAttribute::Flags(all) => flags = all,
            AddressAttribute::CacheInfo(info) => {
                let finite = |seconds: u32| Some(seconds).filter(|s| *s != FOREVER);
                (valid, preferred) = (finite(info.ifa_valid), finite(info.ifa_preferred));
            }
            AddressAttribute::Protocol(protocol) => {
                let protocol = u8::from(protocol);
                origin = Origin::ALL.into_iter().find(|o| o.address_protocol() == protocol);
            }
            _ => {}
        }
    }
    let duplicate = flags.contains(AddressFlags::Dadfailed);
    Some(Address {
        index: message.header.index,
        address: local.or(peer)?,
        length: message.header.prefix_len,
        broadcast,
        valid,
        preferred,
        no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
        origin,
        tentative: flags.contains(AddressFlags::Tentative)
            && !flags.contains(AddressFlags::Optimistic)
            && !duplicate,
        duplicate,
    })
}

/// What identifies it.
pub(super) fn name(address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.address);
    message.header.prefix_len = address.length;
    message.header.scope = AddressScope::Universe;
    message.header.index = address.index;
    message.attributes.push(AddressAttribute::Local(address.address));
    message.attributes.push(AddressAttribute::Address(address.address));
    message
}

/// All of it.
pub(super) fn message(address: &Address, first: bool) -> AddressMessage {
    let mut message = name(address);
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = address.valid.unwrap_or(FOREVER);
    lifetime.ifa_preferred = address.preferred.unwrap_or(FOREVER).min(lifetime.ifa_valid);
    message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    if let Some(origin) = address.origin {
        let protocol = AddressProtocol::from(origin.address_protocol());
        message.attributes.push(AddressAttribute::Protocol(protocol));
    }
    if let Some(broadcast) = address.broadcast {
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    let mut flags = AddressFlags::empty();
    // RFC 4429: used while duplicates are looked for, where the link's optimistic_dad allows it. Only
    // at first: the kernel would never take the flag from an address that it has looked for.
    if first && address.address.is_ipv6() {
        flags |= AddressFlags::Optimistic;
    }
    if address.no_prefix_route {
        flags |= AddressFlags::Noprefixroute;
    }
    if !flags.is_empty() {
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    message
}
