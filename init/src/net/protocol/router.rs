//! Router discovery on a port: the sockets of [`crate::net::ra`], and what its table brings to the link.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rescue_schema::network::{Dns, Prefix, Route};
use rescue_schema::report::LinkReport;

use super::{Context, Event, Protocol};
use crate::net::plan::{Brings, BroughtAddress};
use crate::net::ra::advert::{Preference, parse_advert};
use crate::net::ra::{self, Action, Machine, solicit};
use crate::sys::icmp6::{Received, RouterSocket, SolicitSocket};
use crate::sys::netlink::{Link, Origin};
use crate::sys::random::unguarded;

/// Messages that are read before the others get their turn, and for how long nothing is read from a
/// link that had so many: a flood costs us a few per cent of a processor, and no other socket its turn.
const MOST_AT_ONCE: usize = 128;
const FLOODED: Duration = Duration::from_millis(50);
/// Metric of the routes that serve when the first of their destination fails; the kernel passes over a
/// gateway that it knows not to answer (RFC 4191 3.2). Each link has sixteen.
const SPARE: u32 = 1024;

/// What a route is for, and by whom.
type Way = ((Ipv6Addr, u8), Ipv6Addr, Preference);

/// The host side of one port.
pub(super) struct Router {
    machine: Machine,
    index: u32,
    socket: Option<RouterSocket>,
    /// Stays open: to close it takes some 10 ms, which would stand between a DHCPv6 server's answer, which
    /// often follows the router's, and a usable address. It receives nothing.
    solicit: Option<SolicitSocket>,
    /// Until when nothing is read.
    flooded: Option<Duration>,
    complained: bool,
}

impl Router {
    pub(super) fn new(link: &Link) -> Self {
        Self {
            machine: Machine::new(link.mac.unwrap_or_default(), unguarded()),
            index: link.index,
            socket: None,
            solicit: None,
            flooded: None,
            complained: false,
        }
    }

    fn advance(&mut self, event: ra::Event<'_>, cx: &mut Context<'_>) {
        for action in self.machine.step(event, cx.now) {
            match action {
                Action::Solicit(source) => self.solicit(source, cx),
                Action::Configure { news } => cx.changed(news),
                Action::Dhcp { managed, other } => cx.tell(Event::Router { managed, other }),
                Action::Say(text) => cx.say(&text),
            }
        }
    }

    fn open(&mut self, cx: &Context<'_>) {
        if self.socket.is_some() {
            return;
        }
        match RouterSocket::open(&cx.link.name, cx.link.index) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) if !self.complained => {
                self.complained = true;
                cx.say(&format!("listening for IPv6 routers: {error}"));
            }
            Err(_) => {}
        }
    }

    fn solicit(&mut self, source: Option<Ipv6Addr>, cx: &Context<'_>) {
        // A kernel without IPv6 hears no answer.
        if self.socket.is_none() {
            return;
        }
        let socket = match self.solicit.take() {
            Some(socket) => Ok(socket),
            None => SolicitSocket::open(cx.link.index),
        };
        let sent = socket.and_then(|socket| {
            socket.send(&solicit::packet(source))?;
            self.solicit = Some(socket);
            Ok(())
        });
        if let Err(error) = sent {
            cx.say(&format!("asking for IPv6 routers: {error}"));
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) {
        let mut buffer = [0; 9216];
        for _ in 0..MOST_AT_ONCE {
            // An error is the link's state, of which the kernel notifies us.
            let received = self.socket.as_ref().map(|socket| socket.receive(&mut buffer));
            match received {
                Some(Ok(Received::Message(from, message))) => {
                    if let Ok(advert) = parse_advert(message) {
                        self.advance(ra::Event::Advert(from, &advert), cx);
                    }
                }
                Some(Ok(Received::Foreign)) => {}
                None | Some(Err(_) | Ok(Received::Nothing)) => return,
            }
        }
        self.flooded = Some(cx.now + FLOODED);
    }

    /// The routes to one or many destinations, the best first: the first to each has the link's own
    /// metric, and the others stand by.
    fn routes(&self, ways: impl Iterator<Item = Way>) -> Vec<Route> {
        let spare = SPARE.saturating_add(self.index.saturating_mul(16));
        let mut routes: Vec<Route> = Vec::new();
        for ((to, length), via, preference) in ways {
            let to = Prefix { address: to.into(), length };
            let before = u32::try_from(routes.iter().filter(|route| route.to == to).count()).unwrap_or(15);
            // A router that does not want to be the default (RFC 4191 2.1) is after those of other links.
            let first = before == 0 && preference > Preference::Low;
            routes.push(Route {
                to,
                via: Some(via.into()),
                metric: (!first).then(|| spare.saturating_add(before.min(15))),
                source: None,
                table: None,
                onlink: false,
            });
        }
        routes
    }
}

