//! Corrections from the console: a pure function from what is wished, what is there and an order to
//! what is wished then. Cards are named in the result by their permanent address alone.

use std::net::IpAddr;

use rescue_schema::network::{
    Bond, BondMode, Kind, Link, MacAddress, Network, Prefix, Route, Vlan, is_link_name,
};
use rescue_schema::report::{LinkReport, NetReport};

/// What is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// DHCP and router advertisements on this link, or on every card.
    Dhcp(Option<String>),
    /// An address.
    Set(Set),
}

/// An address for a link, and what leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// A link that is there, by its name, its id or its MAC address; or the name of a bond to be built.
    pub link: String,
    /// The address.
    pub address: Prefix,
    /// The gateway of the default route.
    pub via: Option<IpAddr>,
    /// Name servers, in place of those that are wished now; none leaves them.
    pub dns: Vec<IpAddr>,
    /// The address is on this VLAN of the link.
    pub vlan: Option<u16>,
    /// The link is a bond of these.
    pub bond: Vec<String>,
    /// How it uses them.
    pub mode: BondMode,
}

/// The wishes after the change.
///
/// # Errors
/// A text for the engineer: what is not there, or does not go together.
pub fn edit(network: &Network, report: &NetReport, edit: &Edit) -> Result<Network, String> {
    let mut next = network.clone();
    match edit {
        Edit::Dhcp(None) => return Ok(Network { links: Vec::new(), dns: network.dns.clone() }),
        Edit::Dhcp(Some(name)) => {
            spell_out(&mut next, report);
            let at = find(&mut next, report, name)?;
            if let Some(link) = next.links.get_mut(at) {
                *link = bare(link);
                (link.dhcp4, link.accept_ra) = (true, None);
            }
        }
        Edit::Set(set) => {
            spell_out(&mut next, report);
            apply(&mut next, report, set)?;
        }
    }
    next.validate("network").map_err(|error| error.to_string())?;
    Ok(next)
}

fn apply(next: &mut Network, report: &NetReport, set: &Set) -> Result<(), String> {
    let mut at = match set.bond.is_empty() {
        true => find(next, report, &set.link)?,
        false => bond(next, report, set)?,
    };
    if let Some(id) = set.vlan {
        at = vlan(next, report, at, id)?;
    }
    let Some(link) = next.links.get_mut(at) else { return Ok(()) };
    let v4 = set.address.address.is_ipv4();
    if set.via.is_some_and(|via| via.is_ipv4() != v4) {
        return Err("the gateway is not of the family of the address".into());
    }
    link.addresses.retain(|old| old.address.is_ipv4() != v4);
    link.addresses.insert(0, set.address);
    if v4 {
        link.dhcp4 = false;
    } else {
        link.dhcp6 = false;
    }
    // Routes of before lead by the address of before.
    link.routes.retain(|old| old.to.address.is_ipv4() != v4);
    if let Some(via) = set.via {
        let any: Prefix = if v4 { "0.0.0.0/0" } else { "::/0" }.parse()?;
        link.routes.push(Route {
            to: any,
            via: Some(via),
            metric: None,
            source: None,
            table: None,
            onlink: false,
        });
    }
    if !set.dns.is_empty() {
        next.dns.servers = set.dns.clone();
    }
    Ok(())
}

/// Where nothing was wished of a card that is here, every card has been asking for a lease, and goes on.
fn spell_out(network: &mut Network, report: &NetReport) {
    if network.links.is_empty() || report.fallback {
        for card in report.links.iter().filter(|link| is_free_card(link)) {
            if let Some(mac) = identity(card) {
                let taken = network.links.iter().any(|link| link.id == card.name);
                network.links.push(Link {
                    id: if taken { mac.to_string() } else { card.name.clone() },
                    mac: Some(mac),
                    dhcp4: true,
                    ..Link::default()
                });
            }
        }
    }
}

