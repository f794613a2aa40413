//! NetworkManager's keyfiles (nm-settings-keyfile(5)): `/etc/NetworkManager/system-connections/`. What
//! is secret in them is not looked at.

use rescue_schema::network::{BondMode, Kind, Link, Route};

use super::bonding;
use super::draft::{self, Draft, Notes};
use super::ini::{self, Section};
use super::{File, Result, ipcommand, names, text};

/// A profile.
struct Profile {
    at: String,
    sections: Vec<Section>,
    kind: String,
    /// What its link is called here.
    link: String,
    priority: i64,
}

impl Profile {
    fn section(&self, names: &[&str]) -> Section {
        ini::section(&self.sections, names)
    }
}

pub(super) fn translate(files: &[File]) -> Result {
    let mut draft = Draft::default();
    let mut profiles: Vec<Profile> = Vec::new();
    for file in files.iter().filter(|f| !f.path.ends_with(".rules") && !f.path.ends_with(".link")) {
        profiles.extend(read(&mut draft, file));
    }
    // Of several for one card the one with the highest priority is used.
    profiles.sort_by_key(|p| std::cmp::Reverse(p.priority));
    let mut used: Vec<&str> = Vec::new();
    for profile in &profiles {
        if used.contains(&profile.link.as_str()) {
            draft.notes.say(&profile.at, format!("another is used for {}", profile.link));
            continue;
        }
        used.push(&profile.link);
        build(&mut draft, profile, &profiles);
    }
    for profile in &profiles {
        let connection = profile.section(&["connection"]);
        let Some(master) = connection.get("controller").or_else(|| connection.get("master")) else {
            continue;
        };
        let master = resolve(master, &profiles);
        match draft.links.iter_mut().find(|l| l.id == master).map(|l| &mut l.kind) {
            Some(Kind::Bond(bond)) => draft::port(&mut bond.links, &profile.link),
            Some(Kind::Bridge(bridge)) => draft::port(&mut bridge.links, &profile.link),
            _ => draft.notes.say(&profile.at, "its controller is not described"),
        }
    }
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

fn read(draft: &mut Draft, file: &File) -> Option<Profile> {
    let at = file.path.rsplit('/').next().unwrap_or_default().to_string();
    let sections = ini::parse(&file.bytes);
    let connection = ini::section(&sections, &["connection"]);
    let kind = connection.get("type")?.to_string();
    if connection.get("autoconnect").and_then(text::flag) == Some(false) {
        draft.notes.say(&at, "it does not connect by itself");
        return None;
    }
    let known = ["ethernet", "802-3-ethernet", "bond", "vlan", "bridge", "team", "dummy"];
    if !known.contains(&kind.as_str()) {
        draft.notes.say(&at, "connections of this type are not used");
        return None;
    }
    let card = ini::section(&sections, &["ethernet", "802-3-ethernet"]);
    let old = ini::section(&sections, &["bond", "bridge", "vlan", "team"]);
    let named = connection.get("interface-name").or_else(|| old.get("interface-name"));
    let link = named.map(Into::into).or_else(|| card.get("mac-address").map(Into::into));
    let link: String = link.or_else(|| Some(connection.get("id")?.into())).unwrap_or_else(|| at.clone());
    let priority = connection.get("autoconnect-priority").and_then(|p| p.parse().ok()).unwrap_or(0);
    Some(Profile { at, sections, kind, link, priority })
}

/// What a parent or controller is called: it is named by interface, UUID or connection.
fn resolve(name: &str, profiles: &[Profile]) -> String {
    let same = |p: &&Profile| {
        let connection = p.section(&["connection"]);
        connection.get("uuid") == Some(name) || connection.get("id") == Some(name)
    };
    if profiles.iter().any(|p| p.link == name) {
        return name.into();
    }
    profiles.iter().find(same).map_or_else(|| name.into(), |p| p.link.clone())
}

fn build(draft: &mut Draft, profile: &Profile, profiles: &[Profile]) {
    let Profile { at, link: id, .. } = profile;
    let connection = profile.section(&["connection"]);
    match profile.kind.as_str() {
        "bond" => draft.bond(id, |bond, notes| {
            for (key, value) in &profile.section(&["bond"]).entries {
                if key != "interface-name" && !bonding::option(bond, notes, at, key, value) {
                    notes.say(format!("{at} [bond] {key}"), "not used");
                }
            }
        }),
        "team" => {
            draft.notes.say(at, "a team is taken for an active-backup bond");
            draft.bond(id, |bond, _| bond.mode = BondMode::ActiveBackup);
        }
        "bridge" => draft.bridge(id, |bridge, _| {
            let options = profile.section(&["bridge"]);
            bridge.stp = options.get("stp").and_then(text::flag).unwrap_or(true);
            let delay = options.get("forward-delay").and_then(|d| d.parse().ok());
            bridge.forward_delay = delay.filter(|d| (2..=30).contains(d));
        }),
        "vlan" => {
            let options = profile.section(&["vlan"]);
            let parent = options.get("parent").map(|p| resolve(p, profiles));
            let parent = parent.or_else(|| Some(id.rsplit_once('.')?.0.to_string()));
            let tag = options.get("id").and_then(|tag| tag.parse().ok()).or_else(|| draft::vlan_id(id));
            match (parent, tag) {
                (Some(parent), Some(tag)) => draft.vlan(id, &parent, tag),
                _ => return draft.notes.say(at, "a VLAN without parent and id"),
            }
        }
        "dummy" => {
            draft.edit(id, |link, _| (link.kind, link.name) = (Kind::Dummy, None));
        }
        _ => {
            draft.edit(id, |link, notes| {
                let card = profile.section(&["ethernet", "802-3-ethernet"]);
                let by = profile.section(&["match"]);
                let address = card.get("mac-address");
                link.mac = address.and_then(text::mac);
                if let Some(address) = address.filter(|_| link.mac.is_none()) {
                    notes.wrong(format!("{at} [ethernet] mac-address"), address, "MAC address");
                }
                let name = connection.get("interface-name").or_else(|| by.get("interface-name"));
                link.path = by
                    .get("path")
                    .map(|p| p.trim_end_matches(';').to_string())
                    .filter(|_| link.mac.is_none());
                link.name = match (link.mac, &link.path, name) {
                    (None, None, Some(name)) => Some(name.trim_end_matches(';').into()),
                    // Told by an address that no card has, it is not every card.
                    (None, None, None) => Some(if address.is_some() { id.clone() } else { "*".into() }),
                    _ => None,
                };
                if let Some(mac) = card.get("cloned-mac-address").and_then(text::mac) {
                    link.set_mac = Some(mac);
                }
                if let Some(bytes) = card.get("mtu") {
                    draft::mtu(link, notes, at, bytes);
                }
            });
        }
    }
    if profile.kind != "ethernet"
        && let Some(bytes) = profile.section(&["ethernet", "802-3-ethernet"]).get("mtu")
    {
        draft.edit(id, |link, notes| draft::mtu(link, notes, at, bytes));
    }
    if connection.get("controller").or_else(|| connection.get("master")).is_some() {
        return;
    }
    for (name, v4) in [("ipv4", true), ("ipv6", false)] {
        let section = profile.section(&[name]);
        draft.edit(id, |link, notes| addresses(link, notes, &format!("{at} [{name}]"), &section, v4));
        let list = |key: &str| section.get(key).unwrap_or_default().to_string();
        text::words(&list("dns")).for_each(|s| draft.server(at, s));
        text::words(&list("dns-search")).for_each(|d| draft.search(at, d));
    }
}

fn addresses(link: &mut Link, notes: &mut Notes, at: &str, section: &Section, v4: bool) {
    match (section.get("method").unwrap_or(if v4 { "disabled" } else { "auto" }), v4) {
        ("auto", true) => link.dhcp4 = true,
        ("auto", false) => link.accept_ra = Some(true),
        ("dhcp", false) => link.dhcp6 = true,
        ("manual" | "link-local", _) => {}
        ("disabled" | "ignore", true) => {}
        ("disabled" | "ignore", false) => link.accept_ra = Some(false),
        ("shared", _) => notes.say(at, "shared: the rescue serves no others"),
        (other, _) => notes.wrong(at, other, "method that is known"),
    }
    let metric = section.get("route-metric").and_then(text::number);
    let table = section.get("route-table").and_then(text::table).filter(|t| *t > 0);
    let never = section.get("never-default").and_then(text::flag) == Some(true);
    let mut gateways: Vec<String> = section.get("gateway").map(Into::into).into_iter().collect();
    for (key, value) in &section.entries {
        let numbered = |stem: &str| key.strip_prefix(stem).is_some_and(|n| n.parse::<u32>().is_ok());
        if numbered("address") || key == "addresses" {
            // `addresses` of old holds several; `address1` one, and its gateway after a comma.
            for one in value.split(';').filter(|v| !v.trim().is_empty()) {
                let mut parts = one.split([',', ' ']).filter(|p| !p.is_empty());
                draft::address(link, notes, at, parts.next().unwrap_or_default(), None);
                gateways.extend(parts.next().map(Into::into));
            }
        } else if numbered("route") || key == "routes" {
            for one in value.split(';').filter(|v| !v.trim().is_empty()) {
                let mut parts = one.split([',', ' ']).filter(|p| !p.is_empty());
                let to = parts.next().and_then(|to| text::destination(to, None, v4));
                let via = parts.next().and_then(text::ip).filter(|via| !via.is_unspecified());
                let own = parts.next().and_then(text::number);
                let Some(to) = to else {
                    notes.wrong(at, one, "route");
                    continue;
                };
                let mut route =
                    Route { metric: own.filter(|m| *m > 0).or(metric), table, ..draft::plain_route(to, via) };
                let options = section.get(&format!("{key}_options")).unwrap_or_default();
                for option in options.split(',') {
                    match option.split_once('=') {
                        Some(("table", id)) => route.table = text::table(id).or(route.table),
                        Some(("onlink", on)) => route.onlink = text::flag(on) == Some(true),
                        Some(("src", source)) => route.source = text::ip(source),
                        _ => {}
                    }
                }
                draft::route(link, notes, at, route);
            }
        } else if numbered("routing-rule") {
            let words: Vec<&str> = value.split_whitespace().take(64).collect();
            match ipcommand::rule(&words) {
                Some(rule) => draft::rule(link, notes, at, rule),
                None => notes.say(at, "a rule that is not used"),
            }
        }
    }
    for via in gateways.iter().filter(|_| !never) {
        let via = text::ip(via);
        if let Some(via) = via.filter(|via| !via.is_unspecified() && via.is_ipv4() == v4) {
            let to = text::default(v4);
            draft::route(link, notes, at, Route { metric, table, ..draft::plain_route(to, Some(via)) });
        }
    }
}
