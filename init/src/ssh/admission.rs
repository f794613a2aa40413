//! Who is served next, and who is not, when more connect than can be served.
//!
//! A connection is accepted and greeted at once and costs a descriptor until its client has said what
//! clients say ([`is_client`]). Only then is it given processes. So those that are held open and say
//! nothing, and those that say something else, cost next to nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Connections at once in which nobody has logged in and that have processes: two, of some 3 MiB. 32 of
/// them fit into the smallest machine that can be rescued.
pub(super) const MAX_PENDING: usize = 32;
/// A pending connection that is younger is not ended to make room: a login takes a fraction of it, so
/// real ones come through even when all places are taken by others that are held open.
pub(super) const MIN_AGE: Duration = Duration::from_secs(2);
/// Connections without a process from which on a newcomer may cost another its place, at random and
/// ever more probably, and those from which on it always does. Random, because a flood that knew the
/// order would push everybody else out; one that connects and is not pushed out within a round trip is
/// served.
const EARLY: usize = 128;
const FULL: usize = 256;
/// Failures that cost nothing: a client that probes, a person who mistypes.
const FREE: u32 = 16;
/// The first penalty; each 8 failures more double it, to [`LONGEST`]. Who is served late is not served
/// wrong: a login from an address that others abuse (one behind a NAT) takes two seconds more.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// Quiet time after which half of the failures are forgotten.
const FORGET: Duration = Duration::from_secs(30);
/// Most sources that are remembered; the one with the fewest failures makes room.
const MAX_SOURCES: usize = 1024;

/// Bytes that are looked at: the longest identification line, and the head of a packet.
pub(super) const LOOK: usize = 255 + 6;

/// Whether this may be how a client of the protocol starts: an identification (RFC 4253 section 4.2),
/// and then, if it has not waited for ours, the packet `SSH_MSG_KEXINIT`. What is not there yet is taken
/// on trust; nothing at all is not.
pub(super) fn is_client(start: &[u8]) -> bool {
    const GREETING: &[u8] = b"SSH-";
    const KEXINIT: u8 = 20;
    if start.is_empty() || !start.iter().zip(GREETING).all(|(a, b)| a == b) {
        return false;
    }
    let Some(end) = start.iter().position(|byte| *byte == b'\n') else { return start.len() < LOOK };
    let packet = start.get(end + 1..).unwrap_or_default();
    // Its length (4 bytes) is at most what everybody must take, 35000 (section 6.1); then its padding's.
    packet.iter().take(2).all(|byte| *byte == 0) && packet.get(5).is_none_or(|kind| *kind == KEXINIT)
}

/// Who is counted as one: an IPv4 address, or the /64 of an IPv6 address, within which somebody has as
/// many addresses as they like.
pub(super) fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

/// Failures of the sources: connections that ended without a login, wrong passwords.
#[derive(Debug, Default)]
pub(super) struct Penalties(HashMap<IpAddr, (u32, Instant)>);

impl Penalties {
    /// Counts a failure.
    pub(super) fn failed(&mut self, source: IpAddr, now: Instant) {
        let failures = self.failures(source, now).saturating_add(1);
        if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&source) {
            let least = self.0.iter().min_by_key(|(_, (failures, last))| (*failures, *last));
            if let Some(least) = least.map(|(source, _)| *source) {
                self.0.remove(&least);
            }
        }
        self.0.insert(source, (failures, now));
    }

    /// Somebody from there has logged in.
    pub(super) fn forgive(&mut self, source: IpAddr) {
        self.0.remove(&source);
    }

    fn failures(&self, source: IpAddr, now: Instant) -> u32 {
        let Some((failures, last)) = self.0.get(&source) else { return 0 };
        let halvings = now.saturating_duration_since(*last).as_secs() / FORGET.as_secs();
        u32::try_from(halvings).ok().and_then(|n| failures.checked_shr(n)).unwrap_or(0)
    }

    /// How long after it was accepted a connection from there is given a process.
    pub(super) fn delay(&self, source: IpAddr, now: Instant) -> Duration {
        match self.failures(source, now).checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(over) => (FIRST * (1 << (over / 8).min(8))).min(LONGEST),
        }
    }
}

/// Of those that wait for a process and may have one now, the next: the one of the source that has the
/// fewest processes already, and of its connections the youngest, whose client is the likeliest to
/// wait still. `waiting` has the source and the time of each, `pending` the source of each that has
/// processes.
pub(super) fn next(
    waiting: impl Iterator<Item = (usize, IpAddr, Instant)>,
    pending: &[IpAddr],
) -> Option<usize> {
    let busy = |source| pending.iter().filter(|other| **other == source).count();
    waiting.min_by_key(|(_, source, since)| (busy(*source), std::cmp::Reverse(*since))).map(|(at, _, _)| at)
}

