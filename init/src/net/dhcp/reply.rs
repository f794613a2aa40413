//! A DHCPv4 reply, read from the bytes that came over the network.
//!
//! The fields and each option's content are decoded by `dhcproto`. What it leaves to its caller is
//! done here first: the size, the length of the hardware address, and the walk over the options
//! (RFC 2131 4.1, RFC 3396), so that one malformed option hides none of the others.

use std::net::Ipv4Addr;

use dhcproto::Decodable;
use dhcproto::v4::{Decoder, DhcpOption, Message, MessageType, Opcode, OptionCode};

/// Largest message that is read: what fits an Ethernet frame of 9,000 bytes.
const MAX_MESSAGE: usize = 9000;
/// Most bytes of all fragments of one option; the longest honest one is a list of search domains.
const MAX_OPTION: usize = 2048;
/// Length of the message up to and with the magic cookie.
pub(super) const HEADER: usize = 240;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const PAD: u8 = 0;
const OVERLOAD: u8 = 52;
const END: u8 = 255;
/// The options that are read; the others are not even decoded.
const WANTED: &[u8] = &[1, 3, 6, 12, 15, 26, 51, 53, 54, 58, 59, 119, 121];

/// What a reply is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// DHCPOFFER
    Offer,
    /// DHCPACK
    Ack,
    /// DHCPNAK
    Nak,
}

/// A well-formed reply. Nothing of its content has been judged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it is for.
    pub kind: Kind,
    /// Transaction that it answers.
    pub xid: u32,
    /// MAC address that it is for.
    pub chaddr: [u8; 6],
    /// The address offered.
    pub yiaddr: Ipv4Addr,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 1.
    pub mask: Option<Ipv4Addr>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 121: destination, prefix length, gateway; none where the option is absent.
    pub routes: Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 119, or else 15.
    pub search: Vec<String>,
    /// Option 12.
    pub hostname: Option<String>,
    /// Option 26, in bytes.
    pub mtu: Option<u16>,
    /// Option 51, in seconds; `u32::MAX` is for ever.
    pub lease_seconds: Option<u32>,
    /// Option 58.
    pub t1_seconds: Option<u32>,
    /// Option 59.
    pub t2_seconds: Option<u32>,
}

/// Why bytes are not a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAReply(pub &'static str);

