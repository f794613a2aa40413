//! SUSE's `/etc/sysconfig/network/`: `ifcfg-*`, `routes`, `ifroute-*` and `config` (ifcfg(5), routes(5)).
//! It is what wicked reads first, before its own XML.

use rescue_schema::network::{Kind, Link, Route};

use super::bonding;
use super::draft::{self, Draft, Notes};
use super::shell::{self, Variables};
use super::{File, Result, names, text};

const FOLDER: &str = "etc/sysconfig/network/";

pub(super) fn translate(files: &[File]) -> Result {
    let mut draft = Draft::default();
    let named = |f: &File| f.path.strip_prefix(FOLDER).unwrap_or(&f.path).to_string();
    let read: Vec<(String, Variables)> = files
        .iter()
        .filter_map(|file| {
            let name = named(file);
            let id = name.strip_prefix("ifcfg-").filter(|id| !id.contains('~') && !id.ends_with(".bak"))?;
            (!matches!(id, "lo" | "")).then(|| (id.to_string(), shell::parse(&file.bytes)))
        })
        .collect();
    let ports: Vec<&str> =
        read.iter().flat_map(|(_, v)| text::words(v.get("BRIDGE_PORTS").unwrap_or_default())).collect();
    for (id, variables) in &read {
        interface(&mut draft, id, variables, ports.contains(&id.as_str()));
    }
    for file in files {
        let name = named(file);
        if name == "routes" {
            routes(&mut draft, &name, &file.bytes, None);
        } else if let Some(id) = name.strip_prefix("ifroute-") {
            routes(&mut draft, &name, &file.bytes, Some(id));
        } else if name == "config" {
            let variables = shell::parse(&file.bytes);
            let list = |key: &str| variables.get(key).unwrap_or_default().to_string();
            text::words(&list("NETCONFIG_DNS_STATIC_SERVERS")).for_each(|s| draft.server("config", s));
            text::words(&list("NETCONFIG_DNS_STATIC_SEARCHLIST")).for_each(|d| draft.search("config", d));
        }
    }
    names::apply(&mut draft, files);
    draft.finish()
}

/// `is_port` where another file names it as a port of its bridge: cloud-init writes BRIDGE=yes into those of the
/// ports.
fn interface(draft: &mut Draft, id: &str, variables: &Variables, is_port: bool) {
    let at = format!("ifcfg-{id}");
    let get = |key: &str| variables.get(key);
    if matches!(get("STARTMODE"), Some("off" | "manual")) {
        // A port is started by its bond, whatever it says itself.
        draft.notes.say(at, "STARTMODE is off or manual");
        return;
    }
    if variables.flag("BONDING_MASTER") == Some(true) {
        draft.bond(id, |bond, notes| {
            let mut ports: Vec<(&str, &str)> = variables.with_prefix("BONDING_SLAVE").collect();
            ports.sort_unstable();
            ports.iter().for_each(|(_, port)| draft::port(&mut bond.links, port));
            bonding::options(bond, notes, &at, get("BONDING_MODULE_OPTS").unwrap_or_default());
        });
    } else if get("BRIDGE_PORTS").is_some() || (variables.flag("BRIDGE") == Some(true) && !is_port) {
        draft.bridge(id, |bridge, _| {
            text::words(get("BRIDGE_PORTS").unwrap_or_default())
                .for_each(|p| draft::port(&mut bridge.links, p));
            bridge.stp = variables.flag("BRIDGE_STP").unwrap_or(false);
            let delay = get("BRIDGE_FORWARDDELAY").and_then(|d| d.split('.').next()?.parse().ok());
            bridge.forward_delay = delay.filter(|d| (2..=30).contains(d));
        });
    } else if let Some(parent) = get("ETHERDEVICE") {
        let tag = get("VLAN_ID").and_then(|tag| tag.parse().ok()).or_else(|| draft::vlan_id(id));
        match tag {
            Some(tag) => draft.vlan(id, parent, tag),
            None => return draft.notes.say(at, "a VLAN without an id"),
        }
    } else if get("INTERFACETYPE") == Some("dummy") {
        draft.edit(id, |link, _| (link.kind, link.name) = (Kind::Dummy, None));
    }
    draft.edit(id, |link, notes| {
        if let Some(bytes) = get("MTU") {
            draft::mtu(link, notes, format!("{at} MTU"), bytes);
        }
        if let Some(mac) = get("LLADDR").and_then(text::mac) {
            link.set_mac = Some(mac);
        }
        for way in get("BOOTPROTO").unwrap_or("static").split('+') {
            match way {
                "dhcp" => (link.dhcp4, link.dhcp6) = (true, false),
                "dhcp4" => link.dhcp4 = true,
                "dhcp6" => link.dhcp6 = true,
                "auto6" => link.accept_ra = Some(true),
                "static" | "none" | "auto4" => {}
                other => notes.wrong(format!("{at} BOOTPROTO"), other, "way that is known"),
            }
        }
        // The second address may have any suffix.
        let mut found: Vec<(&str, &str)> = variables.with_prefix("IPADDR").collect();
        found.sort_unstable();
        for (suffix, address) in found {
            let mask = get(&format!("PREFIXLEN{suffix}")).or_else(|| get(&format!("NETMASK{suffix}")));
            let mask =
                mask.map(str::to_string).or_else(|| Some(text::classful(text::ip(address)?).to_string()));
            draft::address(link, notes, format!("{at} IPADDR{suffix}"), address, mask.as_deref());
        }
    });
}

