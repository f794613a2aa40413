//! Who is at the other end of the cable: LLDP (IEEE 802.1AB-2016) and Cisco's CDP, which says the same.
//! A switch tells every 30 s, by name, which of its ports a card is plugged into. Nothing that it says is
//! acted upon; it is what an engineer asks the data centre about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest text that is kept of a field, in characters; 802.1AB allows 255 bytes.
const MOST_CHARACTERS: usize = 96;
/// IEEE 802.1 and 802.3, as organizationally specific TLVs name them (annexes D and E).
const DOT1: [u8; 3] = [0x00, 0x80, 0xc2];
const DOT3: [u8; 3] = [0x00, 0x12, 0x0f];

/// A port of a switch, as it describes itself. Texts hold no control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// By CDP and not by LLDP.
    pub cdp: bool,
    /// The switch, as it is identified: mostly a MAC address. Empty by CDP.
    pub chassis: String,
    /// Its port, as it is identified: mostly a name.
    pub port: String,
    /// What the operator wrote at the port.
    pub port_description: String,
    /// The name of the switch.
    pub system: String,
    /// What it is: maker, model, version.
    pub description: String,
    /// Where it is managed.
    pub address: Option<IpAddr>,
    /// VLAN of untagged frames, 1 to 4094.
    pub vlan: Option<u16>,
    /// Whether the port is a member of an aggregate now.
    pub aggregated: Option<bool>,
    /// Largest frame that the port takes, in bytes.
    pub max_frame: Option<u16>,
    /// Seconds that this holds; 0 says that it holds no more.
    pub ttl: u16,
}

/// Reads an LLDPDU: what follows the EtherType 0x88cc.
///
/// `None` for what a receiver discards whole (9.2.8.7.1): the first three TLVs are chassis, port and
/// time to live. A later TLV that is malformed is left out alone.
#[must_use]
pub fn parse_lldp(pdu: &[u8]) -> Option<Neighbour> {
    let mut tlvs = Tlvs(pdu);
    let chassis = tlvs.next().filter(|(kind, _)| *kind == 1)?.1;
    let port = tlvs.next().filter(|(kind, _)| *kind == 2)?.1;
    let ttl = tlvs.next().filter(|(kind, _)| *kind == 3)?.1;
    let mut neighbour = Neighbour {
        chassis: identity(chassis, 4, 5)?,
        port: identity(port, 3, 4)?,
        ttl: number(ttl)?,
        ..Neighbour::default()
    };
    for (kind, value) in tlvs {
        match kind {
            4 => neighbour.port_description = clean(value),
            5 => neighbour.system = clean(value),
            6 => neighbour.description = clean(value),
            8 => {
                let found = management(value);
                // The first, unless it is a link-local one and another follows.
                if neighbour.address.is_none_or(is_link_local) {
                    neighbour.address = found.or(neighbour.address);
                }
            }
            127 => neighbour.organization(value),
            _ => {}
        }
    }
    Some(neighbour)
}

/// Reads a CDP message: what follows the SNAP header, from the version on.
#[must_use]
pub fn parse_cdp(message: &[u8]) -> Option<Neighbour> {
    let [1 | 2, ttl, _, _, fields @ ..] = message else { return None };
    let mut rest = fields;
    let mut neighbour = Neighbour { cdp: true, ttl: u16::from(*ttl), ..Neighbour::default() };
    while let Some((kind, length, tail)) = cdp_head(rest) {
        let Some((value, after)) = tail.split_at_checked(usize::from(length).saturating_sub(4)) else {
            break;
        };
        rest = after;
        match kind {
            0x0001 => neighbour.system = clean(value),
            0x0003 => neighbour.port = clean(value),
            // The version is a text of several lines, of which the first names the product.
            0x0005 => neighbour.description = clean(value.split(|b| *b == b'\n').next().unwrap_or(value)),
            0x000a => neighbour.vlan = number(value).filter(|id| (1..=4094).contains(id)),
            0x0002 | 0x0016 => neighbour.address = neighbour.address.or_else(|| cdp_address(value)),
            _ => {}
        }
    }
    (!neighbour.system.is_empty() && !neighbour.port.is_empty()).then_some(neighbour)
}

/// Type and length (header included) of a CDP field, and what follows them.
fn cdp_head(rest: &[u8]) -> Option<(u16, u16, &[u8])> {
    let [a, b, c, d, tail @ ..] = rest else { return None };
    let length = u16::from_be_bytes([*c, *d]);
    // A length that does not hold its own header would never end.
    (length >= 4).then_some((u16::from_be_bytes([*a, *b]), length, tail))
}

