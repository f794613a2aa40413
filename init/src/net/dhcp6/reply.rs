//! A DHCPv6 message of a server, read from the bytes that came over the network.
//!
//! Read here and not by `dhcproto`, which serves DHCPv4: its DHCPv6 half (0.15) descends into options
//! as deep as they are nested, computes with lengths that a server chose (a status code of one byte is
//! arithmetic below zero), and ends at the first option that it cannot read. Here two levels are looked
//! into, and one malformed option hides none of the others.

use std::net::Ipv6Addr;

use crate::net::domains;

/// Largest message that is read: what fits an Ethernet frame of 9,000 bytes.
const MAX_MESSAGE: usize = 9000;
/// Longest DUID (RFC 8415 11.1).
const MAX_DUID: usize = 130;
/// What is read of each kind.
const MAX_ASSOCIATIONS: usize = 4;
const MAX_ADDRESSES: usize = 4;
const MAX_DNS: usize = 8;
const MAX_SEARCH: usize = 16;
/// Longest status message that is kept, in bytes.
const MAX_STATUS: usize = 120;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 2
    Advertise,
    /// 7
    Reply,
}

/// How a request went (RFC 8415 21.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// 0 is success.
    pub code: u16,
    /// What the server says of it, printable.
    pub text: String,
}

/// The status codes that something follows from.
pub mod status {
    /// All is well.
    pub const SUCCESS: u16 = 0;
    /// The server has no address to give.
    pub const NO_ADDRS: u16 = 2;
    /// The server does not know what is to be extended.
    pub const NO_BINDING: u16 = 3;
    /// The address belongs to another link.
    pub const NOT_ON_LINK: u16 = 4;
}

/// An address in an association. Lifetimes are in seconds, `u32::MAX` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    /// The address.
    pub address: Ipv6Addr,
    /// How long it is preferred.
    pub preferred: u32,
    /// How long it is valid; 0 takes it back.
    pub valid: u32,
}

/// IA_NA (RFC 8415 21.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// Its number, which we chose.
    pub iaid: u32,
    /// T1 in seconds; 0 leaves it to us.
    pub t1: u32,
    /// T2 in seconds; 0 leaves it to us.
    pub t2: u32,
    /// How it went.
    pub status: Option<Status>,
    /// Its addresses.
    pub addresses: Vec<Leased>,
}

/// A well-formed message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it is for.
    pub kind: Kind,
    /// Transaction that it answers, 24 bits.
    pub xid: u32,
    /// The DUID of whom it is for.
    pub client: Vec<u8>,
    /// The DUID of the server.
    pub server: Vec<u8>,
    /// Rapid commit: the reply to a solicitation is the lease.
    pub rapid: bool,
    /// How it went altogether.
    pub status: Option<Status>,
    /// Associations.
    pub associations: Vec<Association>,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Option 32: seconds until other configuration is asked for again.
    pub refresh: Option<u32>,
    /// Option 82, in seconds: the longest wait between solicitations.
    pub solicit_wait: Option<u32>,
}

/// Why bytes are not a message of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAReply(pub &'static str);

