//! cloud-init's `network-config`: version 1 (cloud-init, "Networking config Version 1"); version 2 is
//! [`super::netplan`]'s.

use rescue_schema::network::{Kind, Link, Route};

use super::bonding;
use super::draft::{self, Draft, Notes};
use super::tree::{self, Node};
use super::{Error, File, Result, netplan, text};

pub(super) fn translate(files: &[File]) -> Result {
    let Some(file) = files.first() else { return Err(Error::new("network-config", "no document")) };
    let root = tree::yaml("network-config", &file.bytes)?;
    // Both versions may stand under a key `network`, and often do.
    let config = match root.get("network") {
        Node::Null => &root,
        inner => inner,
    };
    match config.get("version").text() {
        Some("1") => version_1(config),
        Some("2") => netplan::from_tree(config),
        _ if config.get("config").text() == Some("disabled") => {
            let mut draft = Draft::default();
            draft.notes.say("network.config", "disabled: not obeyed");
            draft.finish()
        }
        Some(other) => Err(Error::new("network-config", format!("version {other:?} is neither 1 nor 2"))),
        None => Err(Error::new("network-config", "says no version")),
    }
}

fn version_1(config: &Node) -> Result {
    let mut draft = Draft::default();
    for (i, entry) in config.get("config").items().iter().enumerate() {
        let at = format!("config[{i}]");
        match entry.get("type").text() {
            Some(kind @ ("physical" | "bond" | "bridge" | "vlan" | "loopback" | "infiniband")) => {
                link(&mut draft, &at, kind, entry);
            }
            Some("nameserver") => {
                servers(&mut draft, &at, entry);
            }
            // Without a link: it is for whichever reaches the gateway.
            Some("route") => {}
            other => draft.notes.wrong(at, other.unwrap_or_default(), "type that is known"),
        }
    }
    for (i, entry) in config.get("config").items().iter().enumerate() {
        if entry.get("type").text() == Some("route") {
            let at = format!("config[{i}]");
            let Some(route) = route(&mut draft.notes, &at, entry) else { continue };
            let reaches = |l: &&mut Link| {
                route.via.is_some_and(|via| l.addresses.iter().any(|a| draft::covers(a, via)))
            };
            match draft.links.iter_mut().find(reaches) {
                Some(link) => draft::route(link, &mut draft.notes, at, route),
                None => draft.notes.say(at, "no link reaches its gateway"),
            }
        }
    }
    draft.finish()
}

fn servers(draft: &mut Draft, at: &str, entry: &Node) {
    for server in entry.get("address").texts() {
        draft.server(format!("{at}.address"), server);
    }
    for domain in entry.get("search").texts() {
        draft.search(format!("{at}.search"), domain);
    }
}

fn link(draft: &mut Draft, at: &str, kind: &str, entry: &Node) {
    let field = |key: &str| entry.get(key).text();
    let Some(name) = field("name").filter(|n| !n.is_empty()) else {
        return draft.notes.say(at, "without a name");
    };
    let mac = field("mac_address").and_then(text::mac);
    if kind == "loopback" || name == "lo" {
        // Some images put their name servers there.
        for subnet in entry.get("subnets").items() {
            dns(draft, at, subnet);
        }
        return;
    }
    if kind == "infiniband" {
        draft.notes.say(at, "InfiniBand is not used");
        return;
    }
    match kind {
        "bond" => draft.bond(name, |bond, notes| {
            for port in entry.any(&["bond_interfaces", "bond-interfaces", "bond_slaves"]).texts() {
                draft::port(&mut bond.links, port);
            }
            for (key, value) in entry.get("params").pairs() {
                options(bond, notes, at, key, value);
            }
            // An older spelling puts them beside the name.
            for (key, value) in entry.pairs().iter().filter(|(key, _)| key.starts_with("bond-")) {
                if key != "bond-interfaces" {
                    options(bond, notes, at, key, value);
                }
            }
        }),
        "bridge" => draft.bridge(name, |bridge, _| {
            entry
                .get("bridge_interfaces")
                .texts()
                .into_iter()
                .for_each(|p| draft::port(&mut bridge.links, p));
            let params = entry.get("params");
            bridge.stp = params.any(&["bridge_stp", "stp"]).flag().unwrap_or(false);
            let delay = params.any(&["bridge_fd", "forward-delay"]).text().and_then(text::number);
            bridge.forward_delay = delay.and_then(|d| u8::try_from(d).ok()).filter(|d| *d > 0);
        }),
        "vlan" => {
            let tag = field("vlan_id").and_then(|tag| tag.parse().ok()).or_else(|| draft::vlan_id(name));
            match (field("vlan_link"), tag) {
                (Some(parent), Some(tag)) => draft.vlan(name, parent, tag),
                _ => return draft.notes.say(at, "a VLAN without vlan_link and vlan_id"),
            }
        }
        _ => {}
    }
    let mut all_dns = Vec::new();
    draft.edit(name, |link, notes| {
        if mac.is_some() {
            link.mac = mac;
            link.name = None;
        }
        if let Some(bytes) = field("mtu") {
            draft::mtu(link, notes, format!("{at}.mtu"), bytes);
        }
        if let Some(accept) = entry.get("accept-ra").flag() {
            link.accept_ra = Some(accept);
        }
        for (j, node) in entry.get("subnets").items().iter().enumerate() {
            let at = format!("{at}.subnets[{j}]");
            subnet(link, notes, &at, node);
            all_dns.push((at, node));
        }
    });
    for (at, node) in all_dns {
        dns(draft, &at, node);
    }
}

