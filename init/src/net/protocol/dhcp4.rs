//! DHCPv4 on a port: the sockets of [`crate::net::dhcp`].

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rescue_schema::report::LinkReport;

use super::{Context, Event, Protocol};
use crate::net::dhcp::{self, Action, Machine, frame, reply::parse_reply};
use crate::net::lease::Lease;
use crate::net::plan::Brings;
use crate::sys::netlink::{Link, Origin};
use crate::sys::packet::{DhcpSocket, dhcp_unicast};
use crate::sys::random::unguarded;

/// Replies that are read from one link before the others get their turn.
const MOST_AT_ONCE: usize = 64;
const SERVER_PORT: u16 = 67;
/// How long after it was given an address is declined if another host has it: as long as we probe.
const YOUNG: Duration = Duration::from_secs(5);

/// The client of one port.
pub(super) struct Dhcp4 {
    machine: Machine,
    lease: Option<Box<Lease>>,
    /// When the lease ends; none for one without end.
    expires: Option<Duration>,
    /// When this address was first given.
    given: Option<Duration>,
    socket: Option<DhcpSocket>,
    unicast: Option<UdpSocket>,
}

impl Dhcp4 {
    pub(super) fn new(link: &Link) -> Self {
        let machine = Machine::new(link.mac.unwrap_or_default(), unguarded());
        Self { machine, lease: None, expires: None, given: None, socket: None, unicast: None }
    }

    fn advance(&mut self, event: dhcp::Event<'_>, cx: &mut Context<'_>) {
        let actions = self.machine.step(event, cx.now);
        if self.machine.listening() && self.socket.is_none() {
            match DhcpSocket::open(cx.link.index) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => cx.say(&format!("packet socket: {error}")),
            }
        }
        actions.into_iter().for_each(|action| self.act(action, cx));
    }

    fn act(&mut self, action: Action, cx: &mut Context<'_>) {
        match action {
            Action::Say(text) => cx.say(&text),
            Action::Broadcast(message, from) => {
                let sent = self.socket.as_ref().map(|s| s.broadcast(&frame::wrap(&message, from)));
                if let Some(Err(error)) = sent {
                    cx.say(&format!("asking by broadcast: {error}"));
                }
            }
            Action::Unicast { message, from, to } => {
                if let Err(error) = self.ask(&cx.link.name, &message, from, to) {
                    cx.say(&format!("asking {to} to renew: {error}"));
                }
            }
            Action::Configure(lease, left) => {
                let news = self.lease.as_ref() != Some(&lease);
                if news {
                    self.given = Some(cx.now);
                }
                self.expires = left.map(|left| cx.now + left);
                self.lease = Some(lease);
                cx.changed(news);
            }
            Action::Release => {
                self.lease = None;
                cx.changed(true);
            }
        }
    }

    fn ask(&mut self, link: &str, message: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> std::io::Result<()> {
        let socket = match self.unicast.take() {
            Some(socket) => socket,
            None => dhcp_unicast(link, from)?,
        };
        socket.send_to(message, SocketAddrV4::new(to, SERVER_PORT))?;
        self.unicast = Some(socket);
        Ok(())
    }

    fn receive(&mut self, cx: &mut Context<'_>) {
        let mut buffer = [0; 9216];
        for _ in 0..MOST_AT_ONCE {
            // An error is the link's state, of which the kernel notifies us.
            let Some(Ok(Some(datagram))) = self.socket.as_ref().map(|s| s.receive(&mut buffer)) else {
                return;
            };
            if let Some((_, message)) = frame::unwrap(datagram)
                && let Ok(reply) = parse_reply(message)
            {
                self.advance(dhcp::Event::Reply(&reply), cx);
            }
        }
    }
}

impl Protocol for Dhcp4 {
    fn origin(&self) -> Option<Origin> {
        Some(Origin::Dhcp4)
    }

    fn step(&mut self, event: &Event<'_>, cx: &mut Context<'_>) {
        match event {
            Event::Carrier(true) => self.advance(dhcp::Event::LinkUp, cx),
            Event::Carrier(false) => self.advance(dhcp::Event::LinkDown, cx),
            Event::Timer => self.advance(dhcp::Event::Timer, cx),
            Event::Readable => self.receive(cx),
            Event::Adopt(old) => {
                if let IpAddr::V4(address) = old.address {
                    cx.say(&format!("{address} stands from before"));
                    let valid = old.valid.map(|s| Duration::from_secs(s.into()));
                    self.machine.resume(address, valid, cx.now);
                }
            }
            Event::Retry => {
                self.advance(dhcp::Event::LinkDown, cx);
                if cx.link.carrier {
                    self.advance(dhcp::Event::LinkUp, cx);
                }
            }
            Event::Duplicate { address, .. } => {
                let ours = self.lease.as_ref().is_some_and(|lease| IpAddr::V4(lease.address) == *address);
                // Later than this somebody works over it, and the other host has come second.
                let young = self.given.is_some_and(|at| cx.now.saturating_sub(at) < YOUNG);
                if ours && young {
                    self.advance(dhcp::Event::Conflict, cx);
                }
            }
            Event::LinkLocal(_) | Event::Router { .. } | Event::Given(_) => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.machine.deadline()
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    fn brings(&self, now: Duration) -> Brings {
        let Some(lease) = &self.lease else { return Brings::default() };
        let left = self.expires.map(|at| at.saturating_sub(now));
        lease.brings(left)
    }

    fn keeps(&self) -> bool {
        self.lease.is_none() && self.machine.holds()
    }

    fn report(&self, report: &mut LinkReport) {
        report.says("dhcp", self.machine.describe());
    }

    /// A link that awaits no answer costs nothing. The kernel takes some 10 ms to close a packet
    /// socket, which must not stand between the server's answer and a usable address.
    fn rest(&mut self) {
        if !self.machine.listening() {
            self.socket = None;
            self.unicast = None;
        }
    }
}
