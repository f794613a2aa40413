//! Which card a document means: by address, by place, by what a predictable name says of either
//! (systemd.net-naming-scheme(7)), or by order.

use rescue_schema::network::{Kind, Link as Wish, MacAddress, Network};

use super::cards::{Card, Pci};
use super::glob::glob;
use super::predictable::Predictable;

/// The index of the card of each wish for one, in the order of the document; none where it is not
/// here (yet). A card is taken once.
#[must_use]
pub fn find(network: &Network, cards: &[Card], pci: &[Pci]) -> Vec<Option<u32>> {
    let mut taken: Vec<u32> = Vec::new();
    let mut found = vec![None; network.links.len()];
    // What says more of a card comes first: an order among cards must not take one that is named.
    for how in [by_mac, by_path, by_name, by_order, by_kernel_name] {
        for (wish, found) in network.links.iter().zip(&mut found) {
            if found.is_some() || wish.kind != Kind::Ethernet {
                continue;
            }
            let index = how(wish, cards, pci).filter(|index| !taken.contains(index));
            taken.extend(index);
            *found = index;
        }
    }
    found
}

/// Which card a wish asks for, for messages.
#[must_use]
pub fn describe(wish: &Wish) -> String {
    match (&wish.mac, &wish.path, &wish.name) {
        (Some(mac), ..) => format!("card {mac}"),
        (None, Some(path), _) => format!("card at {path}"),
        (None, None, Some(name)) => format!("card {name}"),
        (None, None, None) => "card".into(),
    }
}

fn by_mac(wish: &Wish, cards: &[Card], _: &[Pci]) -> Option<u32> {
    let mac = wish.mac?;
    let same = |card: &&Card| card.mac.map(MacAddress) == Some(mac);
    let found = cards.iter().filter(same).min_by_key(|card| card.hidden);
    // A card that does not say what address it came with is known by the one that it was given.
    let given = |card: &&Card| wish.set_mac.is_some() && card.mac.map(MacAddress) == wish.set_mac;
    found.or_else(|| cards.iter().find(given)).map(|card| card.index)
}

fn by_path(wish: &Wish, cards: &[Card], _: &[Pci]) -> Option<u32> {
    let path = wish.path.as_ref().filter(|_| wish.mac.is_none())?;
    cards.iter().find(|card| is_at(path, card)).map(|card| card.index)
}

/// Whether a card is at a place: its PCI address, or a pattern for udev's `ID_PATH`.
fn is_at(path: &str, card: &Card) -> bool {
    match (path.parse::<Pci>(), card.id_path()) {
        (Ok(pci), _) => card.pci == Some(pci),
        (Err(()), Some(id_path)) => glob(path, &id_path),
        (Err(()), None) => false,
    }
}

/// Whether a wish may be for this card. One that gives a name alone may be for any.
#[must_use]
pub fn may_be(wish: &Wish, card: &Card) -> bool {
    match (&wish.mac, &wish.path) {
        (Some(mac), _) => card.mac == Some(mac.0),
        (None, Some(path)) => is_at(path, card),
        (None, None) => true,
    }
}

/// The name, where nothing better is said.
fn name(wish: &Wish) -> Option<&str> {
    wish.name.as_deref().filter(|_| wish.mac.is_none() && wish.path.is_none())
}

fn by_name(wish: &Wish, cards: &[Card], _: &[Pci]) -> Option<u32> {
    let said = Predictable::parse(name(wish)?)?;
    let fits: Vec<&Card> = cards.iter().filter(|card| said.fits(card)).collect();
    // Naming schemes differ in whether they name the port; where there is but one, it is the one.
    let exact = fits.iter().find(|card| said.port.as_ref().is_none_or(|port| port.fits(card)));
    exact.or(fits.first().filter(|_| fits.len() == 1)).map(|card| card.index)
}

/// `eth1` is the second card by place; those that are not on PCI follow in the order of their coming.
fn by_order(wish: &Wish, cards: &[Card], pci: &[Pci]) -> Option<u32> {
    let n: usize = name(wish)?.strip_prefix("eth")?.parse().ok()?;
    let mut functions: Vec<Pci> =
        cards.iter().filter_map(|card| card.pci).chain(pci.iter().copied()).collect();
    functions.sort_unstable();
    functions.dedup();
    let mut order: Vec<Option<u32>> = Vec::new();
    for function in functions {
        let mut here: Vec<&Card> = cards.iter().filter(|card| card.pci == Some(function)).collect();
        here.sort_by_key(|card| (card.dev_port, card.index));
        match here.is_empty() {
            // Its driver is not there yet; its place is.
            true => order.push(None),
            false => order.extend(here.iter().map(|card| Some(card.index))),
        }
    }
    let mut others: Vec<u32> =
        cards.iter().filter(|card| card.pci.is_none()).map(|card| card.index).collect();
    others.sort_unstable();
    order.extend(others.into_iter().map(Some));
    order.get(n).copied().flatten()
}