/// Reads the content of a UDP datagram.
///
/// # Errors
/// What keeps it from being a message that a server sends to a client (RFC 8415 16.3, 16.10). An option
/// that cannot be read is as one that is absent.
pub fn parse_reply(bytes: &[u8]) -> Result<Reply, NotAReply> {
    if bytes.len() > MAX_MESSAGE {
        return Err(NotAReply("too long"));
    }
    let (&[kind, a, b, c], rest) = bytes.split_first_chunk::<4>().ok_or(NotAReply("too short"))?;
    let mut reply = Reply {
        kind: match kind {
            2 => Kind::Advertise,
            7 => Kind::Reply,
            _ => return Err(NotAReply("no message of a server")),
        },
        xid: u32::from_be_bytes([0, a, b, c]),
        client: Vec::new(),
        server: Vec::new(),
        rapid: false,
        status: None,
        associations: Vec::new(),
        dns: Vec::new(),
        search: Vec::new(),
        refresh: None,
        solicit_wait: None,
    };
    for (code, content) in Options(rest) {
        match code {
            1 if reply.client.is_empty() => reply.client = duid(content),
            2 if reply.server.is_empty() => reply.server = duid(content),
            3 if reply.associations.len() < MAX_ASSOCIATIONS => {
                reply.associations.extend(association(content));
            }
            13 => reply.status = reply.status.or_else(|| status_code(content)),
            14 => reply.rapid = true,
            23 => {
                let servers = content.chunks_exact(16).filter_map(address);
                for server in servers.filter(|s| content.len() % 16 == 0 && is_host(*s)) {
                    if reply.dns.len() < MAX_DNS && !reply.dns.contains(&server) {
                        reply.dns.push(server);
                    }
                }
            }
            24 if reply.search.is_empty() => reply.search = domains::read(content, MAX_SEARCH),
            32 => reply.refresh = exact(content).or(reply.refresh),
            82 => reply.solicit_wait = exact(content).or(reply.solicit_wait),
            _ => {}
        }
    }
    if reply.client.is_empty() {
        return Err(NotAReply("it names no client"));
    }
    if reply.server.is_empty() {
        return Err(NotAReply("it names no server"));
    }
    Ok(reply)
}

/// Options as code and content; what is cut short ends them.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[c0, c1, l0, l1], rest) = self.0.split_first_chunk::<4>()?;
        let (content, rest) = rest.split_at_checked(u16::from_be_bytes([l0, l1]).into())?;
        self.0 = rest;
        Some((u16::from_be_bytes([c0, c1]), content))
    }
}

fn duid(content: &[u8]) -> Vec<u8> {
    if content.len() <= MAX_DUID { content.to_vec() } else { Vec::new() }
}

fn association(content: &[u8]) -> Option<Association> {
    let (head, rest) = content.split_first_chunk::<12>()?;
    let number = |at: usize| exact(head.get(at..at + 4)?);
    let (iaid, t1, t2) = (number(0)?, number(4)?, number(8)?);
    let mut association = Association { iaid, t1, t2, status: None, addresses: Vec::new() };
    for (code, content) in Options(rest) {
        match code {
            5 if association.addresses.len() < MAX_ADDRESSES => association.addresses.extend(leased(content)),
            13 => association.status = association.status.or_else(|| status_code(content)),
            _ => {}
        }
    }
    Some(association)
}

fn leased(content: &[u8]) -> Option<Leased> {
    let (head, rest) = content.split_first_chunk::<24>()?;
    // An address may have a status of its own: one that failed is none.
    let failed = Options(rest).any(|(code, c)| code == 13 && status_code(c).is_some_and(|s| s.code != 0));
    let leased = Leased {
        address: address(head.get(..16)?)?,
        preferred: exact(head.get(16..20)?)?,
        valid: exact(head.get(20..24)?)?,
    };
    // RFC 8415 21.6: one that is preferred longer than it is valid is discarded.
    let usable = is_host(leased.address) && !leased.address.is_unicast_link_local();
    (usable && !failed && leased.preferred <= leased.valid).then_some(leased)
}

fn status_code(content: &[u8]) -> Option<Status> {
    let (code, text) = content.split_first_chunk::<2>()?;
    let text = text.iter().take(MAX_STATUS).map(|b| char::from(*b));
    let text = text.map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    Some(Status { code: u16::from_be_bytes(*code), text })
}

/// A number of four bytes, no more and no less.
fn exact(content: &[u8]) -> Option<u32> {
    content.try_into().ok().map(u32::from_be_bytes)
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes.first_chunk::<16>().map(|b| Ipv6Addr::from(*b))
}

