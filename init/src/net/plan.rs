//! What a link is to be configured with: a pure function of what its document, leases and routers
//! bring, and the difference between two such plans.

mod change;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rescue_schema::network::{self, Dns, Prefix};

pub use self::change::Change;
use crate::sys::netlink::{Address, MAIN_TABLE, Origin, Route, Rule};

/// Metric of the first link's routes; each link adds its place, so that several defaults can stand
/// side by side and the first link is preferred.
const METRIC: u32 = 100;
/// Priority of the first rule that names none; below it (0) is the local table, and above it (32766)
/// the main one.
const PRIORITY: u32 = 10_000;

/// What one source brings to a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brings {
    /// MTU of the link in bytes.
    pub mtu: Option<u32>,
    /// MTU of IPv6 alone in bytes, which routers advertise (RFC 4861 4.6.4).
    pub mtu6: Option<u32>,
    /// Addresses.
    pub addresses: Vec<BroughtAddress>,
    /// Routes.
    pub routes: Vec<network::Route>,
    /// Policy.
    pub rules: Vec<network::Rule>,
    /// Name servers and search domains.
    pub dns: Dns,
}

/// An address that a source brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BroughtAddress {
    /// The address and the length of its prefix.
    pub prefix: Prefix,
    /// How long it is valid yet; none for ever.
    pub valid: Option<Duration>,
    /// How long it is preferred yet; none for ever.
    pub preferred: Option<Duration>,
    /// IPv6: the prefix is not taken to be on the link (RFC 4861 4.6.2, L flag).
    pub off_link: bool,
}

impl Brings {
    /// What a document says of a link.
    #[must_use]
    pub fn of_wish(wish: &network::Link) -> Self {
        let address =
            |&prefix: &Prefix| BroughtAddress { prefix, valid: None, preferred: None, off_link: false };
        Self {
            mtu: wish.mtu,
            mtu6: None,
            addresses: wish.addresses.iter().map(address).collect(),
            routes: wish.routes.clone(),
            rules: wish.rules.clone(),
            dns: Dns::default(),
        }
    }
}

/// The wanted configuration of one link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// MTU in bytes; none leaves it as it is.
    pub mtu: Option<u32>,
    /// MTU of IPv6 in bytes; none leaves it as it is.
    pub mtu6: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Its routes, gateways of others before those that need them.
    pub routes: Vec<Route>,
    /// Rules of policy routing that come with it.
    pub rules: Vec<Rule>,
}

/// The plan of the link of this index, the `order`th of all. Earlier sources' word counts first.
#[must_use]
pub fn plan(index: u32, order: u32, sources: &[(Origin, Brings)]) -> Plan {
    let mut plan = Plan::default();
    for (origin, brings) in sources {
        plan.mtu = plan.mtu.or(brings.mtu);
        plan.mtu6 = plan.mtu6.or(brings.mtu6);
        for address in &brings.addresses {
            plan.address(index, *origin, address);
        }
    }
    for (origin, brings) in sources {
        for route in &brings.routes {
            plan.route(index, order, *origin, route);
        }
        for (i, rule) in (0..).zip(&brings.rules) {
            let unsaid = PRIORITY.saturating_add(order.saturating_mul(100)).saturating_add(i);
            let cut = |prefix: &Prefix| (masked((prefix.address, prefix.length)), prefix.length);
            plan.rules.push(Rule {
                from: rule.from.as_ref().map(cut),
                to: rule.to.as_ref().map(cut),
                table: rule.table,
                priority: rule.priority.unwrap_or(unsaid),
            });
        }
    }
    // What is on the link comes first: it may lead to a gateway.
    plan.routes.sort_by_key(|route| route.via.is_some());
    plan
}

