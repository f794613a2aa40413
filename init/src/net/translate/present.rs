//! The cards that are here, as /sys says (`Documentation/ABI/testing/sysfs-class-net`), and what of a
//! network is for them: names with `*` or `?` become the cards that they fit.

use std::path::Path;

use rescue_schema::network::{Kind, Link, MAX_ENTRIES, MacAddress, Network};

use crate::sys::files::read_trimmed;

/// Most links that are looked at.
const MOST: usize = 1024;

/// A card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// The kernel's name.
    pub name: String,
    /// Its own address, also where a bond has given it another.
    pub mac: Option<MacAddress>,
    /// Its PCI address.
    pub pci: Option<String>,
}

/// The cards below `root`.
#[must_use]
pub fn observe(root: &Path) -> Vec<Card> {
    let class = root.join("sys/class/net");
    let Ok(entries) = std::fs::read_dir(&class) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.take(MOST).filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names.iter().filter_map(|name| card(&class.join(name), name)).collect()
}

fn card(folder: &Path, name: &str) -> Option<Card> {
    // ARPHRD_ETHER
    if read_trimmed(&folder.join("type"))? != "1" {
        return None;
    }
    let uevent = read_trimmed(&folder.join("uevent")).unwrap_or_default();
    if uevent.lines().any(|line| matches!(line, "DEVTYPE=vlan" | "DEVTYPE=bridge" | "DEVTYPE=bond")) {
        return None;
    }
    let own = read_trimmed(&folder.join("bonding_slave/perm_hwaddr"));
    let mac = own.or_else(|| read_trimmed(&folder.join("address"))).and_then(|mac| super::text::mac(&mac));
    let device = std::fs::canonicalize(folder.join("device")).ok();
    let pci = device.as_ref().and_then(|d| d.ancestors().find_map(pci_address));
    // What has no hardware is a dummy, a tap or the like, or the one virtual kind that stands for a card in
    // a namespace.
    let made = ["dummy", "ifb", "tap", "macv", "virbr"].iter().any(|stem| name.starts_with(stem));
    let virtual_card = !made && !folder.join("tun_flags").exists();
    (device.is_some() || virtual_card).then(|| Card { name: name.into(), mac, pci })
}

fn pci_address(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let shape: Vec<usize> = name.split([':', '.']).map(str::len).collect();
    let hex = name.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    (hex && matches!(shape.as_slice(), [4..=8, 2, 2, 1])).then(|| name.to_string())
}

/// Whether any card that the network names may be here. A card that is known by a name alone may be
/// any; the daemon knows better what names stand for.
#[must_use]
pub fn any(network: &Network, cards: &[Card]) -> bool {
    network.links.iter().filter(|link| link.kind == Kind::Ethernet).any(|link| {
        cards.iter().any(|card| match (link.mac, &link.path) {
            (Some(mac), _) => card.mac == Some(mac),
            (None, Some(path)) => card.pci.as_ref().is_some_and(|pci| {
                path == pci || glob(path, &format!("pci-{pci}")) || path.starts_with(&format!("pci-{pci}-"))
            }),
            (None, None) => true,
        })
    })
}

/// Whether a pattern of names may be meant for Ethernet cards, which have other names here.
pub(super) fn may_be_card(pattern: &str) -> bool {
    let literal: String = pattern.chars().take_while(|c| !matches!(c, '*' | '?' | '[')).collect();
    ["eth", "ens", "enp", "enP", "eno", "enx", "em"].iter().any(|stem| {
        stem.starts_with(literal.as_str()) || (literal.starts_with(stem) && literal.len() <= stem.len())
    }) || literal.starts_with("enp")
        || literal.starts_with("ens")
}