fn is_free_card(link: &LinkReport) -> bool {
    link.kind == "ethernet" && link.controller.is_none()
}

fn identity(link: &LinkReport) -> Option<MacAddress> {
    link.permanent_mac.as_ref().unwrap_or(&link.mac).parse().ok()
}

/// The place of a link that is there or wished; a card that was left alone is added.
fn find(network: &mut Network, report: &NetReport, name: &str) -> Result<usize, String> {
    let wished = |network: &Network, id: &str| network.links.iter().position(|link| link.id == id);
    let shown = report.links.iter().find(|link| {
        link.name == name
            || link.mac.eq_ignore_ascii_case(name)
            || link.permanent_mac.as_deref() == Some(name)
    });
    let by_mac = shown.filter(|link| link.kind == "ethernet").and_then(identity);
    let at = shown
        .and_then(|link| wished(network, link.id.as_deref()?))
        .or_else(|| {
            let same = |link: &Link| link.kind == Kind::Ethernet && link.mac.is_some() && link.mac == by_mac;
            network.links.iter().position(same)
        })
        .or_else(|| wished(network, name));
    if let Some(at) = at {
        name_it(network, at, name);
        return Ok(at);
    }
    match (shown, by_mac) {
        (Some(link), Some(mac)) if link.kind == "ethernet" => {
            let id = if wished(network, &link.name).is_none() { link.name.clone() } else { mac.to_string() };
            network.links.push(Link { id, mac: Some(mac), ..Link::default() });
            Ok(network.links.len() - 1)
        }
        _ => {
            let all: Vec<&str> = report.links.iter().map(|link| link.name.as_str()).collect();
            Err(format!("there is no link {name}; there are: {}", all.join(", ")))
        }
    }
}

/// A card need not have an id, until something is to be built upon it.
fn name_it(network: &mut Network, at: usize, name: &str) {
    let taken = network.links.iter().any(|link| link.id == name);
    if let Some(link) = network.links.get_mut(at).filter(|link| link.id.is_empty()) {
        link.id = match (taken, link.mac) {
            (true, Some(mac)) => mac.to_string(),
            _ => name.into(),
        };
    }
}

/// Without addresses and all that leads to them.
fn bare(link: &Link) -> Link {
    Link {
        addresses: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        dhcp4: false,
        dhcp6: false,
        accept_ra: Some(false),
        ..link.clone()
    }
}

fn bond(next: &mut Network, report: &NetReport, set: &Set) -> Result<usize, String> {
    let mut ports = Vec::new();
    for name in &set.bond {
        let at = find(next, report, name)?;
        let Some(link) = next.links.get_mut(at) else { continue };
        if link.kind != Kind::Ethernet {
            return Err(format!("{name} is no card: a bond is made of cards"));
        }
        *link = bare(link);
        ports.push(link.id.clone());
    }
    for other in next.links.iter_mut().filter(|link| link.id != set.link) {
        match &mut other.kind {
            Kind::Bond(other) => other.links.retain(|id| !ports.contains(id)),
            Kind::Bridge(other) => other.links.retain(|id| !ports.contains(id)),
            _ => {}
        }
    }
    // A bond whose ports are all in this one is no more, nor are its VLANs.
    let empty = |link: &Link| matches!(&link.kind, Kind::Bond(bond) if bond.links.is_empty());
    let gone: Vec<String> =
        next.links.iter().filter(|link| empty(link)).map(|link| link.id.clone()).collect();
    next.links.retain(|link| !gone.contains(&link.id) && !link.below().iter().any(|id| gone.contains(id)));
    let kind = match next.links.iter().find(|link| link.id == set.link).map(|link| &link.kind) {
        Some(Kind::Bond(old)) => {
            Kind::Bond(Bond { links: ports, mode: set.mode, primary: None, ..old.clone() })
        }
        Some(_) => return Err(format!("{} is there and is no bond; name another, such as bond0", set.link)),
        None if !is_link_name(&set.link) => return Err(format!("{} is no name for a bond", set.link)),
        None => Kind::Bond(new_bond(ports, set.mode)),
    };
    if let Some(at) = next.links.iter().position(|link| link.id == set.link) {
        if let Some(link) = next.links.get_mut(at) {
            link.kind = kind;
        }
        return Ok(at);
    }
    next.links.push(Link { id: set.link.clone(), kind, ..Link::default() });
    Ok(next.links.len() - 1)
}

