//! A DHCPv6 client (RFC 8415) as a state machine without I/O: events and the time in, actions out.
//!
//! It asks for one address (IA_NA) or for other configuration alone, as routers or the document say.
//! Every message goes to all servers by multicast, the server unicast option notwithstanding, which
//! RFC 8415 has been rid of since. Reconfiguration and authentication are not offered to servers.

pub mod lease;
pub mod reply;
mod request;
#[cfg(test)]
pub(in crate::net) mod testing;
#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;
use std::time::Duration;

use self::lease::{Held, Lease};
use self::reply::{Kind, Reply, status};
use self::request::{Ask, Message, duid, encode, iaid};

/// Longest waits for an answer to a solicitation and to a request for other configuration. RFC 8415 7.6
/// has an hour, for devices that nobody looks after; a server may ask for it (option 82). A rescue has
/// somebody waiting for the server to come to life.
const SOLICIT_WAIT: Duration = Duration::from_secs(60);
/// How long an address is confirmed before it is believed without (CNF_MAX_RD).
const CONFIRM_FOR: Duration = Duration::from_secs(10);
/// REQ_MAX_RC, DEC_MAX_RC, and how often a lease that stands from before is rebound before another is
/// asked for.
const MOST_REQUESTS: u32 = 10;
const MOST_DECLINES: u32 = 4;
const MOST_REBINDS: u32 = 2;
/// How long other configuration is believed: IRT_DEFAULT, and IRT_MINIMUM at least.
const REFRESH: u32 = 86_400;
const REFRESH_MIN: u32 = 600;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Nothing.
    Off,
    /// Name servers and search domains.
    Stateless,
    /// An address too.
    Stateful,
}

/// What happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// The link has carrier and a link-local address that can be used.
    Ready,
    /// It has not.
    NotReady,
    /// This is asked for from now on. A lease that is held is not given up for it.
    Want(Mode),
    /// [`Machine::deadline`] has come.
    Timer,
    /// A message of a server arrived.
    Reply(&'a Reply),
    /// Another host has this address.
    Duplicate(Ipv6Addr),
    /// Ask again, now.
    Retry,
}

/// What is to be done for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this message to every server on the link.
    Send(Vec<u8>),
    /// [`Machine::lease`] and [`Machine::dns`] are to be brought to the link.
    Configure {
        /// It is worth a line in the log.
        news: bool,
    },
    /// A line for the log.
    Say(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    Soliciting,
    Requesting {
        server: Vec<u8>,
        addresses: Vec<Ipv6Addr>,
    },
    Confirming,
    Bound,
    Renewing,
    Rebinding,
    Declining {
        server: Vec<u8>,
        addresses: Vec<Ipv6Addr>,
    },
    /// For other configuration alone.
    Asking,
    Informed,
}

/// The client of one link. Times are those of one monotonic clock.
#[derive(Debug)]
pub struct Machine {
    mac: [u8; 6],
    random: u64,
    ready: bool,
    mode: Mode,
    state: State,
    xid: u32,
    /// Messages sent in this exchange.
    tries: u32,
    /// The wait after the last of them (RT of RFC 8415 15).
    wait: Duration,
    began: Duration,
    sent: Duration,
    wake: Option<Duration>,
    lease: Option<Lease>,
    /// Name servers and search domains of a server that gives no address.
    other: Option<(Vec<Ipv6Addr>, Vec<String>)>,
    solicit_wait: Duration,
    /// Refusals in a row: a server that offers and then refuses must not make a busy loop of us.
    refusals: u32,
    /// The last complaint, said once.
    complaint: String,
}

impl Machine {
    /// A client that asks for nothing yet. `seed` sets transaction numbers and jitter.
    pub fn new(mac: [u8; 6], seed: u64) -> Self {
        Self {
            mac,
            random: seed | 1,
            ready: false,
            mode: Mode::Off,
            state: State::Idle,
            xid: 0,
            tries: 0,
            wait: Duration::ZERO,
            began: Duration::ZERO,
            sent: Duration::ZERO,
            wake: None,
            lease: None,
            other: None,
            solicit_wait: SOLICIT_WAIT,
            refusals: 0,
            complaint: String::new(),
        }
    }

