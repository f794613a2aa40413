//! FreeBSD's rc.conf(5): `ifconfig_*`, `ipv4_addrs_*`, `vlans_*`, `cloned_interfaces` with lagg(4),
//! bridge(4) and vlan(4), routers and static routes.

use rescue_schema::network::{BondMode, Kind, Link, Route};

use super::draft::{self, Draft, Notes};
use super::shell::{self, Variables};
use super::{File, Result, ipcommand, text};

/// Most words of a value that are looked at.
const MOST: usize = 128;

pub(super) fn translate(files: &[File]) -> Result {
    let mut variables = Variables::default();
    for file in files.iter().filter(|f| !f.path.ends_with("resolv.conf")) {
        variables.0.extend(shell::parse(&file.bytes).0);
    }
    let mut draft = Draft::default();
    // A card may be renamed, and is called by its new name from then on.
    let names: Vec<(String, String)> = variables
        .with_prefix("ifconfig_")
        .filter_map(|(name, new)| Some((name.strip_suffix("_name")?.to_string(), new.to_string())))
        .take(64)
        .collect();
    for (old, new) in &names {
        draft.edit(new, |link, _| link.name = Some(old.clone()));
    }
    for (parent, list) in variables.with_prefix("vlans_") {
        for name in list.split_whitespace().take(MOST) {
            match name.parse::<u16>() {
                Ok(tag) => draft.vlan(&format!("{parent}.{tag}"), parent, tag),
                Err(_) => {
                    let arguments = variables.get(&format!("create_args_{name}")).unwrap_or_default();
                    match word_after(arguments, "vlan").and_then(|tag| tag.parse().ok()) {
                        Some(tag) => draft.vlan(name, parent, tag),
                        None => draft.notes.say(format!("vlans_{parent}"), format!("{name} has no VLAN id")),
                    }
                }
            }
        }
    }
    for (name, value) in variables.with_prefix("create_args_") {
        let ifconfig = variables.get(&format!("ifconfig_{name}")).unwrap_or_default();
        built(&mut draft, name, &format!("{value} {ifconfig}"));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in variables.with_prefix("ifconfig_") {
        let (name, family) = match name.rsplit_once('_') {
            Some((name, suffix)) if suffix == "ipv6" || suffix.starts_with("alias") => (name, suffix),
            Some((_, "name" | "descr")) => continue,
            _ => (name, ""),
        };
        if matches!(name, "lo0" | "DEFAULT") {
            continue;
        }
        // Dots and hyphens are underscores in the names of variables.
        let dotted = name.rsplit_once('_').map(|(parent, tag)| format!("{parent}.{tag}"));
        let id = dotted.filter(|dotted| draft.has(dotted)).unwrap_or_else(|| name.to_string());
        if !seen.contains(&name) {
            seen.push(name);
            built(&mut draft, &id, value);
        }
        let at = format!("ifconfig_{name}");
        // `_aliases` holds several, each beginning with its family.
        let lists = if family == "aliases" { split_families(value) } else { vec![value.to_string()] };
        for list in lists {
            draft.edit(&id, |link, notes| ifconfig(link, notes, &at, &list, family == "ipv6"));
        }
    }
    for (name, list) in variables.with_prefix("ipv4_addrs_") {
        draft.edit(name, |link, notes| {
            for address in list.split_whitespace().take(MOST) {
                draft::address(link, notes, format!("ipv4_addrs_{name}"), address, None);
            }
        });
    }
    routers(&mut draft, &variables);
    by_order(&mut draft);
    let notes = &mut draft.notes;
    draft.links.retain(|link| {
        let empty = matches!(&link.kind, Kind::Bond(bond) if bond.links.is_empty());
        if empty {
            notes.say(&link.id, "a lagg without ports");
        }
        !empty
    });
    draft.finish()
}

fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_whitespace().take(MOST).skip_while(|w| *w != key).nth(1)
}

fn split_families(value: &str) -> Vec<String> {
    let mut lists: Vec<String> = Vec::new();
    for word in value.split_whitespace().take(MOST) {
        match lists.last_mut() {
            Some(list) if !matches!(word, "inet" | "inet6") => {
                list.push(' ');
                list.push_str(word);
            }
            _ => lists.push(word.into()),
        }
    }
    lists
}

/// What a link is, by its name and by what ifconfig(8) is told.
fn built(draft: &mut Draft, id: &str, value: &str) {
    let mut words = value.split_whitespace().take(MOST);
    if id.starts_with("lagg") && !id.contains('.') {
        draft.bond(id, |bond, notes| {
            while let Some(word) = words.next() {
                match word {
                    "laggproto" => {
                        let protocol = words.next().unwrap_or_default();
                        bond.mode = match protocol {
                            "lacp" => BondMode::Lacp,
                            "failover" => BondMode::ActiveBackup,
                            "loadbalance" => BondMode::BalanceXor,
                            "roundrobin" => BondMode::BalanceRr,
                            "broadcast" => BondMode::Broadcast,
                            other => {
                                notes.wrong(id, other, "protocol of lagg that is known");
                                bond.mode
                            }
                        };
                    }
                    "laggport" => draft::port(&mut bond.links, words.next().unwrap_or_default()),
                    "lacp_fast_timeout" => bond.lacp_fast = Some(true),
                    _ => {}
                }
            }
        });
    } else if id.starts_with("bridge") {
        draft.bridge(id, |bridge, _| {
            while let Some(word) = words.next() {
                if word == "addm" {
                    draft::port(&mut bridge.links, words.next().unwrap_or_default());
                }
            }
        });
    } else if let (Some(tag), Some(parent)) = (word_after(value, "vlan"), word_after(value, "vlandev")) {
        match tag.parse() {
            Ok(tag) => draft.vlan(id, parent, tag),
            Err(_) => draft.notes.wrong(id, tag, "VLAN id"),
        }
    }
}

