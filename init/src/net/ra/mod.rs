//! Router discovery and stateless addresses (RFC 4861, RFC 4862, RFC 4191, RFC 8106) of one link, as a
//! state machine without I/O: events and the time in, actions out.
//!
//! **This program does it, and not the kernel**, whose own (`accept_ra`, `autoconf`) is switched off on
//! the links that we configure. The kernel solicits only after duplicate address detection of the
//! link-local address and a random delay, up to two seconds in which nothing happens; it takes any number
//! of prefixes of anybody who sends some; it leaves name servers and DHCPv6 to user space, which then
//! sees every advertisement anyway; and what it has set is not in the plan by which links are compared
//! and repaired. Done here, a router is asked in the instant in which there is carrier, and one place
//! knows what was set and why.
//!
//! Addresses are formed of the MAC address (EUI-64, RFC 4291 appendix A), not by RFC 7217: a rescue must
//! be found where its owner looks, which is the address that the MAC address gives, and the key by which
//! the installed system makes its stable ones is not known here.

pub mod advert;
pub mod solicit;
pub mod table;
#[cfg(test)]
pub(in crate::net) mod testing;
#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;
use std::time::Duration;

use self::advert::Advert;
use self::table::{End, MAX_ROUTERS, Table};

/// First and longest wait for a router. RFC 4861 6.3.7 and RFC 7559 begin with 4 s, at random up to
/// 1 s after there is carrier, and go on to an hour: that spreads the load of a building whose power
/// comes back. A rescue is one machine that somebody waits for, and a router may take half a second to
/// answer (MAX_RA_DELAY_TIME), so 1 s it is, and 60 s at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After so many unanswered solicitations there may be a DHCPv6 server without a router
/// (RFC 4862 5.5.2).
const ALONE_AFTER: u32 = 2;
/// How long the routers of before have to be heard again, when the cable comes back and another router
/// is heard (RFC 6059 asks them one by one).
const DOUBT: Duration = Duration::from_secs(5);
/// How long what an earlier run of this program has set is kept when no router is heard: the longest
/// default lifetime of routers (RFC 4861 6.2.1).
const KEEP: Duration = Duration::from_secs(1800);
/// Changes that are taken at once, and then one in each second: whoever sends thousands of
/// advertisements makes the kernel's tables change no more often than that.
const BURST: u32 = 8;
const EACH: Duration = Duration::from_secs(1);

/// What happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// The link has carrier.
    LinkUp,
    /// The link has none any more.
    LinkDown,
    /// The link-local address can be used, or not any more.
    LinkLocal(Option<Ipv6Addr>),
    /// [`Machine::deadline`] has come.
    Timer,
    /// An advertisement arrived, from this link-local address, by a hop limit of 255.
    Advert(Ipv6Addr, &'a Advert),
    /// Another host has this address.
    Duplicate(Ipv6Addr),
    /// Ask again, now.
    Retry,
}

/// What is to be done for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Solicit routers, from this address; from none where the link has none yet.
    Solicit(Option<Ipv6Addr>),
    /// [`Machine::table`] is to be brought to the link; `news` when it is not merely said again.
    Configure {
        /// It is worth a line in the log.
        news: bool,
    },
    /// What routers say of DHCPv6 has changed.
    Dhcp {
        /// M: there are addresses.
        managed: bool,
        /// O: there is other configuration.
        other: bool,
    },
    /// A line for the log.
    Say(String),
}

/// The host side of one link. Times are those of one monotonic clock.
#[derive(Debug)]
pub struct Machine {
    identifier: u64,
    random: u64,
    carrier: bool,
    local: Option<Ipv6Addr>,
    table: Table,
    /// Solicitations sent since a router was last wanted.
    tries: u32,
    /// When the next is due; none when no router is wanted.
    wake: Option<Duration>,
    /// Whether the last solicitation had no source address.
    anonymous: bool,
    /// When what is doubtful is dropped.
    doubt: Option<Duration>,
    /// Until when what stands from before is kept.
    keep: Option<Duration>,
    dhcp: Option<(bool, bool)>,
    /// DHCPv6 was begun because nobody answers.
    alone: bool,
    tokens: u32,
    filled: Duration,
    /// A change that awaits its turn, and whether it is news.
    pending: Option<bool>,
    full_said: bool,
}

impl Machine {
    /// A host that waits for carrier. `seed` sets jitter.
    pub fn new(mac: [u8; 6], seed: u64) -> Self {
        Self {
            identifier: eui64(mac),
            random: seed | 1,
            carrier: false,
            local: None,
            table: Table::default(),
            tries: 0,
            wake: None,
            anonymous: false,
            doubt: None,
            keep: None,
            dhcp: None,
            alone: false,
            tokens: BURST,
            filled: Duration::ZERO,
            pending: None,
            full_said: false,
        }
    }

    /// Takes over an address that an earlier run of this program left on the link.
    pub fn resume(&mut self, address: Ipv6Addr, valid: End, preferred: End, now: Duration) {
        self.table.resume(address, valid, preferred);
        self.keep = Some(now + KEEP);
    }

    /// When [`Event::Timer`] is due, whatever else happens.
    pub fn deadline(&self) -> Option<Duration> {
        let pending = self.pending.map(|_| self.filled + EACH);
        [self.wake, self.doubt, self.keep, pending, self.table.next_end()].into_iter().flatten().min()
    }

    /// What the routers have said.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether what stands from before is kept, as no router was heard yet.
    pub fn keeps(&self) -> bool {
        self.keep.is_some()
    }

