//! What a link is to be configured with: a pure function of its lease and of what `device.json`
//! wishes, and the difference between two such plans.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rescue_schema::network;

use super::lease::Lease;
use crate::sys::netlink::{Address, Route};

/// Metric of the first link's routes; each link adds its index, so that several defaults can stand
/// side by side and the first link is preferred.
const METRIC: u32 = 100;

/// The wanted configuration of one link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// MTU in bytes; none leaves it as it is.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Its routes, gateways of others before those that need them.
    pub routes: Vec<Route>,
}

/// One step from a plan to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Remove a route.
    DropRoute(Route),
    /// Remove an address.
    DropAddress(Address),
    /// Set the MTU.
    Mtu(u32),
    /// Add an address or renew it.
    Address(Address),
    /// Add a route or replace it.
    Route(Route),
}

/// The plan of the link of this index.
pub fn plan(index: u32, wish: Option<&network::Link>, lease: Option<(&Lease, Option<Duration>)>) -> Plan {
    let mut plan = Plan::default();
    if let Some(wish) = wish {
        plan.mtu = wish.mtu;
        for prefix in &wish.addresses {
            let broadcast = match prefix.address {
                IpAddr::V4(address) => broadcast(address, prefix.length),
                IpAddr::V6(_) => None,
            };
            plan.address(index, (prefix.address, prefix.length), broadcast, None);
        }
        for route in &wish.routes {
            plan.route(index, (route.to.address, route.to.length), route.via, None);
        }
    }
    if let Some((lease, left)) = lease {
        plan.mtu = plan.mtu.or(lease.mtu.map(u32::from));
        // The kernel counts a valid lifetime of zero as an error.
        let valid = left.map(|left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX - 1).max(1));
        let own = IpAddr::V4(lease.address);
        plan.address(index, (own, lease.length), broadcast(lease.address, lease.length), valid);
        for &(to, length, via) in &lease.routes {
            plan.route(index, (to.into(), length), via.map(IpAddr::V4), Some(own));
        }
    }
    // What is on the link comes first: it may lead to a gateway.
    plan.routes.sort_by_key(|route| route.via.is_some());
    plan
}

impl Plan {
    fn address(&mut self, index: u32, at: (IpAddr, u8), broadcast: Option<Ipv4Addr>, valid: Option<u32>) {
        if !self.addresses.iter().any(|a| (a.address, a.length) == at) {
            let (address, length) = at;
            self.addresses.push(Address { index, address, length, broadcast, valid, ours: true });
        }
    }

    /// Adds a route unless one with its destination stands already: wishes come before leases.
    fn route(&mut self, index: u32, to: (IpAddr, u8), via: Option<IpAddr>, source: Option<IpAddr>) {
        let to = (masked(to), to.1);
        if self.routes.iter().any(|route| route.to == to) {
            return;
        }
        let covered = |via: IpAddr| {
            matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local())
                || self.addresses.iter().any(|a| masked((via, a.length)) == masked((a.address, a.length)))
        };
        let onlink = via.is_some_and(|via| !covered(via));
        let metric = METRIC.saturating_add(index);
        self.routes.push(Route { index, to, via, onlink, metric, source, dhcp: source.is_some() });
    }

    /// The gateway of its IPv4 default route, or else of its IPv6 one.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.routes.iter().filter(|r| r.to.1 == 0).max_by_key(|r| r.to.0.is_ipv4()).and_then(|r| r.via)
    }

    /// The steps from `self`, which stands, to `next`. What goes, goes first: an address that is removed
    /// takes the others of its subnet and the routes that name it along, so all of `next` is set again.
    pub fn changes(&self, next: &Self) -> Vec<Change> {
        if self == next {
            return Vec::new();
        }
        let gone_routes = self.routes.iter().filter(|old| !next.routes.contains(old));
        let gone = self.addresses.iter().filter(|old| {
            !next.addresses.iter().any(|new| (new.address, new.length) == (old.address, old.length))
        });
        let mut changes: Vec<Change> = gone_routes.cloned().map(Change::DropRoute).collect();
        changes.extend(gone.cloned().map(Change::DropAddress));
        changes.extend(next.mtu.filter(|_| self.mtu != next.mtu).map(Change::Mtu));
        changes.extend(next.addresses.iter().cloned().map(Change::Address));
        changes.extend(next.routes.iter().cloned().map(Change::Route));
        changes
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.addresses.is_empty() {
            f.write_str("no address")?;
        }
        for (i, address) in self.addresses.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{}/{}", address.address, address.length)?;
        }
        for Route { to, via, onlink, .. } in &self.routes {
            match via {
                _ if to.1 > 0 => write!(f, ", {}/{}", to.0, to.1)?,
                _ => write!(f, ", default")?,
            }
            if let Some(via) = via {
                write!(f, " via {via}{}", if *onlink { " on link" } else { "" })?;
            }
        }
        match self.mtu {
            Some(mtu) => write!(f, ", MTU {mtu}"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (verb, to) = match self {
            Self::Mtu(mtu) => return write!(f, "setting the MTU to {mtu}"),
            Self::DropAddress(a) => ("removing address", (a.address, a.length)),
            Self::Address(a) => ("setting address", (a.address, a.length)),
            Self::DropRoute(r) => ("removing the route to", r.to),
            Self::Route(r) => ("setting the route to", r.to),
        };
        write!(f, "{verb} {}/{}", to.0, to.1)
    }
}