fn ifconfig(link: &mut Link, notes: &mut Notes, at: &str, value: &str, v6: bool) {
    let words: Vec<&str> = value.split_whitespace().take(MOST).collect();
    let after = |key: &str| words.iter().skip_while(|w| **w != key).nth(1).copied();
    let mut rest = words.iter().copied().peekable();
    while let Some(word) = rest.next() {
        match word {
            "DHCP" | "SYNCDHCP" | "NOSYNCDHCP" | "dhcp" => link.dhcp4 = true,
            "accept_rtadv" => link.accept_ra = Some(true),
            "-accept_rtadv" => link.accept_ra = Some(false),
            "WPA" | "HOSTAP" => notes.say(at, "wireless is not used"),
            "mtu" => draft::mtu(link, notes, at, rest.next().unwrap_or_default()),
            "ether" | "link" | "lladdr" => link.set_mac = rest.next().and_then(text::mac).or(link.set_mac),
            "laggproto" | "laggport" | "laggtype" | "addm" | "vlan" | "vlandev" | "netmask" | "prefixlen"
            | "broadcast" | "vhid" | "pass" | "advskew" | "advbase" | "fib" | "metric" | "media"
            | "mediaopt" => {
                rest.next();
            }
            "inet" | "inet6" => {}
            it if text::prefix(it, None).is_some() => {
                let address = text::ip(it.split('/').next().unwrap_or_default());
                let beside = if v6 || it.contains(':') { after("prefixlen") } else { after("netmask") };
                let mask = beside.map(str::to_string).or_else(|| Some(text::classful(address?).to_string()));
                let mask = if it.contains('/') { None } else { mask };
                draft::address(link, notes, at, it, mask.as_deref());
            }
            _ => {}
        }
    }
}

/// `defaultrouter`, `static_routes` and those of IPv6, each on the link whose subnet holds the gateway.
fn routers(draft: &mut Draft, variables: &Variables) {
    let mut found: Vec<(String, Route, Option<String>)> = Vec::new();
    for key in ["defaultrouter", "ipv6_defaultrouter"] {
        let Some(via) = variables.get(key).filter(|via| !via.eq_ignore_ascii_case("no")) else { continue };
        let (plain, zone) =
            via.split_once('%').map_or((via, None), |(via, zone)| (via, Some(zone.to_string())));
        match text::ip(plain) {
            Some(ip) => {
                let route = draft::plain_route(text::default(ip.is_ipv4()), Some(ip));
                found.push((key.into(), route, zone));
            }
            None => draft.notes.wrong(key, via, "router"),
        }
    }
    for (list, stem) in [("static_routes", "route_"), ("ipv6_static_routes", "ipv6_route_")] {
        for name in variables.get(list).unwrap_or_default().split_whitespace().take(64) {
            // `name:fib` or `name:interface`
            let name = name.split(':').next().unwrap_or_default();
            let key = format!("{stem}{name}");
            let words: Vec<&str> =
                variables.get(&key).unwrap_or_default().split_whitespace().take(MOST).collect();
            match ipcommand::bsd_route(&words) {
                Some(route) => found.push((key, route, None)),
                None => draft.notes.say(key, "a route that is not understood"),
            }
        }
    }
    for (at, route, zone) in found {
        let reaches = |l: &&mut Link| match &zone {
            Some(zone) => l.id == *zone,
            None => route.via.is_some_and(|via| l.addresses.iter().any(|a| draft::covers(a, via))),
        };
        match draft.links.iter_mut().find(reaches) {
            Some(link) => draft::route(link, &mut draft.notes, at, route),
            None => {
                let mut with: Vec<&mut Link> =
                    draft.links.iter_mut().filter(|l| !l.addresses.is_empty()).collect();
                match with.as_mut_slice() {
                    [only] => draft::route(only, &mut draft.notes, at, route),
                    _ => draft.notes.say(at, "there is no link for it"),
                }
            }
        }
    }
}

/// FreeBSD calls cards by their driver, and numbers those of one driver by place; where all are of one
/// driver, that is our order.
fn by_order(draft: &mut Draft) {
    let ports: Vec<String> = draft.links.iter().flat_map(|l| l.below().iter().cloned()).collect();
    for port in ports {
        draft.edit(&port, |_, _| ());
    }
    let cards = || draft.links.iter().filter(|l| l.kind == Kind::Ethernet);
    let stem = |name: &str| name.trim_end_matches(|c: char| c.is_ascii_digit()).to_string();
    let stems: Vec<String> = cards().filter_map(|l| l.name.as_deref().map(stem)).collect();
    let Some(first) = stems.first().filter(|first| stems.iter().all(|s| s == *first)).cloned() else {
        if !stems.is_empty() {
            draft.notes.say("ifconfig_", "cards of several drivers cannot be told by their FreeBSD names");
        }
        return;
    };
    for link in draft.links.iter_mut().filter(|l| l.kind == Kind::Ethernet) {
        let unit =
            link.name.as_deref().and_then(|n| n.strip_prefix(first.as_str())).and_then(|n| n.parse().ok());
        if let Some(unit) = unit {
            let unit: u16 = unit;
            let other = format!("eth{unit}");
            let was = link.name.replace(other.clone()).unwrap_or_default();
            draft.notes.say(&link.id, format!("{was} is taken for the card {other} by place"));
        }
    }
}