/// The first IPv4 address of a CDP address list: a count, then protocol type 1 (NLPID), length 1, 0xcc.
fn cdp_address(value: &[u8]) -> Option<IpAddr> {
    let (_count, list) = value.split_at_checked(4)?;
    let (head, address) = list.split_at_checked(5)?;
    let address = address.first_chunk::<4>()?;
    (head == [1, 1, 0xcc, 0, 4]).then(|| Ipv4Addr::from(*address).into())
}

impl Neighbour {
    /// Annex D.2.1 (port VLAN), D.2.7 (aggregation), E.4 and what was E.3 before it moved to 802.1.
    fn organization(&mut self, value: &[u8]) {
        let Some((owner, rest)) = value.split_first_chunk::<3>() else { return };
        let Some((subtype, rest)) = rest.split_first() else { return };
        match (*owner, subtype) {
            // 0: the port knows no untagged VLAN.
            (DOT1, 1) => self.vlan = number(rest).filter(|id| (1..=4094).contains(id)),
            (DOT1, 7) => self.aggregated = rest.first().map(|status| status & 2 != 0),
            // What 802.1 says counts more than what 802.3 said before it.
            (DOT3, 3) => {
                self.aggregated = self.aggregated.or(rest.first().map(|status| status & 2 != 0));
            }
            (DOT3, 4) => self.max_frame = number(rest),
            _ => {}
        }
    }
}

/// The TLVs of an LLDPDU (clause 8.4): type of 7 bits, length of 9. Ends at type 0 and where a length
/// is wrong.
struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let ([head, low], rest) = self.0.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes([head & 1, *low]));
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (head >> 1 != 0).then_some((head >> 1, value))
    }
}

/// Clauses 8.5.2 and 8.5.3: a subtype, then what it says, 1 to 255 bytes. `mac` and `network` are the
/// subtypes that are no text.
fn identity(value: &[u8], mac: u8, network: u8) -> Option<String> {
    let (subtype, id) = value.split_first()?;
    if id.is_empty() || id.len() > 255 {
        return None;
    }
    let text = match id {
        [_, _, _, _, _, _] if *subtype == mac => hex(id, ":"),
        [family, address @ ..] if *subtype == network => match ip(*family, address) {
            Some(ip) => ip.to_string(),
            None => hex(id, ""),
        },
        _ => clean(id),
    };
    // An identity of nothing but what cannot be shown is still one.
    Some(if text.is_empty() { hex(id, "") } else { text })
}

/// Clause 8.5.9: length of subtype and address, address family, address, interface.
fn management(value: &[u8]) -> Option<IpAddr> {
    let (length, rest) = value.split_first()?;
    let (family, address) = rest.get(..usize::from(*length))?.split_first()?;
    ip(*family, address)
}

