//! Red Hat's `/etc/sysconfig/network-scripts/`: `ifcfg-*` with `route-*`, `route6-*`, `rule-*` and
//! `rule6-*` beside them (initscripts, `sysconfig.txt`; nm-settings-ifcfg-rh(5)).

use rescue_schema::network::{BondMode, Kind, Link};

use super::bonding;
use super::draft::{self, Draft, Notes};
use super::shell::{self, Variables};
use super::{File, Result, ipcommand, names, text};

const FOLDER: &str = "etc/sysconfig/network-scripts/";

pub(super) fn translate(files: &[File]) -> Result {
    let mut draft = Draft::default();
    let of = |stem: &'static str| {
        files.iter().filter_map(move |f| {
            let name = f.path.strip_prefix(FOLDER).unwrap_or(&f.path);
            Some((name.strip_prefix(stem)?, f))
        })
    };
    let ordinary = |name: &str| !name.ends_with(".bak") && !name.ends_with('~') && !name.contains(".rpm");
    let mut ids: Vec<(String, String)> = Vec::new();
    let global = files.iter().find(|f| f.path == "etc/sysconfig/network").map(|f| shell::parse(&f.bytes));
    let global = global.unwrap_or_default();
    for (name, file) in of("ifcfg-").filter(|(name, _)| ordinary(name)) {
        let variables = shell::parse(&file.bytes);
        let device = variables.get("DEVICE").or_else(|| variables.get("NAME").filter(|_| name.contains(' ')));
        // `eth0:1` is a further address of eth0.
        let id = device.unwrap_or(name).split(':').next().unwrap_or_default().to_string();
        if id.is_empty() || id == "lo" {
            continue;
        }
        ids.push((name.into(), id.clone()));
        interface(&mut draft, &format!("ifcfg-{name}"), &id, &variables);
    }
    for (stem, v4) in [("route-", true), ("route6-", false)] {
        for (name, file) in of(stem).filter(|(name, _)| ordinary(name)) {
            let id = ids.iter().find(|(file, _)| file == name).map_or(name, |(_, id)| id.as_str());
            if draft.has(id) {
                draft.edit(id, |link, notes| routes(link, notes, &format!("{stem}{name}"), &file.bytes, v4));
            }
        }
    }
    for stem in ["rule-", "rule6-"] {
        for (name, file) in of(stem).filter(|(name, _)| ordinary(name)) {
            let id = ids.iter().find(|(file, _)| file == name).map_or(name, |(_, id)| id.as_str());
            if draft.has(id) {
                draft.edit(id, |link, notes| rules(link, notes, &format!("{stem}{name}"), &file.bytes));
            }
        }
    }
    default_gateway(&mut draft, &global);
    let notes = &mut draft.notes;
    draft.links.retain(|link| {
        let empty = matches!(&link.kind, Kind::Bond(bond) if bond.links.is_empty());
        if empty {
            notes.say(&link.id, "a bond without ports");
        }
        !empty
    });
    names::apply(&mut draft, files);
    draft.finish()
}

/// `/etc/sysconfig/network` may name the gateway for all.
fn default_gateway(draft: &mut Draft, global: &Variables) {
    for (key, device) in [("GATEWAY", "GATEWAYDEV"), ("IPV6_DEFAULTGW", "IPV6_DEFAULTDEV")] {
        let Some(via) = global.get(key) else { continue };
        let (via, zone) = via.split_once('%').map_or((via, None), |(via, zone)| (via, Some(zone)));
        let Some(ip) = text::ip(via) else {
            draft.notes.wrong(format!("network {key}"), via, "gateway");
            continue;
        };
        let named = zone.or_else(|| global.get(device));
        let covers = |l: &&mut Link| match named {
            Some(name) => l.id == name,
            None => l.addresses.iter().any(|a| draft::covers(a, ip)),
        };
        match draft.links.iter_mut().find(covers) {
            Some(link) => draft::gateway(link, &mut draft.notes, key, via),
            None => draft.notes.say(format!("network {key}"), "no link reaches it"),
        }
    }
}

