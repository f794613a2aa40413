//! What the routers of one link have said and what of it still holds. Its size is bounded whatever they
//! say: what is new finds no room when the table is full, and nothing that holds makes room for it.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::advert::{Advert, INFINITE, Preference};

/// Most of each that are known of one link at a time.
pub(super) const MAX_ROUTERS: usize = 8;
const MAX_PREFIXES: usize = 16;
const MAX_ADDRESSES: usize = 8;
const MAX_ROUTES: usize = 32;
const MAX_DNS: usize = 8;
const MAX_SEARCH: usize = 16;
/// A valid lifetime that is never shortened below this by an advertisement, which anybody on the link
/// can send (RFC 4862 5.5.3 e).
const TWO_HOURS: Duration = Duration::from_secs(2 * 60 * 60);

/// The end of a lifetime on the machine's clock; none for one without end.
pub type End = Option<Duration>;

/// A default router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// How it is preferred.
    pub preference: Preference,
    end: End,
    heard: bool,
}

/// An address formed of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formed {
    /// The address; its prefix has 64 bits.
    pub address: Ipv6Addr,
    /// When it stops being valid.
    pub valid: End,
    /// When it stops being preferred.
    pub preferred: End,
    /// Another host has it, and it is not used (RFC 4862 5.4.5).
    pub duplicate: bool,
    heard: bool,
}

/// A prefix of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnLink {
    /// The prefix and its length.
    pub prefix: (Ipv6Addr, u8),
    end: End,
    heard: bool,
}

/// A route to what is behind a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Destination and the length of its prefix.
    pub to: (Ipv6Addr, u8),
    /// The router.
    pub via: Ipv6Addr,
    /// How it is preferred to others to the same destination.
    pub preference: Preference,
    end: End,
}

/// All of a link.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Default routers, the preferred first, else in the order that they were heard of.
    pub routers: Vec<Router>,
    /// Prefixes of the link.
    pub on_link: Vec<OnLink>,
    /// Addresses of ours.
    pub addresses: Vec<Formed>,
    /// Routes to what is behind routers.
    pub routes: Vec<Behind>,
    /// Name servers and when they end.
    pub dns: Vec<(Ipv6Addr, End)>,
    /// Search domains and when they end.
    pub search: Vec<(String, End)>,
    /// MTU of IPv6 in bytes.
    pub mtu: Option<u32>,
    /// Something found no room.
    pub full: bool,
}

impl Table {
    /// Takes what a router says; `identifier` is the lower half of the addresses that we form.
    pub(super) fn hear(&mut self, from: Ipv6Addr, advert: &Advert, identifier: u64, now: Duration) {
        let mut full = false;
        let seconds = u32::from(advert.lifetime);
        let router =
            Router { address: from, preference: advert.preference, end: end(seconds, now), heard: true };
        full |= !take(&mut self.routers, router, seconds, MAX_ROUTERS, |r| r.address);
        self.routers.sort_by_key(|router| std::cmp::Reverse(router.preference));
        for info in &advert.prefixes {
            if info.on_link {
                let prefix =
                    OnLink { prefix: (info.prefix, info.length), end: end(info.valid, now), heard: true };
                full |= !take(&mut self.on_link, prefix, info.valid, MAX_PREFIXES, |p| p.prefix);
            }
            if info.autonomous {
                let address = u128::from(info.prefix) | u128::from(identifier);
                full |= !self.form(address.into(), info.valid, info.preferred, now);
            }
        }
        for info in &advert.routes {
            let route = Behind {
                to: (info.to, info.length),
                via: from,
                preference: info.preference,
                end: end(info.seconds, now),
            };
            full |= !take(&mut self.routes, route, info.seconds, MAX_ROUTES, |r| (r.to, r.via));
        }
        self.routes.sort_by_key(|route| std::cmp::Reverse(route.preference));
        for &(server, seconds) in &advert.dns {
            full |= !take(&mut self.dns, (server, end(seconds, now)), seconds, MAX_DNS, |(s, _)| *s);
        }
        for (name, seconds) in &advert.search {
            let name = (name.clone(), end(*seconds, now));
            full |= !take(&mut self.search, name, *seconds, MAX_SEARCH, |(name, _)| name.clone());
        }
        self.mtu = advert.mtu.or(self.mtu);
        self.full = full;
    }