/// `DESTINATION GATEWAY NETMASK INTERFACE TYPE OPTIONS…`, `-` for what is not said.
fn routes(draft: &mut Draft, at: &str, bytes: &[u8], of: Option<&str>) {
    for (number, line) in text::lines(bytes).iter().take(4096) {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().take(64).collect();
        let word = |n: usize| words.get(n).copied().filter(|w| *w != "-");
        let Some(to) = word(0) else { continue };
        let at = format!("{at} line {number}");
        let via = word(1).and_then(text::ip).filter(|via| !via.is_unspecified());
        if word(4).is_some_and(|kind| matches!(kind, "blackhole" | "unreachable" | "prohibit" | "throw")) {
            draft.notes.say(at, "no unicast route");
            continue;
        }
        let Some(to) = text::destination(to, word(2), via.is_none_or(|via| via.is_ipv4())) else {
            draft.notes.wrong(at, to, "destination");
            continue;
        };
        let option = |key: &str| words.iter().skip(4).skip_while(|w| **w != key).nth(1).copied();
        let route = Route {
            metric: option("metric").and_then(text::number),
            table: option("table").and_then(text::table),
            source: option("src").and_then(text::ip),
            ..draft::plain_route(to, via)
        };
        put(draft, &at, of.or(word(3)), route);
    }
}

/// On the link that is named, else on the one whose subnet holds the gateway.
fn put(draft: &mut Draft, at: &str, named: Option<&str>, route: Route) {
    let notes: &mut Notes = &mut draft.notes;
    let reaches = |l: &&mut Link| match named {
        Some(name) => l.id == name,
        None => route.via.is_some_and(|via| l.addresses.iter().any(|a| draft::covers(a, via))),
    };
    match draft.links.iter_mut().find(reaches) {
        Some(link) => draft::route(link, notes, at, route),
        None => {
            // A gateway outside every subnet, as hosters have them: there is but one link to be on.
            let mut with: Vec<&mut Link> =
                draft.links.iter_mut().filter(|l| !l.addresses.is_empty()).collect();
            match with.as_mut_slice() {
                [only] if named.is_none() && only.kind != Kind::Dummy => draft::route(only, notes, at, route),
                _ => notes.say(at, "there is no link for it"),
            }
        }
    }
}