    /// What is going on, for `rescue status`.
    pub fn describe(&self) -> String {
        match self.table.routers.as_slice() {
            [] if !self.carrier => "no carrier".into(),
            [] if self.dhcp.is_some() && !self.alone => "a router that is no default router".into(),
            [] => format!("no router (try {})", self.tries),
            [router] => format!("router {}", router.address),
            [router, others @ ..] => format!("router {} and {} more", router.address, others.len()),
        }
    }

    /// Advances by one event. Events may come late, twice or in any order.
    pub fn step(&mut self, event: Event<'_>, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::LinkUp if !self.carrier => {
                self.carrier = true;
                self.table.doubt();
                self.doubt = (!self.table.routers.is_empty()).then_some(now + DOUBT);
                (self.dhcp, self.alone) = (None, false);
                self.begin(now, &mut actions);
            }
            Event::LinkDown => {
                self.carrier = false;
                self.local = None;
                (self.wake, self.doubt) = (None, None);
            }
            Event::LinkLocal(local) => {
                self.local = local;
                // A router that answers nobody without an address is asked again at once.
                if local.is_some() && self.anonymous && self.wake.is_some() {
                    self.anonymous = false;
                    actions.push(Action::Solicit(local));
                }
            }
            Event::Timer => self.timer(now, &mut actions),
            Event::Advert(from, advert) if self.carrier => self.hear(from, advert, now, &mut actions),
            Event::Duplicate(address) => {
                if self.table.duplicate(address) {
                    self.configure(true, now, &mut actions);
                }
            }
            Event::Retry if self.carrier => self.begin(now, &mut actions),
            Event::LinkUp | Event::Advert(..) | Event::Retry => {}
        }
        actions
    }

    fn begin(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.tries = 0;
        self.solicit(now, actions);
    }

    fn solicit(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let wait = FIRST_WAIT.saturating_mul(1 << self.tries.min(16)).min(LONGEST_WAIT);
        // RFC 7559 2: a tenth more or less.
        let permille = u32::try_from(self.next_random() % 201).unwrap_or(0);
        self.wake = Some(now + wait - wait / 10 + wait * permille / 1000);
        self.tries = self.tries.saturating_add(1);
        self.anonymous = self.local.is_none();
        actions.push(Action::Solicit(self.local));
    }

    fn timer(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let routed = !self.table.routers.is_empty();
        if self.table.expire(now) {
            self.configure(true, now, actions);
        }
        if self.keep.is_some_and(|at| at <= now) {
            self.keep = None;
            self.configure(true, now, actions);
        }
        if self.doubt.is_some_and(|at| at <= now) {
            self.doubt = None;
            // When none is heard, none is known to be better.
            if self.table.heard() {
                for router in self.table.drop_doubtful(now) {
                    actions.push(Action::Say(format!("router {router} is not on this network any more")));
                }
                self.configure(true, now, actions);
            }
        }
        if self.carrier && routed && self.table.routers.is_empty() {
            actions.push(Action::Say("the last router is gone".into()));
            self.begin(now, actions);
        } else if self.wake.is_some_and(|at| at <= now) {
            if self.tries >= ALONE_AFTER && self.dhcp.is_none() {
                self.alone = true;
                self.tell(true, true, actions);
            }
            self.solicit(now, actions);
        }
        if self.pending.is_some() {
            self.configure(false, now, actions);
        }
    }

    fn hear(&mut self, from: Ipv6Addr, advert: &Advert, now: Duration, actions: &mut Vec<Action>) {
        if !from.is_unicast_link_local() {
            return;
        }
        self.keep = None;
        let known = self.shape();
        self.table.hear(from, advert, self.identifier, now);
        self.table.expire(now);
        if self.table.full && !self.full_said {
            self.full_said = true;
            actions.push(Action::Say(format!(
                "routers say more than is taken of one link ({MAX_ROUTERS} routers); the rest is ignored"
            )));
        }
        let news = self.shape() != known;
        self.configure(news, now, actions);
        let (managed, other) = self.dhcp.filter(|_| !self.alone).unwrap_or_default();
        self.alone = false;
        self.tell(managed || advert.managed, other || advert.other, actions);
        if self.table.routers.is_empty() {
            // The last router takes leave, or one speaks that is none by default: another may come.
            if self.wake.is_none() {
                self.begin(now, actions);
            }
        } else {
            self.wake = None;
        }
    }

    fn tell(&mut self, managed: bool, other: bool, actions: &mut Vec<Action>) {
        if self.dhcp != Some((managed, other)) {
            self.dhcp = Some((managed, other));
            actions.push(Action::Dhcp { managed, other });
        }
    }

    /// What makes a difference to somebody who reads the log.
    fn shape(&self) -> (Vec<Ipv6Addr>, Vec<Ipv6Addr>, usize, Option<u32>) {
        let routers = self.table.routers.iter().map(|r| r.address).collect();
        let addresses = self.table.addresses.iter().map(|a| a.address).collect();
        (routers, addresses, self.table.routes.len(), self.table.mtu)
    }

    fn configure(&mut self, news: bool, now: Duration, actions: &mut Vec<Action>) {
        let passed = now.saturating_sub(self.filled).as_secs();
        if passed > 0 {
            let gained = u32::try_from(passed).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(gained).min(BURST);
            self.filled = now;
        }
        let news = news || self.pending.unwrap_or(false);
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                self.pending = None;
                actions.push(Action::Configure { news });
            }
            None => self.pending = Some(news),
        }
    }

    /// xorshift64: differs from machine to machine, which is all that is asked of it.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// The interface identifier of a MAC address (RFC 4291 appendix A).
fn eui64([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
