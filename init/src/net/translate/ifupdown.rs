//! interfaces(5) of ifupdown, with the options of ifenslave, vlan and bridge-utils: `/etc/network/interfaces`
//! of Debian, and the document in `openstack/content` of SoftLayer (IBM classic) and of Nova.

use rescue_schema::network::{Kind, Link};

use super::bonding;
use super::draft::{self, Draft, Notes};
use super::{File, Result, ipcommand, names, text};
use crate::net::glob::glob;

/// Deepest `source` within `source`.
const MAX_DEPTH: usize = 5;
/// Most lines in all.
const MAX_LINES: usize = 10_000;

/// An `iface` with its options.
struct Stanza {
    at: String,
    name: String,
    family: String,
    method: String,
    inherits: Option<String>,
    options: Vec<(String, String)>,
}

pub(super) fn translate(files: &[File]) -> Result {
    let mut draft = Draft::default();
    let mut stanzas = Vec::new();
    let main = files.iter().find(|f| f.path == "etc/network/interfaces").or_else(|| files.first());
    let mut left = MAX_LINES;
    if let Some(main) = main {
        read(main, files, 0, &mut left, &mut stanzas, &mut draft.notes);
    }
    for at in 0..stanzas.len() {
        let mut options = Vec::new();
        collect(&stanzas, at, 0, &mut options);
        if let Some(stanza) = stanzas.get(at) {
            apply(&mut draft, stanza, &options);
        }
    }
    // `slaves none` where the ports name their bond themselves: a bond that stays without is none.
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

fn read(
    file: &File,
    files: &[File],
    depth: usize,
    left: &mut usize,
    stanzas: &mut Vec<Stanza>,
    notes: &mut Notes,
) {
    let mut open = false;
    let mut joined = String::new();
    for (number, line) in text::lines(&file.bytes) {
        match left.checked_sub(1) {
            Some(rest) => *left = rest,
            None => return notes.say(&file.path, format!("over {MAX_LINES} lines")),
        }
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        if let Some(begun) = line.strip_suffix('\\') {
            joined.push_str(begun);
            joined.push(' ');
            continue;
        }
        joined.push_str(line);
        let line = std::mem::take(&mut joined);
        let (key, value) = line.trim().split_once([' ', '\t']).unwrap_or((line.trim(), ""));
        let value = value.trim();
        let at = match file.path.as_str() {
            "" => format!("line {number}"),
            path => format!("{path} line {number}"),
        };
        match key {
            "" => {}
            "iface" => {
                let words: Vec<&str> = value.split_whitespace().collect();
                let word = |n: usize| words.get(n).map(|w| (*w).to_string()).unwrap_or_default();
                let inherits =
                    words.iter().skip_while(|w| **w != "inherits").nth(1).map(|w| (*w).to_string());
                let (name, family, method) = (word(0), word(1), word(2));
                stanzas.push(Stanza { at, name, family, method, inherits, options: Vec::new() });
                open = true;
            }
            "auto" | "mapping" | "no-auto-down" | "no-scripts" | "rename" => open = false,
            "source" | "source-directory" if depth < MAX_DEPTH => {
                open = false;
                for other in files.iter().filter(|f| f.path != file.path && is_sourced(key, value, &f.path)) {
                    read(other, files, depth + 1, left, stanzas, notes);
                }
            }
            "source" | "source-directory" => notes.say(at, "too deep"),
            key if key.starts_with("allow-") => open = false,
            key if open => {
                if let Some(stanza) = stanzas.last_mut() {
                    stanza.options.push((key.to_ascii_lowercase().replace('_', "-"), value.into()));
                }
            }
            _ => {}
        }
    }
}

/// Whether `source PATTERN` or `source-directory FOLDER` means this file.
fn is_sourced(key: &str, wanted: &str, path: &str) -> bool {
    let wanted = match wanted.strip_prefix('/') {
        Some(absolute) => absolute.to_string(),
        None => format!("etc/network/{wanted}"),
    };
    let pattern = if key == "source" { wanted } else { format!("{}/*", wanted.trim_end_matches('/')) };
    let level = |text: &str| text.bytes().filter(|b| *b == b'/').count();
    level(&pattern) == level(path) && glob(&pattern, path)
}

/// The options of a stanza, those that it inherits first.
fn collect(stanzas: &[Stanza], at: usize, depth: usize, options: &mut Vec<(String, String)>) {
    let Some(stanza) = stanzas.get(at) else { return };
    if let Some(base) = stanza.inherits.as_ref().filter(|_| depth < MAX_DEPTH)
        && let Some(base) = stanzas.iter().position(|s| s.name == *base && s.family == stanza.family)
    {
        collect(stanzas, base, depth + 1, options);
    }
    options.extend(stanza.options.iter().cloned());
}

fn apply(draft: &mut Draft, stanza: &Stanza, options: &[(String, String)]) {
    // `eth0:1` is a further address of eth0.
    let name = stanza.name.split(':').next().unwrap_or_default();
    if name.is_empty() || name == "lo" || stanza.method == "loopback" {
        for (key, value) in options {
            servers(draft, &stanza.at, key, value);
        }
        return;
    }
    let option = |key: &str| options.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    build(draft, stanza, name, options);
    if let Some(master) = option("bond-master").filter(|m| *m != "none") {
        draft.edit(name, |_, _| ());
        draft.bond(master, |bond, _| draft::port(&mut bond.links, name));
    }
    draft.edit(name, |link, notes| {
        let at = &stanza.at;
        match (stanza.family.as_str(), stanza.method.as_str()) {
            (_, "manual" | "none") => {}
            ("inet", "dhcp") => link.dhcp4 = true,
            ("inet6", "dhcp") => (link.dhcp6, link.accept_ra) = (true, Some(true)),
            ("inet6", "auto") => link.accept_ra = Some(true),
            ("inet" | "inet6", "static") => match option("address") {
                Some(address) => {
                    let mask = option("netmask").map(str::to_string);
                    let classful = || Some(text::classful(text::ip(address)?).to_string());
                    let mask = mask.or_else(|| if address.contains('/') { None } else { classful() });
                    draft::address(link, notes, at, address, mask.as_deref());
                }
                None => notes.say(at, "static without an address"),
            },
            _ => notes.say(at, "a method that is not used"),
        }
        for (key, value) in options {
            setting(link, notes, at, key, value);
        }
    });
    for (key, value) in options {
        servers(draft, &stanza.at, key, value);
    }
}

fn servers(draft: &mut Draft, at: &str, key: &str, value: &str) {
    match key {
        "dns-nameservers" | "dns-nameserver" => text::words(value).for_each(|s| draft.server(at, s)),
        "dns-search" | "dns-domain" => text::words(value).for_each(|d| draft.search(at, d)),
        _ => {}
    }
}

/// What the link is, by its options or its name.
fn build(draft: &mut Draft, stanza: &Stanza, name: &str, options: &[(String, String)]) {
    let at = &stanza.at;
    let option = |key: &str| options.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    let ports = ["bond-slaves", "bond-ports", "slaves"].iter().find_map(|key| option(key));
    let is_bond = ports.is_some() || (option("bond-mode").is_some() && option("bond-master").is_none());
    if is_bond {
        draft.bond(name, |bond, notes| {
            let ports = ports.filter(|p| *p != "none").unwrap_or_default();
            text::words(ports).for_each(|port| draft::port(&mut bond.links, port));
            for (key, value) in options.iter().filter(|(key, _)| key.starts_with("bond-")) {
                // `bond-primary` may list several; the first that is there is meant.
                let value =
                    if key == "bond-primary" { value.split(' ').next().unwrap_or_default() } else { value };
                let known = matches!(
                    key.as_str(),
                    "bond-slaves" | "bond-ports" | "bond-master" | "bond-give-a-chance"
                );
                if !known && !bonding::option(bond, notes, at, key, value) {
                    notes.say(at, format!("{} is not used", text::shown(key, 40)));
                }
            }
        });
    } else if let Some(ports) = option("bridge-ports") {
        draft.bridge(name, |bridge, notes| {
            for port in text::words(ports).filter(|p| *p != "none") {
                match port {
                    "all" | "regex" | "noregex" => notes.say(at, "ports by pattern are not used"),
                    port => draft::port(&mut bridge.links, port),
                }
            }
            bridge.stp = option("bridge-stp").and_then(text::flag).unwrap_or(false);
            let delay = option("bridge-fd").and_then(|d| d.split('.').next()).and_then(|d| d.parse().ok());
            bridge.forward_delay = delay.filter(|d| (2..=30).contains(d));
        });
    } else {
        let raw = option("vlan-raw-device");
        let tag = option("vlan-id").and_then(|id| id.parse().ok()).or_else(|| draft::vlan_id(name));
        let parent = raw.or_else(|| name.rsplit_once('.').map(|(parent, _)| parent));
        match (parent, tag) {
            (Some(parent), Some(tag)) => draft.vlan(name, parent, tag),
            (Some(_), None) => draft.notes.say(at, "a VLAN without an id"),
            _ => {}
        }
    }
}

fn setting(link: &mut Link, notes: &mut Notes, at: &str, key: &str, value: &str) {
    match key {
        "gateway" => draft::gateway(link, notes, at, value),
        "mtu" => draft::mtu(link, notes, at, value),
        "hwaddress" => {
            // Nova writes the card's own address here, to tell which card it is.
            let mac = value.split_whitespace().next_back().and_then(text::mac);
            match mac {
                Some(mac) => {
                    link.mac = Some(mac);
                    if link.kind == Kind::Ethernet {
                        link.name = None;
                    }
                }
                None => notes.wrong(at, value, "MAC address"),
            }
        }
        "metric" => {
            let metric = text::number(value);
            link.routes.iter_mut().filter(|r| r.to.length == 0).for_each(|r| r.metric = r.metric.or(metric));
        }
        "accept-ra" => link.accept_ra = Some(value != "0"),
        "up" | "post-up" | "pre-up" => ipcommand::run(link, notes, at, value),
        "wpa-ssid" | "wpa-conf" | "wireless-essid" => notes.say(at, "wireless is not used"),
        _ => {}
    }
}
