//! A network while a document is read into it; `closing` makes of it what is handed on.

use std::fmt::Display;
use std::net::IpAddr;

use rescue_schema::network::{
    Bond, Bridge, Dns, Kind, Link, MAX_ENTRIES, Prefix, Route, Rule, Vlan, is_domain,
};

use super::{MAX_REMARKS, Remark, text};

/// What is left out, as it is found.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<Remark>);

impl Notes {
    pub(super) fn say(&mut self, at: impl Display, why: impl Display) {
        let remark = Remark { at: text::shown(&at.to_string(), 80), why: text::shown(&why.to_string(), 160) };
        if self.0.len() < MAX_REMARKS && !self.0.contains(&remark) {
            self.0.push(remark);
        }
    }

    /// Something that is malformed; shown, so only for what is no secret.
    pub(super) fn wrong(&mut self, at: impl Display, value: &str, what: &str) {
        self.say(at, format!("{:?} is no {what}", text::shown(value, 40)));
    }
}

/// The network so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) links: Vec<Link>,
    pub(super) dns: Dns,
    pub(super) notes: Notes,
}

/// A card that a document names and says nothing else about.
pub(super) fn card(name: &str) -> Link {
    let mac = text::mac(name);
    let by_name = mac.is_none() && !name.is_empty();
    Link { id: name.into(), mac, name: by_name.then(|| name.into()), ..Link::default() }
}

/// A VLAN.
pub(super) fn vlan(name: &str, parent: &str, id: u16) -> Link {
    let kind = Kind::Vlan(Vlan { link: parent.into(), id, service: false });
    Link { id: name.into(), kind, ..Link::default() }
}

/// The VLAN id that the name of a link ends in: `eth0.5`, `eth0.0005`, `vlan5`, `vlan0005`.
pub(super) fn vlan_id(name: &str) -> Option<u16> {
    let digits = name.rsplit_once('.').map(|(_, digits)| digits).or_else(|| name.strip_prefix("vlan"))?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten().filter(|id| *id <= 4094)
}

impl Draft {
    /// The link of this id, made as a card of this name where there is none.
    pub(super) fn edit<T>(&mut self, id: &str, change: impl FnOnce(&mut Link, &mut Notes) -> T) -> Option<T> {
        if !self.links.iter().any(|link| link.id == id) {
            self.links.push(card(id));
        }
        let link = self.links.iter_mut().find(|link| link.id == id)?;
        Some(change(link, &mut self.notes))
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.links.iter().any(|link| link.id == id)
    }

    /// Makes the link of this id a bond, unless it is one, and changes it.
    pub(super) fn bond(&mut self, id: &str, change: impl FnOnce(&mut Bond, &mut Notes)) {
        self.edit(id, |link, notes| {
            if !matches!(link.kind, Kind::Bond(_)) {
                link.kind = Kind::Bond(Bond::default());
                link.name = None;
            }
            if let Kind::Bond(bond) = &mut link.kind {
                change(bond, notes);
            }
        });
    }

    /// As [`Self::bond`], for a bridge.
    pub(super) fn bridge(&mut self, id: &str, change: impl FnOnce(&mut Bridge, &mut Notes)) {
        self.edit(id, |link, notes| {
            if !matches!(link.kind, Kind::Bridge(_)) {
                link.kind = Kind::Bridge(Bridge::default());
                link.name = None;
            }
            if let Kind::Bridge(bridge) = &mut link.kind {
                change(bridge, notes);
            }
        });
    }

    /// Makes the link of this id a VLAN of `parent`.
    pub(super) fn vlan(&mut self, id: &str, parent: &str, tag: u16) {
        self.edit(id, |link, _| {
            link.kind = vlan(id, parent, tag).kind;
            link.name = None;
        });
    }

    /// A name server.
    pub(super) fn server(&mut self, at: impl Display, address: &str) {
        // Several are told by systems that stop at 3; loopback is the rescued system's own resolver.
        match text::ip(address.split(['#', '@']).next().unwrap_or_default()) {
            None => self.notes.wrong(at, address, "address of a name server"),
            Some(ip) if ip.is_loopback() || ip.is_unspecified() => {
                self.notes.say(at, format!("{ip} is a name server of the system itself"));
            }
            Some(ip) if self.dns.servers.contains(&ip) => {}
            Some(_) if self.dns.servers.len() >= MAX_ENTRIES => {
                self.notes.say(at, format!("over {MAX_ENTRIES} name servers"));
            }
            Some(ip) => self.dns.servers.push(ip),
        }
    }