/// The network for these cards: each link that is named by a pattern becomes one for every card that it
/// fits and that no other link names. Where nothing stays of it, that link is left out.
#[must_use]
pub fn settle(network: &Network, cards: &[Card]) -> Network {
    let is_pattern = |link: &Link| {
        link.kind == Kind::Ethernet
            && link.mac.is_none()
            && link.path.is_none()
            && link.name.as_deref().is_some_and(super::text::is_glob)
    };
    if !network.links.iter().any(is_pattern) {
        return network.clone();
    }
    let mut taken: Vec<&str> = Vec::new();
    for link in network.links.iter().filter(|l| l.kind == Kind::Ethernet && !is_pattern(l)) {
        let fits = |card: &&Card| {
            (link.mac.is_some() && card.mac == link.mac)
                || link.path.as_ref().is_some_and(|p| card.pci.as_ref() == Some(p))
                || link.name.as_ref().is_some_and(|name| *name == card.name || names(card).contains(name))
        };
        taken.extend(cards.iter().filter(fits).map(|card| card.name.as_str()));
    }
    let mut links: Vec<Link> = Vec::new();
    let mut became: Vec<(String, Vec<String>)> = Vec::new();
    for link in &network.links {
        let Some(pattern) = link.name.as_deref().filter(|_| is_pattern(link)) else {
            links.push(link.clone());
            continue;
        };
        let mut ids = Vec::new();
        for card in cards {
            let general = may_be_card(pattern) && pattern.chars().filter(|c| c.is_ascii_digit()).count() == 0;
            let fits =
                general || glob(pattern, &card.name) || names(card).iter().any(|name| glob(pattern, name));
            let is_free = !taken.contains(&card.name.as_str());
            // Addresses are for one card.
            let first = link.addresses.is_empty() || ids.is_empty();
            if fits && is_free && first && links.len() < MAX_ENTRIES {
                taken.push(&card.name);
                let id = format!("{} {}", link.id, card.name);
                let mut one = Link { id: id.clone(), mac: card.mac, name: None, ..link.clone() };
                if card.mac.is_none() {
                    one.name = Some(card.name.clone());
                }
                ids.push(id);
                links.push(one);
            }
        }
        became.push((link.id.clone(), ids));
    }
    for link in &mut links {
        let expand = |ports: &mut Vec<String>| {
            let all = ports.iter().flat_map(|port| match became.iter().find(|(id, _)| id == port) {
                Some((_, ids)) => ids.clone(),
                None => vec![port.clone()],
            });
            *ports = all.collect();
        };
        match &mut link.kind {
            Kind::Bond(bond) => {
                expand(&mut bond.links);
                bond.primary = bond.primary.take().filter(|p| bond.links.contains(p));
            }
            Kind::Bridge(bridge) => expand(&mut bridge.links),
            Kind::Vlan(vlan) => {
                if let Some((_, ids)) = became.iter().find(|(id, _)| *id == vlan.link) {
                    vlan.link = ids.first().cloned().unwrap_or_default();
                }
            }
            Kind::Ethernet | Kind::Dummy => {}
        }
    }
    // What has nothing below it any more goes, and what is on that.
    loop {
        let ids: Vec<String> = links.iter().map(|l| l.id.clone()).collect();
        let before = links.len();
        links.retain(|link| {
            let empty = matches!(&link.kind, Kind::Bond(bond) if bond.links.is_empty());
            !empty && link.below().iter().all(|id| ids.contains(id))
        });
        if links.len() == before {
            break;
        }
    }
    Network { links, dns: network.dns.clone() }
}

/// What a system with predictable names would call a card, as far as its address and place say it.
fn names(card: &Card) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(mac) = card.mac {
        names.push(format!("enx{}", mac.to_string().replace(':', "")));
    }
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    if let Some(pci) = &card.pci
        && let [domain, bus, device, function] = pci.split([':', '.']).collect::<Vec<_>>().as_slice()
        && let (Some(domain), Some(bus), Some(device)) = (number(domain), number(bus), number(device))
    {
        let domain = if domain == 0 { String::new() } else { format!("P{domain}") };
        let name = format!("en{domain}p{bus}s{device}");
        if *function == "0" {
            names.push(name.clone());
        }
        names.push(format!("{name}f{function}"));
    }
    names
}

