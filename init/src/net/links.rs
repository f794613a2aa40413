//! Which links are ours to configure.

use rescue_schema::network::{self, MacAddress, Network};

use crate::sys::netlink::Link;

/// Whether a link is an Ethernet card: hardware, or the one virtual kind that stands for it in a
/// network namespace. What is built upon cards (bridges, bonds, VLANs) and what is a port of such a
/// thing has no address of its own here.
pub fn is_card(link: &Link) -> bool {
    link.ethernet
        && !link.loopback
        && link.controller.is_none()
        && link.mac.is_some_and(|mac| mac != [0; 6])
        && link.kind.as_deref().is_none_or(|kind| kind == "veth")
}

/// What is wished of a card: none when it is left alone.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// Nothing was said of any link: ask for a lease.
    Lease,
    /// This was said of it.
    Named(&'a network::Link),
}

/// Finds what is wished of a link.
pub fn wish<'a>(link: &Link, network: &'a Network) -> Option<Wish<'a>> {
    let mac = MacAddress(link.mac.filter(|_| is_card(link))?);
    if network.links.is_empty() {
        return Some(Wish::Lease);
    }
    network.links.iter().find(|wish| wish.mac == Some(mac)).map(Wish::Named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cards_that_are_named_or_all() {
        let card = Link { index: 2, ethernet: true, mac: Some([2, 0, 0, 0, 0, 1]), ..Link::default() };
        let anything = Network::default();
        assert_eq!(wish(&card, &anything), Some(Wish::Lease));
        for other in [
            Link { ethernet: false, ..card.clone() },
            Link { loopback: true, ..card.clone() },
            Link { controller: Some(9), ..card.clone() },
            Link { mac: Some([0; 6]), ..card.clone() },
            Link { mac: None, ..card.clone() },
            Link { kind: Some("bridge".into()), ..card.clone() },
        ] {
            assert_eq!(wish(&other, &anything), None, "{other:?}");
        }
        let named: Network = serde_json::from_str(r#"{"links":[{"mac":"02:00:00:00:00:01"}]}"#).unwrap();
        assert!(matches!(wish(&card, &named), Some(Wish::Named(_))));
        assert_eq!(wish(&Link { mac: Some([2, 0, 0, 0, 0, 2]), ..card }, &named), None);
    }
}
