//! systemd-networkd's files (systemd.network(5), systemd.netdev(5), systemd.link(5)): on disk, and as
//! the credentials `network.network.*`, `network.netdev.*`, `network.link.*` (systemd.system-credentials(7)).

use rescue_schema::network::{Kind, Link, Route, Rule, Vlan};

use super::bonding;
use super::draft::{self, Draft, Notes};
use super::ini::{self, Section};
use super::{File, Result, names, text};
use crate::net::glob::{glob, is_pattern};
use crate::net::settle::may_be_card;

/// Most cards that one file may match by listing them.
const MAX_MATCHES: usize = 64;

pub(super) fn translate(files: &[File]) -> Result {
    let mut draft = Draft::default();
    for (name, sections) in documents(files, "netdev") {
        netdev(&mut draft, &name, &sections);
    }
    let built: Vec<String> = draft.links.iter().map(|link| link.id.clone()).collect();
    let mut configured = Vec::new();
    for (name, sections) in documents(files, "network") {
        network(&mut draft, &name, &sections, &built, &mut configured);
    }
    for file in files.iter().filter(|f| f.path == "network.dns" || f.path == "network.search_domains") {
        let value = String::from_utf8_lossy(&file.bytes).into_owned();
        for word in text::words(value.trim()) {
            match file.path.as_str() {
                "network.dns" => draft.server(&file.path, word),
                _ => draft.search(&file.path, word),
            }
        }
    }
    // A bond whose ports are described nowhere cannot carry anything.
    let notes = &mut draft.notes;
    draft.links.retain(|link| {
        let empty = matches!(&link.kind, Kind::Bond(bond) if bond.links.is_empty());
        let orphan = matches!(&link.kind, Kind::Vlan(vlan) if vlan.link.is_empty());
        if empty || orphan {
            notes.say(&link.id, if empty { "a bond without ports" } else { "a VLAN that no link names" });
        }
        !(empty || orphan)
    });
    names::apply(&mut draft, files);
    draft.finish()
}

/// The files of a kind in the order of their names, each with what its drop-ins add.
fn documents(files: &[File], kind: &str) -> Vec<(String, Vec<Section>)> {
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_string();
    let (suffix, credential) = (format!(".{kind}"), format!("network.{kind}."));
    let mut found: Vec<(String, bool, &File)> = files
        .iter()
        .filter(|f| base(&f.path).ends_with(&suffix) || f.path.starts_with(&credential))
        .map(|f| (base(&f.path), !f.path.starts_with("etc/"), f))
        .collect();
    found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    found.dedup_by(|later, first| later.0 == first.0);
    let with_drop_ins = |(name, _, file): (String, bool, &File)| {
        let mut sections = ini::parse(&file.bytes);
        let folder = format!("/{name}.d/");
        let mut more: Vec<&File> =
            files.iter().filter(|f| f.path.contains(&folder) && f.path.ends_with(".conf")).collect();
        more.sort_by_key(|f| base(&f.path));
        more.iter().for_each(|f| sections.extend(ini::parse(&f.bytes)));
        (name, sections)
    };
    found.into_iter().map(with_drop_ins).collect()
}