fn by_kernel_name(wish: &Wish, cards: &[Card], _: &[Pci]) -> Option<u32> {
    // An order that was counted and is empty is not made up for by a name that may be any card's.
    let name = name(wish).filter(|name| !is_counted(name) || cards.iter().all(|card| card.pci.is_none()))?;
    cards.iter().find(|card| card.name == name).map(|card| card.index)
}

fn is_counted(name: &str) -> bool {
    name.strip_prefix("eth").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(index: u32, pci: &str) -> Card {
        Card {
            index,
            name: format!("eth{}", 9 - index),
            mac: Some([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
            pci: pci.parse().ok(),
            ..Card::default()
        }
    }

    fn found(cards: &[Card], wishes: &[&str]) -> Vec<Option<u32>> {
        let links = wishes.iter().map(|json| serde_json::from_str(json).expect(json)).collect();
        find(&Network { links, ..Network::default() }, cards, &["0000:09:00.0".parse().unwrap()])
    }

    fn named(cards: &[Card], name: &str) -> Option<u32> {
        found(cards, &[&format!(r#"{{"name":"{name}"}}"#)])[0]
    }

    fn machine() -> Vec<Card> {
        let mut cards = vec![
            card(2, "0000:0a:00.1"),
            card(3, "0000:0a:00.0"),
            card(4, "0000:00:03.0"),
            card(5, "10000:e1:00.0"),
            card(6, "0000:b1:00.0"),
            card(7, "0000:b1:00.0"),
            card(8, "0000:00:14.0"),
        ];
        cards[2].slot = Some(3);
        cards[2].onboard = Some(1);
        cards[4].port_name = Some("p0".into());
        cards[5].port_name = Some("p1".into());
        cards[5].dev_port = 1;
        cards[6].usb = Some(("1.2".into(), "1.0".into()));
        cards
    }

    #[test]
    fn predictable_names_say_places() {
        let cards = machine();
        for (name, index) in [
            ("enp10s0f1", Some(2)),
            ("enp10s0", Some(3)),
            ("enp10s0f0", Some(3)),
            ("enp10s0f0np0", Some(3)),
            ("ens3", Some(4)),
            ("enp0s3", Some(4)),
            ("eno1", Some(4)),
            ("enP65536p225s0", Some(5)),
            ("enx020000000004", Some(4)),
            ("enp177s0np1", Some(7)),
            ("enp177s0d1", Some(7)),
            ("enp177s0np0", Some(6)),
            ("enp0s20u1u2", Some(8)),
            ("enp0s20", None),
            ("enp10s0f2", None),
            ("ens4", None),
            ("eno2", None),
            ("enx02000000000", None),
            ("en", None),
            ("enp", None),
            ("enp1", None),
            ("enp99999999999s0", None),
            ("ens3n", None),
            ("ens3é", None),
        ] {
            assert_eq!(named(&cards, name), index, "{name}");
        }
    }

    #[test]
    fn eth_counts_places_also_of_cards_that_have_no_driver_yet() {
        let cards = machine();
        // 0000:00:03.0, 0000:00:14.0, [0000:09:00.0], 0000:0a:00.0, 0000:0a:00.1, b1 twice, VMD
        let order: Vec<_> = (0..9).map(|n| named(&cards, &format!("eth{n}"))).collect();
        assert_eq!(order, [Some(4), Some(8), None, Some(3), Some(2), Some(6), Some(7), Some(5), None]);
        let others: Vec<Card> = (2..4).map(|i| card(i, "")).collect();
        assert_eq!(found(&others, &[r#"{"name":"vif0"}"#]), [None]);
        assert_eq!(named(&others, "eth1"), Some(2));
    }

    #[test]
    fn what_says_more_comes_first_and_a_card_is_taken_once() {
        let cards = machine();
        let all = found(
            &cards,
            &[
                r#"{"name":"eth0"}"#,
                r#"{"mac":"02:00:00:00:00:04"}"#,
                r#"{"path":"pci-0000:0a:*.1"}"#,
                r#"{"path":"0000:0a:00.0"}"#,
                r#"{"mac":"02:00:00:00:00:63","name":"eth1"}"#,
                r#"{"id":"b","type":{"bond":{"links":[]}},"mac":"02:00:00:00:00:05"}"#,
            ],
        );
        assert_eq!(all, [None, Some(4), Some(2), Some(3), None, None]);
        let mut twins = vec![card(2, ""), card(3, "")];
        twins[1].mac = twins[0].mac;
        twins[0].hidden = true;
        assert_eq!(found(&twins, &[r#"{"mac":"02:00:00:00:00:02"}"#]), [Some(3)]);
    }
}
