//! A lease that is fit to be used: everything a server says is checked here, once.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rescue_schema::network::{Dns, Prefix, Route};

use super::dhcp::reply::Reply;
use super::plan::{Brings, BroughtAddress};

/// Most name servers, search domains and routes that are taken from one lease.
const MAX_DNS: usize = 8;
const MAX_SEARCH: usize = 16;
const MAX_ROUTES: usize = 64;
/// The MTUs that are believed: from what every IPv4 host must take (RFC 791 3.1) to the largest
/// jumbo frames that switches carry.
const MTU: std::ops::RangeInclusive<u16> = 576..=9216;
const INFINITE: u32 = u32::MAX;

/// A lease, valid from the moment that its request was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Length of its prefix, 8 to 32.
    pub length: u8,
    /// The server that gave it.
    pub server: Ipv4Addr,
    /// Routes: destination, prefix length, gateway (none: on the link).
    pub routes: Vec<(Ipv4Addr, u8, Option<Ipv4Addr>)>,
    /// MTU in bytes, where the server names a believable one.
    pub mtu: Option<u16>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Host name, where the server names one that is one.
    pub hostname: Option<String>,
    /// When it is to be renewed, rebound and given up; none for a lease for ever.
    pub times: Option<Times>,
}

/// The three times of a lease, each from its start; `renew <= rebind <= expire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// T1
    pub renew: Duration,
    /// T2
    pub rebind: Duration,
    /// The end.
    pub expire: Duration,
}

/// Why an offer is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl Lease {
    /// Judges what a server offers or grants.
    ///
    /// # Errors
    /// Where it cannot be used at all: no address or server of a host, a mask that is none, no or zero
    /// lease time. What is merely useless (a name server on the loopback, an MTU of 1) is left out.
    pub fn from_reply(reply: &Reply) -> Result<Self, Refused> {
        let refuse = |why: String| Err(Refused(why));
        let Some(server) = reply.server.filter(|a| is_host(*a)) else {
            return refuse("it names no server".into());
        };
        let address = reply.yiaddr;
        if !is_host(address) {
            return refuse(format!("{address} is no address for a host"));
        }
        let mask = reply.mask.unwrap_or_else(|| classful(address));
        let bits = u32::from(mask);
        let ones = bits.leading_ones();
        if bits.count_ones() != ones || ones < 8 {
            return refuse(format!("{mask} is no mask"));
        }
        if ones < 31 && [0, !bits].contains(&(u32::from(address) & !bits)) {
            return refuse(format!("{address} names the network {mask}, not a host in it"));
        }
        let times = match reply.lease_seconds {
            None | Some(0) => return refuse("it lasts no time".into()),
            Some(INFINITE) => None,
            Some(seconds) => Some(Times::new(seconds, reply.t1_seconds, reply.t2_seconds)),
        };
        let mut search: Vec<String> = Vec::new();
        for name in &reply.search {
            let name = name.trim_end_matches('.');
            if is_name(name) && search.len() < MAX_SEARCH && !search.iter().any(|n| n == name) {
                search.push(name.to_string());
            }
        }
        Ok(Self {
            address,
            length: u8::try_from(ones).unwrap_or(32),
            server,
            routes: routes(reply, address),
            mtu: reply.mtu.filter(|mtu| MTU.contains(mtu)),
            dns: reply.dns.iter().copied().filter(|a| is_host(*a)).take(MAX_DNS).collect(),
            search,
            hostname: reply.hostname.clone().filter(|name| is_name(name)),
            times,
        })
    }

    /// What it brings to its link, while so much of it is left.
    pub fn brings(&self, left: Option<Duration>) -> Brings {
        let own = IpAddr::V4(self.address);
        let prefix = Prefix { address: own, length: self.length };
        let route = |&(to, length, via): &(Ipv4Addr, u8, Option<Ipv4Addr>)| Route {
            to: Prefix { address: to.into(), length },
            via: via.map(IpAddr::V4),
            metric: None,
            source: Some(own),
            table: None,
            onlink: false,
        };
        Brings {
            mtu: self.mtu.map(u32::from),
            addresses: vec![BroughtAddress { prefix, valid: left, preferred: left, off_link: false }],
            routes: self.routes.iter().map(route).collect(),
            dns: Dns {
                servers: self.dns.iter().copied().map(IpAddr::V4).collect(),
                search: self.search.clone(),
            },
            ..Brings::default()
        }
    }
}

impl Times {
    fn new(lease: u32, t1: Option<u32>, t2: Option<u32>) -> Self {
        let expire = Duration::from_secs(lease.into());
        // RFC 2131 4.4.5: half and seven eighths, unless the server says otherwise and makes sense.
        let rebind = t2.filter(|t2| *t2 > 0 && *t2 < lease);
        let rebind = rebind.map_or(expire * 7 / 8, |t2| Duration::from_secs(t2.into()));
        let renew = t1.filter(|t1| *t1 > 0).map(|t1| Duration::from_secs(t1.into()));
        let renew = renew.filter(|t1| *t1 < rebind).unwrap_or((expire / 2).min(rebind));
        Self { renew, rebind, expire }
    }
}

