//! The ladder: what to try when nothing was said of the network. A pure decision; the daemon carries it
//! out.
//!
//! 1. DHCP and router advertisements on every card with carrier, all at once. That is what an empty
//!    [`Network`] means.
//! 2. Where nothing answers and a switch speaks LACP: an 802.3ad bond of the cards that show the same
//!    system and key, with DHCP and router advertisements on it. A bond is never taken apart again: what
//!    the switch asked for is the best guess that is left.

use std::time::Duration;

use rescue_schema::network::{Bond, BondMode, Kind, Link, MAX_ENTRIES, MacAddress, Network};

use super::lacp::Side;

/// How long a switch's LACP is heard, and nothing else, before its ports are bonded.
///
/// A port of an aggregate forwards nothing while its other end does not speak LACP, unless the switch was
/// told to fall back, and then a bond works as well: too early costs little. By now five DHCP requests
/// have been lost (at 0, 0.25, 0.75, 1.75 and 3.75 s), and the slowest server has answered the first: one
/// that tries the address by ICMP before it offers it, for up to 3 s.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Ports of a bond that switches support. A port that comes up speaks at once and then every second or
/// every 30 (802.1AX, 6.4.4), and one that is silent is asked ([`super::lacp::question`]): the others of
/// an aggregate are mostly heard by the time that one is ripe, and the rest join when they speak.
const MOST_PORTS: usize = 16;

/// Who speaks LACP at the other end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partner {
    /// What it last said of itself.
    pub side: Side,
    /// Since when it is there.
    pub since: Duration,
}

impl Partner {
    /// Whether this is the same aggregate of the same system.
    #[must_use]
    pub fn is(&self, side: &Side) -> bool {
        (self.side.system, self.side.priority, self.side.key) == (side.system, side.priority, side.key)
    }
}

/// A card, as the ladder sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Its permanent MAC address.
    pub mac: MacAddress,
    /// Who speaks LACP to it, since its cable was plugged in.
    pub partner: Option<Partner>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Leave the network as it is; look again at the given time, or when something changes.
    Stay(Option<Duration>),
    /// Bring the network to this.
    Climb(Box<Network>),
}

/// Decides. `cards` are all of the machine's, in the kernel's order; `answered` says whether anything has
/// an address by which the machine is reached; `standing` is the network that an earlier decision made, or
/// the empty one.
#[must_use]
pub fn decide(cards: &[Rung], answered: bool, standing: &Network, now: Duration) -> Decision {
    let wants = |card: &Rung| card.partner.filter(|partner| partner.side.is_aggregatable());
    // What is bonded stays bonded, in the order of the bonds, whose names come of it.
    let mut groups: Vec<Group> = Vec::new();
    for link in standing.links.iter().filter(|link| matches!(link.kind, Kind::Bond(_))) {
        let of = |card: &&Rung| link.below().contains(&id(card.mac));
        let partner = cards.iter().filter(of).find_map(wants);
        // A card that is gone has nothing to be a port with.
        let ports: Vec<MacAddress> = link.below().iter().filter_map(|id| id.parse().ok()).collect();
        groups.push(Group { ports, partner });
    }
    let mut look_again: Option<Duration> = None;
    for card in cards {
        let Some(partner) = wants(card) else { continue };
        if groups.iter().any(|group| group.ports.contains(&card.mac)) {
            continue;
        }
        let is_same = |other: Option<Partner>| other.is_some_and(|other| other.is(&partner.side));
        if let Some(group) = groups.iter_mut().find(|group| is_same(group.partner)) {
            if group.ports.len() < MOST_PORTS {
                group.ports.push(card.mac);
            }
            continue;
        }
        // An answer anywhere ends the climb: the machine can be reached.
        if answered {
            continue;
        }
        // The first that is heard counts for all of the aggregate.
        let since =
            cards.iter().filter_map(wants).filter(|other| is_same(Some(*other))).map(|other| other.since);
        let ripe = since.min().unwrap_or(partner.since) + PATIENCE;
        match ripe <= now {
            true => groups.push(Group { ports: vec![card.mac], partner: Some(partner) }),
            false => look_again = Some(look_again.map_or(ripe, |other| other.min(ripe))),
        }
    }
    if groups.is_empty() {
        return Decision::Stay(look_again);
    }
    let mut next = Network { dns: standing.dns.clone(), ..Network::default() };
    let ports = || groups.iter().flat_map(|group| &group.ports).copied();
    let alone = cards.iter().map(|card| card.mac).filter(|mac| ports().all(|port| port != *mac));
    next.links.extend(ports().map(|mac| card(mac, false)));
    next.links.extend(alone.map(|mac| card(mac, true)));
    next.links.extend(groups.iter().enumerate().map(|(number, group)| bond(number, &group.ports)));
    let is_there = next.links.iter().all(|link| standing.links.contains(link));
    let fits = next.links.len() <= MAX_ENTRIES;
    match is_there || !fits {
        true => Decision::Stay(look_again),
        false => Decision::Climb(Box::new(next)),
    }
}

