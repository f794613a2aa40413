//! Cards are found and links are built: the steps of [`crate::net::build`] are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rescue_schema::network::{Kind, Network};

use super::Daemon;
use super::fallback::Fallback;
use crate::net::build::{self, Step};
use crate::net::cards::{Card, Pci, is_part, pci_cards};
use crate::net::control::Order;
use crate::net::links::{self, is_card};
use crate::net::matching;
use crate::net::protocol::Event;
use crate::sys::netlink::{BondOption, Change, Make};

/// Rounds of steps until nothing is left to do: a VLAN on a VLAN on a bond takes four, and what the
/// kernel undoes as soon as we have done it must not make a busy loop of us.
const MOST_ROUNDS: usize = 12;

/// How often the same step is taken while no link comes or goes: an engineer who takes a port out of
/// its bond for the third time means it.
const MOST_TIMES: u8 = 3;

/// What is known of how links are to be built.
#[derive(Default)]
pub(super) struct Building {
    /// Cards as they were seen, by index.
    cards: BTreeMap<u32, Card>,
    /// Steps that the kernel refused, and why; they are not tried again before something changes.
    refused: BTreeMap<Step, String>,
    /// How often each step was taken since.
    taken: BTreeMap<Step, u8>,
    /// What is wished and not there.
    pub(super) problems: Vec<String>,
}

impl Building {
    pub(super) fn begin_anew(&mut self) {
        self.refused.clear();
        self.taken.clear();
    }
}