/// The connections without a process that lose their place.
pub(super) fn victims(waiting: &[IpAddr], dice: impl Fn() -> u64) -> Vec<usize> {
    let mut left: Vec<(usize, IpAddr)> = waiting.iter().copied().enumerate().collect();
    let mut out = Vec::new();
    for _ in EARLY..left.len() {
        let sources: Vec<IpAddr> = left.iter().map(|(_, source)| *source).collect();
        if let Some(at) = victim(&sources, dice()) {
            out.push(left.swap_remove(at).0);
        }
    }
    out
}

/// One that a newcomer costs its place, if any: a random one of the source that has the most. `dice` is a
/// random number.
fn victim(waiting: &[IpAddr], dice: u64) -> Option<usize> {
    let over = u64::try_from(waiting.len().checked_sub(EARLY)?).ok()?;
    let range = u64::try_from(FULL - EARLY).ok()?;
    if dice % range >= over {
        return None;
    }
    let count = |source: &IpAddr| waiting.iter().filter(|other| *other == source).count();
    let most = waiting.iter().max_by_key(|source| count(source))?;
    let of_most: Vec<usize> =
        waiting.iter().enumerate().filter(|(_, source)| *source == most).map(|(at, _)| at).collect();
    let at = usize::try_from((dice >> 32) % u64::try_from(of_most.len()).ok()?).ok()?;
    of_most.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_client_is_told_from_garbage() {
        let kexinit = b"SSH-2.0-x\r\n\0\0\x05\xd4\x04\x14more";
        for start in [&b"S"[..], b"SSH-", b"SSH-2.0-x", b"SSH-2.0-x\r\n", b"SSH-2.0-x\n\0\0", kexinit] {
            assert!(is_client(start), "{start:?}");
        }
        let long = [b"SSH-2.0-".to_vec(), vec![b'x'; LOOK]].concat();
        let garbage: [&[u8]; 7] = [
            b"",
            b"GET / HTTP/1.0\r\n",
            b"\x16\x03\x01",
            b"SSX",
            &long[..LOOK],
            b"SSH-2.0-x\r\n\xff",
            b"SSH-2.0-x\r\n\0\0\x05\xd4\x04\x15",
        ];
        for start in garbage {
            assert!(!is_client(start), "{start:?}");
        }
    }

    #[test]
    fn penalties_grow_and_are_forgotten() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        let mut delays = Vec::new();
        for _ in 0..80 {
            penalties.failed(A, now);
            delays.push(penalties.delay(A, now).as_millis());
        }
        assert!(delays.is_sorted());
        assert_eq!((delays[15], delays[16], delays[24], delays[79]), (0, 50, 100, 2000));
        assert_eq!(penalties.delay(B, now), Duration::ZERO);
        assert!(penalties.delay(A, now + FORGET) < LONGEST);
        assert_eq!(penalties.delay(A, now + 10 * FORGET), Duration::ZERO);
        penalties.forgive(A);
        assert_eq!(penalties.delay(A, now), Duration::ZERO);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_worst() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        (0..100).for_each(|_| penalties.failed(A, now));
        for n in 0..5000u32 {
            penalties.failed(IpAddr::from(n.to_be_bytes()), now);
        }
        assert_eq!(penalties.0.len(), MAX_SOURCES);
        assert_eq!(penalties.delay(A, now), LONGEST);
    }

    #[test]
    fn who_has_least_is_next_and_of_its_own_the_youngest() {
        let start = Instant::now();
        let after = |n| start + Duration::from_secs(n);
        let waiting = [(0, A, after(9)), (1, B, after(1)), (2, B, after(2))];
        assert_eq!(next(waiting.into_iter(), &[A]), Some(2));
        assert_eq!(next(waiting.into_iter(), &[A, B, B]), Some(0));
        assert_eq!(next([].into_iter(), &[]), None);
    }

    #[test]
    fn a_crowd_pushes_out_its_own() {
        let mut list = vec![A; EARLY];
        assert!((0..1000).all(|dice| victim(&list, dice).is_none()));
        list.resize(FULL, A);
        list[7] = B;
        for dice in 0..10_000u64 {
            let at = victim(&list, dice << 30 | dice);
            assert!(at.is_some_and(|at| at != 7), "{at:?}");
        }
        list.truncate(EARLY + 64);
        let out = (0..1000).filter(|dice| victim(&list, *dice).is_some()).count();
        assert!((400..600).contains(&out), "{out}");
    }

    #[test]
    fn a_network_is_one_source() {
        assert_eq!(
            source_of("2001:db8:1:2:3:4:5:6".parse().unwrap()),
            "2001:db8:1:2::".parse::<IpAddr>().unwrap()
        );
        assert_eq!(source_of("::ffff:192.0.2.1".parse().unwrap()), A);
    }
}
