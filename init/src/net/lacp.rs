//! LACPDUs (IEEE 802.1AX-2020 clause 6.4.2, before that IEEE 802.3 clause 43): what a switch that wants
//! an aggregate says of itself, and how it is asked to. In an aggregate the kernel's bonding driver speaks.

use rescue_schema::network::MacAddress;

/// What one side says of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Priority of the system; lower is stronger.
    pub priority: u16,
    /// Which system it is.
    pub system: MacAddress,
    /// Ports of a system with the same key may be aggregated.
    pub key: u16,
    /// Which port of the system it is.
    pub port: u16,
    /// Clause 6.4.2.3, item m.
    pub state: u8,
}

impl Side {
    /// It speaks without being spoken to (LACP_Activity).
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state & 0x01 != 0
    }

    /// It wants to hear every second, and not every 30 (LACP_Timeout).
    #[must_use]
    pub fn is_fast(&self) -> bool {
        self.state & 0x02 != 0
    }

    /// The port may be one of several, or else is only ever alone (Aggregation).
    #[must_use]
    pub fn is_aggregatable(&self) -> bool {
        self.state & 0x04 != 0
    }

    /// It takes frames from the port and sends frames to it (Collecting, Distributing).
    #[must_use]
    pub fn carries(&self) -> bool {
        self.state & 0x30 == 0x30
    }
}

/// An LACPDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lacpdu {
    /// Who sent it.
    pub actor: Side,
    /// Whom the sender believes to speak to; all zero where it has heard nobody.
    pub partner: Side,
}

/// Reads an LACPDU: what follows the EtherType 0x8809. `None` for other slow protocols (subtype 1 is
/// LACP's) and for what is malformed. A later version is read as version 1, as 6.4.2.3 item c wants.
#[must_use]
pub fn parse_lacp(pdu: &[u8]) -> Option<Lacpdu> {
    let [1, version, rest @ ..] = pdu else { return None };
    let (actor, rest) = side(rest, 1)?;
    let (partner, _) = side(rest, 2)?;
    // A system of zeroes or of many is none.
    let is_one = actor.system.0 != [0; 6] && actor.system.0.first().is_some_and(|byte| byte & 1 == 0);
    (*version >= 1 && is_one).then_some(Lacpdu { actor, partner })
}

/// A TLV of this type: 20 bytes, of which the last three are reserved.
fn side(bytes: &[u8], kind: u8) -> Option<(Side, &[u8])> {
    let (tlv, rest) = bytes.split_first_chunk::<20>()?;
    let [k, 20, p, q, a, b, c, d, e, f, g, h, _, _, i, j, state, ..] = *tlv else { return None };
    let side = Side {
        priority: u16::from_be_bytes([p, q]),
        system: MacAddress([a, b, c, d, e, f]),
        key: u16::from_be_bytes([g, h]),
        port: u16::from_be_bytes([i, j]),
        state,
    };
    (k == kind).then_some((side, rest))
}

/// A frame by which a switch is asked who it is: the first word of a port that has heard nobody and may
/// be aggregated. Whoever speaks LACP answers what names it wrongly at once (6.4.15, `update_NTT`), also
/// one that is passive or that has 30 s until its next turn. It carries no traffic for this alone: the
/// port is not in sync.
#[must_use]
pub fn question(mac: [u8; 6]) -> [u8; 124] {
    // LACP_Activity, LACP_Timeout (the partner is to speak every second), Aggregation, Defaulted.
    const STATE: u8 = 0x01 | 0x02 | 0x04 | 0x40;
    const GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x02];
    let [a, b, c, d, e, f] = mac;
    let actor = [1, 20, 0xff, 0xff, a, b, c, d, e, f, 0, 1, 0, 0xff, 0, 1, STATE, 0, 0, 0];
    let mut frame = [0; 124];
    let partner = [2, 20];
    // CollectorMaxDelay 0.
    let collector = [3, 16];
    let parts: [(usize, &[u8]); 6] =
        [(0, &GROUP), (6, &mac), (12, &[0x88, 0x09, 1, 1]), (16, &actor), (36, &partner), (56, &collector)];
    for (at, part) in parts {
        for (to, from) in frame.iter_mut().skip(at).zip(part) {
            *to = *from;
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent by Open vSwitch 3.1 (`lacp=active lacp-time=fast`), which has heard nobody yet.
    const OVS: &[u8] = include_bytes!("../../fuzz/corpus/neighbour/lacp");

    #[test]
    fn what_open_vswitch_says() {
        let pdu = parse_lacp(&OVS[14..]).unwrap();
        let actor = pdu.actor;
        assert_eq!(actor.system, "52:54:00:5a:00:01".parse().unwrap());
        assert_eq!((actor.priority, actor.key, actor.port), (65534, 1, 2));
        assert!(actor.is_active() && actor.is_fast() && actor.is_aggregatable());
        assert_eq!(pdu.partner.system, MacAddress([0; 6]));
        assert!(!pdu.partner.is_active() && !pdu.partner.carries());
    }

    #[test]
    fn a_question_is_of_one_who_has_heard_nobody() {
        let frame = question([2, 0, 0, 0, 0, 7]);
        assert_eq!(frame.len(), OVS.len());
        assert_eq!(frame[..14], [1, 0x80, 0xc2, 0, 0, 2, 2, 0, 0, 0, 0, 7, 0x88, 0x09]);
        let pdu = parse_lacp(&frame[14..]).unwrap();
        let (actor, ovs) = (pdu.actor, parse_lacp(&OVS[14..]).unwrap());
        assert_eq!((actor.system, actor.priority), (MacAddress([2, 0, 0, 0, 0, 7]), 0xffff));
        assert!(actor.is_active() && actor.is_fast() && actor.is_aggregatable() && !actor.carries());
        assert_eq!(actor.state & 0x08, 0, "not in sync");
        // Open vSwitch has another opinion of the rate of one whom it has not heard.
        assert_eq!(pdu.partner, Side { state: 0, ..ovs.partner });
        // Where the parts that say nothing of the ports are, it is what Open vSwitch sends.
        let rest = |frame: &[u8]| [&frame[14..18], &frame[36..52], &frame[53..]].concat();
        assert_eq!(rest(&frame), rest(OVS));
    }

    #[test]
    fn what_is_no_lacpdu() {
        let good = &OVS[14..];
        for cut in 0..42 {
            assert_eq!(parse_lacp(&good[..cut]), None, "{cut}");
        }
        for (at, value) in [(0, 2), (1, 0), (2, 2), (3, 19), (22, 1), (23, 21), (6, 1)] {
            let mut bad = good.to_vec();
            bad[at] = value;
            assert_eq!(parse_lacp(&bad), None, "{at}");
        }
        let mut newer = good.to_vec();
        newer[1] = 2;
        assert_eq!(parse_lacp(&newer), parse_lacp(good));
    }
}