impl Protocol for Router {
    fn origin(&self) -> Option<Origin> {
        Some(Origin::Router)
    }

    fn step(&mut self, event: &Event<'_>, cx: &mut Context<'_>) {
        match event {
            Event::Carrier(true) => {
                self.open(cx);
                self.advance(ra::Event::LinkUp, cx);
            }
            Event::Carrier(false) => self.advance(ra::Event::LinkDown, cx),
            Event::LinkLocal(address) => self.advance(ra::Event::LinkLocal(*address), cx),
            Event::Timer => {
                self.flooded = self.flooded.filter(|until| *until > cx.now);
                self.advance(ra::Event::Timer, cx);
            }
            Event::Readable => self.receive(cx),
            Event::Adopt(old) => {
                if let IpAddr::V6(address) = old.address {
                    cx.say(&format!("{address} stands from before"));
                    let end = |left: Option<u32>| left.map(|s| cx.now + Duration::from_secs(s.into()));
                    self.machine.resume(address, end(old.valid), end(old.preferred), cx.now);
                }
            }
            Event::Retry => self.advance(ra::Event::Retry, cx),
            Event::Duplicate { address: IpAddr::V6(address), .. } => {
                self.advance(ra::Event::Duplicate(*address), cx);
            }
            Event::Router { .. } | Event::Given(_) | Event::Duplicate { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.machine.deadline().into_iter().chain(self.flooded).min()
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().filter(|_| self.flooded.is_none()).map(AsFd::as_fd)
    }

    fn brings(&self, now: Duration) -> Brings {
        let table = self.machine.table();
        let left = |end: Option<Duration>| end.map(|end| end.saturating_sub(now));
        // The prefix is on the link when a router says so, and not because an address was formed of it:
        // the route is ours and not the kernel's.
        let address = |a: &ra::table::Formed| BroughtAddress {
            prefix: Prefix { address: a.address.into(), length: 64 },
            valid: left(a.valid),
            preferred: left(a.preferred),
            off_link: true,
        };
        let on_link = |p: &ra::table::OnLink| Route {
            to: Prefix { address: p.prefix.0.into(), length: p.prefix.1 },
            via: None,
            metric: None,
            source: None,
            table: None,
            onlink: false,
        };
        let default = (Ipv6Addr::UNSPECIFIED, 0);
        // A router's own word on the default route counts before its option's.
        let ways = table.routers.iter().map(|r| (default, r.address, r.preference));
        let behind = table.routes.iter().map(|r| (r.to, r.via, r.preference));
        let behind = behind.filter(|(to, via, _)| {
            *to != default || !table.routers.iter().any(|router| router.address == *via)
        });
        let mut routes: Vec<Route> = table.on_link.iter().map(on_link).collect();
        routes.extend(self.routes(ways.chain(behind)));
        Brings {
            mtu6: table.mtu,
            addresses: table.addresses.iter().filter(|a| !a.duplicate).map(address).collect(),
            routes,
            dns: Dns {
                servers: table.dns.iter().map(|(server, _)| IpAddr::V6(*server)).collect(),
                search: table.search.iter().map(|(name, _)| name.clone()).collect(),
            },
            ..Brings::default()
        }
    }

    fn keeps(&self) -> bool {
        self.machine.keeps()
    }

    fn report(&self, report: &mut LinkReport) {
        report.says("router", self.machine.describe());
    }
}