fn new_bond(links: Vec<String>, mode: BondMode) -> Bond {
    Bond {
        links,
        mode,
        // A port that is back is used after 3 s at the latest, and not after 90.
        lacp_fast: (mode == BondMode::Lacp).then_some(true),
        ..Bond::default()
    }
}

/// The place of a VLAN on the link at `at`, which is then not asked for addresses itself unless it has
/// some: an engineer may be here over one of them.
fn vlan(next: &mut Network, report: &NetReport, at: usize, id: u16) -> Result<usize, String> {
    let Some(base) = next.links.get_mut(at) else { return Err("there is no such link".into()) };
    let is_it = |link: &&LinkReport| {
        link.id.as_ref() == Some(&base.id) || (base.mac.is_some() && identity(link) == base.mac)
    };
    let used = report.links.iter().filter(is_it).any(|link| !link.addresses.is_empty());
    if base.addresses.is_empty() && !used {
        *base = bare(base);
    }
    let link = base.id.clone();
    let same =
        |other: &Link| matches!(&other.kind, Kind::Vlan(v) if v.link == link && v.id == id && !v.service);
    if let Some(at) = next.links.iter().position(same) {
        return Ok(at);
    }
    let mut name = format!("{link}.{id}");
    if !is_link_name(&name) || next.links.iter().any(|other| other.id == name) {
        name = format!("vlan{id}");
    }
    let kind = Kind::Vlan(Vlan { link, id, service: false });
    next.links.push(Link { id: name, kind, ..Link::default() });
    Ok(next.links.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::describe::describe;

    fn report() -> NetReport {
        let card = |name: &str, mac: &str| LinkReport {
            name: name.into(),
            kind: "ethernet".into(),
            mac: mac.into(),
            ..LinkReport::default()
        };
        let links = vec![card("eth0", "02:00:00:00:00:01"), card("eth1", "02:00:00:00:00:02")];
        NetReport { links, ..NetReport::default() }
    }

    fn set(link: &str, address: &str) -> Set {
        Set {
            link: link.into(),
            address: address.parse().unwrap(),
            via: None,
            dns: vec![],
            vlan: None,
            bond: vec![],
            mode: BondMode::Lacp,
        }
    }

    #[test]
    fn the_other_cards_go_on_as_before() {
        let order = Set {
            via: "192.0.2.1".parse().ok(),
            dns: vec!["9.9.9.9".parse().unwrap()],
            ..set("eth0", "192.0.2.7/24")
        };
        let next = edit(&Network::default(), &report(), &Edit::Set(order)).unwrap();
        assert_eq!(
            describe(&next),
            [
                "eth0 (02:00:00:00:00:01): 192.0.2.7/24, default via 192.0.2.1",
                "eth1 (02:00:00:00:00:02): DHCP, no address",
                "name servers: 9.9.9.9"
            ]
        );
        let v6 = Set { via: "fe80::1".parse().ok(), ..set("02:00:00:00:00:01", "2001:db8::7/64") };
        let next = edit(&next, &report(), &Edit::Set(v6)).unwrap();
        assert_eq!(
            describe(&next)[0],
            "eth0 (02:00:00:00:00:01): 2001:db8::7/64, 192.0.2.7/24, default via 192.0.2.1, default via fe80::1"
        );
        let next = edit(&next, &report(), &Edit::Dhcp(Some("eth0".into()))).unwrap();
        assert_eq!(describe(&next)[0], "eth0 (02:00:00:00:00:01): DHCP, no address");
        assert_eq!(edit(&next, &report(), &Edit::Dhcp(None)).unwrap().links, []);
    }

    #[test]
    fn what_waits_for_absent_cards_is_kept_and_those_that_are_here_go_on() {
        let absent: Network =
            serde_json::from_str(r#"{"links":[{"id":"eth1","mac":"02:00:00:00:00:09","dhcp4":true}]}"#)
                .unwrap();
        let report = NetReport { fallback: true, ..report() };
        let next = edit(&absent, &report, &Edit::Set(set("eth0", "192.0.2.7/24"))).unwrap();
        let lines = [
            "eth1 (02:00:00:00:00:09): DHCP, no address",
            "eth0 (02:00:00:00:00:01): 192.0.2.7/24",
            "02:00:00:00:00:02 (02:00:00:00:00:02): DHCP, no address",
        ];
        assert_eq!(describe(&next), lines);
    }

    #[test]
    fn a_vlan_on_a_bond_in_one_line() {
        let order =
            Set { vlan: Some(7), bond: vec!["eth0".into(), "eth1".into()], ..set("bond0", "192.0.2.7/24") };
        let next = edit(&Network::default(), &report(), &Edit::Set(order.clone())).unwrap();
        let lines = [
            "eth0 (02:00:00:00:00:01): port of bond0",
            "eth1 (02:00:00:00:00:02): port of bond0",
            "bond0 (bond 802.3ad of eth0, eth1): no address",
            "bond0.7 (VLAN 7 of bond0): 192.0.2.7/24",
        ];
        assert_eq!(describe(&next), lines);
        assert_eq!(describe(&edit(&next, &report(), &Edit::Set(order)).unwrap()), lines, "twice is once");
        let other = Set {
            bond: vec!["eth0".into(), "eth1".into()],
            mode: BondMode::ActiveBackup,
            ..set("bond1", "192.0.2.8/24")
        };
        let next = edit(&next, &report(), &Edit::Set(other)).unwrap();
        assert_eq!(describe(&next)[2..], ["bond1 (bond active-backup of eth0, eth1): 192.0.2.8/24"]);
    }

    #[test]
    fn a_card_of_the_document_that_has_no_id() {
        let network: Network =
            serde_json::from_str(r#"{"links":[{"mac":"02:00:00:00:00:02","dhcp4":true,"mtu":9000}]}"#)
                .unwrap();
        let next =
            edit(&network, &report(), &Edit::Set(Set { vlan: Some(9), ..set("eth1", "192.0.2.7/24") }))
                .unwrap();
        assert_eq!(
            describe(&next),
            ["eth1 (02:00:00:00:00:02): no address, MTU 9000", "eth1.9 (VLAN 9 of eth1): 192.0.2.7/24"]
        );
        let next = edit(&next, &report(), &Edit::Set(set("eth0", "192.0.2.9/24"))).unwrap();
        assert_eq!(describe(&next)[2], "eth0 (02:00:00:00:00:01): 192.0.2.9/24");
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        let no = |order: Set| edit(&Network::default(), &report(), &Edit::Set(order)).unwrap_err();
        assert_eq!(no(set("eth7", "192.0.2.7/24")), "there is no link eth7; there are: eth0, eth1");
        assert!(no(Set { via: "fe80::1".parse().ok(), ..set("eth0", "192.0.2.7/24") }).contains("family"));
        assert!(no(Set { bond: vec!["eth1".into()], ..set("eth0", "192.0.2.7/24") }).contains("is no bond"));
        assert!(
            no(Set { bond: vec!["eth9".into()], ..set("bond0", "192.0.2.7/24") }).contains("no link eth9")
        );
        assert!(no(Set { bond: vec!["eth0".into()], ..set("bond 0", "192.0.2.7/24") }).contains("no name"));
        assert!(no(Set { vlan: Some(4095), ..set("eth0", "192.0.2.7/24") }).contains("4094"));
    }
}