impl Daemon<'_> {
    /// What the kernel has reported since the last time.
    pub(super) fn changes(&mut self, changes: Vec<Change>) {
        let about_links = changes.iter().any(|c| matches!(c, Change::Link(_) | Change::LinkGone(_)));
        let lost: BTreeSet<u32> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Link(link) if !link.carrier => Some(link.index),
                _ => None,
            })
            .collect();
        if about_links {
            self.look_at_links(&lost);
        }
        changes.into_iter().for_each(|change| self.address(change));
    }

    /// Looks at all links as they are now, which is newer than what a message said. Those in `lost` had
    /// no carrier at some time in between.
    pub(super) fn look_at_links(&mut self, lost: &BTreeSet<u32>) {
        self.refresh();
        self.reconcile(lost);
    }

    fn refresh(&mut self) {
        match self.netlink.links() {
            Ok(links) => {
                let links: BTreeMap<_, _> = links.into_iter().map(|link| (link.index, link)).collect();
                if !links.keys().eq(self.links.keys()) {
                    self.building.begin_anew();
                }
                for (index, link) in self.links.iter().filter(|(index, _)| !links.contains_key(index)) {
                    self.raised.remove(index);
                    self.building.cards.remove(index);
                    if self.ports.remove(index).is_some() {
                        (self.settings.say)(&format!("{}: gone", link.name));
                    }
                }
                self.links = links;
            }
            Err(error) => (self.settings.say)(&format!("listing the links: {error}")),
        }
    }

    /// Brings everything in line with the links that are there and with what is wished of them.
    fn reconcile(&mut self, lost: &BTreeSet<u32>) {
        let mut bound = Vec::new();
        let (cards, pci) = self.observe_cards();
        self.choose(&cards, &pci);
        for _ in 0..MOST_ROUNDS {
            bound = self.bind();
            let (steps, problems) = build::steps(&self.network, &bound, &self.links);
            self.building.problems = problems;
            if self.is_fallback() {
                self.building.problems.push(self.why_fallback());
            }
            let mut taken = false;
            for step in steps {
                if let Some(why) = self.building.refused.get(&step) {
                    self.building.problems.push(format!("{step}: {why}"));
                    continue;
                }
                let times = self.building.taken.entry(step.clone()).or_default();
                *times += 1;
                if *times > MOST_TIMES {
                    self.building.refused.insert(step, "something here undoes it".into());
                    continue;
                }
                taken = true;
                (self.settings.say)(&step.to_string());
                if let Err(why) = self.take(&step, &bound) {
                    (self.settings.say)(&format!("{step}: {why}"));
                    self.building.refused.insert(step, why);
                }
            }
            if !taken {
                break;
            }
            self.refresh();
        }
        let roles = links::roles(&self.network, &bound, &self.links);
        self.place_all(roles, lost);
    }

    /// The index of the link of each wish.
    fn bind(&mut self) -> Vec<Option<u32>> {
        let (cards, pci) = self.observe_cards();
        build::bind(&self.network, &matching::find(&self.network, &cards, &pci), &self.links)
    }

    /// The cards, where anything is wished of some; and the places of all.
    fn observe_cards(&mut self) -> (Vec<Card>, Vec<Pci>) {
        if self.network.links.is_empty() && self.wished.links.is_empty() {
            return (Vec::new(), Vec::new());
        }
        for link in self.links.values().filter(|link| is_card(link)) {
            let known = self.building.cards.get(&link.index);
            if known.is_none_or(|card| card.name != link.name || card.mac != link.identity()) {
                self.building.cards.insert(link.index, Card::observe(&self.settings.root, link));
            }
        }
        let cards = self.building.cards.values().map(|card| {
            let hidden = self.links.get(&card.index).is_some_and(|link| is_part(link, &self.links));
            Card { hidden, ..card.clone() }
        });
        let cards: Vec<Card> = cards.collect();
        // Only an order among cards asks for those that have no driver yet.
        let counted = self.wished.links.iter().any(|wish| wish.name.is_some());
        let pci = if counted { pci_cards(&self.settings.root) } else { Vec::new() };
        (cards, pci)
    }

    fn take(&mut self, step: &Step, bound: &[Option<u32>]) -> Result<(), String> {
        let done = match step {
            Step::Remove { index, .. } => self.netlink.remove(*index),
            Step::Create { at, name } => return self.create(*at, name, bound),
            Step::Mac { index, mac, .. } => self.netlink.set_mac(*index, *mac),
            Step::Leave { index, .. } => self.netlink.set_controller(*index, 0),
            Step::Join { index, controller, down, .. } => {
                let ready = if *down { self.netlink.set_down(*index) } else { Ok(()) };
                ready.and_then(|()| self.netlink.set_controller(*index, *controller))
            }
            Step::Options { bond, at, options, down, .. } => self.set_options(*bond, *at, options, *down),
            Step::Prefer { bond, port, .. } => self.netlink.set_primary(*bond, *port),
        };
        done.map_err(|error| error.to_string())
    }

    fn set_options(&mut self, index: u32, at: usize, options: &[BondOption], down: bool) -> io::Result<()> {
        let Some(Kind::Bond(bond)) = self.network.links.get(at).map(|wish| &wish.kind) else { return Ok(()) };
        let names: Vec<&str> = options.iter().map(|option| option.name).collect();
        if down {
            self.netlink.set_down(index)?;
        }
        let set = self.netlink.set_bond(index, bond, &names);
        // As it was, whether or not the kernel took them.
        let up = if down { self.netlink.set_up(index) } else { Ok(()) };
        set.and(up)
    }

    fn create(&mut self, at: usize, name: &str, bound: &[Option<u32>]) -> Result<(), String> {
        let Some(wish) = self.network.links.get(at) else { return Ok(()) };
        let Some(make) = build::make(&self.network, wish, bound) else { return Ok(()) };
        let mac = wish.set_mac.or(wish.mac).map(|mac| mac.0);
        // Before the kernel does it by itself, which would make a bond0 that nobody asked for.
        let parameters = if matches!(make, Make::Bond(_)) { "max_bonds=0" } else { "" };
        let there = self.settings.root.join("sys/module").join(make.module()).exists();
        let loaded = if there { Ok(()) } else { (self.settings.load)(make.module(), parameters) };
        match (self.netlink.create(name, mac, &make), loaded) {
            (Err(error), Err(why)) if error.kind() == io::ErrorKind::Unsupported => {
                Err(format!("the kernel has no {} ({why})", make.kind()))
            }
            (result, _) => result.map_err(|error| error.to_string()),
        }
    }

    /// Does what an engineer wants, and says what of it did not work.
    pub(super) fn obey(&mut self, order: Order) -> String {
        match order {
            Order::Reload => match (self.settings.reload)() {
                Ok(network) => {
                    (self.settings.say)("the wishes have changed");
                    self.wish(network);
                }
                Err(error) => return error,
            },
            Order::Retry => {
                self.building.begin_anew();
                self.look_at_links(&BTreeSet::new());
                let all: Vec<u32> = self.ports.keys().copied().collect();
                for index in all {
                    self.step(index, &Event::Retry, |_, _| true);
                }
            }
        }
        self.building.problems.join("\n")
    }

    /// Something else is wished from now on. What stands and is still wished is not touched.
    pub(super) fn wish(&mut self, network: Network) {
        self.wished = network.clone();
        self.network = network;
        self.fallback = Fallback::Off;
        self.begin_anew();
    }

    /// Another network is in effect from now on.
    pub(super) fn begin_anew(&mut self) {
        self.building.begin_anew();
        self.look_at_links(&BTreeSet::new());
    }
}
