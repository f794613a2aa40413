//! netplan, which is cloud-init's version 2 (netplan.readthedocs.io, "YAML configuration"). Several
//! files are one: mappings are merged, lists appended, the rest replaced.

use rescue_schema::network::{Bridge, Kind, Link, Route, Rule};

use super::bonding;
use super::draft::{self, Draft, Notes};
use super::tree::{self, Node};
use super::{Error, File, Result, text};

pub(super) fn translate(files: &[File]) -> Result {
    let mut merged = Node::Null;
    // In the order of their names, wherever they lie; of one name, /etc's hides /usr/lib's.
    let mut order: Vec<&File> = files.iter().collect();
    order.sort_by_key(|file| (base(&file.path).to_string(), !file.path.starts_with("etc/")));
    order.dedup_by_key(|file| base(&file.path).to_string());
    for file in order {
        let name = if file.path.is_empty() { "netplan" } else { file.path.as_str() };
        let root = tree::yaml(name, &file.bytes)?;
        merge(&mut merged, root.get("network").clone());
    }
    if merged.is_null() {
        return Err(Error::new("netplan", "says nothing of a network"));
    }
    from_tree(&merged)
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn merge(into: &mut Node, from: Node) {
    match (into, from) {
        (_, Node::Null) => {}
        (Node::Map(old), Node::Map(new)) => {
            for (key, value) in new {
                match old.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, node)) => merge(node, value),
                    None => old.push((key, value)),
                }
            }
        }
        (Node::List(old), Node::List(new)) => old.extend(new.into_iter().take(1000)),
        (into, new) => *into = new,
    }
}

/// What is under `network`.
pub(super) fn from_tree(network: &Node) -> Result {
    let mut draft = Draft::default();
    for (section, links) in network.pairs() {
        let known = matches!(section.as_str(), "ethernets" | "bonds" | "bridges" | "vlans" | "dummy-devices");
        if !known {
            if !matches!(section.as_str(), "version" | "renderer") && !links.pairs().is_empty() {
                draft.notes.say(section, "links of this kind are not used");
            }
            continue;
        }
        for (id, node) in links.pairs() {
            if id == "renderer" || id == "lo" {
                continue;
            }
            link(&mut draft, section, id, node);
        }
    }
    draft.finish()
}

fn link(draft: &mut Draft, section: &str, id: &str, node: &Node) {
    let at = format!("{section}.{id}");
    let field = |key: &str| node.get(key).text();
    match section {
        "bonds" => draft.bond(id, |bond, notes| {
            node.get("interfaces").texts().into_iter().for_each(|p| draft::port(&mut bond.links, p));
            for (key, value) in node.get("parameters").pairs() {
                if !bonding::option(bond, notes, &at, key, &value.texts().join(" ")) {
                    notes.say(format!("{at}.{key}"), "not used");
                }
            }
        }),
        "bridges" => draft.bridge(id, |bridge: &mut Bridge, _| {
            node.get("interfaces").texts().into_iter().for_each(|p| draft::port(&mut bridge.links, p));
            let parameters = node.get("parameters");
            // netplan's default is on.
            bridge.stp = parameters.get("stp").flag().unwrap_or(true);
            let delay = parameters.get("forward-delay").text().and_then(text::number);
            bridge.forward_delay = delay.and_then(|d| u8::try_from(d).ok()).filter(|d| (2..=30).contains(d));
        }),
        "vlans" => match (field("link"), field("id").and_then(|tag| tag.parse().ok())) {
            (Some(parent), Some(tag)) => draft.vlan(id, parent, tag),
            _ => return draft.notes.say(at, "a VLAN without link and id"),
        },
        "dummy-devices" => {
            draft.edit(id, |link, _| (link.kind, link.name) = (Kind::Dummy, None));
        }
        _ => {
            draft.edit(id, |link, notes| matched(link, notes, &at, id, node.get("match")));
        }
    }
    draft.edit(id, |link, notes| configure(link, notes, &at, node));
    let names = node.get("nameservers");
    for server in names.get("addresses").texts() {
        draft.server(format!("{at}.nameservers"), server);
    }
    for domain in names.get("search").texts() {
        draft.search(format!("{at}.nameservers.search"), domain);
    }
}

