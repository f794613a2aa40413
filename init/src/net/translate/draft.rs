//! A network while a document is read into it, and how it is closed.

use std::fmt::Display;
use std::net::IpAddr;

use rescue_schema::network::{
    Bond, Bridge, Dns, Kind, Link, MAX_ENTRIES, Network, Prefix, Route, Rule, Vlan, is_domain, is_link_name,
};

use super::{Error, MAX_REMARKS, Remark, Result, Translation, text};

/// What is left out, as it is found.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Remark>);

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

/// An empty bond.
pub(super) fn bond() -> Bond {
    Bond {
        links: Vec::new(),
        mode: Default::default(),
        miimon: None,
        up_delay: None,
        down_delay: None,
        lacp_fast: None,
        xmit_hash_policy: None,
        ad_select: None,
        min_links: None,
        primary: None,
        fail_over_mac: None,
        arp_interval: None,
        arp_targets: Vec::new(),
    }
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
                link.kind = Kind::Bond(bond());
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

    /// Closes it.
    pub(super) fn finish(mut self) -> Result {
        self.links.retain(|link| {
            !(link.kind == Kind::Ethernet && matches!(link.name.as_deref(), Some("lo" | "lo0")))
        });
        for link in &mut self.links {
            if link.kind != Kind::Ethernet {
                (link.name, link.path) = (None, None);
                link.mac = link.mac.or(link.set_mac.take());
            }
        }
        self.unite();
        self.complete()?;
        self.rename();
        self.ports();
        let network = Network { links: self.links, dns: self.dns };
        network.validate("network").map_err(|e| Error::new(e.field, e.reason))?;
        Ok(Translation { network, remarks: self.notes.0 })
    }

    /// Cards that are described twice, by one MAC address, are one.
    fn unite(&mut self) {
        let mut kept: Vec<Link> = Vec::new();
        let mut other_ids: Vec<(String, String)> = Vec::new();
        for link in std::mem::take(&mut self.links) {
            let same = |other: &&mut Link| {
                link.kind == Kind::Ethernet
                    && other.kind == Kind::Ethernet
                    && link.mac.is_some()
                    && other.mac == link.mac
            };
            match kept.iter_mut().find(same) {
                None => kept.push(link),
                Some(first) => {
                    self.notes.say(&link.id, format!("the same card as {}", first.id));
                    first.dhcp4 |= link.dhcp4;
                    first.dhcp6 |= link.dhcp6;
                    first.accept_ra = first.accept_ra.or(link.accept_ra);
                    first.mtu = first.mtu.or(link.mtu);
                    for one in link.addresses {
                        if !first.addresses.contains(&one) {
                            first.addresses.push(one);
                        }
                    }
                    for one in link.routes {
                        if !first.routes.contains(&one) {
                            first.routes.push(one);
                        }
                    }
                    first.rules.extend(link.rules);
                    other_ids.push((link.id, first.id.clone()));
                }
            }
        }
        for link in &mut kept {
            below_mut(&mut link.kind, |id| {
                if let Some((_, first)) = other_ids.iter().find(|(other, _)| other == id) {
                    id.clone_from(first);
                }
            });
        }
        self.links = kept;
    }

    /// What is referred to and not described is a card of that name.
    fn complete(&mut self) -> Result<()> {
        let mut missing: Vec<String> = Vec::new();
        for id in self.links.iter().flat_map(Link::below) {
            if !self.has(id) && !missing.contains(id) {
                missing.push(id.clone());
            }
        }
        self.links.splice(0..0, missing.iter().map(|id| card(id)));
        // Cards first, and what is built after what it is built upon: the order is that of preference.
        let depth: Vec<(String, usize)> =
            self.links.iter().map(|link| (link.id.clone(), self.depth(link, 0))).collect();
        let of = |id: &str| depth.iter().find(|(other, _)| other == id).map_or(0, |(_, depth)| *depth);
        self.links.sort_by_key(|link| of(&link.id));
        if self.links.len() > MAX_ENTRIES {
            return Err(Error::new("links", format!("{} of them; at most {MAX_ENTRIES}", self.links.len())));
        }
        Ok(())
    }

    fn depth(&self, link: &Link, level: usize) -> usize {
        // Deeper than this is a circle, which validation refuses.
        if level > 4 {
            return 0;
        }
        let below = link.below().iter().take(MAX_ENTRIES);
        let below = below.filter_map(|id| self.links.iter().find(|other| &other.id == id));
        below.map(|other| self.depth(other, level + 1) + 1).max().unwrap_or(0)
    }

    /// What is built needs a name that the kernel takes.
    fn rename(&mut self) {
        let mut names: Vec<String> = self.links.iter().map(|link| link.id.clone()).collect();
        let mut renamed: Vec<(String, String)> = Vec::new();
        for link in self.links.iter_mut().filter(|link| link.kind != Kind::Ethernet) {
            if is_link_name(&link.id) {
                continue;
            }
            let stem = match &link.kind {
                Kind::Bond(_) => "bond",
                Kind::Bridge(_) => "br",
                Kind::Vlan(_) => "vlan",
                Kind::Dummy | Kind::Ethernet => "dummy",
            };
            let wanted = match &link.kind {
                Kind::Vlan(vlan) => vec![format!("{}.{}", vlan.link, vlan.id), format!("vlan{}", vlan.id)],
                _ => Vec::new(),
            };
            let numbered = (0..=MAX_ENTRIES).map(|n| format!("{stem}{n}"));
            let free = |name: &String| is_link_name(name) && !names.contains(name);
            if let Some(name) = wanted.into_iter().chain(numbered).find(free) {
                self.notes.say(&link.id, format!("called {name} here"));
                renamed.push((std::mem::replace(&mut link.id, name.clone()), name.clone()));
                names.push(name);
            }
        }
        for link in &mut self.links {
            below_mut(&mut link.kind, |id| {
                if let Some((_, name)) = renamed.iter().find(|(old, _)| old == id) {
                    id.clone_from(name);
                }
            });
        }
    }

    /// A port has no addresses of its own.
    fn ports(&mut self) {
        let ports: Vec<String> = self
            .links
            .iter()
            .filter(|link| matches!(link.kind, Kind::Bond(_) | Kind::Bridge(_)))
            .flat_map(Link::below)
            .cloned()
            .collect();
        for link in &mut self.links {
            if let Kind::Bond(bond) = &mut link.kind
                && let Some(primary) = bond.primary.take_if(|primary| !bond.links.contains(primary))
            {
                self.notes.say(&link.id, format!("{primary} is preferred and none of its ports"));
            }
        }
        for link in self.links.iter_mut().filter(|link| ports.contains(&link.id)) {
            if !link.addresses.is_empty() || link.dhcp4 || link.dhcp6 {
                self.notes.say(&link.id, "a port has no addresses of its own");
            }
            (link.dhcp4, link.dhcp6, link.accept_ra) = (false, false, None);
            link.addresses.clear();
            link.routes.clear();
            link.rules.clear();
        }
    }
}

