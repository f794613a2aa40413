//! What is to be built upon the cards: a pure function of the document, of which cards were found and
//! of the links that are there, to the steps that can be taken now. What depends on them follows when
//! they have been taken.

use std::collections::BTreeMap;

use rescue_schema::network::{FailOverMac, Kind, Link as Wish, Network};

use super::matching;
use crate::sys::netlink::{BondOption, Link, Make, bond_lacks, bond_mode};

/// Longest name that the kernel takes.
const MAX_NAME: usize = 15;

/// The links by index.
pub type Links = BTreeMap<u32, Link>;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Remove what this program built and nobody wants any more, or what is in the way.
    Remove {
        /// Index.
        index: u32,
        /// Name, for messages.
        name: String,
    },
    /// Build the link of this place in the document.
    Create {
        /// Its place.
        at: usize,
        /// The name that it is given.
        name: String,
    },
    /// Give a link this hardware address.
    Mac {
        /// Index.
        index: u32,
        /// Name, for messages.
        name: String,
        /// The address.
        mac: [u8; 6],
    },
    /// Take a link out of its bond or bridge.
    Leave {
        /// Index.
        index: u32,
        /// Name, for messages.
        name: String,
    },
    /// Put a link into a bond or bridge.
    Join {
        /// Index.
        index: u32,
        /// Name, for messages.
        name: String,
        /// Index of the bond or bridge.
        controller: u32,
        /// Its name, for messages.
        to: String,
        /// It must be set down for it: a bond takes no link that is up.
        down: bool,
    },
    /// Give a bond that stands the options that it lacks.
    Options {
        /// Index of the bond.
        bond: u32,
        /// Its name, for messages.
        name: String,
        /// Its place in the document.
        at: usize,
        /// What it lacks.
        options: Vec<BondOption>,
        /// It must be set down for it.
        down: bool,
    },
    /// Have a bond prefer a port.
    Prefer {
        /// Index of the bond.
        bond: u32,
        /// Its name, for messages.
        name: String,
        /// Index of the port.
        port: u32,
    },
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Remove { name, .. } => write!(f, "removing {name}"),
            Self::Create { name, .. } => write!(f, "building {name}"),
            Self::Mac { name, mac, .. } => {
                write!(f, "setting the address of {name} to {}", rescue_schema::network::MacAddress(*mac))
            }
            Self::Leave { name, .. } => write!(f, "taking {name} out of its bond or bridge"),
            Self::Join { name, to, .. } => write!(f, "putting {name} into {to}"),
            Self::Options { name, options, down, .. } => {
                let options: Vec<String> = options.iter().map(ToString::to_string).collect();
                let how = if *down { ", which is down for that" } else { "" };
                write!(f, "setting {} of {name}{how}", options.join(", "))
            }
            Self::Prefer { name, port, .. } => write!(f, "having {name} prefer link {port}"),
        }
    }
}

/// The index of each wish's link, in the order of the document: the cards as found, and of what is
/// built those that stand already.
#[must_use]
pub fn bind(network: &Network, cards: &[Option<u32>], links: &Links) -> Vec<Option<u32>> {
    let mut bound = cards.to_vec();
    bound.resize(network.links.len(), None);
    // A VLAN on a VLAN is known when the one below it is; each round finds those of one storey.
    for _ in 0..network.links.len() {
        let before = bound.clone();
        for (at, wish) in network.links.iter().enumerate() {
            if wish.kind == Kind::Ethernet || bound.get(at).copied().flatten().is_some() {
                continue;
            }
            let names = names(wish);
            let standing = links.values().find(|link| {
                names.contains(&link.name)
                    && fits(wish, link, network, &bound)
                    && !bound.contains(&Some(link.index))
            });
            if let Some(slot) = bound.get_mut(at) {
                *slot = standing.map(|link| link.index);
            }
        }
        if bound == before {
            break;
        }
    }
    bound
}