impl Plan {
    fn address(&mut self, index: u32, origin: Origin, brought: &BroughtAddress) {
        let Prefix { address, length } = brought.prefix;
        if self.addresses.iter().any(|a| a.address == address) {
            return;
        }
        // The kernel counts a valid lifetime of zero as an error.
        let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX - 1);
        self.addresses.push(Address {
            index,
            address,
            length,
            broadcast: match address {
                IpAddr::V4(address) => broadcast(address, length),
                IpAddr::V6(_) => None,
            },
            valid: brought.valid.map(|left| seconds(left).max(1)),
            preferred: brought.preferred.map(seconds),
            no_prefix_route: brought.off_link,
            origin: Some(origin),
            tentative: false,
            duplicate: false,
        });
    }

    /// Adds a route unless one to its destination stands already: documents come before leases. One
    /// source may bring several of different metrics.
    fn route(&mut self, index: u32, order: u32, origin: Origin, brought: &network::Route) {
        let to = (masked((brought.to.address, brought.to.length)), brought.to.length);
        let table = brought.table.unwrap_or(MAIN_TABLE);
        let metric = brought.metric.unwrap_or(METRIC.saturating_add(order));
        let same = |r: &&Route| r.to == to && r.table == table && (r.origin != origin || r.metric == metric);
        if self.routes.iter().find(same).is_some() {
            return;
        }
        let covered = |via: IpAddr| {
            matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local())
                || self
                    .addresses
                    .iter()
                    .any(|a| !a.no_prefix_route && masked((via, a.length)) == masked((a.address, a.length)))
        };
        let onlink = brought.via.is_some_and(|via| brought.onlink || !covered(via));
        let source = brought.source;
        self.routes.push(Route { index, to, via: brought.via, onlink, metric, source, table, origin });
    }

    /// Keeps what stands of one source as it is: an address of before, until its server has spoken.
    pub fn keep(&mut self, standing: &Self, origin: Origin) {
        let of = |a: &&Address| a.origin == Some(origin);
        if standing.addresses.iter().any(|a| of(&a)) {
            self.mtu = self.mtu.or(standing.mtu);
            self.mtu6 = self.mtu6.or(standing.mtu6);
        }
        for old in standing.addresses.iter().filter(of) {
            if !self.addresses.iter().any(|a| a.address == old.address) {
                self.addresses.push(old.clone());
            }
        }
        for old in standing.routes.iter().filter(|r| r.origin == origin) {
            if !self.routes.iter().any(|r| r.to == old.to && r.table == old.table) {
                self.routes.push(old.clone());
            }
        }
    }

    /// The gateway of its IPv4 default route, or else of its IPv6 one.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        let defaults = self.routes.iter().filter(|r| r.to.1 == 0 && r.table == MAIN_TABLE);
        defaults.min_by_key(|r| (r.to.0.is_ipv6(), r.metric)).and_then(|r| r.via)
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
        for route in &self.routes {
            write!(f, ", {}", change::Shown(route))?;
        }
        for rule in &self.rules {
            write!(f, ", {}", change::ShownRule(rule))?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, ", MTU {mtu}")?;
        }
        match self.mtu6 {
            Some(mtu) => write!(f, ", IPv6 MTU {mtu}"),
            None => Ok(()),
        }
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

    fn dhcp(address: &str, gateway: &str) -> (Origin, Brings) {
        let left = Some(Duration::from_secs(120));
        let own: Prefix = format!("{address}/24").parse().unwrap();
        let route = network::Route {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some(gateway.parse().unwrap()),
            metric: None,
            source: Some(own.address),
            table: None,
            onlink: false,
        };
        let address = BroughtAddress { prefix: own, valid: left, preferred: left, off_link: false };
        let brings =
            Brings { mtu: Some(1400), addresses: vec![address], routes: vec![route], ..Brings::default() };
        (Origin::Dhcp4, brings)
    }

    fn wish(json: &str) -> (Origin, Brings) {
        (Origin::Static, Brings::of_wish(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn a_lease_becomes_a_plan() {
        let plan = plan(2, 2, &[dhcp("10.0.0.50", "10.0.0.1")]);
        assert_eq!(plan.to_string(), "10.0.0.50/24, default via 10.0.0.1, MTU 1400");
        assert_eq!(plan.addresses[0].broadcast, Some(Ipv4Addr::new(10, 0, 0, 255)));
        assert_eq!(plan.addresses[0].valid, Some(120));
        assert_eq!((plan.routes[0].metric, plan.routes[0].onlink), (102, false));
    }

    #[test]
    fn a_gateway_outside_the_subnet_is_on_link() {
        let plan = plan(2, 0, &[dhcp("10.0.0.50", "192.0.2.1")]);
        assert_eq!(plan.to_string(), "10.0.0.50/24, default via 192.0.2.1 on link, MTU 1400");
        assert_eq!(plan.gateway(), Some([192, 0, 2, 1].into()));
    }

    #[test]
    fn wishes_win_over_the_lease() {
        let wish = wish(
            r#"{"mac":"02:00:00:00:00:01","mtu":9000,"dhcp4":true,
                "addresses":["10.0.0.7/24","2001:db8::7/64","198.51.100.7/32"],
                "routes":[{"to":"2001:db8:1::1/48","via":"fe80::1"},{"to":"0.0.0.0/0","via":"10.0.0.254"},
                          {"to":"198.51.100.1/32"}]}"#,
        );
        let plan = plan(3, 0, &[wish, dhcp("10.0.0.50", "10.0.0.1")]);
        assert_eq!(
            plan.to_string(),
            "10.0.0.7/24, 2001:db8::7/64, 198.51.100.7/32, 10.0.0.50/24, 198.51.100.1/32, \
             2001:db8:1::/48 via fe80::1, default via 10.0.0.254, MTU 9000"
        );
        let brd: Vec<_> = plan.addresses.iter().map(|a| a.broadcast.is_some()).collect();
        assert_eq!(brd, [true, false, false, true]);
        assert!(plan.routes.iter().all(|r| !r.onlink && r.origin == Origin::Static));
    }

    #[test]
    fn policy_has_its_tables_and_priorities() {
        let wish = wish(
            r#"{"addresses":["10.0.0.7/24"],
                "routes":[{"to":"0.0.0.0/0","via":"10.0.0.1","table":7,"source":"10.0.0.7"},
                          {"to":"0.0.0.0/0","via":"10.0.0.1","metric":50},{"to":"0.0.0.0/0","via":"10.0.0.2"}],
                "rules":[{"from":"10.0.0.7/24","table":7},{"to":"192.0.2.0/24","table":1000,"priority":5}]}"#,
        );
        let plan = plan(3, 1, &[wish, dhcp("10.0.0.50", "10.0.0.9")]);
        assert_eq!(
            plan.to_string(),
            "10.0.0.7/24, 10.0.0.50/24, default via 10.0.0.1 from 10.0.0.7 table 7, \
             default via 10.0.0.1 metric 50, default via 10.0.0.2, \
             rule from 10.0.0.0/24 table 7 priority 10100, rule to 192.0.2.0/24 table 1000 priority 5, MTU 1400"
        );
    }

    #[test]
    fn what_is_verified_is_kept() {
        let before = plan(2, 2, &[dhcp("10.0.0.50", "10.0.0.1")]);
        let mut next = plan(2, 2, &[wish(r#"{"addresses":["192.0.2.7/24"]}"#)]);
        next.keep(&before, Origin::Dhcp4);
        assert_eq!(next.to_string(), "192.0.2.7/24, 10.0.0.50/24, default via 10.0.0.1, MTU 1400");
        let mut next = Plan::default();
        next.keep(&before, Origin::Router);
        assert_eq!(next, Plan::default());
    }

    #[test]
    fn the_difference_of_two_plans() {
        let of = |address: &str| plan(2, 2, &[dhcp(address, "10.0.0.1")]);
        let (old, new) = (of("10.0.0.50"), of("10.0.0.51"));
        assert_eq!(old.changes(&old), []);
        let say = |changes: &[Change]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            say(&old.changes(&new)),
            [
                "removing the route default via 10.0.0.1",
                "removing address 10.0.0.50/24",
                "setting address 10.0.0.51/24",
                "setting the route default via 10.0.0.1"
            ]
        );
        assert_eq!(
            say(&new.changes(&Plan::default())),
            [
                "removing the route default via 10.0.0.1",
                "removing address 10.0.0.51/24",
                "setting back the MTU"
            ]
        );
    }

    #[test]
    fn what_stands_and_is_still_wished_is_not_touched() {
        let one = wish(
            r#"{"addresses":["10.0.0.7/24","2001:db8::7/64"],
            "routes":[{"to":"0.0.0.0/0","via":"10.0.0.1"}],"rules":[{"from":"10.0.0.7/32","table":7}]}"#,
        );
        let more = wish(
            r#"{"addresses":["10.0.0.7/24","2001:db8::7/64","2001:db8::8/64"],
            "routes":[{"to":"0.0.0.0/0","via":"10.0.0.1"}],"rules":[{"from":"10.0.0.7/32","table":7}]}"#,
        );
        let (old, new) = (plan(2, 2, &[one]), plan(2, 2, &[more]));
        let said =
            |from: &Plan, to: &Plan| from.changes(to).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(said(&old, &new), ["setting address 2001:db8::8/64"]);
        assert_eq!(said(&new, &old), ["removing address 2001:db8::8/64"]);
        // The kernel removes secondary addresses with their primary one, and routes that name it.
        let mut other = old.clone();
        other.addresses.remove(0);
        assert_eq!(
            said(&old, &other),
            ["removing address 10.0.0.7/24", "setting the route default via 10.0.0.1"]
        );
    }
}
