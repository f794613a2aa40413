//! One exchange with the servers: what is sent, and how long an answer is waited for (RFC 8415 15).

use std::net::Ipv6Addr;
use std::time::Duration;

use super::lease::Lease;
use super::request::{Ask, Message, encode};
use super::{Action, CONFIRM_FOR, Machine, State};

impl Machine {
    pub(super) fn open(&mut self, state: State, now: Duration) {
        self.state = state;
        self.tries = 0;
        self.began = now;
        self.xid = (self.next_random() >> 40) as u32;
    }

    pub(super) fn exchange(&mut self, state: State, now: Duration, actions: &mut Vec<Action>) {
        self.open(state, now);
        self.send(now, actions);
    }

    pub(super) fn send(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let held: Vec<Ipv6Addr> =
            self.lease.iter().flat_map(|lease| &lease.addresses).map(|a| a.address).collect();
        let end = self.lease.as_ref().and_then(Lease::end);
        let rebind = self.lease.as_ref().and_then(|lease| lease.rebind);
        let server = self.lease.as_ref().map(|lease| lease.server.clone());
        let seconds = Duration::from_secs;
        // First and longest wait of RFC 8415 7.6 (0: without limit), and when the state ends.
        let (ask, server, addresses, first, longest, until) = match &self.state {
            State::Soliciting => (Ask::Solicit, None, held, seconds(1), self.solicit_wait, None),
            State::Requesting { server, addresses } => {
                (Ask::Request, Some(server.clone()), addresses.clone(), seconds(1), seconds(30), None)
            }
            State::Confirming => {
                (Ask::Confirm, None, held, seconds(1), seconds(4), Some(self.began + CONFIRM_FOR))
            }
            State::Renewing => (Ask::Renew, server, held, seconds(10), seconds(600), rebind),
            State::Rebinding if rebind.is_none() => {
                // What stands from before: its server may be gone, and somebody waits for the answer.
                (Ask::Rebind, None, held, seconds(1), seconds(600), end)
            }
            State::Rebinding => (Ask::Rebind, None, held, seconds(10), seconds(600), end),
            State::Declining { server, addresses } => {
                (Ask::Decline, Some(server.clone()), addresses.clone(), seconds(1), Duration::MAX, None)
            }
            State::Asking => (Ask::Information, None, Vec::new(), seconds(1), self.solicit_wait, None),
            State::Idle | State::Bound | State::Informed => return,
        };
        let elapsed = now.saturating_sub(self.began).as_millis() / 10;
        let message = Message {
            ask,
            xid: self.xid,
            mac: self.mac,
            elapsed: u16::try_from(elapsed).unwrap_or(u16::MAX),
            server: server.as_deref(),
            addresses: &addresses,
        };
        actions.push(Action::Send(encode(&message)));
        self.sent = now;
        self.wait = self.next_wait(first, longest);
        self.tries = self.tries.saturating_add(1);
        let next = now + self.wait;
        self.wake = Some(until.map_or(next, |until| next.min(until)).max(now + seconds(1)));
    }

    /// RFC 8415 15: doubled each time, a tenth more or less.
    fn next_wait(&mut self, first: Duration, longest: Duration) -> Duration {
        let permille = u32::try_from(self.next_random() % 201).unwrap_or(0);
        let jitter = |wait: Duration| wait - wait / 10 + wait * permille / 1000;
        let next = match self.tries {
            // The first solicitation is never followed too soon (18.2.1).
            0 if self.state == State::Soliciting => first + first * permille / 2000,
            0 => jitter(first),
            _ => self.wait + jitter(self.wait),
        };
        if next > longest { jitter(longest) } else { next }
    }

    /// xorshift64: differs from machine to machine, which is all that is asked of it.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