    /// A search domain.
    pub(super) fn search(&mut self, at: impl Display, domain: &str) {
        let domain = domain.trim().trim_start_matches('~').trim_end_matches('.');
        if domain.is_empty() || self.dns.search.iter().any(|known| known == domain) {
        } else if !is_domain(domain) {
            self.notes.wrong(at, domain, "domain name");
        } else if self.dns.search.len() >= MAX_ENTRIES {
            self.notes.say(at, format!("over {MAX_ENTRIES} search domains"));
        } else {
            self.dns.search.push(domain.into());
        }
    }
}

/// A static address.
pub(super) fn address(link: &mut Link, notes: &mut Notes, at: impl Display, it: &str, mask: Option<&str>) {
    match text::prefix(it, mask) {
        None => {
            notes.wrong(at, &format!("{it}{}", mask.map(|m| format!(" {m}")).unwrap_or_default()), "address")
        }
        Some(prefix) => put(link, notes, at, prefix),
    }
}

pub(super) fn put(link: &mut Link, notes: &mut Notes, at: impl Display, prefix: Prefix) {
    if prefix.address.is_unspecified() || prefix.address.is_multicast() || prefix.address.is_loopback() {
        notes.wrong(at, &prefix.to_string(), "address of a host");
    } else if link.addresses.iter().any(|known| known.address == prefix.address) {
    } else if link.addresses.len() >= MAX_ENTRIES {
        notes.say(at, format!("over {MAX_ENTRIES} addresses"));
    } else {
        link.addresses.push(prefix);
    }
}

/// A route of nothing but its destination and gateway.
pub(super) fn plain_route(to: Prefix, via: Option<IpAddr>) -> Route {
    Route { to, via, metric: None, source: None, table: None, onlink: false }
}

/// A default route.
pub(super) fn gateway(link: &mut Link, notes: &mut Notes, at: impl Display, via: &str) {
    match text::ip(via) {
        None => notes.wrong(at, via, "gateway"),
        Some(ip) if ip.is_unspecified() => {}
        Some(ip) => route(link, notes, at, plain_route(text::default(ip.is_ipv4()), Some(ip))),
    }
}

/// A route; its destination loses its host bits.
pub(super) fn route(link: &mut Link, notes: &mut Notes, at: impl Display, mut route: Route) {
    let v4 = route.to.address.is_ipv4();
    route.to = network_of(route.to);
    let known = |other: &Route| other.to == route.to && other.via == route.via && other.table == route.table;
    if route.via.is_some_and(|via| via.is_ipv4() != v4) {
        notes.say(at, "a gateway of another family than its destination");
    } else if link.routes.iter().any(known) {
    } else if link.routes.len() >= MAX_ENTRIES {
        notes.say(at, format!("over {MAX_ENTRIES} routes"));
    } else {
        route.source = route.source.filter(|source| source.is_ipv4() == v4);
        link.routes.push(route);
    }
}

/// A rule of policy.
pub(super) fn rule(link: &mut Link, notes: &mut Notes, at: impl Display, rule: Rule) {
    let mixed =
        matches!((&rule.from, &rule.to), (Some(f), Some(t)) if f.address.is_ipv4() != t.address.is_ipv4());
    if (rule.from.is_none() && rule.to.is_none()) || mixed {
        notes.say(at, "a rule that says neither from nor to where of one family");
    } else if link.rules.contains(&rule) {
    } else if link.rules.len() >= MAX_ENTRIES {
        notes.say(at, format!("over {MAX_ENTRIES} rules"));
    } else {
        link.rules.push(rule);
    }
}

/// An MTU.
pub(super) fn mtu(link: &mut Link, notes: &mut Notes, at: impl Display, bytes: &str) {
    match text::number(bytes).filter(|mtu| (68..=65535).contains(mtu)) {
        Some(mtu) => link.mtu = Some(mtu),
        None if bytes.trim().is_empty() || bytes.trim() == "0" => {}
        None => notes.wrong(at, bytes, "MTU of 68 to 65535"),
    }
}

/// A prefix with its host bits cleared.
pub(super) fn network_of(prefix: Prefix) -> Prefix {
    let length = u32::from(prefix.length);
    let address = match prefix.address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    };
    Prefix { address, length: prefix.length }
}

/// Whether the subnet of `prefix` holds an address.
pub(super) fn covers(prefix: &Prefix, address: IpAddr) -> bool {
    prefix.address.is_ipv4() == address.is_ipv4()
        && network_of(Prefix { address, length: prefix.length }) == network_of(*prefix)
}

/// Adds a port, once.
pub(super) fn port(ports: &mut Vec<String>, id: &str) {
    if !id.is_empty() && !ports.iter().any(|known| known == id) {
        ports.push(id.into());
    }
}
