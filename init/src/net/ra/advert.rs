//! A router advertisement (RFC 4861 4.2), read from the bytes that came over the network and judged.
//!
//! The hop limit, the source and the checksum are the socket's ([`crate::sys::icmp6`]); everything else
//! of RFC 4861 6.1.2 is here. An option whose content makes no sense is left out, as the specifications
//! ask, and hides none of the others; how many of a kind are taken is limited.

use std::net::Ipv6Addr;

use crate::net::domains;

/// Largest message that is read: what fits an Ethernet frame of 9,000 bytes.
const MAX_MESSAGE: usize = 9000;
/// Type, code, checksum, hop limit, flags, lifetimes and timers.
const HEADER: usize = 16;
/// What is taken of each kind from one advertisement.
const MAX_PREFIXES: usize = 16;
const MAX_ROUTES: usize = 16;
const MAX_DNS: usize = 8;
const MAX_SEARCH: usize = 16;
/// The MTUs that are believed: from what every link must carry (RFC 8200 5) to the largest jumbo frames
/// that switches carry.
const MTU: std::ops::RangeInclusive<u32> = 1280..=9216;
/// A lifetime without end.
pub(super) const INFINITE: u32 = u32::MAX;

const PREFIX: u8 = 3;
const LINK_MTU: u8 = 5;
const ROUTE: u8 = 24;
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;

/// How much a router or route is preferred (RFC 4191 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// 11
    Low,
    /// 00, and 10 in the header
    Medium,
    /// 01
    High,
}

/// A prefix information option (RFC 4861 4.6.2). Lifetimes are in seconds, `u32::MAX` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInfo {
    /// The prefix, host bits cleared: of unicast and not link-local.
    pub prefix: Ipv6Addr,
    /// Its length, 1 to 128.
    pub length: u8,
    /// L: its addresses are on the link.
    pub on_link: bool,
    /// A: addresses are formed of it. Only set where that can be done: a /64 whose preferred lifetime
    /// is no longer than the valid one (RFC 4862 5.5.3).
    pub autonomous: bool,
    /// Valid lifetime.
    pub valid: u32,
    /// Preferred lifetime.
    pub preferred: u32,
}

/// A route information option (RFC 4191 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    /// Destination, host bits cleared.
    pub to: Ipv6Addr,
    /// Length of its prefix, 0 to 128.
    pub length: u8,
    /// How it is preferred to another router's.
    pub preference: Preference,
    /// Seconds that it is valid, `u32::MAX` for ever, 0 to withdraw it.
    pub seconds: u32,
}

/// What a router says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    /// M: addresses are to be had by DHCPv6.
    pub managed: bool,
    /// O: other configuration is.
    pub other: bool,
    /// How the router is preferred as a default router.
    pub preference: Preference,
    /// Seconds that it is a default router; 0 when it is none.
    pub lifetime: u16,
    /// MTU of the link in bytes.
    pub mtu: Option<u32>,
    /// Prefixes.
    pub prefixes: Vec<PrefixInfo>,
    /// Routes to what is behind this router.
    pub routes: Vec<RouteInfo>,
    /// Name servers with their lifetime in seconds (RFC 8106 5.1).
    pub dns: Vec<(Ipv6Addr, u32)>,
    /// Search domains with their lifetime in seconds (RFC 8106 5.2).
    pub search: Vec<(String, u32)>,
}

/// Why bytes are not an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnAdvert(pub &'static str);

/// Reads an ICMPv6 message, from its type on.
///
/// # Errors
/// What keeps it from being a valid advertisement (RFC 4861 6.1.2): all of it is then ignored.
pub fn parse_advert(bytes: &[u8]) -> Result<Advert, NotAnAdvert> {
    if bytes.len() > MAX_MESSAGE {
        return Err(NotAnAdvert("too long"));
    }
    let (header, mut options) = bytes.split_first_chunk::<HEADER>().ok_or(NotAnAdvert("too short"))?;
    let [kind, code, _, _, _hop_limit, flags, life0, life1, ..] = *header;
    if (kind, code) != (134, 0) {
        return Err(NotAnAdvert("no router advertisement"));
    }
    let mut advert = Advert {
        managed: flags & 0x80 != 0,
        other: flags & 0x40 != 0,
        preference: preference(flags).unwrap_or(Preference::Medium),
        lifetime: u16::from_be_bytes([life0, life1]),
        mtu: None,
        prefixes: Vec::new(),
        routes: Vec::new(),
        dns: Vec::new(),
        search: Vec::new(),
    };
    while let Some((&kind, rest)) = options.split_first() {
        let units = rest.first().copied().ok_or(NotAnAdvert("an option is cut short"))?;
        if units == 0 {
            return Err(NotAnAdvert("an option has no length"));
        }
        let (option, rest) =
            options.split_at_checked(usize::from(units) * 8).ok_or(NotAnAdvert("an option is cut short"))?;
        options = rest;
        advert.option(kind, option);
    }
    Ok(advert)
}

