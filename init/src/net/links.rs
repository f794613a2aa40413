//! Which links are ours to configure, and what each of them is.

use std::collections::BTreeMap;

use rescue_schema::network::{Kind, Network};

use super::build::{self, Links};
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

/// The roles of all links that are looked at: those that the document names, as `bound`, and every
/// card. Where nothing is wished every card is to be used; a port of a bond or bridge that an engineer
/// made is left alone.
#[must_use]
pub fn roles(network: &Network, bound: &[Option<u32>], links: &Links) -> BTreeMap<u32, Role> {
    let mut roles = BTreeMap::new();
    for link in links.values().filter(|link| is_card(link)) {
        let free = link.controller.is_none();
        let carries = free && network.links.is_empty();
        let role =
            Role { carries, raise: carries, managed: free, card: true, order: link.index, ..Role::default() };
        roles.insert(link.index, role);
    }
    for (order, (wish, index)) in (0..).zip(network.links.iter().zip(bound)) {
        let Some(link) = index.and_then(|index| links.get(&index)) else { continue };
        let theirs =
            link.controller.and_then(|c| links.get(&c)).is_some_and(|c| !bound.contains(&Some(c.index)));
        let controller = build::controller(network, wish);
        let of_bond = network
            .links
            .iter()
            .any(|other| Some(other.id.as_str()) == controller && matches!(other.kind, Kind::Bond(_)));
        let role = Role {
            carries: controller.is_none() && !theirs,
            // A bond sets its ports up itself, and takes none that is.
            raise: !of_bond && !theirs,
            managed: !theirs,
            card: wish.kind == Kind::Ethernet,
            mtu: build::mtu(network, wish),
            storey: build::storey(network, wish),
            wish: Some(wish.clone()),
            order,
        };
        roles.insert(link.index, role);
    }
    roles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Link {
        Link { index: 2, ethernet: true, mac: Some([2, 0, 0, 0, 0, 1]), ..Link::default() }
    }

    #[test]
    fn every_card_where_nothing_is_wished() {
        let anything = Network::default();
        let of = |link: Link| roles(&anything, &[], &Links::from([(2, link)])).remove(&2);
        let role = of(card()).unwrap();
        assert!(role.carries && role.raise && role.card && role.order == 2);
        let port = of(Link { controller: Some(9), ..card() }).unwrap();
        assert!(!port.carries && !port.raise && !port.managed, "a port of what an engineer made");
        for other in [
            Link { ethernet: false, ..card() },
            Link { loopback: true, ..card() },
            Link { mac: Some([0; 6]), ..card() },
            Link { mac: None, ..card() },
            Link { kind: Some("bridge".into()), ..card() },
        ] {
            assert_eq!(of(other.clone()), None, "{other:?}");
        }
    }

    #[test]
    fn only_those_that_are_named() {
        let named: Network = serde_json::from_str(r#"{"links":[{"mac":"02:00:00:00:00:01"}]}"#).unwrap();
        let links = Links::from([(2, card()), (3, Link { index: 3, ..card() })]);
        let roles = roles(&named, &[Some(2)], &links);
        assert!(roles[&2].carries && roles[&2].raise && roles[&2].order == 0);
        assert!(!roles[&3].carries && !roles[&3].raise && roles[&3].managed && roles[&3].wish.is_none());
    }

    #[test]
    fn ports_carry_nothing() {
        let network: Network = serde_json::from_str(
            r#"{"links":[{"id":"a","mac":"02:00:00:00:00:01"},
                {"id":"bond0","type":{"bond":{"links":["a"]}},"mtu":9000},
                {"id":"v","type":{"vlan":{"link":"bond0","id":7}}}]}"#,
        )
        .unwrap();
        let bond = Link { index: 3, kind: Some("bond".into()), ..card() };
        let links = Links::from([(2, Link { controller: Some(3), ..card() }), (3, bond)]);
        let roles = roles(&network, &[Some(2), Some(3), None], &links);
        assert!(!roles[&2].carries && !roles[&2].raise && roles[&2].managed && roles[&2].mtu == Some(9000));
        assert!(roles[&3].carries && roles[&3].raise && !roles[&3].card && roles[&3].storey == 1);
    }
}
