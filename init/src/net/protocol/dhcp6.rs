//! DHCPv6 on a port: the socket of [`crate::net::dhcp6`].

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rescue_schema::network::{Dns, Prefix};
use rescue_schema::report::LinkReport;

use super::{Context, Event, Protocol};
use crate::net::dhcp6::lease::Held;
use crate::net::dhcp6::reply::parse_reply;
use crate::net::dhcp6::{self, Action, Machine, Mode};
use crate::net::plan::{Brings, BroughtAddress};
use crate::sys::ipv6::Dhcp6Socket;
use crate::sys::netlink::{Link, Origin};
use crate::sys::random::unguarded;

/// Messages that are read before the others get their turn.
const MOST_AT_ONCE: usize = 64;

/// The client of one port.
pub(super) struct Dhcp6 {
    machine: Machine,
    /// What is asked for whatever routers say.
    least: Mode,
    /// What is asked for.
    wanted: Mode,
    carrier: bool,
    local: bool,
    socket: Option<Dhcp6Socket>,
}

impl Dhcp6 {
    pub(super) fn new(link: &Link, least: Mode) -> Self {
        let machine = Machine::new(link.mac.unwrap_or_default(), unguarded());
        Self { machine, least, wanted: least, carrier: false, local: false, socket: None }
    }

    fn advance(&mut self, event: dhcp6::Event<'_>, cx: &mut Context<'_>) {
        let actions = self.machine.step(event, cx.now);
        if self.machine.listening() && self.socket.is_none() {
            match Dhcp6Socket::open(&cx.link.name, cx.link.index) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => cx.say(&format!("DHCPv6 socket: {error}")),
            }
        }
        for action in actions {
            match action {
                Action::Send(message) => {
                    if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.ask(&message)) {
                        cx.say(&format!("asking DHCPv6 servers: {error}"));
                    }
                }
                Action::Configure { news } => cx.changed(news),
                Action::Say(text) => cx.say(&text),
            }
        }
    }

    /// Both carrier and a link-local address are there, or not.
    fn look(&mut self, cx: &mut Context<'_>) {
        if self.carrier && self.local {
            self.advance(dhcp6::Event::Want(self.wanted), cx);
            self.advance(dhcp6::Event::Ready, cx);
        } else {
            self.advance(dhcp6::Event::NotReady, cx);
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) {
        let mut buffer = [0; 9216];
        for _ in 0..MOST_AT_ONCE {
            // An error is the link's state, of which the kernel notifies us.
            let received = self.socket.as_ref().map(|socket| socket.receive(&mut buffer));
            let Some(Ok(Some(datagram))) = received else { return };
            if let Ok(reply) = parse_reply(datagram) {
                self.advance(dhcp6::Event::Reply(&reply), cx);
            }
        }
    }
}

impl Protocol for Dhcp6 {
    fn origin(&self) -> Option<Origin> {
        Some(Origin::Dhcp6)
    }

    fn step(&mut self, event: &Event<'_>, cx: &mut Context<'_>) {
        match event {
            Event::Carrier(carrier) => {
                self.carrier = *carrier;
                self.look(cx);
            }
            Event::LinkLocal(address) => {
                self.local = address.is_some();
                self.look(cx);
            }
            Event::Router { managed, other } => {
                let said = match (managed, other) {
                    (true, _) => Mode::Stateful,
                    (false, true) => Mode::Stateless,
                    (false, false) => Mode::Off,
                };
                self.wanted = said.max(self.least);
                self.advance(dhcp6::Event::Want(self.wanted), cx);
            }
            Event::Timer => self.advance(dhcp6::Event::Timer, cx),
            Event::Readable => self.receive(cx),
            Event::Adopt(old) => {
                if let IpAddr::V6(address) = old.address {
                    cx.say(&format!("{address} stands from before"));
                    let end = |left: Option<u32>| left.map(|s| cx.now + Duration::from_secs(s.into()));
                    self.machine.resume(address, end(old.valid), end(old.preferred));
                }
            }
            Event::Duplicate { address: IpAddr::V6(address), .. } => {
                self.advance(dhcp6::Event::Duplicate(*address), cx);
            }
            Event::Retry => self.advance(dhcp6::Event::Retry, cx),
            Event::Given(_) | Event::Duplicate { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.machine.deadline()
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    fn brings(&self, now: Duration) -> Brings {
        let left = |end: Option<Duration>| end.map(|end| end.saturating_sub(now));
        let address = |held: &Held| BroughtAddress {
            // What is on the link is the routers' to say, not the server's (RFC 8415 18.2.10.1).
            prefix: Prefix { address: held.address.into(), length: 128 },
            valid: left(held.valid),
            preferred: left(held.preferred),
            off_link: true,
        };
        let (dns, search) = self.machine.dns();
        Brings {
            addresses: self.machine.lease().iter().flat_map(|l| &l.addresses).map(address).collect(),
            dns: Dns {
                servers: dns.iter().map(|server| IpAddr::V6(*server)).collect(),
                search: search.to_vec(),
            },
            ..Brings::default()
        }
    }

    fn report(&self, report: &mut LinkReport) {
        if let Some(state) = self.machine.describe() {
            report.says("dhcp6", state);
        }
    }

    /// A link that awaits no answer costs nothing.
    fn rest(&mut self) {
        if !self.machine.listening() {
            self.socket = None;
        }
    }
}
