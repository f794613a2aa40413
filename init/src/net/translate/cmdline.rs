//! The kernel command line: `ip=` as the kernel reads it (`Documentation/admin-guide/nfs/nfsroot.rst`)
//! and as dracut does (dracut.cmdline(7)), told apart by content, dracut's parameters beside it, and
//! Tinkerbell's `ipam=`.

use std::net::IpAddr;

use rescue_schema::network::{BondMode, Kind, Link, MacAddress, Prefix};

use super::bonding;
use super::draft::{self, Draft, Notes};
use super::{File, Result, Translation, text};
use crate::sys::cmdline::Cmdline;

/// Most parameters that are looked at.
const MOST: usize = 256;

/// What the command line says about the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// In our words.
    pub translation: Translation,
    /// Whether it says which links are configured and how, and so stands in the place of every
    /// document. Without it, its name servers come before those of the document.
    pub overrides: bool,
}

pub(super) fn document(files: &[File]) -> Result {
    let bytes = files.first().map(|f| f.bytes.as_slice()).unwrap_or_default();
    read(&Cmdline::parse(bytes)).map(|reading| reading.translation)
}

/// Reads it.
///
/// # Errors
/// Where what it asks for cannot be: a bond of itself, a port of two.
pub fn read(line: &Cmdline) -> Result<Reading> {
    let mut reader = Reader::default();
    // What is built comes first: `ip=` names it.
    for (name, value) in line.iter().take(MOST) {
        reader.device(name, value.unwrap_or_default());
    }
    for (name, value) in line.iter().take(MOST) {
        reader.parameter(name, value.unwrap_or_default());
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    draft: Draft,
    overrides: bool,
    boot_card: Option<MacAddress>,
    names: Vec<(String, MacAddress)>,
    /// Autoconfiguration of whatever links there are.
    everywhere: Vec<String>,
    /// Routes and the link that they are to be on.
    routes: Vec<(Prefix, Option<IpAddr>, Option<String>)>,
    without_v6: bool,
}

impl Reader {
    fn device(&mut self, name: &str, value: &str) {
        match name {
            "ifname" => match value.split_once(':').and_then(|(name, mac)| Some((name, text::mac(mac)?))) {
                Some((name, mac)) => self.names.push((name.into(), mac)),
                None => self.draft.notes.wrong("ifname=", value, "name and MAC address"),
            },
            // The first byte is the kind of hardware, 01 for Ethernet.
            "BOOTIF" => match text::mac(value.get(3..).filter(|_| value.len() == 20).unwrap_or(value)) {
                Some(mac) => self.boot_card = Some(mac),
                None => self.draft.notes.wrong("BOOTIF=", value, "MAC address"),
            },
            "bond" => self.bond(value),
            "team" => {
                let mut parts = value.split(':');
                let team = parts.next().filter(|n| !n.is_empty()).unwrap_or("team0").to_string();
                let ports = parts.next().unwrap_or("eth0,eth1");
                self.draft.notes.say(format!("team={team}"), "taken for an active-backup bond");
                self.draft.bond(&team, |bond, _| {
                    bond.mode = BondMode::ActiveBackup;
                    text::words(ports).for_each(|p| draft::port(&mut bond.links, p));
                });
                self.overrides = true;
            }
            "bridge" => {
                let (bridge, ports) = value.split_once(':').unwrap_or((value, ""));
                let bridge = if bridge.is_empty() { "br0" } else { bridge };
                let ports = if ports.is_empty() { "eth0" } else { ports };
                self.draft.bridge(bridge, |bridge, _| {
                    text::words(ports).for_each(|p| draft::port(&mut bridge.links, p));
                });
                self.overrides = true;
            }
            "vlan" => match value
                .split_once(':')
                .and_then(|(n, parent)| Some((n, parent, draft::vlan_id(n)?)))
            {
                Some((name, parent, id)) if !parent.is_empty() => {
                    self.draft.vlan(name, parent, id);
                    self.overrides = true;
                }
                _ => self.draft.notes.wrong("vlan=", value, "name that ends in a VLAN id, and its parent"),
            },
            _ => {}
        }
    }

    fn bond(&mut self, value: &str) {
        let parts = split(value);
        let part = |n: usize| parts.get(n).copied().filter(|p| !p.is_empty());
        let name = part(0).unwrap_or("bond0").to_string();
        let ports = part(1).unwrap_or("eth0,eth1");
        let at = format!("bond={name}");
        self.draft.bond(&name, |bond, notes| {
            text::words(ports).for_each(|p| draft::port(&mut bond.links, p));
            bonding::options(bond, notes, &at, part(2).unwrap_or_default());
        });
        if let Some(bytes) = part(3) {
            self.draft.edit(&name, |link, notes| draft::mtu(link, notes, &at, bytes));
        }
        self.overrides = true;
    }

    fn parameter(&mut self, name: &str, value: &str) {
        match name {
            "ip" => self.ip(value),
            "ipam" => self.ipam(value),
            "nameserver" => self.draft.server("nameserver=", value),
            "rd.route" => {
                let parts = split(value);
                let part = |n: usize| parts.get(n).copied().filter(|p| !p.is_empty());
                let bare = |text: &str| text.replace(['[', ']'], "");
                let via = part(1).and_then(text::ip);
                let v4 = via.is_none_or(|via| via.is_ipv4());
                match part(0).and_then(|to| text::destination(&bare(to), None, v4)) {
                    Some(to) if part(1).is_none() || via.is_some() => {
                        self.routes.push((to, via, part(2).map(Into::into)));
                    }
                    _ => self.draft.notes.wrong("rd.route=", value, "route"),
                }
            }
            "rd.peerdns" if text::flag(value) == Some(false) => {
                self.draft
                    .notes
                    .say("rd.peerdns=", "name servers of DHCP are used beside those that are named");
            }
            "ipv6.disable" => self.without_v6 = text::flag(value) == Some(true),
            _ => {}
        }
    }

    fn ip(&mut self, value: &str) {
        let parts = split(value);
        let part = |n: usize| parts.get(n).copied().unwrap_or_default();
        let is_address = |t: &str| text::prefix(t, None).is_some();
        match parts.len() {
            1 if is_address(part(0)) => self.fixed(&parts),
            1 if value.is_empty() => {}
            1 if matches!(part(0), "off" | "none") => {
                self.draft
                    .notes
                    .say(format!("ip={value}"), "not obeyed: a rescue without network is of no use");
            }
            1 if is_method(part(0)) => {
                self.everywhere.push(part(0).into());
                self.overrides = true;
            }
            1 => self.draft.notes.wrong("ip=", value, "address or way to get one"),
            _ if !part(0).is_empty() && !is_address(part(0)) && is_method(part(1)) => {
                let (bytes, mac) = (part(2), parts.get(3..).unwrap_or_default().join(":"));
                let device = part(0).to_string();
                let at = format!("ip={device}");
                self.draft.edit(&device, |link, notes| {
                    method(link, notes, &at, part(1));
                    draft::mtu(link, notes, &at, bytes);
                    set_mac(link, notes, &at, &mac);
                });
                self.overrides = true;
            }
            _ if part(0).is_empty() || is_address(part(0)) => self.fixed(&parts),
            _ => self.draft.notes.wrong("ip=", value, "form of it that the kernel or dracut knows"),
        }
    }

    /// `client:server:gateway:mask:host:device:autoconf` and what follows.
    fn fixed(&mut self, parts: &[&str]) {
        let part = |n: usize| parts.get(n).copied().unwrap_or_default();
        let how = part(6);
        let client = text::prefix(part(0), Some(part(3)).filter(|m| !m.is_empty()));
        if !part(0).is_empty() && client.is_none() {
            self.draft.notes.wrong("ip=", &format!("{} {}", part(0), part(3)), "address and mask");
            return;
        }
        let automatic = !how.is_empty() && !matches!(how, "none" | "off" | "static");
        if client.is_none() && !automatic {
            // `ip=:::::eth0` and the like: the kernel asks by every means.
            if part(5).is_empty() {
                return;
            }
        }
        let device = match (part(5), self.boot_card) {
            ("", Some(mac)) => mac.to_string(),
            ("", None) if automatic && client.is_none() => {
                self.everywhere.push(how.into());
                self.overrides = true;
                return;
            }
            ("", None) => {
                self.draft.notes.say("ip=", "names no card: the first is taken");
                "eth0".to_string()
            }
            (device, _) => device.to_string(),
        };
        let at = format!("ip={device}");
        self.overrides = true;
        let rest = parts.get(7..).unwrap_or_default();
        // The eighth is a name server or, where it is a number, an MTU with a MAC address after it.
        let first = rest.first().copied().unwrap_or_default();
        let mac = rest.get(1..).unwrap_or_default().join(":");
        let is_mtu = first.parse::<u32>().is_ok() || (first.is_empty() && text::mac(&mac).is_some());
        self.draft.edit(&device, |link, notes| {
            match client {
                Some(mut client) if !automatic => {
                    if part(3).is_empty() && !part(0).contains('/') {
                        client.length = text::classful(client.address);
                        notes.say(&at, format!("no mask: /{} is taken", client.length));
                    }
                    draft::put(link, notes, &at, client);
                    if !part(2).is_empty() {
                        draft::gateway(link, notes, &at, part(2));
                    }
                }
                Some(_) => {
                    notes.say(&at, format!("{how}: the address beside it is not used"));
                    method(link, notes, &at, how);
                }
                None if automatic => method(link, notes, &at, how),
                None if how.is_empty() => method(link, notes, &at, "any"),
                None => {}
            }
            if is_mtu {
                draft::mtu(link, notes, &at, first);
                set_mac(link, notes, &at, &mac);
            }
        });
        if !is_mtu {
            for server in rest.iter().take(2).filter(|s| !s.is_empty()) {
                self.draft.server(&at, server);
            }
        }
    }

    /// `MAC:VLAN:IP:MASK:GATEWAY:HOST:DNS,…:SEARCH,…:NTP`, hyphens in the MAC address.
    fn ipam(&mut self, value: &str) {
        let parts = split(value);
        let part = |n: usize| parts.get(n).copied().unwrap_or_default();
        let Some(mac) = text::mac(part(0)) else {
            return self.draft.notes.wrong("ipam=", part(0), "MAC address with hyphens");
        };
        let mut id = mac.to_string();
        self.draft.edit(&id, |_, _| ());
        match part(1) {
            "" | "0" => {}
            tag => match tag.parse::<u16>().ok().filter(|tag| *tag <= 4094) {
                Some(tag) => {
                    let name = format!("vlan{tag}");
                    self.draft.vlan(&name, &id, tag);
                    id = name;
                }
                None => self.draft.notes.wrong("ipam=", tag, "VLAN id"),
            },
        }
        self.draft.edit(&id, |link, notes| {
            if part(2).is_empty() {
                link.dhcp4 = true;
                return;
            }
            draft::address(link, notes, "ipam=", part(2), Some(part(3)));
            if !part(4).is_empty() {
                draft::gateway(link, notes, "ipam=", part(4));
            }
        });
        text::words(part(6)).for_each(|server| self.draft.server("ipam=", server));
        text::words(part(7)).for_each(|domain| self.draft.search("ipam=", domain));
        self.overrides = true;
    }

    fn finish(mut self) -> Result<Reading> {
        if let Some(mac) =
            self.boot_card.filter(|_| !self.everywhere.is_empty() && self.draft.links.is_empty())
        {
            self.draft.edit(&mac.to_string(), |_, _| ());
        }
        let below: Vec<String> = self.draft.links.iter().flat_map(Link::below).cloned().collect();
        let draft = &mut self.draft;
        for how in &self.everywhere {
            for link in draft.links.iter_mut().filter(|l| l.addresses.is_empty() && !below.contains(&l.id)) {
                method(link, &mut draft.notes, "ip=", how);
            }
        }
        for (to, via, device) in std::mem::take(&mut self.routes) {
            let id = device.or_else(|| {
                let covers =
                    |l: &&Link| via.is_some_and(|via| l.addresses.iter().any(|a| draft::covers(a, via)));
                let link = draft.links.iter().find(covers);
                Some(link.or(draft.links.iter().find(|l| !below.contains(&l.id)))?.id.clone())
            });
            match id.filter(|id| draft.has(id)) {
                Some(id) => drop(draft.edit(&id, |link, notes| {
                    draft::route(link, notes, "rd.route=", draft::plain_route(to, via));
                })),
                None => draft.notes.say("rd.route=", format!("{to}: there is no link for it")),
            }
        }
        for port in below.iter().filter(|port| self.names.iter().any(|(name, _)| name == *port)) {
            draft.edit(port, |_, _| ());
        }
        for link in draft.links.iter_mut().filter(|link| link.kind == Kind::Ethernet) {
            let known = self.names.iter().find(|(name, _)| Some(name) == link.name.as_ref());
            if let Some((_, mac)) = known {
                (link.mac, link.name) = (Some(*mac), None);
            }
        }
        if self.without_v6 {
            for link in &mut draft.links {
                let before = link.addresses.len() + link.routes.len();
                link.addresses.retain(|a| a.address.is_ipv4());
                link.routes.retain(|r| r.to.address.is_ipv4());
                if link.addresses.len() + link.routes.len() < before
                    || link.dhcp6
                    || link.accept_ra == Some(true)
                {
                    draft.notes.say("ipv6.disable=", format!("no IPv6 on {}", link.id));
                }
                (link.dhcp6, link.accept_ra) = (false, Some(false));
            }
        }
        let overrides = self.overrides;
        Ok(Reading { translation: self.draft.finish()?, overrides })
    }
}

fn is_method(word: &str) -> bool {
    const METHODS: &[&str] = &[
        "dhcp",
        "dhcp4",
        "dhcp6",
        "auto6",
        "either6",
        "link6",
        "link-local",
        "on",
        "any",
        "off",
        "none",
        "both",
        "bootp",
        "rarp",
        "ibft",
        "single-dhcp",
        "static",
        "auto",
    ];
    word.split(',').all(|word| METHODS.contains(&word))
}

fn method(link: &mut Link, notes: &mut Notes, at: &str, words: &str) {
    for word in words.split(',') {
        match word {
            "dhcp" | "dhcp4" | "on" | "any" | "both" | "single-dhcp" | "auto" => link.dhcp4 = true,
            "dhcp6" => link.dhcp6 = true,
            "auto6" => link.accept_ra = Some(true),
            "either6" => (link.dhcp6, link.accept_ra) = (true, Some(true)),
            "link6" | "link-local" => link.accept_ra = Some(false),
            "off" | "none" | "static" => {}
            // They are older than DHCP, and DHCP servers answer.
            "bootp" | "rarp" => {
                notes.say(at, format!("{word}: DHCP is asked"));
                link.dhcp4 = true;
            }
            "ibft" => {
                notes.say(at, "ibft: the firmware's table is not read, DHCP is asked");
                link.dhcp4 = true;
            }
            other => notes.wrong(at, other, "way to get an address"),
        }
    }
}

fn set_mac(link: &mut Link, notes: &mut Notes, at: &str, mac: &str) {
    match text::mac(mac) {
        Some(mac) => link.set_mac = Some(mac),
        None if mac.is_empty() => {}
        None => notes.wrong(at, mac, "MAC address"),
    }
}

/// The parts between colons; those within brackets are of an IPv6 address.
fn split(value: &str) -> Vec<&str> {
    let (mut parts, mut from, mut inside) = (Vec::new(), 0, false);
    for (at, c) in value.char_indices() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            ':' if !inside => {
                parts.push(value.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(value.get(from..).unwrap_or_default());
    parts
}