/// An address of an address family number of IANA's.
fn ip(family: u8, address: &[u8]) -> Option<IpAddr> {
    match family {
        1 => <[u8; 4]>::try_from(address).ok().map(|octets| Ipv4Addr::from(octets).into()),
        2 => <[u8; 16]>::try_from(address).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn number(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn hex(bytes: &[u8], between: &str) -> String {
    let bytes: Vec<String> = bytes.iter().take(MOST_CHARACTERS / 3).map(|b| format!("{b:02x}")).collect();
    bytes.join(between)
}

/// Text for a console and a log: no control characters, none that turn or hide what stands beside them,
/// no space at the ends, and an end.
fn clean(bytes: &[u8]) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().filter(|c| !unseen(*c)).take(MOST_CHARACTERS).collect();
    text.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent by lldpd 1.0.16 as a switch port would be described.
    const LLDPD: &[u8] = include_bytes!("../../fuzz/corpus/neighbour/lldp");
    const CDP: &[u8] = include_bytes!("../../fuzz/corpus/neighbour/cdp");

    #[test]
    fn what_lldpd_says() {
        let neighbour = parse_lldp(&LLDPD[14..]).unwrap();
        let want = Neighbour {
            chassis: "52:54:00:5a:00:02".into(),
            port: "Ethernet17/1".into(),
            port_description: "srv-0142 port 1".into(),
            system: "sw-17.dc3".into(),
            description:
                "Arista Networks EOS version 4.28.3M running on an Arista Networks DCS-7050SX3-48YC8".into(),
            address: Some("192.0.2.250".parse().unwrap()),
            vlan: Some(7),
            aggregated: Some(true),
            ttl: 4,
            ..Neighbour::default()
        };
        assert_eq!(neighbour, want);
    }

    #[test]
    fn what_cdp_says() {
        // Behind the Ethernet and SNAP headers.
        let neighbour = parse_cdp(&CDP[22..]).unwrap();
        assert_eq!((neighbour.system.as_str(), neighbour.ttl, neighbour.cdp), ("sw-17.dc3", 4, true));
        assert_eq!(neighbour.description, "Cisco IOS Software, C3750E");
        assert_eq!(neighbour.address, Some("192.0.2.250".parse().unwrap()));
        assert_eq!(neighbour.port, "b0");
        let mut fields = vec![2, 180, 0, 0];
        fields.extend(b"\0\x01\0\x06sw\0\x03\0\x09Gi1/7\0\x0a\0\x06\0\x2a");
        fields.extend(b"\0\x16\0\x11\0\0\0\x01\x01\x01\xcc\0\x04\xc0\0\x02\xfa");
        let neighbour = parse_cdp(&fields).unwrap();
        assert_eq!((neighbour.port.as_str(), neighbour.vlan), ("Gi1/7", Some(42)));
        assert_eq!(neighbour.address, Some("192.0.2.250".parse().unwrap()));
        // A field that has no room for its own header ends the message.
        assert_eq!(parse_cdp(&[&fields[..], &[0, 1, 0, 0]].concat()), parse_cdp(&fields));
        for junk in [&b""[..], b"\x02", b"\x03\xb4\0\0", b"\x02\xb4\0\0", b"\x02\xb4\0\0\0\x01\0\x05x"] {
            assert_eq!(parse_cdp(junk), None);
        }
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap();
        let head = (u16::from(kind) << 9) | length;
        [&head.to_be_bytes(), value].concat()
    }

    fn pdu(more: &[Vec<u8>]) -> Vec<u8> {
        let head = [tlv(1, b"\x04\x02\0\0\0\0\x01"), tlv(2, b"\x05ge-0/0/17"), tlv(3, &[0, 120])];
        [head.concat(), more.concat()].concat()
    }

    #[test]
    fn the_first_three_must_be_there_and_in_order() {
        assert_eq!(parse_lldp(&pdu(&[])).unwrap().port, "ge-0/0/17");
        let (chassis, port, ttl) = (tlv(1, b"\x07x"), tlv(2, b"\x07y"), tlv(3, &[0, 1]));
        for wrong in [vec![], vec![&chassis, &port], vec![&port, &chassis, &ttl], vec![&chassis, &ttl, &port]]
        {
            assert_eq!(parse_lldp(&wrong.into_iter().flatten().copied().collect::<Vec<_>>()), None);
        }
        assert_eq!(parse_lldp(&[tlv(1, b"\x07"), port.clone(), ttl.clone()].concat()), None);
        assert_eq!(parse_lldp(&[chassis, port, tlv(3, &[1])].concat()), None);
    }

    #[test]
    fn names_cannot_write_on_a_console() {
        let evil = pdu(&[tlv(5, "a\u{1b}[2J\nb\u{202e}c\0 \u{7f}".as_bytes()), tlv(4, &[b'x'; 300])]);
        let neighbour = parse_lldp(&evil).unwrap();
        assert_eq!(neighbour.system, "a[2Jbc");
        assert_eq!(neighbour.port_description.len(), MOST_CHARACTERS);
        let hidden = [tlv(1, b"\x07\x1b\x07"), tlv(2, b"\x03ab"), tlv(3, &[0, 1])].concat();
        let neighbour = parse_lldp(&hidden).unwrap();
        assert_eq!((neighbour.chassis.as_str(), neighbour.port.as_str()), ("1b07", "ab"));
    }

    #[test]
    fn what_follows_is_left_out_where_it_is_wrong() {
        let more = [
            tlv(8, &[200, 1, 1, 2, 3, 4]),
            tlv(8, &[17, 2, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            tlv(8, &[5, 1, 192, 0, 2, 9]),
            tlv(127, &[0, 0x80]),
            tlv(127, &[0, 0x80, 0xc2, 1]),
            tlv(127, &[0, 0x12, 0x0f, 3, 3, 0, 0, 0, 9]),
            tlv(127, &[0, 0x12, 0x0f, 4, 0x24, 0x14]),
            tlv(127, &[0, 0x80, 0xc2, 1, 0x0f, 0xff]),
            vec![0xfe, 0xff, 1],
        ];
        let neighbour = parse_lldp(&pdu(&more)).unwrap();
        assert_eq!(neighbour.address, Some("192.0.2.9".parse().unwrap()));
        assert_eq!(
            (neighbour.vlan, neighbour.aggregated, neighbour.max_frame),
            (None, Some(true), Some(9236))
        );
    }
}