fn below_mut(kind: &mut Kind, mut change: impl FnMut(&mut String)) {
    match kind {
        Kind::Ethernet | Kind::Dummy => {}
        Kind::Bond(bond) => {
            bond.links.iter_mut().for_each(&mut change);
            bond.primary.iter_mut().for_each(change);
        }
        Kind::Vlan(vlan) => change(&mut vlan.link),
        Kind::Bridge(bridge) => bridge.links.iter_mut().for_each(change),
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

/// An option of a bond, by its name in the kernel or one of those that formats give it
/// (`Documentation/networking/bonding.rst`; times in milliseconds). Says whether it is known.
pub(super) fn bond_option(bond: &mut Bond, notes: &mut Notes, at: &str, key: &str, value: &str) -> bool {
    use rescue_schema::network::{AdSelect, BondMode, FailOverMac, HashPolicy};
    let key = key.trim().to_ascii_lowercase().replace('_', "-");
    let key = key.strip_prefix("bond-").unwrap_or(&key);
    let value = value.trim();
    let lower = value.to_ascii_lowercase();
    let at = format!("{at}.{key}");
    let milliseconds = || text::number(lower.strip_suffix("ms").unwrap_or(&lower));
    macro_rules! set {
        ($field:expr, $read:expr) => {
            match $read {
                Some(known) => $field = known,
                None => notes.wrong(&at, value, "value of it that is known"),
            }
        };
    }
    match key {
        "mode" => set!(
            bond.mode,
            match lower.as_str() {
                "0" | "balance-rr" => Some(BondMode::BalanceRr),
                "1" | "active-backup" => Some(BondMode::ActiveBackup),
                "2" | "balance-xor" => Some(BondMode::BalanceXor),
                "3" | "broadcast" => Some(BondMode::Broadcast),
                "4" | "802.3ad" => Some(BondMode::Lacp),
                "5" | "balance-tlb" => Some(BondMode::BalanceTlb),
                "6" | "balance-alb" => Some(BondMode::BalanceAlb),
                _ => None,
            }
        ),
        "miimon" | "mii-monitor-interval" => set!(bond.miimon, milliseconds().map(Some)),
        "updelay" | "up-delay" => set!(bond.up_delay, milliseconds().map(Some)),
        "downdelay" | "down-delay" => set!(bond.down_delay, milliseconds().map(Some)),
        "lacp-rate" => set!(
            bond.lacp_fast,
            match lower.as_str() {
                "1" | "fast" => Some(Some(true)),
                "0" | "slow" => Some(Some(false)),
                _ => None,
            }
        ),
        "xmit-hash-policy" | "transmit-hash-policy" => set!(
            bond.xmit_hash_policy,
            match lower.as_str() {
                "0" | "layer2" => Some(Some(HashPolicy::Layer2)),
                "1" | "layer3+4" => Some(Some(HashPolicy::Layer34)),
                "2" | "layer2+3" => Some(Some(HashPolicy::Layer23)),
                "3" | "encap2+3" => Some(Some(HashPolicy::Encap23)),
                "4" | "encap3+4" => Some(Some(HashPolicy::Encap34)),
                "5" | "vlan+srcmac" => Some(Some(HashPolicy::VlanSrcMac)),
                _ => None,
            }
        ),
        "ad-select" => set!(
            bond.ad_select,
            match lower.as_str() {
                "0" | "stable" => Some(Some(AdSelect::Stable)),
                "1" | "bandwidth" => Some(Some(AdSelect::Bandwidth)),
                "2" | "count" => Some(Some(AdSelect::Count)),
                _ => None,
            }
        ),
        "min-links" => set!(bond.min_links, text::number(value).map(Some)),
        "primary" if value.is_empty() || lower == "none" => {}
        "primary" => bond.primary = Some(value.into()),
        "fail-over-mac" | "fail-over-mac-policy" => set!(
            bond.fail_over_mac,
            match lower.as_str() {
                "0" | "none" => Some(Some(FailOverMac::None)),
                "1" | "active" => Some(Some(FailOverMac::Active)),
                "2" | "follow" => Some(Some(FailOverMac::Follow)),
                _ => None,
            }
        ),
        "arp-interval" => set!(bond.arp_interval, milliseconds().map(Some)),
        "arp-ip-target" | "arp-ip-targets" => {
            for target in text::words(value) {
                match target.trim_start_matches('+').parse() {
                    Ok(target) if bond.arp_targets.len() < 16 => {
                        if !bond.arp_targets.contains(&target) {
                            bond.arp_targets.push(target);
                        }
                    }
                    _ => notes.wrong(&at, target, "IPv4 address to ask for"),
                }
            }
        }
        _ => return false,
    }
    true
}

/// Options of a bond in one text: `mode=802.3ad miimon=100`, separated by blanks or commas.
pub(super) fn bond_options(bond: &mut Bond, notes: &mut Notes, at: &str, options: &str) {
    for option in options.split([' ', '\t', ',']).filter(|o| !o.is_empty()) {
        match option.split_once('=') {
            Some((key, value)) if bond_option(bond, notes, at, key, value) => {}
            // A further target of arp_ip_target=A,B.
            None if text::ip(option).is_some() => {
                bond_option(bond, notes, at, "arp_ip_target", option);
            }
            _ => notes.say(at, format!("{:?} is not used", text::shown(option, 40))),
        }
    }
}

/// Adds a port, once.
pub(super) fn port(ports: &mut Vec<String>, id: &str) {
    if !id.is_empty() && !ports.iter().any(|known| known == id) {
        ports.push(id.into());
    }
}
