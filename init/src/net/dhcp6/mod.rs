//! A DHCPv6 client (RFC 8415) as a state machine without I/O: events and the time in, actions out.
//!
//! It asks for one address (IA_NA) or for other configuration alone, as routers or the document say.
//! Every message goes to all servers by multicast, the server unicast option notwithstanding, which
//! RFC 8415 has been rid of since. Reconfiguration and authentication are not offered to servers.

mod answers;
mod exchange;
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
use self::reply::Reply;
use self::request::duid;

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
}
