//! Which links are ours to configure, and what each of them is.

use std::collections::BTreeMap;

use rescue_schema::network::{self, MacAddress, Network};

use super::daemon::Role;
use crate::sys::netlink::Link;

/// Whether a link is an Ethernet card: hardware, or the one virtual kind that stands for it in a
/// network namespace. What is built upon cards (bridges, bonds, VLANs) is not.
#[must_use]
pub fn is_card(link: &Link) -> bool {
    link.ethernet
        && !link.loopback
        && link.mac.is_some_and(|mac| mac != [0; 6])
        && link.kind.as_deref().is_none_or(|kind| kind == "veth")
}

/// The roles of all links that are managed. Where nothing is wished every card is; a port of a bond
/// or bridge that an engineer made is not.
#[must_use]
pub fn roles(network: &Network, links: &BTreeMap<u32, Link>) -> BTreeMap<u32, Role> {
    let mut roles = BTreeMap::new();
    for link in links.values().filter(|link| is_card(link) && link.controller.is_none()) {
        let wish = wish(link, network);
        let wished = network.links.is_empty() || wish.is_some();
        if wished {
            let order = wish.map_or(link.index, |(order, _)| order);
            let wish = wish.map(|(_, wish)| wish.clone());
            roles.insert(link.index, Role { carries: true, card: true, wish, order });
        }
    }
    roles
}

fn wish<'a>(link: &Link, network: &'a Network) -> Option<(u32, &'a network::Link)> {
    let mac = MacAddress(link.identity()?);
    let at = network.links.iter().position(|wish| wish.mac == Some(mac))?;
    Some((u32::try_from(at).unwrap_or(u32::MAX), network.links.get(at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cards_that_are_named_or_all() {
        let card = Link { index: 2, ethernet: true, mac: Some([2, 0, 0, 0, 0, 1]), ..Link::default() };
        let roles = |link: &Link, network: &Network| roles(network, &BTreeMap::from([(2, link.clone())]));
        let anything = Network::default();
        assert_eq!(roles(&card, &anything).get(&2).map(|role| (role.carries, role.order)), Some((true, 2)));
        for other in [
            Link { ethernet: false, ..card.clone() },
            Link { loopback: true, ..card.clone() },
            Link { controller: Some(9), ..card.clone() },
            Link { mac: Some([0; 6]), ..card.clone() },
            Link { mac: None, ..card.clone() },
            Link { kind: Some("bridge".into()), ..card.clone() },
        ] {
            assert_eq!(roles(&other, &anything), BTreeMap::new(), "{other:?}");
        }
        let named: Network = serde_json::from_str(r#"{"links":[{"mac":"02:00:00:00:00:01"}]}"#).unwrap();
        assert!(roles(&card, &named).get(&2).is_some_and(|role| role.wish.is_some() && role.order == 0));
        let bonded = Link { mac: Some([2, 0, 0, 0, 0, 9]), permanent_mac: card.mac, ..card.clone() };
        assert!(roles(&bonded, &named).contains_key(&2));
        assert_eq!(roles(&Link { mac: Some([2, 0, 0, 0, 0, 2]), ..card }, &named), BTreeMap::new());
    }
}