fn interface(draft: &mut Draft, at: &str, id: &str, variables: &Variables) {
    let get = |key: &str| variables.get(key);
    let flag = |key: &str| variables.flag(key);
    if flag("ONBOOT") == Some(false) && flag("SLAVE") != Some(true) && get("MASTER").is_none() {
        return draft.notes.say(at, "ONBOOT=no");
    }
    let kind = get("TYPE").or_else(|| get("DEVICETYPE")).unwrap_or_default().to_ascii_lowercase();
    if matches!(kind.as_str(), "wireless" | "infiniband" | "ovsbridge" | "ovsport" | "ipip" | "gre" | "sit") {
        return draft.notes.say(at, "links of this type are not used");
    }
    let is_vlan = flag("VLAN") == Some(true) || kind == "vlan";
    if kind == "bond" || get("BONDING_OPTS").is_some() || flag("BONDING_MASTER") == Some(true) {
        draft.bond(id, |bond, notes| {
            bonding::options(bond, notes, at, get("BONDING_OPTS").unwrap_or_default());
        });
    } else if kind == "team" {
        draft.notes.say(at, "a team is taken for an active-backup bond");
        draft.bond(id, |bond, _| bond.mode = BondMode::ActiveBackup);
    } else if kind == "bridge" {
        draft.bridge(id, |bridge, _| {
            bridge.stp = flag("STP").unwrap_or(false);
            let delay = get("DELAY").and_then(|d| d.parse().ok());
            bridge.forward_delay = delay.filter(|d| (2..=30).contains(d));
        });
    } else if is_vlan {
        let parent = get("PHYSDEV").or_else(|| id.rsplit_once('.').map(|(parent, _)| parent));
        let tag = get("VLAN_ID").and_then(|tag| tag.parse().ok()).or_else(|| draft::vlan_id(id));
        match (parent, tag) {
            (Some(parent), Some(tag)) => draft.vlan(id, parent, tag),
            _ => return draft.notes.say(at, "a VLAN without parent and id"),
        }
    } else if kind == "dummy" {
        draft.edit(id, |link, _| (link.kind, link.name) = (Kind::Dummy, None));
    }
    draft.edit(id, |link, notes| {
        if link.kind == Kind::Ethernet
            && let Some(mac) = get("HWADDR").and_then(text::mac)
        {
            (link.mac, link.name) = (Some(mac), None);
        }
        if let Some(mac) = get("MACADDR").and_then(text::mac) {
            link.set_mac = Some(mac);
        }
        if let Some(bytes) = get("MTU") {
            draft::mtu(link, notes, format!("{at} MTU"), bytes);
        }
    });
    let master = get("MASTER").or_else(|| get("TEAM_MASTER"));
    if let Some(master) = master {
        draft.bond(master, |bond, _| draft::port(&mut bond.links, id));
        return;
    }
    if let Some(master) = get("BRIDGE") {
        draft.bridge(master, |bridge, _| draft::port(&mut bridge.links, id));
        return;
    }
    draft.edit(id, |link, notes| addresses(link, notes, at, variables));
    for n in 0..10 {
        let key = format!("DNS{n}");
        if let Some(server) = get(&key) {
            draft.server(format!("{at} {key}"), server);
        }
    }
    for key in ["DOMAIN", "SEARCH"] {
        let domains = get(key).unwrap_or_default().to_string();
        text::words(&domains).for_each(|d| draft.search(format!("{at} {key}"), d));
    }
}