/// Reads a BOOTP/DHCP message (the content of the UDP datagram).
///
/// # Errors
/// What keeps it from being a DHCPv4 reply to an Ethernet client. An option that cannot be read is
/// as one that is absent.
pub fn parse_reply(bytes: &[u8]) -> Result<Reply, NotAReply> {
    if bytes.len() > MAX_MESSAGE {
        return Err(NotAReply("too long"));
    }
    let header = bytes.get(..HEADER).ok_or(NotAReply("too short"))?;
    // Ethernet, 6 bytes. `dhcproto` would cut its 16-byte field by whatever stands here.
    if header.get(1..3) != Some(&[1, 6]) {
        return Err(NotAReply("not for an Ethernet address"));
    }
    if header.get(236..) != Some(&dhcproto::v4::MAGIC) {
        return Err(NotAReply("no DHCP magic"));
    }
    // The header alone: options are decoded one at a time below.
    let message = Message::decode(&mut Decoder::new(header)).map_err(|_| NotAReply("bad header"))?;
    if message.opcode() != Opcode::BootReply {
        return Err(NotAReply("not a reply"));
    }
    let mut reply = Reply {
        kind: Kind::Nak,
        xid: message.xid(),
        chaddr: message.chaddr().try_into().map_err(|_| NotAReply("bad hardware address"))?,
        yiaddr: message.yiaddr(),
        server: None,
        mask: None,
        routers: Vec::new(),
        routes: None,
        dns: Vec::new(),
        search: Vec::new(),
        hostname: None,
        mtu: None,
        lease_seconds: None,
        t1_seconds: None,
        t2_seconds: None,
    };
    let (mut kind, mut domain) = (None, None);
    for (code, content) in options(bytes) {
        match decode(code, &content) {
            Some(DhcpOption::MessageType(value)) => kind = Some(value),
            Some(DhcpOption::ServerIdentifier(address)) => reply.server = Some(address),
            Some(DhcpOption::SubnetMask(mask)) => reply.mask = Some(mask),
            Some(DhcpOption::Router(routers)) => reply.routers = routers,
            Some(DhcpOption::ClasslessStaticRoute(routes)) => {
                reply.routes =
                    Some(routes.iter().map(|(to, via)| (to.addr(), to.prefix_len(), *via)).collect());
            }
            Some(DhcpOption::DomainNameServer(servers)) => reply.dns = servers,
            Some(DhcpOption::DomainName(name)) => domain = Some(name),
            Some(DhcpOption::DomainSearch(names)) => {
                reply.search = names.iter().map(ToString::to_string).collect();
            }
            Some(DhcpOption::Hostname(name)) => reply.hostname = Some(name),
            Some(DhcpOption::InterfaceMtu(mtu)) => reply.mtu = Some(mtu),
            Some(DhcpOption::AddressLeaseTime(seconds)) => reply.lease_seconds = Some(seconds),
            Some(DhcpOption::Renewal(seconds)) => reply.t1_seconds = Some(seconds),
            Some(DhcpOption::Rebinding(seconds)) => reply.t2_seconds = Some(seconds),
            _ => {}
        }
    }
    if reply.search.is_empty() {
        // Option 15 is one name; servers in the field put several into it, separated by spaces.
        reply.search = domain.iter().flat_map(|d| d.split(' ')).map(String::from).collect();
    }
    reply.kind = match kind {
        Some(MessageType::Offer) => Kind::Offer,
        Some(MessageType::Ack) => Kind::Ack,
        Some(MessageType::Nak) => Kind::Nak,
        _ => return Err(NotAReply("no message type of a server")),
    };
    Ok(reply)
}

/// The wanted options with the fragments of each put together (RFC 3396), from the options field and,
/// where option 52 says so, from `file` and `sname`, in this order.
fn options(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    let overload = collect(bytes.get(HEADER..).unwrap_or_default(), &mut found);
    if matches!(overload, Some(1 | 3)) {
        collect(bytes.get(FILE).unwrap_or_default(), &mut found);
    }
    if matches!(overload, Some(2 | 3)) {
        collect(bytes.get(SNAME).unwrap_or_default(), &mut found);
    }
    found
}

/// Adds the options of one field to `found` and returns what option 52 says in it.
fn collect(mut field: &[u8], found: &mut Vec<(u8, Vec<u8>)>) -> Option<u8> {
    let mut overload = None;
    while let Some((&code, rest)) = field.split_first() {
        match code {
            END => break,
            PAD => field = rest,
            _ => {
                let Some((&length, rest)) = rest.split_first() else { break };
                let Some((content, rest)) = rest.split_at_checked(usize::from(length)) else { break };
                field = rest;
                if code == OVERLOAD {
                    overload = content.first().copied();
                } else if WANTED.contains(&code) {
                    match found.iter_mut().find(|(c, _)| *c == code) {
                        Some((_, whole)) if whole.len() + content.len() <= MAX_OPTION => {
                            whole.extend_from_slice(content);
                        }
                        Some(_) => {}
                        None => found.push((code, content.to_vec())),
                    }
                }
            }
        }
    }
    overload
}