fn netdev(draft: &mut Draft, at: &str, sections: &[Section]) {
    let device = ini::section(sections, &["NetDev"]);
    let Some(name) = device.get("Name").filter(|n| !n.is_empty()) else {
        return draft.notes.say(at, "a device without a name");
    };
    match device.get("Kind").unwrap_or_default().to_ascii_lowercase().as_str() {
        "bond" => {
            let options = ini::section(sections, &["Bond"]);
            draft.bond(name, |bond, notes| {
                for (key, value) in &options.entries {
                    let (known, value) = match key.as_str() {
                        "Mode" => ("mode", value.clone()),
                        "TransmitHashPolicy" => ("xmit-hash-policy", value.clone()),
                        "LACPTransmitRate" => ("lacp-rate", value.clone()),
                        "MIIMonitorSec" => ("miimon", milliseconds(value)),
                        "UpDelaySec" => ("updelay", milliseconds(value)),
                        "DownDelaySec" => ("downdelay", milliseconds(value)),
                        "ARPIntervalSec" => ("arp-interval", milliseconds(value)),
                        "ARPIPTargets" => ("arp-ip-target", value.clone()),
                        "AdSelect" => ("ad-select", value.clone()),
                        "MinLinks" => ("min-links", value.clone()),
                        "FailOverMACPolicy" => ("fail-over-mac", value.clone()),
                        other => (other, value.clone()),
                    };
                    if !bonding::option(bond, notes, at, known, &value) {
                        notes.say(format!("{at} [Bond] {key}"), "not used");
                    }
                }
            });
        }
        "vlan" => {
            let vlan = ini::section(sections, &["VLAN"]);
            let Some(id) = vlan.get("Id").and_then(|id| id.parse().ok()) else {
                return draft.notes.say(at, "a VLAN without an id");
            };
            let service = vlan.get("Protocol").is_some_and(|p| p.eq_ignore_ascii_case("802.1ad"));
            draft.edit(name, |link, _| {
                link.kind = Kind::Vlan(Vlan { link: String::new(), id, service });
                link.name = None;
            });
        }
        "bridge" => {
            let options = ini::section(sections, &["Bridge"]);
            draft.bridge(name, |bridge, _| {
                bridge.stp = options.get("STP").and_then(text::flag).unwrap_or(false);
                let delay =
                    options.get("ForwardDelaySec").map(milliseconds).and_then(|d| d.parse::<u32>().ok());
                let delay = delay.and_then(|ms| u8::try_from(ms / 1000).ok());
                bridge.forward_delay = delay.filter(|d| (2..=30).contains(d));
            });
        }
        "dummy" => {
            draft.edit(name, |link, _| (link.kind, link.name) = (Kind::Dummy, None));
        }
        _ => return draft.notes.say(at, "a device of this kind is not used"),
    }
    draft.edit(name, |link, notes| {
        if let Some(mac) = device.get("MACAddress").and_then(text::mac) {
            link.mac = Some(mac);
        }
        if let Some(bytes) = device.get("MTUBytes") {
            draft::mtu(link, notes, at, bytes);
        }
    });
}

/// A time span (systemd.time(7)) of one number and unit in milliseconds, as text.
fn milliseconds(span: &str) -> String {
    let span = span.trim();
    let end = span.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(span.len());
    let (number, unit) = span.split_at_checked(end).unwrap_or((span, ""));
    let factor = match unit.trim() {
        "ms" | "msec" => 1.0,
        "" | "s" | "sec" | "second" | "seconds" => 1000.0,
        "us" | "usec" => 0.001,
        "min" | "m" => 60_000.0,
        _ => return span.into(),
    };
    match number.parse::<f64>() {
        Ok(number) => format!("{:.0}", number * factor),
        Err(_) => span.into(),
    }
}

/// Which links a file is for: ids of links that are built, else cards.
fn matches(draft: &mut Draft, at: &str, wanted: &Section, built: &[String]) -> Vec<Link> {
    let mut found = Vec::new();
    let words = |key: &str| -> Vec<String> {
        wanted.all(key).iter().flat_map(|v| v.split_whitespace()).take(MAX_MATCHES).map(Into::into).collect()
    };
    let macs = [words("MACAddress"), words("PermanentMACAddress")].concat();
    for mac in &macs {
        match text::mac(mac) {
            Some(mac) => found.push(draft::card(&mac.to_string())),
            None => draft.notes.wrong(at, mac, "MAC address"),
        }
    }
    if found.is_empty() && macs.is_empty() {
        for name in words("Name") {
            let negated = name.starts_with('!');
            let also = built.iter().filter(|id| is_pattern(&name) && !negated && glob(&name, id));
            found.extend(also.map(|id| draft::card(id)));
            match () {
                () if negated => draft.notes.say(at, "Name=! is not used"),
                () if !is_pattern(&name) || may_be_card(&name) => found.push(draft::card(&name)),
                () => {}
            }
        }
        if found.is_empty() {
            found.extend(words("Path").iter().map(|path| Link {
                id: path.clone(),
                path: Some(path.clone()),
                ..Link::default()
            }));
        }
        let kinds = words("Type");
        let any = words("Name").is_empty() && (kinds.is_empty() || kinds.iter().any(|k| k == "ether"));
        if found.is_empty() && any {
            if wanted.get("Driver").is_some() {
                draft.notes.say(at, "a card is not told by its driver: all that are left are taken");
            }
            found.push(draft::card("*"));
        }
    }
    found
}