/// RFC 3442: classless routes, where there are any, replace the routers.
fn routes(reply: &Reply, own: Ipv4Addr) -> Vec<(Ipv4Addr, u8, Option<Ipv4Addr>)> {
    let Some(classless) = &reply.routes else {
        let router = reply.routers.iter().copied().find(|a| is_host(*a) && *a != own);
        return router.map(|a| (Ipv4Addr::UNSPECIFIED, 0, Some(a))).into_iter().collect();
    };
    let mut routes = Vec::new();
    for &(to, length, via) in classless.iter().take(MAX_ROUTES) {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let to = Ipv4Addr::from(u32::from(to) & mask);
        let gateway = Some(via).filter(|via| !via.is_unspecified());
        let believable = (length == 0 || is_host(to)) && gateway.is_none_or(|a| is_host(a) && a != own);
        let route = (to, length, gateway);
        if believable && !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}

/// An address that a single host may have: no zero network, loopback, multicast or reserved one.
fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !matches!(first, 0 | 127 | 224..)
}

/// The mask of an address's class (RFC 791 3.2), for servers that name none.
fn classful(address: Ipv4Addr) -> Ipv4Addr {
    match address.octets() {
        [..128, _, _, _] => Ipv4Addr::new(255, 0, 0, 0),
        [..192, _, _, _] => Ipv4Addr::new(255, 255, 0, 0),
        _ => Ipv4Addr::new(255, 255, 255, 0),
    }
}

/// A host or domain name that may go into a file and onto a screen (RFC 1123 2.1).
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dhcp::{reply::parse_reply, testing};

    const MASK: (u8, &[u8]) = (1, &[255, 255, 255, 0]);
    const TIME: (u8, &[u8]) = (51, &[0, 0, 0, 120]);

    fn lease(options: &[(u8, &[u8])]) -> Result<Lease, Refused> {
        Lease::from_reply(&parse_reply(&testing::reply(5, options)).unwrap())
    }

    fn lease_of(address: [u8; 4], mask: [u8; 4]) -> Result<Lease, Refused> {
        let mut bytes = testing::reply(5, &[(1, &mask), TIME]);
        bytes[16..20].copy_from_slice(&address);
        Lease::from_reply(&parse_reply(&bytes).unwrap())
    }

    #[test]
    fn addresses_and_masks_that_are_none_are_refused() {
        for address in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 5], [255; 4], [240, 0, 0, 1]]
        {
            assert!(lease_of(address, [255, 255, 255, 0]).is_err(), "{address:?}");
        }
        for mask in [[0, 0, 0, 0], [255, 0, 255, 0], [0, 255, 255, 255], [128, 0, 0, 0]] {
            assert!(lease_of([10, 0, 0, 5], mask).is_err(), "{mask:?}");
        }
        assert!(lease_of([10, 0, 0, 0], [255, 255, 255, 0]).is_err());
        assert!(lease_of([10, 0, 0, 255], [255, 255, 255, 0]).is_err());
        assert_eq!(lease_of([10, 0, 0, 255], [255; 4]).map(|l| l.length), Ok(32));
        assert_eq!(lease(&[TIME]).map(|l| l.length), Ok(8));
    }

    #[test]
    fn times_make_sense_whatever_is_said() {
        assert!(lease(&[MASK]).is_err());
        assert!(lease(&[MASK, (51, &[0; 4])]).is_err());
        assert_eq!(lease(&[MASK, (51, &[255; 4])]).unwrap().times, None);
        for (t1, t2) in [(0, 0), (10, 0), (10, 20), (200, 300), (119, 110), (u32::MAX, 1), (0, 119)] {
            let times = Times::new(120, Some(t1), Some(t2));
            assert!(times.renew <= times.rebind && times.rebind <= times.expire, "{t1} {t2}: {times:?}");
            assert!(!times.renew.is_zero());
        }
        assert_eq!(Times::new(120, Some(10), None).renew, Duration::from_secs(10));
        assert!(Times::new(u32::MAX - 1, None, None).renew > Duration::from_secs(1 << 30));
    }

    #[test]
    fn lies_are_left_out() {
        let taken = lease(&[
            MASK,
            TIME,
            (3, &[127, 0, 0, 1, 10, 0, 0, 50, 192, 0, 2, 1]),
            (6, &[0, 0, 0, 0, 224, 0, 0, 1, 9, 9, 9, 9]),
            (12, b"a\x1b[2Jb"),
            (15, b"good.example -bad a\nb good.example"),
            (26, &[0, 1]),
        ])
        .unwrap();
        assert_eq!(taken.routes, [(Ipv4Addr::UNSPECIFIED, 0, Some(Ipv4Addr::new(192, 0, 2, 1)))]);
        assert_eq!(taken.dns, [Ipv4Addr::new(9, 9, 9, 9)]);
        assert_eq!((taken.hostname, taken.mtu), (None, None));
        assert_eq!(taken.search, ["good.example"]);
    }

    #[test]
    fn only_believable_mtus_are_taken() {
        for (said, taken) in
            [(0, None), (1, None), (575, None), (576, Some(576)), (9000, Some(9000)), (65535, None)]
        {
            let said: [u8; 2] = u16::to_be_bytes(said);
            assert_eq!(lease(&[MASK, TIME, (26, &said)]).unwrap().mtu, taken);
        }
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let content = [25, 192, 0, 2, 200, 0, 0, 0, 0, 8, 127, 10, 0, 0, 1, 0, 10, 0, 0, 2];
        let taken = lease(&[MASK, TIME, (3, &[10, 0, 0, 1]), (121, &content)]).unwrap();
        let onlink = (Ipv4Addr::new(192, 0, 2, 128), 25, None);
        let default = (Ipv4Addr::UNSPECIFIED, 0, Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(taken.routes, [onlink, default]);
    }
}