    /// RFC 4862 5.5.3 d and e. Returns whether there was room.
    fn form(&mut self, address: Ipv6Addr, valid: u32, preferred: u32, now: Duration) -> bool {
        let (valid, preferred) = (end(valid, now), end(preferred, now));
        if let Some(old) = self.addresses.iter_mut().find(|a| a.address == address) {
            let least = later(Some(now), Some(now + TWO_HOURS));
            if later(valid, least) == valid || later(valid, old.valid) == valid {
                old.valid = valid;
            } else if later(old.valid, least) == old.valid {
                old.valid = least;
            }
            old.preferred = preferred;
            old.heard = true;
            return true;
        }
        // Said to be over already: there is nothing to form.
        if valid == Some(now) {
            return true;
        }
        let room = self.addresses.len() < MAX_ADDRESSES;
        if room {
            self.addresses.push(Formed { address, valid, preferred, duplicate: false, heard: true });
        }
        room
    }

    /// Takes over an address that stands from before.
    pub(super) fn resume(&mut self, address: Ipv6Addr, valid: End, preferred: End) {
        if self.addresses.len() < MAX_ADDRESSES && !self.addresses.iter().any(|a| a.address == address) {
            self.addresses.push(Formed { address, valid, preferred, duplicate: false, heard: false });
        }
    }

    /// Another host has this address. Returns whether it is one of these, and that is new.
    pub(super) fn duplicate(&mut self, address: Ipv6Addr) -> bool {
        let ours = self.addresses.iter_mut().find(|a| a.address == address && !a.duplicate);
        ours.map(|ours| ours.duplicate = true).is_some()
    }

    /// Forgets what is over. Returns whether anything was.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        let count = |t: &Self| {
            let lists = [t.routers.len(), t.on_link.len(), t.addresses.len(), t.routes.len()];
            lists.iter().sum::<usize>() + t.dns.len() + t.search.len()
        };
        let before = count(self);
        let holds = |end: &End| end.is_none_or(|end| end > now);
        self.routers.retain(|r| holds(&r.end));
        self.on_link.retain(|p| holds(&p.end));
        self.addresses.retain(|a| holds(&a.valid));
        self.routes.retain(|r| holds(&r.end));
        self.dns.retain(|(_, end)| holds(end));
        self.search.retain(|(_, end)| holds(end));
        count(self) != before
    }

    /// When [`Self::expire`] is due.
    pub(super) fn next_end(&self) -> Option<Duration> {
        let ends = self.routers.iter().map(|r| r.end);
        let ends = ends.chain(self.on_link.iter().map(|p| p.end));
        let ends = ends.chain(self.addresses.iter().map(|a| a.valid));
        let ends = ends.chain(self.routes.iter().map(|r| r.end));
        let ends = ends.chain(self.dns.iter().map(|(_, end)| *end));
        ends.chain(self.search.iter().map(|(_, end)| *end)).flatten().min()
    }

    /// The cable came back, perhaps in another network: what is not said again is doubtful.
    pub(super) fn doubt(&mut self) {
        self.routers.iter_mut().for_each(|r| r.heard = false);
        self.on_link.iter_mut().for_each(|p| p.heard = false);
        self.addresses.iter_mut().for_each(|a| (a.heard, a.duplicate) = (false, false));
    }

    /// Whether a router was heard since [`Self::doubt`].
    pub(super) fn heard(&self) -> bool {
        self.routers.iter().any(|r| r.heard)
    }

    /// Drops routers and prefixes of which nothing was heard, and prefers other addresses to those that
    /// were formed of them; connections over these may yet come back. Returns the routers dropped.
    pub(super) fn drop_doubtful(&mut self, now: Duration) -> Vec<Ipv6Addr> {
        let gone: Vec<Ipv6Addr> = self.routers.iter().filter(|r| !r.heard).map(|r| r.address).collect();
        self.routers.retain(|r| r.heard);
        self.routes.retain(|r| !gone.contains(&r.via));
        self.on_link.retain(|p| p.heard);
        for address in self.addresses.iter_mut().filter(|a| !a.heard) {
            address.preferred = earlier(address.preferred, Some(now));
        }
        gone
    }
}

/// Replaces the entry of the same key, where it stands, removes it when `seconds` is 0, or adds it when
/// there is room. Returns false when there is none.
fn take<T, K: PartialEq>(
    list: &mut Vec<T>,
    new: T,
    seconds: u32,
    most: usize,
    key: impl Fn(&T) -> K,
) -> bool {
    let wanted = key(&new);
    let old = list.iter().position(|old| key(old) == wanted);
    match old {
        Some(at) if seconds == 0 => {
            list.remove(at);
        }
        Some(at) => {
            if let Some(old) = list.get_mut(at) {
                *old = new;
            }
        }
        None if seconds == 0 => {}
        None if list.len() < most => list.push(new),
        None => return false,
    }
    true
}

fn end(seconds: u32, now: Duration) -> End {
    (seconds != INFINITE).then(|| now + Duration::from_secs(seconds.into()))
}

fn later(a: End, b: End) -> End {
    Some(a?.max(b?))
}

fn earlier(a: End, b: End) -> End {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