/// Cards of one aggregate.
struct Group {
    ports: Vec<MacAddress>,
    /// None while none of them is spoken to.
    partner: Option<Partner>,
}

fn id(mac: MacAddress) -> String {
    mac.to_string()
}

fn card(mac: MacAddress, asks: bool) -> Link {
    Link { id: id(mac), mac: Some(mac), dhcp4: asks, accept_ra: Some(asks), ..Link::default() }
}

/// The bond takes the address of its first port, for which a server may hold a reservation.
fn bond(number: usize, ports: &[MacAddress]) -> Link {
    let bond = Bond {
        links: ports.iter().map(|mac| id(*mac)).collect(),
        mode: BondMode::Lacp,
        // The switch then speaks every second: a link that is dead one way is out after 3 s, not 90.
        lacp_fast: Some(true),
        ..Bond::default()
    };
    Link {
        id: format!("bond{number}"),
        kind: Kind::Bond(bond),
        dhcp4: true,
        accept_ra: Some(true),
        ..Link::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const B: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
    const C: MacAddress = MacAddress([2, 0, 0, 0, 0, 3]);

    fn partner(system: u8, key: u16, since: u64) -> Partner {
        let side =
            Side { priority: 1, system: MacAddress([2, 0, 0, 0, 1, system]), key, port: 1, state: 0x07 };
        Partner { side, since: Duration::from_secs(since) }
    }

    fn rung(mac: MacAddress, partner: Option<&Partner>) -> Rung {
        Rung { mac, partner: partner.copied() }
    }

    fn decided(cards: &[Rung], standing: &Network, now: u64) -> Decision {
        decide(cards, false, standing, Duration::from_secs(now))
    }

    fn bonds(network: &Network) -> Vec<(&str, Vec<String>)> {
        let bonds = network.links.iter().filter(|link| matches!(link.kind, Kind::Bond(_)));
        bonds.map(|link| (link.id.as_str(), link.below().to_vec())).collect()
    }

    #[track_caller]
    fn climbed(decision: Decision) -> Network {
        let Decision::Climb(network) = decision else { panic!("{decision:?}") };
        network.validate("network").unwrap();
        *network
    }

    #[test]
    fn nothing_is_bonded_without_lacp() {
        let cards = [rung(A, None), rung(B, None)];
        assert_eq!(decided(&cards, &Network::default(), 1000), Decision::Stay(None));
        assert_eq!(decided(&[], &Network::default(), 1000), Decision::Stay(None));
    }

    #[test]
    fn a_switch_that_wants_lacp_gets_a_bond_of_what_it_speaks_to() {
        let (one, two) = (partner(1, 7, 2), partner(1, 7, 3));
        let cards = [rung(A, Some(&one)), rung(C, None), rung(B, Some(&two))];
        let nothing = Network::default();
        assert_eq!(decided(&cards, &nothing, 4), Decision::Stay(Some(Duration::from_secs(2) + PATIENCE)));
        let network = climbed(decided(&cards, &nothing, 9));
        assert_eq!(bonds(&network), [("bond0", vec![A.to_string(), B.to_string()])]);
        let asks: Vec<_> = network.links.iter().filter(|l| l.dhcp4).map(|l| l.id.as_str()).collect();
        assert_eq!(asks, [C.to_string().as_str(), "bond0"]);
        assert!(network.links.iter().all(|link| link.accept_ra == Some(link.dhcp4)));
        // It stands: nothing more to do, whatever time it is.
        assert_eq!(decided(&cards, &network, 1000), Decision::Stay(None));
        // A cable that is out, and an answer, change nothing.
        let cut = [Rung { partner: None, ..cards[0] }, cards[1], cards[2]];
        assert_eq!(decided(&cut, &network, 1000), Decision::Stay(None));
        assert_eq!(decide(&cards, true, &nothing, Duration::from_secs(1000)), Decision::Stay(None));
    }

    #[test]
    fn a_port_that_is_heard_late_joins() {
        let (one, late) = (partner(1, 7, 2), partner(1, 7, 30));
        let first = climbed(decided(&[rung(A, Some(&one)), rung(B, None)], &Network::default(), 8));
        assert_eq!(bonds(&first), [("bond0", vec![A.to_string()])]);
        let cards = [rung(A, Some(&one)), rung(B, Some(&late))];
        let second = climbed(decided(&cards, &first, 36));
        assert_eq!(bonds(&second), [("bond0", vec![A.to_string(), B.to_string()])]);
        // It joins although the machine is reached by now; another aggregate is not made for that.
        let other = partner(2, 7, 3);
        let with_other = [cards[0], cards[1], rung(C, Some(&other))];
        let Decision::Climb(third) = decide(&with_other, true, &first, Duration::from_secs(30)) else {
            panic!()
        };
        assert_eq!(bonds(&third), [("bond0", vec![A.to_string(), B.to_string()])]);
        assert_eq!(decide(&with_other, true, &third, Duration::from_secs(99)), Decision::Stay(None));
    }

    #[test]
    fn ports_of_one_aggregate_become_ripe_together() {
        let (one, two) = (partner(1, 7, 2), partner(1, 7, 6));
        let cards = [rung(A, Some(&two)), rung(B, Some(&one))];
        let network = climbed(decided(&cards, &Network::default(), 7));
        assert_eq!(bonds(&network), [("bond0", vec![A.to_string(), B.to_string()])]);
    }

    #[test]
    fn a_card_that_is_pulled_out_takes_no_bond_along() {
        let one = partner(1, 7, 2);
        let network = climbed(decided(&[rung(A, Some(&one)), rung(B, Some(&one))], &Network::default(), 7));
        assert_eq!(decided(&[rung(B, Some(&one))], &network, 99), Decision::Stay(None));
        assert_eq!(decided(&[], &network, 99), Decision::Stay(None));
    }

    #[test]
    fn other_keys_and_systems_are_other_bonds() {
        let all = [partner(1, 7, 2), partner(1, 8, 2), partner(2, 7, 2)];
        let cards = [rung(A, Some(&all[0])), rung(B, Some(&all[1])), rung(C, Some(&all[2]))];
        let network = climbed(decided(&cards, &Network::default(), 8));
        let want =
            [("bond0", vec![A.to_string()]), ("bond1", vec![B.to_string()]), ("bond2", vec![C.to_string()])];
        assert_eq!(bonds(&network), want);
        // The kernel's order is another: no bond takes another's name for that.
        let cards = [rung(B, Some(&all[1])), rung(A, Some(&all[0])), rung(C, Some(&all[2]))];
        assert_eq!(decided(&cards, &network, 9), Decision::Stay(None));
    }

    #[test]
    fn a_port_that_is_only_ever_alone_is_left_alone() {
        let mut individual = partner(1, 7, 2);
        individual.side.state = 0x03;
        let cards = [rung(A, Some(&individual))];
        assert_eq!(decided(&cards, &Network::default(), 1000), Decision::Stay(None));
    }
}