    /// Takes over an address that an earlier run of this program left on the link.
    pub fn resume(&mut self, address: Ipv6Addr, valid: Option<Duration>, preferred: Option<Duration>) {
        let lease = self.lease.get_or_insert_with(|| Lease {
            addresses: Vec::new(),
            server: Vec::new(),
            renew: None,
            rebind: None,
            dns: Vec::new(),
            search: Vec::new(),
        });
        if lease.addresses.len() < 4 && !lease.addresses.iter().any(|a| a.address == address) {
            lease.addresses.push(Held { address, preferred, valid });
        }
    }

    /// When [`Event::Timer`] is due, whatever else happens.
    pub fn deadline(&self) -> Option<Duration> {
        let ends = self.lease.iter().flat_map(|lease| &lease.addresses).filter_map(|a| a.valid);
        ends.chain(self.wake).min()
    }

    /// Whether replies are awaited.
    pub fn listening(&self) -> bool {
        !matches!(self.state, State::Idle | State::Bound | State::Informed)
    }

    /// The lease that is held.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Name servers and search domains.
    pub fn dns(&self) -> (&[Ipv6Addr], &[String]) {
        match (&self.lease, &self.other) {
            (Some(lease), _) if !lease.dns.is_empty() || !lease.search.is_empty() => {
                (&lease.dns, &lease.search)
            }
            (_, Some((dns, search))) => (dns, search),
            _ => (&[], &[]),
        }
    }

    /// What is going on, for `rescue status`; none where nothing is.
    pub fn describe(&self) -> Option<String> {
        let doing = match &self.state {
            State::Idle | State::Bound => String::new(),
            State::Soliciting => format!("asking for an address (try {})", self.tries),
            State::Requesting { .. } => "requesting what was offered".into(),
            State::Confirming => "confirming".into(),
            State::Renewing | State::Rebinding => "renewing".into(),
            State::Declining { .. } => "declining an address that another host has".into(),
            State::Asking => format!("asking for name servers (try {})", self.tries),
            State::Informed => "name servers alone".into(),
        };
        let held = match &self.lease {
            Some(lease) if lease.server.is_empty() => "an address of an earlier lease".into(),
            Some(lease) => match lease.end() {
                Some(end) => format!("lease of {} s", end.saturating_sub(self.sent).as_secs()),
                None => "lease for ever".into(),
            },
            None => String::new(),
        };
        let comma = if doing.is_empty() || held.is_empty() { "" } else { ", " };
        Some(format!("{held}{comma}{doing}")).filter(|text| !text.is_empty())
    }