/// Whether a pattern with `*`, `?` and `[…]` covers all of a text. Linear in both but for one step back
/// a star.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(byte) = text.get(t) {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'[') => class(pattern.get(p..).unwrap_or_default(), *byte),
            Some(wanted) if *wanted == b'?' || wanted == byte => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// The length of `[a-f0]` where it holds a byte.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().take(64).position(|b| *b == b']')?;
    let inner = pattern.get(1..end)?;
    let (negated, inner) = match inner.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, inner),
    };
    let mut holds = false;
    let mut at = 0;
    while let Some(first) = inner.get(at) {
        match (inner.get(at + 1), inner.get(at + 2)) {
            (Some(b'-'), Some(last)) => {
                holds |= (*first..=*last).contains(&byte);
                at += 3;
            }
            _ => {
                holds |= *first == byte;
                at += 1;
            }
        }
    }
    (holds != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards() -> Vec<Card> {
        ["0000:03:00.0", "0000:03:00.1", "0000:00:03.0"]
            .iter()
            .zip(1..)
            .map(|(pci, n)| Card {
                name: format!("eth{}", n - 1),
                mac: Some(MacAddress([2, 0, 0, 0, 0, n])),
                pci: Some((*pci).into()),
            })
            .collect()
    }

    #[test]
    fn patterns_become_cards() {
        let network: Network = serde_json::from_str(
            r#"{"links":[{"id":"a","mac":"02:00:00:00:00:01"},{"id":"all","name":"en*","dhcp4":true},
                {"id":"pair","name":"enp3s0f?"},{"id":"b","type":{"bond":{"links":["pair"]}}}]}"#,
        )
        .unwrap();
        let settled = settle(&network, &cards());
        settled.validate("network").unwrap();
        let ids: Vec<_> = settled.links.iter().map(|l| (l.id.as_str(), l.mac.map(|m| m.0[5]))).collect();
        assert_eq!(ids, [("a", Some(1)), ("all eth1", Some(2)), ("all eth2", Some(3))]);
        let network: Network = serde_json::from_str(
            r#"{"links":[{"id":"pair","name":"enp3s0f[0-1]"},{"id":"b","type":{"bond":{"links":["pair"]}}}]}"#,
        )
        .unwrap();
        let settled = settle(&network, &cards());
        assert_eq!(settled.links.last().unwrap().below(), ["pair eth0", "pair eth1"]);
    }

    #[test]
    fn cards_that_are_not_here() {
        let named = |json: &str| serde_json::from_str::<Network>(json).unwrap();
        assert!(any(&named(r#"{"links":[{"id":"a","mac":"02:00:00:00:00:03"}]}"#), &cards()));
        assert!(!any(&named(r#"{"links":[{"id":"a","mac":"02:00:00:00:00:09"}]}"#), &cards()));
        assert!(any(&named(r#"{"links":[{"id":"a","path":"pci-0000:03:*"}]}"#), &cards()));
        assert!(!any(&named(r#"{"links":[{"id":"a","path":"0000:04:00.0"}]}"#), &cards()));
        assert!(!any(&named(r#"{"links":[{"id":"a","name":"eth0"}]}"#), &[]));
    }

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("en*", "ens3", true),
            ("e[!n]*", "ens3", false),
            ("e[a-n]s?", "ens3", true),
            ("*", "", true),
            ("a", "ab", false),
            ("[", "[", false),
            ("*b*b", "abab", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        assert!(!glob(&"*a".repeat(5000), &"a".repeat(4000)));
        assert!(may_be_card("e*") && may_be_card("en*") && may_be_card("*") && may_be_card("enp3s0f*"));
        assert!(!may_be_card("bond*") && !may_be_card("veth*") && !may_be_card("wl*"));
    }
}