/// Decodes one whole option; none when its content is not what its code says.
fn decode(code: u8, content: &[u8]) -> Option<DhcpOption> {
    let mut bytes = Vec::with_capacity(content.len() + 16);
    // `dhcproto` takes fragments of at most 255 bytes and puts them together again.
    if content.is_empty() {
        return None;
    }
    for fragment in content.chunks(255) {
        bytes.push(code);
        bytes.push(u8::try_from(fragment.len()).ok()?);
        bytes.extend_from_slice(fragment);
    }
    bytes.push(END);
    let option = DhcpOption::decode(&mut Decoder::new(&bytes)).ok()?;
    (u8::from(OptionCode::from(&option)) == code).then_some(option)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dhcp::testing;

    #[test]
    fn an_offer_is_read() {
        let bytes =
            testing::reply(2, &[(1, &[255, 255, 255, 0]), (3, &[10, 0, 0, 1]), (51, &[0, 0, 0, 120])]);
        let reply = parse_reply(&bytes).unwrap();
        assert_eq!(reply.kind, Kind::Offer);
        assert_eq!(reply.yiaddr, Ipv4Addr::new(10, 0, 0, 50));
        assert_eq!(reply.routers, [Ipv4Addr::new(10, 0, 0, 1)]);
        assert_eq!(reply.lease_seconds, Some(120));
        assert_eq!(reply.server, Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn a_malformed_option_hides_no_other() {
        let bytes =
            testing::reply(2, &[(1, &[255, 255]), (26, &[1]), (51, &[0, 0, 0, 9]), (12, &[0xff, 0xfe])]);
        let reply = parse_reply(&bytes).unwrap();
        assert_eq!((reply.mask, reply.mtu, reply.hostname), (None, None, None));
        assert_eq!(reply.lease_seconds, Some(9));
    }

    #[test]
    fn overloaded_fields_and_fragments_are_put_together() {
        let mut bytes = testing::reply(5, &[(52, &[3]), (15, b"exam"), (15, b"ple.org")]);
        bytes[108..115].copy_from_slice(&[51, 4, 0, 0, 1, 0, 255]);
        bytes[44..49].copy_from_slice(&[26, 2, 0x05, 0x78, 255]);
        let reply = parse_reply(&bytes).unwrap();
        assert_eq!(reply.search, ["example.org"]);
        assert_eq!(reply.lease_seconds, Some(256));
        assert_eq!(reply.mtu, Some(1400));
        // An overload inside an overloaded field is not obeyed: no loop, no second pass.
        let mut bytes = testing::reply(5, &[(52, &[1])]);
        bytes[108..112].copy_from_slice(&[52, 1, 1, 255]);
        assert!(parse_reply(&bytes).is_ok());
    }

    #[test]
    fn classless_routes_are_read() {
        let content = [24, 192, 0, 2, 10, 0, 0, 2, 0, 10, 0, 0, 1];
        let reply = parse_reply(&testing::reply(5, &[(121, &content)])).unwrap();
        let (via2, via1) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1));
        let wanted = vec![(Ipv4Addr::new(192, 0, 2, 0), 24, via2), (Ipv4Addr::UNSPECIFIED, 0, via1)];
        assert_eq!(reply.routes, Some(wanted));
        assert_eq!(parse_reply(&testing::reply(5, &[(121, &content[..6])])).unwrap().routes, None);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        assert_eq!(parse_reply(&[]), Err(NotAReply("too short")));
        assert_eq!(parse_reply(&vec![0; MAX_MESSAGE + 1]), Err(NotAReply("too long")));
        let good = testing::reply(2, &[]);
        for (at, byte, why) in [
            (0, 1, "not a reply"),
            (1, 6, "not for an Ethernet address"),
            (2, 255, "not for an Ethernet address"),
            (236, 0, "no DHCP magic"),
            (242, 1, "no message type of a server"),
        ] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(parse_reply(&bytes), Err(NotAReply(why)), "byte {at}");
        }
    }

    /// Every truncation and a great many corruptions: whatever comes, no panic.
    #[test]
    fn nothing_panics() {
        let content = [24, 192, 0, 2, 10, 0, 0, 2, 0, 10, 0, 0, 1];
        let search = [7, b'e', b'x', b'a', b'm', b'p', b'l', b'e', 0, 0xc0, 0];
        let good = testing::reply(2, &[(121, &content), (119, &search), (52, &[3]), (15, &[b'x'; 255])]);
        for length in 0..good.len() {
            let _ = parse_reply(&good[..length]);
        }
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..4 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = usize::try_from(random).unwrap() % bytes.len();
                bytes[at] = random.to_le_bytes()[5];
            }
            let _ = parse_reply(&bytes);
        }
    }
}
