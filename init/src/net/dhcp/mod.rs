//! A DHCPv4 client (RFC 2131) as a state machine without I/O: events and the time in, actions out.

pub mod frame;
pub mod reply;
mod request;
#[cfg(test)]
pub(in crate::net) mod testing;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use self::reply::{Kind, Reply};
use self::request::{Ask, Transaction, encode};
use super::lease::{Lease, Times};

/// First and longest wait for an answer. RFC 2131 4.1 begins with 4 s, for networks of 1997; a lost
/// first packet (a switch port that is still learning) must not cost a rescue that much. And where it
/// goes on to 64 s we stop at 8: a server or a port that comes to life after a minute (spanning tree,
/// LACP fallback) has somebody waiting for it, and one packet in 8 s is no load.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// How often an offer or an old address is asked for before we ask for any.
const MOST_REQUESTS: u32 = 4;
/// From this try on the answer is wanted by broadcast, which gets through where unicast to an
/// address not yet configured is lost.
const BROADCAST_FROM: u32 = 3;
/// How long we wait after declining an address (RFC 2131 3.1, point 5), and how often we do: a network
/// in which every address seems taken (a gateway that answers for all) must not keep us off it.
const DECLINE_WAIT: Duration = Duration::from_secs(10);
const MOST_DECLINES: u32 = 2;
/// Least wait in RENEWING and REBINDING (RFC 2131 4.4.5).
const RENEW_WAIT: Duration = Duration::from_secs(60);

/// What happens to a client.
#[derive(Debug)]
pub enum Event<'a> {
    /// The link has carrier.
    LinkUp,
    /// The link has none any more.
    LinkDown,
    /// [`Machine::deadline`] has come.
    Timer,
    /// A reply arrived.
    Reply(&'a Reply),
    /// Another host has the address that was given to us.
    Conflict,
}

/// What is to be done for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this message to every server on the link, from this address.
    Broadcast(Vec<u8>, Ipv4Addr),
    /// Send this message to one server, from the address we have.
    Unicast {
        /// The content of the datagram.
        message: Vec<u8>,
        /// The address that we have.
        from: Ipv4Addr,
        /// The server.
        to: Ipv4Addr,
    },
    /// Configure the link by this lease, in place of any earlier one. The duration is what is left of it.
    Configure(Box<Lease>, Option<Duration>),
    /// The address is no longer ours.
    Release,
    /// A line for the log.
    Say(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No carrier.
    Idle,
    /// INIT-REBOOT: is the address that we have still ours?
    Verifying,
    Selecting,
    Requesting {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    Bound,
    Renewing,
    Rebinding,
}

/// The address that we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    address: Ipv4Addr,
    server: Option<Ipv4Addr>,
    start: Duration,
    times: Option<Times>,
}

impl Held {
    fn at(&self, pick: fn(&Times) -> Duration) -> Option<Duration> {
        self.times.as_ref().map(|times| self.start + pick(times))
    }
}

/// The client of one link. Times are those of one monotonic clock.
#[derive(Debug)]
pub struct Machine {
    mac: [u8; 6],
    random: u64,
    state: State,
    xid: u32,
    /// Messages sent in this state.
    tries: u32,
    /// Refusals in a row: a server that offers and then refuses must not make a busy loop of us.
    naks: u32,
    /// Addresses declined since there was carrier.
    declines: u32,
    began: Duration,
    sent: Duration,
    wake: Option<Duration>,
    held: Option<Held>,
}

impl Machine {
    /// A client that waits for carrier. `seed` sets transaction numbers and jitter.
    pub fn new(mac: [u8; 6], seed: u64) -> Self {
        Self {
            mac,
            random: seed | 1,
            state: State::Idle,
            xid: 0,
            tries: 0,
            naks: 0,
            declines: 0,
            began: Duration::ZERO,
            sent: Duration::ZERO,
            wake: None,
            held: None,
        }
    }

    /// Takes over an address that an earlier run of this program left on the link, `valid` for so long.
    pub fn resume(&mut self, address: Ipv4Addr, valid: Option<Duration>, now: Duration) {
        let times = valid.map(|v| Times { renew: v / 2, rebind: v * 7 / 8, expire: v });
        self.held = Some(Held { address, server: None, start: now, times });
    }

    /// When [`Event::Timer`] is due, whatever else happens.
    pub fn deadline(&self) -> Option<Duration> {
        let expire = self.held.and_then(|held| held.at(|t| t.expire));
        [self.wake, expire].into_iter().flatten().min()
    }

    /// Whether replies are awaited.
    pub fn listening(&self) -> bool {
        !matches!(self.state, State::Idle | State::Bound)
    }

