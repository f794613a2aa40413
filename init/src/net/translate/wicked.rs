//! wicked's own XML, as `wicked show-config` gives it and as `/etc/wicked/ifconfig/*.xml` holds it: one
//! `<interface>` after another, also without an element around them (wicked's `schema/*.xml`).

use rescue_schema::network::{Bond, Kind, Link, Route};

use super::bonding;
use super::draft::{self, Draft, Notes};
use super::tree::Node;
use super::{Error, File, Result, names, text, xml};

/// Elements between the root and an interface: `<interfaces>`, `<config>`.
const MOST_AROUND: usize = 3;

pub(super) fn translate(files: &[File]) -> Result {
    let mut draft = Draft::default();
    let own = |file: &&File| file.path.is_empty() || file.path.ends_with(".xml");
    let mut ports: Vec<(String, String)> = Vec::new();
    for file in files.iter().filter(own) {
        let root = xml::parse(&file.bytes).map_err(|why| {
            let at = if file.path.is_empty() { "wicked" } else { file.path.as_str() };
            Error::new(at, why)
        })?;
        interfaces(&mut draft, &mut ports, &root, MOST_AROUND);
    }
    for (port, controller) in ports {
        match draft.links.iter_mut().find(|link| link.id == controller).map(|link| &mut link.kind) {
            Some(Kind::Bond(bond)) => draft::port(&mut bond.links, &port),
            Some(Kind::Bridge(bridge)) => draft::port(&mut bridge.links, &port),
            _ => draft.notes.say(port, format!("{controller}, whose port it is, is no bond or bridge here")),
        }
    }
    names::apply(&mut draft, files);
    draft.finish()
}

fn interfaces(draft: &mut Draft, ports: &mut Vec<(String, String)>, node: &Node, left: usize) {
    let Node::Map(pairs) = node else { return };
    for (key, child) in pairs {
        match key.as_str() {
            "interface" => interface(draft, ports, child),
            "interfaces" | "config" if left > 0 => interfaces(draft, ports, child, left - 1),
            _ => {}
        }
    }
}

/// What is `<enabled>`, where it is there at all.
fn enabled(node: &Node) -> bool {
    !node.is_null() && node.get("enabled").flag() != Some(false)
}

fn interface(draft: &mut Draft, ports: &mut Vec<(String, String)>, node: &Node) {
    // `<name namespace="ethernet"><permanent-address>…` finds a card by its address.
    let name = node.get("name");
    let mac = name.get("permanent-address").text().and_then(text::mac);
    let Some(id) = name.text().map(str::to_string).or(mac.map(|mac| mac.to_string())) else {
        return draft.notes.say("interface", "one without a name");
    };
    if id == "lo" {
        return;
    }
    let mode = node.get("control").get("mode").text();
    if matches!(mode, Some("off" | "manual")) {
        return draft.notes.say(&id, "it is started by hand");
    }
    kind(draft, &id, node);
    let v4 = node.get("ipv4").get("enabled").flag() != Some(false);
    let v6 = node.get("ipv6").get("enabled").flag() != Some(false);
    draft.edit(&id, |link, notes| {
        link.mac = link.mac.or(mac);
        if let Some(bytes) = node.get("link").get("mtu").text() {
            draft::mtu(link, notes, format!("{id} mtu"), bytes);
        }
        for of in ["ethernet", "bond", "bridge", "vlan", "dummy"] {
            if let Some(mac) = node.get(of).get("address").text().and_then(text::mac) {
                link.set_mac = Some(mac);
            }
        }
        link.dhcp4 |= v4 && enabled(node.get("ipv4:dhcp"));
        // `<mode>info</mode>` asks for no address.
        let info = node.get("ipv6:dhcp").get("mode").text() == Some("info");
        link.dhcp6 |= v6 && enabled(node.get("ipv6:dhcp")) && !info;
        if node.get("ipv6").get("enabled").flag() == Some(false) {
            link.accept_ra = Some(false);
        } else if enabled(node.get("ipv6:auto")) {
            link.accept_ra = Some(true);
        }
        for (is_used, family) in [(v4, "ipv4:static"), (v6, "ipv6:static")] {
            for part in node.all(family).filter(|_| is_used) {
                for address in part.all("address").filter_map(|address| address.get("local").text()) {
                    draft::address(link, notes, format!("{id} {family}"), address, None);
                }
                part.all("route").for_each(|one| route(link, notes, &id, family == "ipv4:static", one));
            }
        }
    });
    // Newer documents say of a port whose it is, older ones of a bond or bridge which ports it has.
    if let Some(controller) = node.get("link").get("master").text() {
        ports.push((id, controller.into()));
    }
}

