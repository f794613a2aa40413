//! What a card hears of the other end of its cable: the socket of [`crate::net::neighbours`]. Where the
//! ladder is climbed and the other end says nothing, it is asked.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rescue_schema::report::LinkReport;

use super::{Context, Event, Protocol};
use crate::net::lacp::question;
use crate::net::ladder::Partner;
use crate::net::neighbours::{Neighbours, parse_frame};
use crate::sys::neighbours::{MAX_FRAME, NeighbourSocket};
use crate::sys::netlink::Origin;

/// How long a card with carrier may be without address before its switch is listened to. Opening the
/// socket and telling the card of three multicast groups takes time that belongs to DHCP at first; a
/// switch speaks for seconds after its port came up.
const GRACE: Duration = Duration::from_secs(1);
/// The same once there is an address: after PID 1 was told of it.
const SHORT_GRACE: Duration = Duration::from_millis(100);
/// How long a card with carrier is without address before its switch is asked who it is. One that was told
/// to forward until it hears LACP stops then, and a bond works with it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after that it is asked again, and how often in all: a frame may be lost while the switch's
/// port is still coming up.
const AGAIN: Duration = Duration::from_secs(1);
const MOST_QUESTIONS: u8 = 4;
/// Frames that are read from one card before the others get their turn.
const MOST_AT_ONCE: usize = 32;

/// The listener of one card.
#[derive(Default)]
pub(super) struct Listener {
    neighbours: Neighbours,
    socket: Option<NeighbourSocket>,
    /// When the socket is opened.
    opens: Option<Duration>,
    /// When the switch is asked, and how often it was.
    asks: Option<Duration>,
    asked: u8,
}

impl Listener {
    fn open(&mut self, cx: &Context<'_>) {
        self.opens = None;
        match NeighbourSocket::open(cx.link.index) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => cx.say(&format!("listening to the switch (LLDP, LACP): {error}")),
        }
    }

    /// Asks who the switch is, where that is still wanted.
    fn ask(&mut self, cx: &Context<'_>) {
        self.asks = None;
        let Some(mac) = cx.link.mac.filter(|_| cx.climbing && cx.link.controller.is_none()) else { return };
        if self.neighbours.partner().is_some() || self.asked >= MOST_QUESTIONS {
            return;
        }
        if self.socket.is_none() {
            self.open(cx);
        }
        // An error is the link's state, of which the kernel notifies us.
        let _ = self.socket.as_ref().map(|socket| socket.send(&question(mac)));
        if self.asked == 0 {
            cx.say("nothing answers; asking the switch for LACP");
        }
        self.asked += 1;
        self.asks = Some(cx.now + AGAIN);
    }

    fn receive(&mut self, cx: &Context<'_>) {
        let mut buffer = [0; MAX_FRAME];
        for _ in 0..MOST_AT_ONCE {
            // An error is the link's state, of which the kernel notifies us.
            let Some(Ok(Some(frame))) = self.socket.as_ref().map(|s| s.receive(&mut buffer)) else { return };
            if let Some(heard) = parse_frame(frame)
                && let Some(line) = self.neighbours.hear(heard, cx.now)
            {
                cx.say(&line);
            }
        }
    }
}

impl Protocol for Listener {
    fn origin(&self) -> Option<Origin> {
        None
    }

    fn step(&mut self, event: &Event<'_>, cx: &mut Context<'_>) {
        match event {
            Event::Carrier(true) => {
                self.opens = self.socket.is_none().then_some(cx.now + GRACE);
                (self.asks, self.asked) = (Some(cx.now + PATIENCE), 0);
            }
            Event::Carrier(false) => {
                self.neighbours.forget();
                (self.opens, self.asks) = (None, None);
            }
            Event::Given(addresses) => {
                if self.opens.is_some() {
                    self.opens = Some(cx.now + SHORT_GRACE);
                }
                if !addresses.is_empty() {
                    self.asks = None;
                }
            }
            Event::Retry if cx.link.carrier => (self.asks, self.asked) = (Some(cx.now), 0),
            Event::Timer => {
                self.neighbours.expire(cx.now);
                if self.opens.is_some_and(|at| at <= cx.now) {
                    self.open(cx);
                }
                if self.asks.is_some_and(|at| at <= cx.now) {
                    self.ask(cx);
                }
            }
            Event::Readable => self.receive(cx),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        [self.opens, self.asks, self.neighbours.deadline()].into_iter().flatten().min()
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    fn report(&self, report: &mut LinkReport) {
        report.neighbours.extend(self.neighbours.report());
    }

    fn partner(&self) -> Option<Partner> {
        self.neighbours.partner()
    }
}