    /// Whether there is an address that is, as far as we know, ours.
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// What is going on, for `rescue status`.
    pub fn describe(&self) -> String {
        let lease = match self.held {
            Some(Held { server: Some(server), times: Some(times), .. }) => {
                format!("lease of {} s from {server}", times.expire.as_secs())
            }
            Some(Held { server: Some(server), .. }) => format!("lease for ever from {server}"),
            Some(Held { address, .. }) => format!("address {address} of an earlier lease"),
            None => "no lease".into(),
        };
        match self.state {
            State::Idle => format!("no carrier, {lease}"),
            State::Bound => lease,
            State::Renewing | State::Rebinding => format!("{lease}, renewing"),
            State::Verifying => format!("{lease}, verifying (try {})", self.tries),
            State::Selecting => format!("asking for a lease (try {})", self.tries),
            State::Requesting { server, .. } => format!("requesting the offer of {server}"),
        }
    }

    /// Advances by one event. Events may come late, twice or in any order.
    pub fn step(&mut self, event: Event<'_>, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::LinkUp if self.state == State::Idle => self.begin(now, &mut actions),
            Event::LinkDown => {
                // The address stays: connections survive a cable that comes back.
                self.state = State::Idle;
                self.wake = None;
                self.declines = 0;
            }
            Event::Timer => self.timer(now, &mut actions),
            Event::Reply(reply) if self.listening() && reply.xid == self.xid && reply.chaddr == self.mac => {
                self.reply(reply, now, &mut actions);
            }
            Event::Conflict => self.decline(now, &mut actions),
            Event::LinkUp | Event::Reply(_) => {}
        }
        actions
    }

    fn timer(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.held.and_then(|held| held.at(|t| t.expire)).is_some_and(|end| end <= now) {
            actions.push(Action::Say("the lease has run out".into()));
            self.lose(actions);
            if !matches!(self.state, State::Idle | State::Selecting | State::Requesting { .. }) {
                return self.begin(now, actions);
            }
        }
        if self.wake.is_none_or(|wake| now < wake) {
            return;
        }
        match self.state {
            State::Idle => self.wake = None,
            State::Verifying | State::Requesting { .. } if self.tries >= MOST_REQUESTS => {
                self.select(now, actions);
            }
            State::Verifying | State::Selecting | State::Requesting { .. } => self.send(now, actions),
            State::Bound => {
                self.enter(State::Renewing, now);
                self.send(now, actions);
            }
            State::Renewing if self.held.and_then(|h| h.at(|t| t.rebind)).is_some_and(|t2| t2 <= now) => {
                self.state = State::Rebinding;
                self.send(now, actions);
            }
            State::Renewing | State::Rebinding => self.send(now, actions),
        }
    }

    fn reply(&mut self, reply: &Reply, now: Duration, actions: &mut Vec<Action>) {
        match (reply.kind, self.state) {
            (Kind::Offer, State::Selecting) => match Lease::from_reply(reply) {
                Ok(lease) => {
                    self.state = State::Requesting { address: lease.address, server: lease.server };
                    self.tries = 0;
                    self.send(now, actions);
                }
                Err(why) => actions.push(Action::Say(format!("refusing an offer: {}", why.0))),
            },
            (Kind::Ack, State::Requesting { .. } | State::Verifying | State::Renewing | State::Rebinding) => {
                match Lease::from_reply(reply) {
                    Ok(lease) if self.expects(&lease) => self.bind(lease, now, actions),
                    Ok(lease) => actions.push(Action::Say(format!(
                        "ignoring {} from {}: it was not asked for",
                        lease.address, lease.server
                    ))),
                    Err(why) => actions.push(Action::Say(format!("refusing a lease: {}", why.0))),
                }
            }
            (Kind::Nak, State::Requesting { server, .. }) if reply.server == Some(server) => {
                self.refused(now, actions);
            }
            (Kind::Nak, State::Renewing)
                if self.held.is_some_and(|h| h.server.is_none() || h.server == reply.server) =>
            {
                self.refused(now, actions);
            }
            (Kind::Nak, State::Verifying | State::Rebinding) => self.refused(now, actions),
            _ => {}
        }
    }

    /// Whether a lease is the one that we asked for.
    fn expects(&self, lease: &Lease) -> bool {
        match self.state {
            State::Requesting { address, server } => lease.address == address && lease.server == server,
            _ => self.held.is_some_and(|held| held.address == lease.address),
        }
    }

    fn bind(&mut self, lease: Lease, now: Duration, actions: &mut Vec<Action>) {
        // A lease counts from the request (RFC 2131 4.4.1).
        let held =
            Held { address: lease.address, server: Some(lease.server), start: self.sent, times: lease.times };
        self.wake = held.at(|t| t.renew).map(|at| at.max(now + Duration::from_secs(1)));
        self.held = Some(held);
        self.state = State::Bound;
        self.naks = 0;
        let left = held.at(|t| t.expire).map(|end| end.saturating_sub(now));
        actions.push(Action::Configure(Box::new(lease), left));
    }

    fn decline(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let bound = matches!(self.state, State::Bound | State::Renewing | State::Rebinding);
        let Some(Held { address, server: Some(server), .. }) = self.held.filter(|_| bound) else { return };
        if self.declines >= MOST_DECLINES {
            return actions.push(Action::Say(format!("{address} is kept: others were taken as well")));
        }
        self.declines += 1;
        self.enter(State::Selecting, now);
        let transaction = Transaction { mac: self.mac, xid: self.xid, secs: 0, broadcast: false };
        let message = encode(Ask::Decline { address, server }, transaction);
        actions.push(Action::Say(format!("declining {address}; asking for another in 10 s")));
        actions.push(Action::Broadcast(message, Ipv4Addr::UNSPECIFIED));
        self.lose(actions);
        self.wake = Some(now + DECLINE_WAIT);
    }

    fn refused(&mut self, now: Duration, actions: &mut Vec<Action>) {
        actions.push(Action::Say("the server refuses the address; asking for another".into()));
        self.lose(actions);
        self.naks = self.naks.saturating_add(1);
        self.select(now, actions);
    }

    fn lose(&mut self, actions: &mut Vec<Action>) {
        if self.held.take().is_some() {
            actions.push(Action::Release);
        }
    }

    /// Carrier is here. No random delay of 1 to 10 s first (RFC 2131 4.4.1): it spreads the load of a
    /// building whose power comes back, and a rescue is one machine that somebody waits for.
    fn begin(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.began = now;
        if self.held.is_some() {
            self.enter(State::Verifying, now);
            self.send(now, actions);
        } else {
            self.select(now, actions);
        }
    }

    fn select(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.enter(State::Selecting, now);
        if self.naks > 1 {
            self.wake = Some(now + self.backoff(self.naks));
        } else {
            self.send(now, actions);
        }
    }

    fn enter(&mut self, state: State, now: Duration) {
        if state != State::Verifying && self.state == State::Bound {
            self.began = now;
        }
        self.state = state;
        self.tries = 0;
        self.xid = (self.next_random() >> 32) as u32;
    }

    fn send(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let held = self.held;
        let address = held.map(|h| h.address);
        let (ask, until) = match (self.state, held) {
            (State::Selecting, _) => (Ask::Discover { wish: address }, None),
            (State::Requesting { address, server }, _) => (Ask::Select { address, server }, None),
            (State::Verifying, Some(held)) => (Ask::Verify { address: held.address }, None),
            (State::Renewing, Some(held)) => (Ask::Extend { address: held.address }, held.at(|t| t.rebind)),
            (State::Rebinding, Some(held)) => (Ask::Extend { address: held.address }, held.at(|t| t.expire)),
            // Nothing is held that could be verified or extended: begin anew.
            _ => return self.select(now, actions),
        };
        let transaction = Transaction {
            mac: self.mac,
            xid: self.xid,
            secs: u16::try_from(now.saturating_sub(self.began).as_secs()).unwrap_or(u16::MAX),
            broadcast: self.tries >= BROADCAST_FROM && until.is_none(),
        };
        let message = encode(ask, transaction);
        self.sent = now;
        self.tries = self.tries.saturating_add(1);
        self.wake = Some(match until {
            None => now + self.backoff(self.tries),
            // Half of what is left, at least a minute (RFC 2131 4.4.5), and no later than the next state.
            Some(until) => until.min(now + (until.saturating_sub(now) / 2).max(RENEW_WAIT)),
        });
        actions.push(match (self.state, held.and_then(|h| h.server)) {
            (State::Renewing, Some(server)) => {
                Action::Unicast { message, from: address.unwrap_or(Ipv4Addr::UNSPECIFIED), to: server }
            }
            (State::Renewing | State::Rebinding, _) => {
                Action::Broadcast(message, address.unwrap_or(Ipv4Addr::UNSPECIFIED))
            }
            _ => Action::Broadcast(message, Ipv4Addr::UNSPECIFIED),
        });
    }

    /// 250 ms after the first try, doubled up to 8 s, an eighth more or less.
    fn backoff(&mut self, tries: u32) -> Duration {
        let wait = FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_WAIT);
        let eighth = wait / 8;
        let permille = u32::try_from(self.next_random() % 2001).unwrap_or(0);
        wait - eighth + eighth * permille / 1000
    }

    /// xorshift64: differs from machine to machine, which is all that is asked of it.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
