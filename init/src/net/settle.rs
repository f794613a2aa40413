//! What of a network is for the cards that are here: names with `*` or `?` become the cards that they
//! fit.

use rescue_schema::network::{Kind, Link, MAX_ENTRIES, MacAddress, Network};

use super::cards::{Card, Pci};
use super::glob::{glob, is_pattern};
use super::matching;
use super::predictable::names;

/// Whether any card that the network names may be here. A card that is known by a name alone may be
/// any; the daemon knows better what names stand for.
#[must_use]
pub fn any(network: &Network, cards: &[Card]) -> bool {
    network
        .links
        .iter()
        .filter(|link| link.kind == Kind::Ethernet)
        .any(|link| cards.iter().any(|card| matching::may_be(link, card)))
}

/// Whether a pattern of names may be meant for Ethernet cards, which have other names here.
#[must_use]
pub fn may_be_card(pattern: &str) -> bool {
    let literal: String = pattern.chars().take_while(|c| !matches!(c, '*' | '?' | '[')).collect();
    ["eth", "ens", "enp", "enP", "eno", "enx", "em"].iter().any(|stem| {
        stem.starts_with(literal.as_str()) || (literal.starts_with(stem) && literal.len() <= stem.len())
    }) || literal.starts_with("enp")
        || literal.starts_with("ens")
}

/// The network for these cards: each link that is named by a pattern becomes one for every card that it
/// fits and that no other link names. Where nothing stays of it, that link is left out. `pci` are the
/// places of cards, as for [`matching::find`].
#[must_use]
pub fn settle(network: &Network, cards: &[Card], pci: &[Pci]) -> Network {
    let by_pattern = |link: &Link| {
        link.kind == Kind::Ethernet
            && link.mac.is_none()
            && link.path.is_none()
            && link.name.as_deref().is_some_and(is_pattern)
    };
    if !network.links.iter().any(by_pattern) {
        return network.clone();
    }
    let found = matching::find(network, cards, pci);
    let named = |card: &Card| {
        let same = |link: &Link| link.mac.is_some() && link.mac.map(|mac| mac.0) == card.mac;
        found.contains(&Some(card.index)) || network.links.iter().any(same)
    };
    // What is part of another card is none by itself.
    let out = cards.iter().filter(|card| card.hidden || named(card));
    let mut taken: Vec<u32> = out.map(|card| card.index).collect();
    let mut links: Vec<Link> = Vec::new();
    let mut became: Vec<(String, Vec<String>)> = Vec::new();
    for link in &network.links {
        let Some(pattern) = link.name.as_deref().filter(|_| by_pattern(link)) else {
            links.push(link.clone());
            continue;
        };
        let mut ids = Vec::new();
        for card in cards {
            let general = may_be_card(pattern) && pattern.chars().filter(|c| c.is_ascii_digit()).count() == 0;
            let fits =
                general || glob(pattern, &card.name) || names(card).iter().any(|name| glob(pattern, name));
            let is_free = !taken.contains(&card.index);
            // Addresses are for one card.
            let first = link.addresses.is_empty() || ids.is_empty();
            if fits && is_free && first && links.len() < MAX_ENTRIES {
                taken.push(card.index);
                let id = format!("{} {}", link.id, card.name);
                let mut one =
                    Link { id: id.clone(), mac: card.mac.map(MacAddress), name: None, ..link.clone() };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cards() -> Vec<Card> {
        ["0000:03:00.0", "0000:03:00.1", "0000:00:03.0"]
            .iter()
            .zip(1..)
            .map(|(pci, n)| Card {
                index: n,
                name: format!("eth{}", n - 1),
                mac: Some([2, 0, 0, 0, 0, u8::try_from(n).unwrap()]),
                pci: pci.parse().ok(),
                ..Card::default()
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
        let settled = settle(&network, &cards(), &[]);
        settled.validate("network").unwrap();
        let ids: Vec<_> = settled.links.iter().map(|l| (l.id.as_str(), l.mac.map(|m| m.0[5]))).collect();
        assert_eq!(ids, [("a", Some(1)), ("all eth1", Some(2)), ("all eth2", Some(3))]);
        let network: Network = serde_json::from_str(
            r#"{"links":[{"id":"pair","name":"enp3s0f[0-1]"},{"id":"b","type":{"bond":{"links":["pair"]}}}]}"#,
        )
        .unwrap();
        let settled = settle(&network, &cards(), &[]);
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
    fn patterns_that_may_be_cards() {
        assert!(may_be_card("e*") && may_be_card("en*") && may_be_card("*") && may_be_card("enp3s0f*"));
        assert!(!may_be_card("bond*") && !may_be_card("veth*") && !may_be_card("wl*"));
    }
}