/// The steps that can be taken now, and what is wished and cannot be, as messages.
#[must_use]
pub fn steps(network: &Network, bound: &[Option<u32>], links: &Links) -> (Vec<Step>, Vec<String>) {
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    for link in links.values().filter(|link| link.ours && !bound.contains(&Some(link.index))) {
        steps.push(Step::Remove { index: link.index, name: link.name.clone() });
    }
    for (at, wish) in network.links.iter().enumerate() {
        match bound.get(at).copied().flatten().and_then(|index| links.get(&index)) {
            Some(link) => settle(network, at, link, bound, links, &mut steps),
            None if wish.kind == Kind::Ethernet => {
                let id = if wish.id.is_empty() { String::new() } else { format!("{}: ", wish.id) };
                problems.push(format!("{id}no {} here yet", matching::describe(wish)));
            }
            None => match free_name(wish, links) {
                _ if matches!(&wish.kind, Kind::Vlan(vlan) if index_of(network, bound, &vlan.link).is_none()) =>
                {
                    problems.push(format!("{}: the link below it is not here yet", wish.id));
                }
                Free::Name(name) => steps.push(Step::Create { at, name }),
                Free::InTheWay(link) => {
                    steps.push(Step::Remove { index: link.index, name: link.name.clone() });
                }
                Free::Taken => problems.push(format!("{}: other links have this name", wish.id)),
            },
        }
    }
    (steps, problems)
}

/// What a link that is there lacks of its wish.
fn settle(
    network: &Network,
    at: usize,
    link: &Link,
    bound: &[Option<u32>],
    links: &Links,
    steps: &mut Vec<Step>,
) {
    let Some(wish) = network.links.get(at) else { return };
    let name = || link.name.clone();
    let index = link.index;
    let mac = match &wish.kind {
        Kind::Ethernet => wish.set_mac,
        // It has that of whichever port is active.
        Kind::Bond(bond) if bond.fail_over_mac == Some(FailOverMac::Active) => None,
        _ => wish.set_mac.or(wish.mac),
    };
    let controller = controller(network, wish).and_then(|id| index_of(network, bound, id));
    // Ports of a bond have its address.
    let free = link.controller.is_none();
    if let Some(mac) = mac.map(|mac| mac.0).filter(|mac| free && link.mac != Some(*mac)) {
        steps.push(Step::Mac { index, name: name(), mac });
    }
    match controller.and_then(|index| links.get(&index)) {
        Some(to) if link.controller != Some(to.index) => {
            let down = link.up && to.kind.as_deref() == Some("bond");
            steps.push(Step::Join { index, name: name(), controller: to.index, to: to.name.clone(), down });
        }
        // Out of what this program built; what an engineer built is the engineer's.
        None if link.controller.and_then(|c| links.get(&c)).is_some_and(|c| c.ours) => {
            steps.push(Step::Leave { index, name: name() });
        }
        _ => {}
    }
    if let Kind::Bond(bond) = &wish.kind {
        let options = bond_lacks(bond, &link.bond_options);
        if options.iter().any(BondOption::wants_no_ports) {
            // They come back in the next round.
            let ports = links.values().filter(|port| port.controller == Some(index));
            steps.extend(ports.map(|port| Step::Leave { index: port.index, name: port.name.clone() }));
        }
        if !options.is_empty() {
            let down = link.up && options.iter().any(BondOption::wants_down);
            steps.push(Step::Options { bond: index, name: name(), at, options, down });
        }
    }
    if let Kind::Bond(bond) = &wish.kind
        && let Some(port) = bond.primary.as_ref().and_then(|id| index_of(network, bound, id))
        && links.get(&port).is_some_and(|port| port.controller == Some(index))
        && link.bond_primary != Some(port)
    {
        steps.push(Step::Prefer { bond: index, name: name(), port });
    }
}

