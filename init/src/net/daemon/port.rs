//! A port: one link that is managed, with the protocols that run on it and what stands on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use rescue_schema::network;

use crate::net::plan::{Brings, Plan, plan};
use crate::net::protocol::{Event, PROTOCOLS, Place, Protocol};
use crate::sys::files::read_trimmed;
use crate::sys::netlink::{Address, Link, Origin};

/// What is to be done with a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// It carries addresses of its own.
    pub carries: bool,
    /// It is set up.
    pub raise: bool,
    /// It is ours to change; what an engineer has made a port of is not.
    pub managed: bool,
    /// It is a card.
    pub card: bool,
    /// What a document says of it.
    pub wish: Option<network::Link>,
    /// The MTU that the document asks for here, or that what is built upon this needs.
    pub mtu: Option<u32>,
    /// How many links are below it.
    pub storey: usize,
    /// Its place among all, which orders the metrics of their routes.
    pub order: u32,
}

/// A link that we manage.
pub(super) struct Port {
    pub(super) link: Link,
    pub(super) role: Role,
    /// By their names in [`PROTOCOLS`], in its order.
    pub(super) protocols: Vec<(&'static str, Box<dyn Protocol>)>,
    /// What we have given to the link.
    pub(super) standing: Plan,
    /// Where its card is, as udev's `ID_PATH`.
    pub(super) path: Option<String>,
    /// Its speed in Mbit/s while it has carrier, where the driver says it.
    pub(super) speed: Option<u32>,
    /// It has had carrier, or an earlier run of this program had given it addresses.
    pub(super) woken: bool,
    /// Its MTU before any plan, in bytes.
    pub(super) mtu: u32,
    /// Addresses on it as the kernel says.
    pub(super) addresses: Vec<Address>,
    /// When each of them ends, since boot.
    pub(super) until: BTreeMap<IpAddr, Duration>,
    /// Its link-local address that can be used.
    pub(super) link_local: Option<Ipv6Addr>,
}

impl Port {
    /// A port that has no protocols yet.
    pub(super) fn new(link: Link, role: Role) -> Self {
        Self {
            mtu: link.mtu,
            path: None,
            speed: None,
            woken: link.carrier,
            link,
            role,
            protocols: Vec::new(),
            standing: Plan::default(),
            addresses: Vec::new(),
            until: BTreeMap::new(),
            link_local: None,
        }
    }

    /// Stops the protocols that are no longer wanted and makes those that are; says which are new.
    pub(super) fn choose(&mut self) -> Vec<&'static str> {
        let Role { carries, card, wish, .. } = &self.role;
        let place = Place { link: &self.link, carries: *carries, card: *card, wish: wish.as_ref() };
        let mut old = std::mem::take(&mut self.protocols);
        let mut new = Vec::new();
        for row in PROTOCOLS.iter().filter(|row| (row.wanted)(place)) {
            match old.iter().position(|(name, _)| *name == row.name) {
                Some(at) => self.protocols.push(old.swap_remove(at)),
                None => {
                    new.push(row.name);
                    self.protocols.push((row.name, (row.make)(&self.link)));
                }
            }
        }
        new
    }

    /// Looks at what /sys below `root` says of it and netlink does not.
    pub(super) fn look(&mut self, root: &Path) {
        let said = read_trimmed(&root.join("sys/class/net").join(&self.link.name).join("speed"));
        // -1 and 0 are the driver's "unknown".
        self.speed = said.and_then(|text| text.parse().ok()).filter(|speed| *speed > 0 && self.link.carrier);
    }

    /// When the first of its protocols wants to be woken.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.protocols.iter().filter_map(|(_, protocol)| protocol.deadline()).min()
    }

    /// What each source brings, in the order in which they count.
    pub(super) fn sources(&self, now: Duration) -> Vec<(Origin, Brings)> {
        let mut wish = match &self.role.wish {
            // A link that was never there to be used has no address: it would be taken for the way in.
            Some(wish) if self.role.carries && self.woken => Brings::of_wish(wish),
            _ => Brings::default(),
        };
        wish.mtu = self.role.mtu;
        if !self.role.carries {
            return vec![(Origin::Static, wish)];
        }
        let brought =
            |(_, protocol): &(_, Box<dyn Protocol>)| Some((protocol.origin()?, protocol.brings(now)));
        let wish = std::iter::once((Origin::Static, wish));
        wish.chain(self.protocols.iter().filter_map(brought)).collect()
    }

    /// What it should have at this moment.
    pub(super) fn plan(&self, now: Duration) -> Plan {
        let mut next = plan(self.link.index, self.role.order, &self.sources(now));
        for (_, protocol) in self.protocols.iter().filter(|(_, protocol)| protocol.keeps()) {
            if let Some(origin) = protocol.origin() {
                next.keep(&self.standing, origin);
            }
        }
        next
    }

    /// Whether an address of before is still being verified.
    pub(super) fn keeps(&self) -> bool {
        self.protocols.iter().any(|(_, protocol)| protocol.keeps())
    }

    /// Takes note of an address that the kernel shows; says whether the usable link-local one changed.
    pub(super) fn saw(&mut self, address: Address) -> bool {
        let same = |a: &Address| (a.address, a.length) == (address.address, address.length);
        match self.addresses.iter_mut().find(|a| same(a)) {
            Some(old) => *old = address,
            None => self.addresses.push(address),
        }
        self.look_for_link_local()
    }

    /// As [`Self::saw`], of one that is gone.
    pub(super) fn lost(&mut self, address: &Address) -> bool {
        self.addresses.retain(|a| (a.address, a.length) != (address.address, address.length));
        self.look_for_link_local()
    }

    /// Addresses that another host has, as the kernel found out (RFC 4862).
    pub(super) fn duplicates(&self) -> Vec<IpAddr> {
        self.addresses.iter().filter(|a| a.duplicate).map(|a| a.address).collect()
    }

    fn look_for_link_local(&mut self) -> bool {
        let usable = self.addresses.iter().filter(|a| !a.tentative && !a.duplicate);
        let found = usable.filter_map(|a| match a.address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(v6),
            _ => None,
        });
        // The one that we know, as long as it is among them.
        let all: Vec<Ipv6Addr> = found.collect();
        let next = self.link_local.filter(|old| all.contains(old)).or(all.first().copied());
        let changed = next != self.link_local;
        self.link_local = next;
        changed
    }

    /// Events by which a protocol that begins learns how things stand.
    pub(super) fn beginning(&self) -> Vec<Event<'static>> {
        let mut events = Vec::new();
        if self.link.carrier {
            events.push(Event::Carrier(true));
        }
        if self.link_local.is_some() {
            events.push(Event::LinkLocal(self.link_local));
        }
        events
    }
}