/// The address with its host bits cleared.
fn masked((address, length): (IpAddr, u8)) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}

/// The broadcast address of a subnet; those of two hosts or one have none (RFC 3021).
fn broadcast(address: Ipv4Addr, length: u8) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(length.into()).unwrap_or(0);
    (length < 31).then(|| (u32::from(address) | hosts).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(gateway: [u8; 4]) -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 0, 50),
            length: 24,
            server: Ipv4Addr::new(10, 0, 0, 1),
            routes: vec![(Ipv4Addr::UNSPECIFIED, 0, Some(gateway.into()))],
            mtu: Some(1400),
            dns: vec![],
            search: vec![],
            hostname: None,
            times: None,
        }
    }

    #[test]
    fn a_lease_becomes_a_plan() {
        let plan = plan(2, None, Some((&lease([10, 0, 0, 1]), Some(Duration::from_secs(120)))));
        assert_eq!(plan.to_string(), "10.0.0.50/24, default via 10.0.0.1, MTU 1400");
        assert_eq!(plan.addresses[0].broadcast, Some(Ipv4Addr::new(10, 0, 0, 255)));
        assert_eq!(plan.addresses[0].valid, Some(120));
        assert_eq!((plan.routes[0].metric, plan.routes[0].onlink), (102, false));
    }

    #[test]
    fn a_gateway_outside_the_subnet_is_on_link() {
        let plan = plan(2, None, Some((&lease([192, 0, 2, 1]), None)));
        assert_eq!(plan.to_string(), "10.0.0.50/24, default via 192.0.2.1 on link, MTU 1400");
        assert_eq!(plan.gateway(), Some([192, 0, 2, 1].into()));
    }

    #[test]
    fn wishes_come_before_the_lease() {
        let wish: network::Link = serde_json::from_str(
            r#"{"mac":"02:00:00:00:00:01","mtu":9000,"dhcp4":true,"addresses":["192.0.2.7/32","2001:db8::7/64"],
                "routes":[{"to":"0.0.0.0/0","via":"192.0.2.1"},{"to":"::/0","via":"fe80::1"}]}"#,
        )
        .unwrap();
        let plan = plan(3, Some(&wish), Some((&lease([10, 0, 0, 1]), None)));
        assert_eq!(
            plan.to_string(),
            "192.0.2.7/32, 2001:db8::7/64, 10.0.0.50/24, default via 192.0.2.1 on link, \
             default via fe80::1, MTU 9000"
        );
        assert_eq!(plan.addresses[0].broadcast, None);
    }

    #[test]
    fn another_address_replaces_the_first() {
        let old = plan(2, None, Some((&lease([10, 0, 0, 1]), None)));
        assert!(old.changes(&old).is_empty());
        let mut other = lease([10, 0, 0, 1]);
        other.address = Ipv4Addr::new(10, 0, 0, 51);
        let new = plan(2, None, Some((&other, None)));
        let said: Vec<String> = old.changes(&new).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "removing the route to 0.0.0.0/0",
                "removing address 10.0.0.50/24",
                "setting address 10.0.0.51/24",
                "setting the route to 0.0.0.0/0"
            ]
        );
        let said: Vec<String> = new.changes(&Plan::default()).iter().map(ToString::to_string).collect();
        assert_eq!(said, ["removing the route to 0.0.0.0/0", "removing address 10.0.0.51/24"]);
    }
}