/// How a wish for something built is put to the kernel; none for a card, and while what it is built
/// upon is not there.
#[must_use]
pub fn make(network: &Network, wish: &Wish, bound: &[Option<u32>]) -> Option<Make> {
    Some(match &wish.kind {
        Kind::Ethernet => return None,
        Kind::Bond(bond) => Make::Bond(bond.clone()),
        Kind::Vlan(vlan) => {
            let parent = index_of(network, bound, &vlan.link)?;
            Make::Vlan { parent, id: vlan.id, service: vlan.service }
        }
        Kind::Bridge(bridge) => Make::Bridge {
            stp: bridge.stp,
            // Without the protocol nothing is learnt of loops by waiting.
            forward_delay: if bridge.stp { bridge.forward_delay } else { Some(0) },
        },
        Kind::Dummy => Make::Dummy,
    })
}

/// The id of the bond or bridge that a link is to be a port of.
#[must_use]
pub fn controller<'a>(network: &'a Network, wish: &Wish) -> Option<&'a str> {
    let has = |other: &&Wish| {
        !wish.id.is_empty()
            && matches!(other.kind, Kind::Bond(_) | Kind::Bridge(_))
            && other.below().contains(&wish.id)
    };
    network.links.iter().find(has).map(|other| other.id.as_str())
}

/// The MTU that a link must have: as said, or else what is built upon it needs.
#[must_use]
pub fn mtu(network: &Network, wish: &Wish) -> Option<u32> {
    mtu_within(network, wish, network.links.len())
}

fn mtu_within(network: &Network, wish: &Wish, storeys: usize) -> Option<u32> {
    let above = network.links.iter().filter(|other| {
        storeys > 0 && !wish.id.is_empty() && other.kind != Kind::Ethernet && other.below().contains(&wish.id)
    });
    let needed = above.filter_map(|other| mtu_within(network, other, storeys - 1)).max();
    // Too small for what is built upon it is a contradiction, in which the larger one loses nothing.
    wish.mtu.max(needed)
}

/// How many links are below this one.
#[must_use]
pub fn storey(network: &Network, wish: &Wish) -> usize {
    storey_within(network, wish, network.links.len())
}

fn storey_within(network: &Network, wish: &Wish, most: usize) -> usize {
    let below = network.links.iter().filter(|other| most > 0 && wish.below().contains(&other.id));
    below.map(|other| 1 + storey_within(network, other, most - 1)).max().unwrap_or(0)
}

fn index_of(network: &Network, bound: &[Option<u32>], id: &str) -> Option<u32> {
    let at = network.links.iter().position(|link| link.id == id)?;
    bound.get(at).copied().flatten()
}

/// Whether a link that stands is what is wished.
fn fits(wish: &Wish, link: &Link, network: &Network, bound: &[Option<u32>]) -> bool {
    let kind = link.kind.as_deref();
    match &wish.kind {
        Kind::Ethernet => false,
        Kind::Bond(bond) => kind == Some("bond") && link.bond_mode == Some(bond_mode(bond.mode)),
        Kind::Vlan(vlan) => {
            let parent = index_of(network, bound, &vlan.link);
            link.vlan == Some((vlan.id, vlan.service)) && parent.is_some() && link.parent == parent
        }
        Kind::Bridge(_) => kind == Some("bridge"),
        Kind::Dummy => kind == Some("dummy"),
    }
}

enum Free<'a> {
    Name(String),
    /// The bond that the module makes when it is loaded, or one of ours that is not what is wished.
    InTheWay(&'a Link),
    Taken,
}

/// The name that a link is given, and the one for when that is another's.
fn names(wish: &Wish) -> [String; 2] {
    let other: String = format!("r-{}", wish.id).chars().take(MAX_NAME).collect();
    [wish.id.clone(), other]
}

fn free_name<'a>(wish: &Wish, links: &'a Links) -> Free<'a> {
    for name in names(wish) {
        match links.values().find(|link| link.name == name) {
            None => return Free::Name(name),
            Some(link) => {
                let used = links.values().any(|port| port.controller == Some(link.index));
                let idle = link.kind.as_deref() == Some("bond") && !link.up && !used;
                if link.ours || idle {
                    return Free::InTheWay(link);
                }
            }
        }
    }
    Free::Taken
}

#[cfg(test)]
mod tests;