/// An address that a single host may have.
fn is_host(address: Ipv6Addr) -> bool {
    crate::net::ra::advert::is_unicast(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dhcp6::testing::{association, iaaddr, message, option};

    #[test]
    fn a_reply_is_read() {
        let bytes = message(
            7,
            0x0a_0b_0c,
            &[
                option(14, &[]),
                option(13, b"\0\0fine\x1b[2J"),
                association(9, 60, 90, &[iaaddr("2001:db8::7", 100, 200), option(13, &[0, 0])]),
                option(23, &"2001:db8::53".parse::<Ipv6Addr>().unwrap().octets()),
                option(24, b"\x03lan\0\x02a\n\0"),
                option(32, &600_u32.to_be_bytes()),
                option(82, &120_u32.to_be_bytes()),
                option(7, &[255]),
                option(12, &[0; 16]),
            ],
        );
        let reply = parse_reply(&bytes).unwrap();
        assert_eq!((reply.kind, reply.xid, reply.rapid), (Kind::Reply, 0x0a_0b_0c, true));
        assert_eq!(reply.status.unwrap(), Status { code: 0, text: "fine?[2J".into() });
        let ia = &reply.associations[0];
        assert_eq!((ia.iaid, ia.t1, ia.t2), (9, 60, 90));
        let address = "2001:db8::7".parse().unwrap();
        assert_eq!(ia.addresses, [Leased { address, preferred: 100, valid: 200 }]);
        assert_eq!((reply.dns.len(), reply.search), (1, vec!["lan".to_string()]));
        assert_eq!((reply.refresh, reply.solicit_wait), (Some(600), Some(120)));
    }

    #[test]
    fn addresses_that_are_none_are_left_out() {
        let bad = [
            iaaddr("::", 1, 2),
            iaaddr("::1", 1, 2),
            iaaddr("ff02::1", 1, 2),
            iaaddr("fe80::1", 1, 2),
            iaaddr("::ffff:10.0.0.1", 1, 2),
            iaaddr("2001:db8::1", 3, 2),
            option(5, &[0x20; 23]),
            option(13, &[0]),
        ];
        let reply = parse_reply(&message(2, 1, &[association(9, 0, 0, &bad)])).unwrap();
        assert_eq!(reply.associations[0].addresses, []);
        assert_eq!(reply.associations[0].status, None);
        let odd = message(2, 1, &[option(23, &[0x20; 17]), option(3, &[0; 11]), option(32, &[0; 3])]);
        let reply = parse_reply(&odd).unwrap();
        assert!(reply.dns.is_empty() && reply.associations.is_empty() && reply.refresh.is_none());
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        assert_eq!(parse_reply(&[7, 0, 0]), Err(NotAReply("too short")));
        assert_eq!(parse_reply(&vec![7; MAX_MESSAGE + 1]), Err(NotAReply("too long")));
        assert_eq!(parse_reply(&[1, 0, 0, 1]), Err(NotAReply("no message of a server")));
        assert_eq!(parse_reply(&[7, 0, 0, 1]), Err(NotAReply("it names no client")));
        let no_server = [&[7, 0, 0, 1][..], &option(1, &[0, 3])].concat();
        assert_eq!(parse_reply(&no_server), Err(NotAReply("it names no server")));
        let long = [&[7, 0, 0, 1][..], &option(1, &[0; 131]), &option(2, &[1])].concat();
        assert_eq!(parse_reply(&long), Err(NotAReply("it names no client")));
    }

    /// Options within options without end, and as many as fit.
    #[test]
    fn what_is_taken_is_limited() {
        let mut nest = iaaddr("2001:db8::1", 1, 2);
        while nest.len() < 8000 {
            nest = association(9, 0, 0, &[nest]);
        }
        assert!(parse_reply(&message(7, 1, &[nest])).unwrap().associations[0].addresses.is_empty());
        let many: Vec<Vec<u8>> = (0..60).map(|n| iaaddr(&format!("2001:db8::{n:x}"), 1, 2)).collect();
        let ias: Vec<Vec<u8>> = (0..4).map(|n| association(n, 0, 0, &many)).collect();
        let reply = parse_reply(&message(7, 1, &ias)).unwrap();
        assert_eq!(reply.associations.len(), MAX_ASSOCIATIONS);
        assert!(reply.associations.iter().all(|ia| ia.addresses.len() == MAX_ADDRESSES));
        let whole = message(7, 1, &ias);
        for length in 0..whole.len() {
            let _ = parse_reply(&whole[..length]);
        }
    }
}
