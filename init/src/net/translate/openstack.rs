//! OpenStack's `network_data.json` (nova, `doc/source/admin/metadata-service` and its schema), as it is
//! on config drives and metadata servers.

use rescue_schema::network::{Kind, Vlan};

use super::bonding;
use super::draft::{self, Draft};
use super::tree::{self, Node};
use super::{Error, File, Result, text};

pub(super) fn translate(files: &[File]) -> Result {
    let Some(file) = files.first() else { return Err(Error::new("network_data.json", "no document")) };
    let root = tree::json("network_data.json", &file.bytes)?;
    if !matches!(root, Node::Map(_)) {
        return Err(Error::new("network_data.json", "not an object"));
    }
    let mut draft = Draft::default();
    for (i, node) in root.get("links").items().iter().enumerate() {
        link(&mut draft, &format!("links[{i}]"), node);
    }
    // Every link is described now, so that a network of one that is not is seen.
    for (i, node) in root.get("networks").items().iter().enumerate() {
        network(&mut draft, &format!("networks[{i}]"), node);
    }
    services(&mut draft, "services", root.get("services"));
    draft.finish()
}

fn link(draft: &mut Draft, at: &str, node: &Node) {
    let Some(id) = node.get("id").text().filter(|id| !id.is_empty()) else {
        return draft.notes.say(at, "without an id");
    };
    if draft.has(id) {
        return draft.notes.say(at, "its id stands twice");
    }
    let field = |key: &str| node.get(key).text();
    let mac = field("ethernet_mac_address").and_then(text::mac);
    let kind = field("type").unwrap_or("phy");
    match kind {
        "bond" => draft.bond(id, |bond, notes| {
            node.get("bond_links").texts().into_iter().for_each(|port| draft::port(&mut bond.links, port));
            for (key, value) in node.pairs() {
                if key.starts_with("bond_") && key != "bond_links" {
                    let value = value.texts().join(" ");
                    if !bonding::option(bond, notes, at, key, &value) {
                        notes.say(format!("{at}.{key}"), "not used");
                    }
                }
            }
        }),
        "vlan" => {
            let tag = field("vlan_id").and_then(|tag| tag.parse::<u16>().ok());
            match (field("vlan_link"), tag) {
                (Some(parent), Some(tag)) => {
                    draft.vlan(id, parent, tag);
                    draft.edit(id, |link, _| {
                        link.kind = Kind::Vlan(Vlan { link: parent.into(), id: tag, service: false });
                        link.mac = field("vlan_mac_address").and_then(text::mac);
                    });
                }
                _ => return draft.notes.say(at, "a VLAN without vlan_link and vlan_id"),
            }
        }
        // phy, vif, tap, ovs, bridge, dvs, hw_veb, hyperv, vhostuser, …: how the host calls its end of
        // what is a card here.
        _ => {
            draft.edit(id, |link, notes| {
                link.mac = mac;
                if mac.is_some() {
                    link.name = None;
                } else {
                    link.name = field("name").or(Some(id)).map(Into::into);
                    notes.say(at, "without ethernet_mac_address: found by its name");
                }
            });
        }
    }
    draft.edit(id, |link, notes| {
        if kind == "bond" {
            link.mac = mac;
        }
        if let Some(bytes) = field("mtu") {
            draft::mtu(link, notes, format!("{at}.mtu"), bytes);
        }
    });
}

fn network(draft: &mut Draft, at: &str, node: &Node) {
    let field = |key: &str| node.get(key).text().map(str::trim).filter(|text| !text.is_empty());
    let Some(id) = field("link").filter(|id| draft.has(id)) else {
        return draft.notes.say(at, "its link is not described");
    };
    let kind = field("type").unwrap_or_default();
    draft.edit(id, |link, notes| {
        match kind {
            "ipv4" | "ipv6" | "static" | "static4" | "static6" => match field("ip_address") {
                Some(address) => {
                    draft::address(link, notes, format!("{at}.ip_address"), address, field("netmask"))
                }
                None => notes.say(at, "without ip_address"),
            },
            "ipv4_dhcp" | "dhcp" | "dhcp4" => link.dhcp4 = true,
            "ipv6_dhcp" | "dhcp6" | "ipv6_dhcpv6-stateful" => {
                (link.dhcp6, link.accept_ra) = (true, Some(true));
            }
            // Stateless: addresses from routers, the rest by DHCPv6, as routers say themselves.
            "ipv6_slaac" | "ipv6_dhcpv6-stateless" => link.accept_ra = Some(true),
            other => notes.wrong(format!("{at}.type"), other, "type of network that is known"),
        }
        for gateway in ["gateway", "gateway4", "gateway6"] {
            if let Some(via) = field(gateway) {
                draft::gateway(link, notes, format!("{at}.{gateway}"), via);
            }
        }
        for (j, route) in node.get("routes").items().iter().enumerate() {
            let at = format!("{at}.routes[{j}]");
            let part = |key: &str| route.get(key).text();
            let via = part("gateway").and_then(text::ip);
            let v4 = via.is_none_or(|via| via.is_ipv4());
            let to = part("network").and_then(|to| text::destination(to, part("netmask"), v4));
            match to.filter(|_| via.is_some() || part("gateway").is_none()) {
                Some(to) => {
                    let via = via.filter(|via| !via.is_unspecified());
                    let metric = part("metric").and_then(text::number);
                    let route = rescue_schema::network::Route { metric, ..draft::plain_route(to, via) };
                    draft::route(link, notes, at, route);
                }
                None => notes.say(at, "no route"),
            }
        }
    });
    for key in ["dns_nameservers", "dns_search"] {
        for text in node.get(key).texts() {
            match key {
                "dns_search" => draft.search(format!("{at}.{key}"), text),
                _ => draft.server(format!("{at}.{key}"), text),
            }
        }
    }
    services(draft, &format!("{at}.services"), node.get("services"));
}

fn services(draft: &mut Draft, at: &str, services: &Node) {
    for (i, service) in services.items().iter().enumerate() {
        let at = format!("{at}[{i}]");
        match (service.get("type").text(), service.get("address").text()) {
            (Some("dns"), Some(address)) => draft.server(at, address),
            (Some("ntp"), _) => {}
            (kind, _) => draft.notes.wrong(at, kind.unwrap_or_default(), "service that is used"),
        }
    }
}
