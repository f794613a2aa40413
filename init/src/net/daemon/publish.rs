//! What the daemon tells others: PID 1, resolvers, `rescue status` and `rescue net`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rescue_schema::network::{Dns, Kind, MacAddress};
use rescue_schema::report::{DuplicateReport, LinkReport, NetReport, OriginReport};

use super::Daemon;
use super::port::Port;
use crate::net::resolv;
use crate::sys::files;
use crate::sys::netlink::{Address, Origin};
use crate::sys::notify::Notice;
use crate::sys::time::since_boot;

/// How long an address that is reached from nearby alone is kept back.
const PATIENCE: Duration = Duration::from_secs(3);

impl Daemon<'_> {
    /// Tells everybody what has changed.
    pub(super) fn publish(&mut self) {
        self.publish_address();
        let dns = self.publish_resolvers();
        self.publish_report(&dns);
    }

    fn publish_address(&mut self) {
        let mut ports: Vec<&Port> = self.ports.values().collect();
        ports.sort_by_key(|port| (port.standing.gateway().is_none(), port.role.order));
        let all = || ports.iter().flat_map(|port| &port.standing.addresses);
        let here = |ip: IpAddr| all().find(|a| a.address == ip);
        let known = self.primary.and_then(here);
        if known.is_some_and(is_reachable) {
            return;
        }
        // The first that has a way out, or else the first. One that is reached from here alone is told
        // when nothing better came for a while: many networks have both, and the other is a moment later.
        let better = all().find(|a| is_reachable(a));
        let waited = self.poor_since.is_some_and(|since| since_boot() >= since + PATIENCE);
        let next = better.or(known).or_else(|| all().next().filter(|_| waited));
        self.poor_since = match next {
            None if all().next().is_some() => self.poor_since.or(Some(since_boot())),
            _ => None,
        };
        let next = next.map(|a| a.address);
        if next == self.primary {
            return;
        }
        match next {
            Some(address) => Notice::Address(address).send(),
            None => Notice::AddressLost.send(),
        }
        self.primary = next;
    }

    /// When [`Self::publish`] has something to tell, whatever else happens.
    pub(super) fn publish_deadline(&self) -> Option<Duration> {
        self.poor_since.map(|since| since + PATIENCE)
    }

    fn publish_resolvers(&mut self) -> Dns {
        let now = since_boot();
        let mut ports: Vec<&Port> = self.ports.values().collect();
        ports.sort_by_key(|port| port.role.order);
        let brought: Vec<Dns> = ports
            .iter()
            .flat_map(|port| port.protocols.iter().map(|(_, protocol)| protocol.brings(now).dns))
            .collect();
        let dns = resolv::merge(std::iter::once(&self.network.dns).chain(&brought));
        let text = resolv::render(&dns);
        // After a restart the file of before serves until there is something to say; an empty one would
        // cut off an engineer whose lease is only being verified.
        let verifying = self.ports.values().any(Port::keeps);
        if text != self.resolv && !(text.is_empty() && verifying) {
            if let Err(error) = files::replace(&self.settings.resolv_conf, 0o644, text.as_bytes()) {
                (self.settings.say)(&format!("writing {}: {error}", self.settings.resolv_conf.display()));
            }
            self.resolv = text;
        }
        dns
    }

    fn publish_report(&mut self, dns: &Dns) {
        let report = NetReport {
            links: self.ports.values().map(|port| self.describe(port)).collect(),
            dns: dns.servers.iter().map(ToString::to_string).collect(),
            search: dns.search.clone(),
            problems: self.building.problems.clone(),
        };
        if self.report.as_ref() != Some(&report) {
            let written = serde_json::to_vec(&report).map_err(io::Error::from);
            let written = written.and_then(|json| files::replace(&self.settings.report, 0o644, &json));
            if let Err(error) = written {
                (self.settings.say)(&format!("writing {}: {error}", self.settings.report.display()));
            }
            self.report = Some(report);
        }
    }

    fn describe(&self, port: &Port) -> LinkReport {
        let link = &port.link;
        let mac = |mac: [u8; 6]| MacAddress(mac).to_string();
        let name = |index: Option<u32>| self.links.get(&index?).map(|link| link.name.clone());
        let shown = port.addresses.iter().filter(|a| !is_of_every_link(a.address));
        let mut report = LinkReport {
            name: link.name.clone(),
            id: port.role.wish.as_ref().map(|wish| wish.id.clone()).filter(|id| !id.is_empty()),
            kind: kind(port),
            mac: link.mac.map(mac).unwrap_or_default(),
            permanent_mac: link.permanent_mac.filter(|p| Some(*p) != link.mac).map(mac),
            path: port.path.clone(),
            carrier: link.carrier,
            speed: port.speed,
            mtu: link.mtu,
            mtu_before: port.mtu,
            controller: name(link.controller),
            parent: name(link.parent.filter(|_| link.vlan.is_some())),
            addresses: shown.map(|a| format!("{}/{}", a.address, a.length)).collect(),
            origins: port
                .addresses
                .iter()
                .filter(|a| !a.address.is_loopback())
                .map(|a| origin(port, a))
                .collect(),
            gateway: port.standing.gateway().map(|ip| ip.to_string()),
            ..LinkReport::default()
        };
        let duplicates = port.addresses.iter().filter(|a| a.duplicate);
        report.duplicates =
            duplicates.map(|a| DuplicateReport { address: a.address.to_string(), mac: None }).collect();
        if !port.role.carries {
            let state = match &report.controller {
                Some(controller) => format!("port of {controller}"),
                None => "left alone".into(),
            };
            report.state = state;
        } else if port.role.wish.as_ref().is_some_and(|wish| !wish.addresses.is_empty()) {
            report.says("static", "static".into());
        }
        for (_, protocol) in &port.protocols {
            protocol.report(&mut report);
        }
        if !link.carrier && !report.state.contains("no carrier") {
            let comma = if report.state.is_empty() { "" } else { ", " };
            report.state.push_str(&format!("{comma}no carrier"));
        }
        report
    }
}