fn network(
    draft: &mut Draft,
    at: &str,
    sections: &[Section],
    built: &[String],
    configured: &mut Vec<String>,
) {
    let section = |names: &[&str]| ini::section(sections, names);
    let wanted = section(&["Match"]);
    if section(&["Link"]).get("Unmanaged").and_then(text::flag) == Some(true) {
        return draft.notes.say(at, "unmanaged");
    }
    let settings = section(&["Network"]);
    for card in matches(draft, at, &wanted, built) {
        let id = card.id.clone();
        if id == "lo" || configured.contains(&id) {
            continue;
        }
        configured.push(id.clone());
        if !draft.has(&id) {
            draft.links.push(card);
        }
        draft.edit(&id, |link, notes| configure(link, notes, at, sections));
        for vlan in settings.all("VLAN").iter().flat_map(|v| v.split_whitespace()) {
            let parent = id.clone();
            match draft.links.iter_mut().find(|l| l.id == *vlan).map(|l| &mut l.kind) {
                Some(Kind::Vlan(vlan)) => vlan.link = parent,
                _ => draft.notes.say(at, format!("there is no VLAN {}", text::shown(vlan, 20))),
            }
        }
        if let Some(master) = settings.get("Bond") {
            draft.bond(master, |bond, _| {
                draft::port(&mut bond.links, &id);
                if settings.get("PrimarySlave").and_then(text::flag) == Some(true) {
                    bond.primary = Some(id.clone());
                }
            });
        }
        if let Some(master) = settings.get("Bridge") {
            draft.bridge(master, |bridge, _| draft::port(&mut bridge.links, &id));
        }
    }
    for server in settings.all("DNS").iter().flat_map(|v| v.split_whitespace()) {
        draft.server(at, server);
    }
    for domain in settings.all("Domains").iter().flat_map(|v| v.split_whitespace()) {
        draft.search(at, domain);
    }
}

fn configure(link: &mut Link, notes: &mut Notes, at: &str, sections: &[Section]) {
    let own = ini::section(sections, &["Link"]);
    if let Some(bytes) = own.get("MTUBytes") {
        draft::mtu(link, notes, at, bytes);
    }
    if let Some(mac) = own.get("MACAddress").and_then(text::mac) {
        link.set_mac = Some(mac);
    }
    let settings = ini::section(sections, &["Network"]);
    match settings.get("DHCP").unwrap_or("no").to_ascii_lowercase().as_str() {
        "ipv4" | "v4" => link.dhcp4 = true,
        "ipv6" | "v6" => link.dhcp6 = true,
        other => match text::flag(other).or(matches!(other, "both").then_some(true)) {
            Some(both) => (link.dhcp4, link.dhcp6) = (both, false),
            None => notes.wrong(at, other, "value of DHCP="),
        },
    }
    link.accept_ra = settings.any_flag(&["IPv6AcceptRA", "IPv6AcceptRouterAdvertisements"]);
    for address in settings.all("Address") {
        draft::address(link, notes, at, address, None);
    }
    for via in settings.all("Gateway") {
        draft::gateway(link, notes, at, via);
    }
    for section in sections {
        match section.name.as_str() {
            "Address" => {
                if let Some(address) = section.get("Address") {
                    draft::address(link, notes, format!("{at} [Address]"), address, None);
                }
            }
            "Route" => match route(link, section) {
                Some(route) => draft::route(link, notes, format!("{at} [Route]"), route),
                None => notes.say(format!("{at} [Route]"), "no unicast route that is known"),
            },
            "RoutingPolicyRule" => {
                let prefix = |key: &str| section.get(key).and_then(|p| text::prefix(p, None));
                let table = section.get("Table").and_then(text::table).unwrap_or(254);
                let priority = section.get("Priority").and_then(text::number);
                let (from, to) = (prefix("From").map(draft::network_of), prefix("To").map(draft::network_of));
                draft::rule(
                    link,
                    notes,
                    format!("{at} [RoutingPolicyRule]"),
                    Rule { from, to, table, priority },
                );
            }
            _ => {}
        }
    }
}

fn route(link: &Link, section: &Section) -> Option<Route> {
    if section.get("Type").is_some_and(|kind| kind != "unicast") {
        return None;
    }
    let via = match section.get("Gateway") {
        // What DHCP or a router brings, it brings anyway.
        Some("_dhcp4" | "_ipv6ra") => return None,
        Some(via) => Some(text::ip(via)?),
        None => None,
    };
    let v4 = via.map_or_else(|| link.addresses.iter().all(|a| a.address.is_ipv4()), |via| via.is_ipv4());
    let to = section.get("Destination").unwrap_or("default");
    if via.is_none() && section.get("Destination").is_none() {
        return None;
    }
    Some(Route {
        to: text::destination(to, None, v4)?,
        via,
        metric: section.get("Metric").and_then(text::number),
        source: section.get("PreferredSource").and_then(text::ip),
        table: section.get("Table").and_then(text::table),
        onlink: section.any_flag(&["GatewayOnLink", "GatewayOnlink"]).unwrap_or(false),
    })
}

impl Section {
    fn any_flag(&self, keys: &[&str]) -> Option<bool> {
        keys.iter().find_map(|key| text::flag(self.get(key)?))
    }
}