fn options(bond: &mut rescue_schema::network::Bond, notes: &mut Notes, at: &str, key: &str, value: &Node) {
    if !bonding::option(bond, notes, &format!("{at}.params"), key, &value.texts().join(" ")) {
        notes.say(format!("{at}.params.{key}"), "not used");
    }
}

fn dns(draft: &mut Draft, at: &str, subnet: &Node) {
    for server in subnet.get("dns_nameservers").texts() {
        draft.server(format!("{at}.dns_nameservers"), server);
    }
    for domain in subnet.get("dns_search").texts() {
        draft.search(format!("{at}.dns_search"), domain);
    }
}

fn subnet(link: &mut Link, notes: &mut Notes, at: &str, node: &Node) {
    let field = |key: &str| node.get(key).text().map(str::trim).filter(|text| !text.is_empty());
    match field("type").unwrap_or_default() {
        "dhcp" | "dhcp4" => link.dhcp4 = true,
        "dhcp6" | "ipv6_dhcpv6-stateful" => (link.dhcp6, link.accept_ra) = (true, Some(true)),
        "ipv6_slaac" | "ipv6_dhcpv6-stateless" => link.accept_ra = Some(true),
        "static" | "static4" | "static6" => match field("address") {
            Some(address) => draft::address(link, notes, format!("{at}.address"), address, field("netmask")),
            None => notes.say(at, "static without an address"),
        },
        "manual" => {}
        other => notes.wrong(format!("{at}.type"), other, "type of subnet that is known"),
    }
    if node.get("control").text() == Some("manual") {
        notes.say(at, "control: manual is not obeyed");
    }
    if let Some(via) = field("gateway") {
        draft::gateway(link, notes, format!("{at}.gateway"), via);
    }
    for (j, node) in node.get("routes").items().iter().enumerate() {
        let at = format!("{at}.routes[{j}]");
        if let Some(one) = route(notes, &at, node) {
            draft::route(link, notes, at, one);
        }
    }
    if matches!(link.kind, Kind::Dummy) {
        notes.say(at, "carries nothing");
    }
}

fn route(notes: &mut Notes, at: &str, node: &Node) -> Option<Route> {
    let field = |key: &str| node.get(key).text().map(str::trim).filter(|text| !text.is_empty());
    let via = field("gateway").and_then(text::ip);
    let to = field("destination").or(field("network")).or(field("address")).unwrap_or("default");
    let to = text::destination(to, field("netmask"), via.is_none_or(|via| via.is_ipv4()));
    match to.filter(|_| via.is_some() || field("gateway").is_none()) {
        Some(to) => {
            Some(Route { metric: field("metric").and_then(text::number), ..draft::plain_route(to, via) })
        }
        None => {
            notes.say(at, "no route");
            None
        }
    }
}