fn kind(port: &Port) -> String {
    match (port.role.wish.as_ref().map(|wish| &wish.kind), port.link.vlan) {
        (Some(Kind::Bond(bond)), _) => {
            let mode = serde_json::to_value(bond.mode).ok();
            format!("bond {}", mode.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default())
        }
        (_, Some((id, false))) => format!("vlan {id}"),
        (_, Some((id, true))) => format!("vlan {id} (802.1ad)"),
        _ => match port.link.kind.as_deref() {
            None | Some("veth") => "ethernet".into(),
            Some(kind) => kind.into(),
        },
    }
}

/// Who gave an address. When it ends is what we know and not what the kernel counts down, so that the
/// report does not change by the second.
fn origin(port: &Port, address: &Address) -> OriginReport {
    let standing = port.standing.addresses.iter().find(|a| a.address == address.address);
    let link_local = matches!(address.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let by = match standing.and_then(|a| a.origin).or(address.origin) {
        Some(Origin::Static) => "static",
        Some(Origin::Dhcp4) => "dhcp",
        Some(Origin::Router) => "router",
        Some(Origin::Dhcp6) => "dhcp6",
        None if link_local => "kernel",
        None => "other",
    };
    OriginReport {
        address: format!("{}/{}", address.address, address.length),
        by: by.into(),
        until: port.until.get(&address.address).map(std::time::Duration::as_secs),
    }
}

/// Whether others than those nearby reach an address, as far as it tells: what a router alone gave may be
/// unique to the site (RFC 4193) or of the kind that was given up for it (RFC 3879).
fn is_reachable(address: &Address) -> bool {
    let nearby = |ip: Ipv6Addr| matches!(ip.segments(), [0xfc00..=0xfeff, ..]);
    match address.address {
        IpAddr::V6(ip) => {
            address.origin == Some(Origin::Static) || !nearby(ip) && address.preferred != Some(0)
        }
        IpAddr::V4(_) => true,
    }
}

/// Addresses that say nothing of how the machine is reached.
pub(super) fn is_of_every_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address == Ipv4Addr::LOCALHOST,
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_from_nearby_alone_is_not_told_first() {
        let reached = |address: &str, origin, preferred| {
            is_reachable(&Address {
                index: 2,
                address: address.parse().unwrap(),
                length: 64,
                broadcast: None,
                valid: Some(60),
                preferred,
                no_prefix_route: true,
                origin,
                tentative: false,
                duplicate: false,
            })
        };
        let router = Some(Origin::Router);
        assert!(
            reached("2001:db8::1", router, Some(60)) && reached("10.0.0.1", Some(Origin::Dhcp4), Some(60))
        );
        assert!(reached("2001:db8::1", router, None) && reached("fd00::1", Some(Origin::Static), None));
        for nearby in ["fd00::1", "fc00::1", "fec0::1"] {
            assert!(!reached(nearby, router, Some(60)), "{nearby}");
        }
        assert!(!reached("2001:db8::1", router, Some(0)), "deprecated");
    }
}