fn addresses(link: &mut Link, notes: &mut Notes, at: &str, variables: &Variables) {
    let get = |key: &str| variables.get(key);
    let flag = |key: &str| variables.flag(key);
    match get("BOOTPROTO").unwrap_or("none").to_ascii_lowercase().as_str() {
        "dhcp" | "bootp" => link.dhcp4 = true,
        "none" | "static" => {}
        other => notes.wrong(format!("{at} BOOTPROTO"), other, "way that is known"),
    }
    for n in std::iter::once(String::new()).chain((0..16).map(|n: u32| n.to_string())) {
        let Some(address) = get(&format!("IPADDR{n}")) else { continue };
        let mask = get(&format!("PREFIX{n}")).or_else(|| get(&format!("NETMASK{n}")));
        let mask = mask.map(str::to_string).or_else(|| Some(text::classful(text::ip(address)?).to_string()));
        draft::address(link, notes, format!("{at} IPADDR{n}"), address, mask.as_deref());
    }
    if flag("DEFROUTE") != Some(false) {
        for key in ["GATEWAY", "GATEWAY0", "GATEWAY1", "GATEWAY2"] {
            if let Some(via) = get(key) {
                draft::gateway(link, notes, format!("{at} {key}"), via);
            }
        }
    }
    let metric = get("METRIC").or_else(|| get("IPV4_ROUTE_METRIC")).and_then(text::number);
    link.routes.iter_mut().for_each(|r| r.metric = r.metric.or(metric));
    if flag("IPV6INIT") == Some(false) {
        link.accept_ra = Some(false);
        return;
    }
    let more = get("IPV6ADDR_SECONDARIES").unwrap_or_default();
    for address in get("IPV6ADDR").into_iter().chain(more.split_whitespace()) {
        let mask = if address.contains('/') { None } else { Some("64") };
        draft::address(link, notes, format!("{at} IPV6ADDR"), address, mask);
    }
    if let Some(via) = get("IPV6_DEFAULTGW").filter(|_| flag("IPV6_DEFROUTE") != Some(false)) {
        draft::gateway(
            link,
            notes,
            format!("{at} IPV6_DEFAULTGW"),
            via.split('%').next().unwrap_or_default(),
        );
    }
    if flag("DHCPV6C") == Some(true) {
        link.dhcp6 = true;
    }
    link.accept_ra = link.accept_ra.or(flag("IPV6_AUTOCONF"));
}

/// `ADDRESS0=`, `NETMASK0=`, `GATEWAY0=`; or lines of what follows `ip route add`.
fn routes(link: &mut Link, notes: &mut Notes, at: &str, bytes: &[u8], v4: bool) {
    let variables = shell::parse(bytes);
    if variables.with_prefix("ADDRESS").next().is_some() {
        for (n, address) in variables.with_prefix("ADDRESS") {
            let get = |key: &str| variables.get(&format!("{key}{n}"));
            let via = get("GATEWAY").and_then(text::ip);
            match text::destination(address, get("NETMASK").or_else(|| get("PREFIX")), v4) {
                Some(to) => draft::route(link, notes, at, draft::plain_route(to, via)),
                None => notes.wrong(format!("{at} ADDRESS{n}"), address, "destination"),
            }
        }
        return;
    }
    for (number, line) in text::lines(bytes).iter().take(4096) {
        let words: Vec<&str> =
            line.split('#').next().unwrap_or_default().split_whitespace().take(64).collect();
        if words.is_empty() {
            continue;
        }
        match ipcommand::route(&words, v4) {
            Some(route) => draft::route(link, notes, at, route),
            None => notes.say(format!("{at} line {number}"), "a route that is not understood"),
        }
    }
}

fn rules(link: &mut Link, notes: &mut Notes, at: &str, bytes: &[u8]) {
    for (number, line) in text::lines(bytes).iter().take(4096) {
        let words: Vec<&str> =
            line.split('#').next().unwrap_or_default().split_whitespace().take(64).collect();
        match ipcommand::rule(&words) {
            Some(rule) => draft::rule(link, notes, at, rule),
            None if words.is_empty() => {}
            None => notes.say(format!("{at} line {number}"), "a rule that is not used"),
        }
    }
}