impl Advert {
    /// Takes one option, from its type on; its length is a multiple of 8.
    fn option(&mut self, kind: u8, option: &[u8]) {
        match kind {
            PREFIX if self.prefixes.len() < MAX_PREFIXES => self.prefixes.extend(prefix(option)),
            ROUTE if self.routes.len() < MAX_ROUTES => self.routes.extend(route(option)),
            LINK_MTU => {
                let mtu = (option.len() == 8).then(|| be32(option, 4)).flatten();
                self.mtu = mtu.filter(|mtu| MTU.contains(mtu)).or(self.mtu);
            }
            RDNSS => {
                let Some((seconds, addresses)) = listed(option) else { return };
                let addresses = addresses.chunks_exact(16).filter_map(|a| address(a, 0));
                for server in addresses.filter(|a| is_unicast(*a)) {
                    if self.dns.len() < MAX_DNS && !self.dns.iter().any(|(known, _)| *known == server) {
                        self.dns.push((server, seconds));
                    }
                }
            }
            DNSSL => {
                let Some((seconds, names)) = listed(option) else { return };
                for name in domains::read(names, MAX_SEARCH) {
                    if self.search.len() < MAX_SEARCH && !self.search.iter().any(|(known, _)| *known == name)
                    {
                        self.search.push((name, seconds));
                    }
                }
            }
            _ => {}
        }
    }
}

fn prefix(option: &[u8]) -> Option<PrefixInfo> {
    if option.len() != 32 {
        return None;
    }
    let (&length, &flags) = (option.get(2)?, option.get(3)?);
    let (valid, preferred) = (be32(option, 4)?, be32(option, 8)?);
    let prefix = masked(address(option, 16)?, length)?;
    if length == 0 || !is_unicast(prefix) || prefix.is_unicast_link_local() {
        return None;
    }
    // An interface identifier has 64 bits on Ethernet (RFC 2464 4, RFC 4291 2.5.1).
    let autonomous = flags & 0x40 != 0 && length == 64 && preferred <= valid;
    Some(PrefixInfo { prefix, length, on_link: flags & 0x80 != 0, autonomous, valid, preferred })
}

fn route(option: &[u8]) -> Option<RouteInfo> {
    let (&length, &flags) = (option.get(2)?, option.get(3)?);
    // As many octets of the prefix as are needed may be there, in eights.
    let octets = option.get(8..)?;
    if length > 128 || octets.len() > 16 || octets.len() * 8 < usize::from(length) {
        return None;
    }
    let mut whole = [0; 16];
    whole.get_mut(..octets.len())?.copy_from_slice(octets);
    let to = masked(whole.into(), length)?;
    if length > 0 && (!is_unicast(to) || to.is_unicast_link_local()) {
        return None;
    }
    Some(RouteInfo { to, length, preference: preference(flags)?, seconds: be32(option, 4)? })
}

/// The lifetime and the content of an RDNSS or DNSSL option.
fn listed(option: &[u8]) -> Option<(u32, &[u8])> {
    Some((be32(option, 4)?, option.get(8..)?))
}