/// What is built, and of what.
fn kind(draft: &mut Draft, id: &str, node: &Node) {
    let (bond, bridge, vlan) = (node.get("bond"), node.get("bridge"), node.get("vlan"));
    if !bond.is_null() {
        draft.bond(id, |it, notes| bond_of(it, notes, id, bond));
    } else if !bridge.is_null() {
        draft.bridge(id, |it, _| {
            let ports = bridge.get("ports").all("port").filter_map(|port| port.get("device").text());
            ports.for_each(|port| draft::port(&mut it.links, port));
            it.stp = bridge.get("stp").flag().unwrap_or(false);
            let delay = bridge.get("forward-delay").text().and_then(|d| d.split('.').next()?.parse().ok());
            it.forward_delay = delay.filter(|delay| (2..=30).contains(delay));
        });
    } else if !vlan.is_null() {
        let tag = vlan.get("tag").text().and_then(|tag| tag.parse().ok()).filter(|tag| *tag <= 4094);
        match (vlan.get("device").text(), tag.or_else(|| draft::vlan_id(id))) {
            (Some(below), Some(tag)) => draft.vlan(id, below, tag),
            _ => return draft.notes.say(id, "a VLAN without a device or an id"),
        }
        let is_service = vlan.get("protocol").text().is_some_and(|p| p.eq_ignore_ascii_case("ieee802-1ad"));
        draft.edit(id, |link, _| {
            if let Kind::Vlan(vlan) = &mut link.kind {
                vlan.service = is_service;
            }
        });
    } else if !node.get("dummy").is_null() {
        draft.edit(id, |link, _| (link.kind, link.name) = (Kind::Dummy, None));
    } else {
        for other in ["team", "infiniband", "wireless", "ovs-bridge", "tun", "tap", "macvlan", "macvtap"] {
            if !node.get(other).is_null() {
                draft.notes.say(id, format!("it is a {other}, which is not built here"));
            }
        }
    }
}

fn bond_of(bond: &mut Bond, notes: &mut Notes, id: &str, node: &Node) {
    for slave in node.get("slaves").all("slave") {
        let Some(device) = slave.get("device").text() else { continue };
        draft::port(&mut bond.links, device);
        if slave.get("primary").flag() == Some(true) {
            bond.primary = Some(device.into());
        }
    }
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            bonding::option(bond, notes, id, name, value);
        }
    };
    // wicked's words for the kernel's.
    let mode = node.get("mode").text().map(|mode| if mode == "ieee802-3ad" { "802.3ad" } else { mode });
    let policy = node.get("xmit-hash-policy").text().map(|policy| match policy {
        "layer23" => "layer2+3",
        "layer34" => "layer3+4",
        "encap23" => "encap2+3",
        "encap34" => "encap3+4",
        other => other,
    });
    set("mode", mode);
    set("xmit-hash-policy", policy);
    for name in ["lacp-rate", "ad-select", "min-links", "primary", "fail-over-mac"] {
        set(name, node.get(name).text());
    }
    let looks = node.get("miimon");
    set("miimon", looks.get("frequency").text());
    set("updelay", looks.get("updelay").text());
    set("downdelay", looks.get("downdelay").text());
    let asks = node.get("arpmon");
    set("arp-interval", asks.get("interval").text());
    asks.get("targets").all("ipv4-address").for_each(|target| set("arp-ip-target", target.text()));
}

/// A route, over the first of its hops.
fn route(link: &mut Link, notes: &mut Notes, id: &str, v4: bool, node: &Node) {
    let at = format!("{id} route");
    let to = node.get("destination").text().unwrap_or("default");
    let Some(to) = text::destination(to, None, v4) else { return notes.wrong(at, to, "destination") };
    if node.all("nexthop").nth(1).is_some() {
        notes.say(&at, "several hops: the first is used");
    }
    let hop = node.all("nexthop").next();
    let via = hop.and_then(|hop| hop.get("gateway").text());
    let number = |key: &str| node.get(key).text().and_then(text::number);
    let one = Route {
        metric: number("priority").or_else(|| number("metric")),
        table: node.get("table").text().and_then(text::table),
        source: node.get("pref-source").text().and_then(text::ip),
        ..draft::plain_route(to, via.and_then(text::ip))
    };
    draft::route(link, notes, at, one);
}