/// Which card it is.
fn matched(link: &mut Link, notes: &mut Notes, at: &str, id: &str, wanted: &Node) {
    (link.mac, link.name) = (None, None);
    if let Some(mac) = wanted.get("macaddress").text() {
        link.mac = text::mac(mac);
        if link.mac.is_none() {
            notes.wrong(format!("{at}.match"), mac, "MAC address");
        }
    }
    if link.mac.is_none() {
        let name = wanted.get("name").text();
        if name.is_none() && !wanted.get("driver").is_null() {
            notes.say(format!("{at}.match"), "a card is not told by its driver: all that are left are taken");
        }
        // Told by an address that no card has, it is not every card.
        let by_address = !wanted.get("macaddress").is_null();
        link.name = match wanted {
            Node::Null => Some(id.into()),
            _ => Some(name.unwrap_or(if by_address { id } else { "*" }).into()),
        };
    }
}

fn configure(link: &mut Link, notes: &mut Notes, at: &str, node: &Node) {
    let field = |key: &str| node.get(key).text();
    let flag = |key: &str| node.get(key).flag();
    link.dhcp4 = flag("dhcp4").unwrap_or(false);
    link.dhcp6 = flag("dhcp6").unwrap_or(false);
    link.accept_ra = flag("accept-ra");
    if let Some(mac) = field("macaddress") {
        match text::mac(mac) {
            Some(mac) if link.mac != Some(mac) => link.set_mac = Some(mac),
            Some(_) => {}
            None => notes.wrong(format!("{at}.macaddress"), mac, "MAC address"),
        }
    }
    if let Some(bytes) = field("mtu") {
        draft::mtu(link, notes, format!("{at}.mtu"), bytes);
    }
    for entry in node.get("addresses").items() {
        // An address with options is a mapping of itself.
        let it = entry.text().or_else(|| Some(entry.pairs().first()?.0.as_str()));
        if let Some(it) = it {
            draft::address(link, notes, format!("{at}.addresses"), it, None);
        }
    }
    for key in ["gateway4", "gateway6"] {
        if let Some(via) = field(key) {
            draft::gateway(link, notes, format!("{at}.{key}"), via);
        }
    }
    for (i, entry) in node.get("routes").items().iter().enumerate() {
        let at = format!("{at}.routes[{i}]");
        match route(entry) {
            Some(route) => draft::route(link, notes, at, route),
            None => notes.say(at, "not used: no unicast route that is known"),
        }
    }
    for (i, entry) in node.get("routing-policy").items().iter().enumerate() {
        let at = format!("{at}.routing-policy[{i}]");
        let prefix =
            |key: &str| entry.get(key).text().and_then(|p| text::prefix(p, None)).map(draft::network_of);
        let table = entry.get("table").text().and_then(text::table).unwrap_or(254);
        let priority = entry.get("priority").text().and_then(text::number);
        if !entry.any(&["mark", "type-of-service"]).is_null() {
            notes.say(at, "a rule by mark or type of service is not used");
            continue;
        }
        draft::rule(link, notes, at, Rule { from: prefix("from"), to: prefix("to"), table, priority });
    }
    const USED: &[&str] = &[
        "dhcp4",
        "dhcp6",
        "accept-ra",
        "macaddress",
        "mtu",
        "addresses",
        "gateway4",
        "gateway6",
        "routes",
        "routing-policy",
        "match",
        "set-name",
        "nameservers",
        "interfaces",
        "parameters",
        "link",
        "id",
        // These do not change how the machine is reached.
        "optional",
        "critical",
        "renderer",
        "wakeonlan",
        "dhcp-identifier",
        "link-local",
        "optional-addresses",
        "ipv6-privacy",
        "activation-mode",
        "ignore-carrier",
    ];
    for (key, value) in node.pairs() {
        if !USED.contains(&key.as_str()) && !value.is_null() {
            notes.say(format!("{at}.{key}"), "not used");
        }
    }
}

fn route(entry: &Node) -> Option<Route> {
    let field = |key: &str| entry.get(key).text();
    if field("type").is_some_and(|kind| kind != "unicast") {
        return None;
    }
    let via = match field("via") {
        Some(via) => Some(text::ip(via)?),
        None => None,
    };
    let source = field("from").and_then(text::ip);
    let v4 = via.or(source).is_none_or(|ip| ip.is_ipv4());
    Some(Route {
        to: text::destination(field("to")?, None, v4)?,
        via,
        metric: field("metric").and_then(text::number),
        source,
        table: field("table").and_then(text::table),
        onlink: entry.get("on-link").flag().unwrap_or(false),
    })
}
