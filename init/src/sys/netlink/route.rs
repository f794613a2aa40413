//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::{Origin, family};

/// The table that is asked when no rule says otherwise (RT_TABLE_MAIN).
pub const MAIN_TABLE: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// The kernel's own addresses (RT_TABLE_LOCAL).
const LOCAL_TABLE: u32 = 255;

/// A route.
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
    /// The routing table that it is in.
    pub table: u32,
    /// Who gave it.
    pub origin: Origin,
}

impl Origin {
    /// RTPROT_STATIC, _DHCP, _RA. DHCPv6 brings no routes; what is counted as its is a router's.
    fn route_protocol(self) -> RouteProtocol {
        match self {
            Self::Static => RouteProtocol::Static,
            Self::Dhcp4 => RouteProtocol::Dhcp,
            Self::Router | Self::Dhcp6 => RouteProtocol::Ra,
        }
    }
}

/// A route that this program may have set.
pub(super) fn parse(message: RouteMessage) -> Option<Route> {
    let origin = match message.header.protocol {
        RouteProtocol::Dhcp => Origin::Dhcp4,
        RouteProtocol::Static => Origin::Static,
        RouteProtocol::Ra => Origin::Router,
        _ => return None,
    };
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
        table: message.header.table.into(),
        origin,
    };
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.to.0 = ip(&to)?,
            RouteAttribute::Gateway(via) => route.via = Some(ip(&via)?),
            RouteAttribute::PrefSource(source) => route.source = Some(ip(&source)?),
            RouteAttribute::Priority(metric) => route.metric = metric,
            RouteAttribute::Table(table) => route.table = table,
            RouteAttribute::Oif(oif) => index = Some(oif),
            _ => {}
        }
    }
    route.index = index?;
    (route.table != LOCAL_TABLE).then_some(route)
}

pub(super) fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.to.0);
    message.header.destination_prefix_length = route.to.1;
    // A table past 255 is in the attribute alone.
    message.header.table = u8::try_from(route.table).unwrap_or(0);
    message.header.protocol = route.origin.route_protocol();
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
    message.attributes.push(RouteAttribute::Table(route.table));
    message.attributes.push(RouteAttribute::Oif(route.index));
    message.attributes.push(RouteAttribute::Priority(route.metric));
    message
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