    /// Advances by one event. Events may come late, twice or in any order.
    pub fn step(&mut self, event: Event<'_>, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Ready if !self.ready => {
                self.ready = true;
                self.start(now, &mut actions);
            }
            Event::NotReady => {
                // What is held stays: connections survive a cable that comes back.
                self.ready = false;
                self.rest(State::Idle);
            }
            Event::Want(mode) => self.want(mode, now, &mut actions),
            Event::Timer => self.timer(now, &mut actions),
            Event::Reply(reply)
                if self.listening()
                    && self.tries > 0
                    && reply.xid == self.xid
                    && reply.client == duid(self.mac) =>
            {
                self.reply(reply, now, &mut actions);
            }
            Event::Duplicate(address) => self.decline(address, now, &mut actions),
            Event::Retry => {
                self.refusals = 0;
                self.start(now, &mut actions);
            }
            Event::Ready | Event::Reply(_) => {}
        }
        actions
    }

    fn want(&mut self, mode: Mode, now: Duration, actions: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.mode, mode);
        if mode > before || (mode < before && self.lease.is_none()) {
            self.start(now, actions);
        }
    }

    /// No random delay of up to a second first (SOL_MAX_DELAY, CNF_MAX_DELAY, INF_MAX_DELAY): it spreads
    /// the load of a building whose power comes back, and a rescue is one machine that somebody waits
    /// for.
    fn start(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.ready {
            return self.rest(State::Idle);
        }
        match (&self.lease, self.mode) {
            // RFC 8415 18.2.12; without a server that could confirm it, all of it is asked for.
            (Some(lease), _) if lease.server.is_empty() => self.exchange(State::Rebinding, now, actions),
            (Some(_), _) => self.exchange(State::Confirming, now, actions),
            (None, Mode::Stateful) => self.solicit(now, actions),
            (None, Mode::Stateless) => self.exchange(State::Asking, now, actions),
            (None, Mode::Off) => self.rest(State::Idle),
        }
    }

    fn rest(&mut self, state: State) {
        self.state = state;
        self.wake = None;
    }

    fn timer(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let Some(lease) = &mut self.lease {
            let before = lease.addresses.len();
            lease.addresses.retain(|a| a.valid.is_none_or(|end| end > now));
            if lease.addresses.len() < before {
                if lease.addresses.is_empty() {
                    self.lease = None;
                    actions.push(Action::Say("the DHCPv6 lease has run out".into()));
                }
                actions.push(Action::Configure { news: true });
                let asks = matches!(self.state, State::Soliciting | State::Requesting { .. });
                if self.lease.is_none() && !asks {
                    return self.start(now, actions);
                }
            }
        }
        if self.wake.is_none_or(|wake| now < wake) {
            return;
        }
        let rebind = self.lease.as_ref().and_then(|lease| lease.rebind);
        match &self.state {
            State::Idle => self.wake = None,
            State::Requesting { .. } if self.tries >= MOST_REQUESTS => self.solicit(now, actions),
            State::Declining { .. } if self.tries >= MOST_DECLINES => self.refused(now, actions),
            State::Rebinding if self.tries >= MOST_REBINDS && rebind.is_none() => self.solicit(now, actions),
            State::Confirming if now >= self.began + CONFIRM_FOR => self.bound(now),
            State::Renewing if rebind.is_some_and(|t2| t2 <= now) => {
                self.exchange(State::Rebinding, now, actions);
            }
            State::Bound => self.exchange(State::Renewing, now, actions),
            State::Informed => self.exchange(State::Asking, now, actions),
            _ => self.send(now, actions),
        }
    }

    fn reply(&mut self, reply: &Reply, now: Duration, actions: &mut Vec<Action>) {
        if let Some(seconds) = reply.solicit_wait.filter(|s| (60..=86_400).contains(s)) {
            self.solicit_wait = Duration::from_secs(seconds.into());
        }
        let lease = || Lease::from_reply(reply, iaid(self.mac), self.sent);
        match (reply.kind, &self.state) {
            // The first offer that can be used is taken, as DHCPv4 does: to collect offers for the first
            // second (RFC 8415 18.2.1) and choose by the servers' preference is a second of waiting on
            // every network, and wins something on the few that have two servers of which either would
            // do.
            (Kind::Advertise, State::Soliciting) => match lease() {
                Ok(lease) => {
                    let addresses = lease.addresses.iter().map(|a| a.address).collect();
                    let state = State::Requesting { server: lease.server, addresses };
                    self.exchange(state, now, actions);
                }
                Err(why) => self.complain(format!("refusing a DHCPv6 offer: {}", why.why), actions),
            },
            (Kind::Reply, State::Soliciting) if reply.rapid => match lease() {
                Ok(lease) => self.bind(lease, now, actions),
                Err(why) => self.complain(format!("refusing a DHCPv6 lease: {}", why.why), actions),
            },
            (Kind::Reply, State::Requesting { server, .. }) if *server == reply.server => match lease() {
                Ok(lease) => self.bind(lease, now, actions),
                Err(why) => {
                    self.complain(format!("DHCPv6 request: {}", why.why), actions);
                    self.refused(now, actions);
                }
            },
            (Kind::Reply, State::Renewing | State::Rebinding) => match lease() {
                Ok(lease) => self.bind(lease, now, actions),
                Err(why) => {
                    self.complain(format!("DHCPv6 renewal: {}", why.why), actions);
                    self.not_renewed(reply, why.code, now, actions);
                }
            },
            (Kind::Reply, State::Confirming) => match reply.status.as_ref().map(|s| s.code) {
                Some(status::SUCCESS) | None => self.bound(now),
                Some(status::NOT_ON_LINK) => {
                    actions.push(Action::Say("the DHCPv6 address belongs to another network".into()));
                    self.lease = None;
                    actions.push(Action::Configure { news: true });
                    self.refused(now, actions);
                }
                Some(_) => {}
            },
            (Kind::Reply, State::Declining { server, .. }) if *server == reply.server => {
                self.refused(now, actions);
            }
            (Kind::Reply, State::Asking) => self.informed(reply, now, actions),
            _ => {}
        }
    }

    fn not_renewed(&mut self, reply: &Reply, code: Option<u16>, now: Duration, actions: &mut Vec<Action>) {
        let taken_back = |held: &Held| {
            let mut said = reply.associations.iter().filter(|ia| ia.iaid == iaid(self.mac));
            said.any(|ia| ia.addresses.iter().any(|a| a.address == held.address && a.valid == 0))
        };
        let Some(lease) = &self.lease else { return };
        if lease.addresses.iter().all(taken_back) || code == Some(status::NOT_ON_LINK) {
            self.lease = None;
            actions.push(Action::Configure { news: true });
            self.refused(now, actions);
        } else if code == Some(status::NO_BINDING) {
            // RFC 8415 18.2.10.1: a server that lost its memory may still give the same again.
            let addresses = lease.addresses.iter().map(|a| a.address).collect();
            let server = reply.server.clone();
            self.exchange(State::Requesting { server, addresses }, now, actions);
        }
    }

    fn informed(&mut self, reply: &Reply, now: Duration, actions: &mut Vec<Action>) {
        if reply.status.as_ref().is_some_and(|s| s.code != status::SUCCESS) {
            return;
        }
        let other = Some((reply.dns.clone(), reply.search.clone()));
        let news = self.other != other;
        self.other = other;
        let refresh = reply.refresh.unwrap_or(REFRESH).max(REFRESH_MIN);
        self.rest(State::Informed);
        self.wake = (refresh != u32::MAX).then(|| now + Duration::from_secs(refresh.into()));
        actions.push(Action::Configure { news });
    }

    fn bind(&mut self, lease: Lease, now: Duration, actions: &mut Vec<Action>) {
        let at = |lease: &Lease| lease.addresses.iter().map(|a| a.address).collect::<Vec<_>>();
        let news = self.lease.as_ref().map(at) != Some(at(&lease));
        self.lease = Some(lease);
        // What was only just given may yet be found to be another host's.
        if matches!(self.state, State::Renewing | State::Rebinding) {
            self.refusals = 0;
        }
        self.complaint.clear();
        self.bound(now);
        actions.push(Action::Configure { news });
    }

    fn bound(&mut self, now: Duration) {
        self.rest(State::Bound);
        let renew = self.lease.as_ref().and_then(|lease| lease.renew);
        self.wake = renew.map(|at| at.max(now + Duration::from_secs(1)));
    }

    fn decline(&mut self, address: Ipv6Addr, now: Duration, actions: &mut Vec<Action>) {
        let Some(lease) = &self.lease else { return };
        if !lease.addresses.iter().any(|a| a.address == address) {
            return;
        }
        let state = State::Declining { server: lease.server.clone(), addresses: vec![address] };
        self.lease = None;
        actions.push(Action::Configure { news: true });
        if self.ready {
            self.exchange(state, now, actions);
        }
    }

    /// Begins anew, later with each time that it was in vain.
    fn refused(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.refusals = self.refusals.saturating_add(1);
        self.solicit(now, actions);
    }

    fn solicit(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.refusals > 1 {
            self.open(State::Soliciting, now);
            let wait = Duration::from_secs(1 << self.refusals.min(6)).min(self.solicit_wait);
            self.wake = Some(now + wait);
        } else {
            self.exchange(State::Soliciting, now, actions);
        }
    }

    fn complain(&mut self, text: String, actions: &mut Vec<Action>) {
        if self.complaint != text {
            actions.push(Action::Say(text.clone()));
            self.complaint = text;
        }
    }

    fn open(&mut self, state: State, now: Duration) {
        self.state = state;
        self.tries = 0;
        self.began = now;
        self.xid = (self.next_random() >> 40) as u32;
    }

    fn exchange(&mut self, state: State, now: Duration, actions: &mut Vec<Action>) {
        self.open(state, now);
        self.send(now, actions);
    }

    fn send(&mut self, now: Duration, actions: &mut Vec<Action>) {
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