/// Bits 3 and 4; none where they are reserved (RFC 4191 2.1).
fn preference(flags: u8) -> Option<Preference> {
    match flags >> 3 & 3 {
        0 => Some(Preference::Medium),
        1 => Some(Preference::High),
        3 => Some(Preference::Low),
        _ => None,
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    bytes.get(at..)?.first_chunk::<16>().map(|b| Ipv6Addr::from(*b))
}

/// The prefix with its host bits cleared; none where it is longer than an address.
fn masked(address: Ipv6Addr, length: u8) -> Option<Ipv6Addr> {
    let host = 128_u32.checked_sub(length.into())?;
    Some((u128::from(address) & u128::MAX.checked_shl(host).unwrap_or(0)).into())
}

/// An address, or a prefix of such, that a single host may have.
pub(in crate::net) fn is_unicast(address: Ipv6Addr) -> bool {
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && address.to_ipv4_mapped().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ra::testing::{advert, dnssl, prefix, rdnss, route};

    #[test]
    fn an_advertisement_is_read() {
        let bytes = advert(
            0x80 | 0x40 | 0x08,
            1800,
            &[
                prefix("2001:db8:1::", 64, 0xc0, 7200, 3600),
                route("2001:db8:ff::", 48, 0x18, 600),
                vec![5, 1, 0, 0, 0, 0, 5, 0x78],
                rdnss(60, &["2001:db8::53", "::1", "ff02::1", "::ffff:10.0.0.1"]),
                dnssl(60, b"\x03lan\0\x04a\x1b[m\0"),
                vec![1, 1, 2, 0, 0, 0, 0, 1],
            ],
        );
        let advert = parse_advert(&bytes).unwrap();
        assert!(advert.managed && advert.other);
        assert_eq!((advert.preference, advert.lifetime, advert.mtu), (Preference::High, 1800, Some(1400)));
        assert_eq!(
            advert.prefixes,
            [PrefixInfo {
                prefix: "2001:db8:1::".parse().unwrap(),
                length: 64,
                on_link: true,
                autonomous: true,
                valid: 7200,
                preferred: 3600
            }]
        );
        assert_eq!((advert.routes[0].length, advert.routes[0].preference), (48, Preference::Low));
        assert_eq!(advert.dns, [("2001:db8::53".parse().unwrap(), 60)]);
        assert_eq!(advert.search, [("lan".to_string(), 60)]);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let bytes = advert(
            0x10,
            0,
            &[
                prefix("2001:db8:1::", 129, 0xc0, 60, 60),
                prefix("2001:db8:1::", 0, 0xc0, 60, 60),
                prefix("fe80::", 64, 0xc0, 60, 60),
                prefix("ff05::", 64, 0xc0, 60, 60),
                prefix("::1", 128, 0xc0, 60, 60),
                prefix("2001:db8:2::7", 64, 0xc0, 60, 61),
                prefix("2001:db8:3::", 63, 0xc0, 60, 60),
                [&prefix("2001:db8:4::", 64, 0xc0, 60, 60)[..], &[0; 8]].concat().tap(|o| o[1] = 5),
                route("2001:db8:5::", 129, 0, 60),
                route("2001:db8:5::", 48, 0x10, 60),
                route("fe80::", 64, 0, 60),
                vec![24, 1, 48, 0, 0, 0, 0, 9],
                vec![5, 1, 0, 0, 0, 0, 4, 0xff],
                vec![5, 1, 0, 0, 0, 1, 0, 0],
                vec![25, 1, 0, 0, 0, 0, 0, 9],
            ],
        );
        let advert = parse_advert(&bytes).unwrap();
        assert_eq!((advert.preference, advert.mtu, advert.routes.len()), (Preference::Medium, None, 0));
        assert!(advert.dns.is_empty());
        let told: Vec<_> = advert.prefixes.iter().map(|p| (p.prefix.to_string(), p.autonomous)).collect();
        assert_eq!(told, [("2001:db8:2::".to_string(), false), ("2001:db8:3::".to_string(), false)]);
    }

    trait Tap: Sized {
        fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
            change(&mut self);
            self
        }
    }
    impl Tap for Vec<u8> {}

    #[test]
    fn a_default_route_may_be_an_option() {
        let bytes = advert(0, 0, &[vec![24, 1, 0, 8, 0, 0, 0, 9], route("2001:db8:5::7", 64, 0, INFINITE)]);
        let routes = parse_advert(&bytes).unwrap().routes;
        assert_eq!((routes[0].to, routes[0].length, routes[0].seconds), (Ipv6Addr::UNSPECIFIED, 0, 9));
        assert_eq!((routes[1].to.to_string(), routes[1].seconds), ("2001:db8:5::".into(), INFINITE));
    }

    #[test]
    fn what_is_no_advertisement_is_refused() {
        let good = advert(0, 9, &[prefix("2001:db8:1::", 64, 0xc0, 7200, 3600)]);
        assert_eq!(parse_advert(&good[..15]), Err(NotAnAdvert("too short")));
        assert_eq!(parse_advert(&vec![0; MAX_MESSAGE + 1]), Err(NotAnAdvert("too long")));
        for (at, byte, why) in [
            (0, 133, "no router advertisement"),
            (1, 1, "no router advertisement"),
            (17, 0, "an option has no length"),
            (17, 5, "an option is cut short"),
        ] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(parse_advert(&bytes), Err(NotAnAdvert(why)), "byte {at}");
        }
        for length in 17..good.len() {
            assert_eq!(parse_advert(&good[..length]), Err(NotAnAdvert("an option is cut short")));
        }
    }

    #[test]
    fn what_is_taken_is_limited() {
        let many: Vec<Vec<u8>> = (0..200)
            .flat_map(|n| {
                [
                    prefix(&format!("2001:db8:{n:x}::"), 64, 0xc0, 60, 60),
                    route(&format!("2001:db8:{n:x}::"), 64, 0, 60),
                    rdnss(60, &[&format!("2001:db8::{n:x}")]),
                ]
            })
            .collect();
        let advert = parse_advert(&advert(0, 9, &many[..300])).unwrap();
        let counts = (advert.prefixes.len(), advert.routes.len(), advert.dns.len());
        assert_eq!(counts, (MAX_PREFIXES, MAX_ROUTES, MAX_DNS));
    }
}
