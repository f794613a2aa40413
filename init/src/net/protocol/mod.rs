//! What runs on a port: the ways in which it gets addresses, and what listens on its wire.
//!
//! A [`Protocol`] is a thin shell of sockets around a state machine that has none ([`super::dhcp`]). The
//! event loop ([`super::daemon`]) hands it [`Event`]s, polls its socket and its deadline, and asks what
//! it [`Brings`] to the link whenever it says that this has changed.
//!
//! To add one: a file here with a type that is a [`Protocol`], and its row in [`PROTOCOLS`]. Nothing in
//! the event loop names any of them.

mod conflict;
mod dhcp4;
mod dhcp6;
mod neighbours;
mod router;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rescue_schema::network;
use rescue_schema::report::LinkReport;

use super::dhcp6::Mode;
use super::ladder::Partner;
use super::plan::Brings;
use crate::sys::netlink::{Address, Link, Origin};

/// What a port is, by which a protocol is wanted on it or not.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The link.
    pub link: &'a Link,
    /// It carries addresses of its own: it is no port of a bond or bridge.
    pub carries: bool,
    /// It is a card, with a cable to a switch.
    pub card: bool,
    /// What a document says of it; none where nothing is said of any link, which means: every way.
    pub wish: Option<&'a network::Link>,
}

/// A kind of protocol.
pub struct Row {
    /// Its name, once in the table.
    pub name: &'static str,
    /// Whether it runs on such a port.
    pub wanted: fn(Place<'_>) -> bool,
    /// Starts it; the first [`Event::Carrier`] follows.
    pub make: fn(&Link) -> Box<dyn Protocol>,
}

/// Every kind. Where two bring the same, the first in this list counts; documents come before all.
#[rustfmt::skip]
pub const PROTOCOLS: &[Row] = &[
    Row {
        name: "dhcp4",
        wanted: |place| place.carries && place.wish.is_none_or(|wish| wish.dhcp4),
        make: |link| Box::new(dhcp4::Dhcp4::new(link)),
    },
    Row { name: "router", wanted: follows_routers, make: |link| Box::new(router::Router::new(link)) },
    Row {
        name: "dhcp6",
        wanted: |place| place.carries && place.wish.is_some_and(|wish| wish.dhcp6),
        make: |link| Box::new(dhcp6::Dhcp6::new(link, Mode::Stateful)),
    },
    Row {
        name: "dhcp6 as routers say",
        wanted: |place| follows_routers(place) && !place.wish.is_some_and(|wish| wish.dhcp6),
        make: |link| Box::new(dhcp6::Dhcp6::new(link, Mode::Off)),
    },
    Row {
        name: "conflict",
        wanted: |place| place.carries && place.link.mac.is_some(),
        make: |_| Box::new(conflict::Conflicts::default()),
    },
    // A port of a bond has a cable as well.
    Row {
        name: "neighbours",
        wanted: |place| place.card,
        make: |_| Box::new(neighbours::Listener::default()),
    },
];

/// Unless a document says, where it gives no IPv6 address by hand.
fn follows_routers(place: Place<'_>) -> bool {
    let said = |wish: &network::Link| {
        let by_hand = || wish.addresses.iter().any(|prefix| prefix.address.is_ipv6());
        wish.accept_ra.unwrap_or_else(|| !by_hand())
    };
    place.carries && place.wish.is_none_or(said)
}

/// What happens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The link has carrier, or has none any more. The first event of all, where it has carrier.
    Carrier(bool),
    /// [`Protocol::deadline`] has come.
    Timer,
    /// [`Protocol::socket`] is readable.
    Readable,
    /// Before all others: an earlier run of this program left this address, of this protocol's origin.
    Adopt(&'a Address),
    /// The link-local address of the link can be used now, or not any more.
    LinkLocal(Option<Ipv6Addr>),
    /// From router advertisements to DHCPv6 (RFC 4861 4.2): addresses are to be had from a server (M),
    /// or other configuration is (O).
    Router {
        /// M
        managed: bool,
        /// O
        other: bool,
    },
    /// The addresses that we give to the link are others than before; these are all of them.
    Given(&'a [Address]),
    /// Another host has an address of this link.
    Duplicate {
        /// The address.
        address: IpAddr,
        /// Who has it, where it is known.
        mac: Option<[u8; 6]>,
    },
    /// An engineer wants it tried now, whatever the next deadline is.
    Retry,
}

/// What a protocol is given with an event.
pub struct Context<'a> {
    /// Time since boot.
    pub now: Duration,
    /// The link.
    pub link: &'a Link,
    /// Nothing was said of the network, and nothing has answered anywhere.
    pub climbing: bool,
    log: &'a dyn Fn(&str),
    links: &'a BTreeMap<u32, Link>,
    /// Whether what it brings has changed, and whether that is news.
    pub(super) changed: Cell<Option<bool>>,
    /// Events for the other protocols of the port.
    pub(super) told: Vec<Event<'static>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        now: Duration,
        link: &'a Link,
        links: &'a BTreeMap<u32, Link>,
        climbing: bool,
        log: &'a dyn Fn(&str),
    ) -> Self {
        Self { now, link, climbing, links, log, changed: Cell::new(None), told: Vec::new() }
    }

    /// A line for the log.
    pub fn say(&self, text: &str) {
        (self.log)(&format!("{}: {text}", self.link.name));
    }

    /// Whether one of this machine's links has this address.
    pub fn is_own(&self, mac: [u8; 6]) -> bool {
        let has = |link: &Link| [link.mac, link.permanent_mac, link.joined_mac].contains(&Some(mac));
        self.links.values().any(has)
    }

    /// [`Protocol::brings`] has changed; `news` has the resulting plan said in the log.
    pub fn changed(&self, news: bool) {
        self.changed.set(Some(news || self.changed.get().unwrap_or(false)));
    }

    /// Hands an event to the other protocols of the port.
    pub fn tell(&mut self, event: Event<'static>) {
        self.told.push(event);
    }
}

/// One protocol on one port.
pub trait Protocol {
    /// By what its addresses and routes are marked; none for one that brings none.
    fn origin(&self) -> Option<Origin>;

    /// Advances by one event. Events may come late, twice or in any order, and those that do not
    /// concern it are passed over.
    fn step(&mut self, event: &Event<'_>, context: &mut Context<'_>);

    /// When [`Event::Timer`] is due, since boot.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// What is polled for [`Event::Readable`].
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What it brings to the link at this moment.
    fn brings(&self, _now: Duration) -> Brings {
        Brings::default()
    }

    /// Whether what stands of its origin stays although it does not bring it: it is being verified.
    fn keeps(&self) -> bool {
        false
    }

    /// Who at the other end of the cable wants an aggregate.
    fn partner(&self) -> Option<Partner> {
        None
    }

    /// Writes what it knows into the report.
    fn report(&self, _report: &mut LinkReport) {}

    /// After everybody has their news: what may take time, such as closing a packet socket.
    fn rest(&mut self) {}
}
