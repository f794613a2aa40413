//! Questions to a name server and their answers (RFC 1035 section 4), for addresses alone.
//!
//! No library, because an answer is taken apart without following a single compressed name: its question
//! must be ours byte by byte, and of its records the length of a name is all that is needed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest answer over UDP that we ask for, in bytes (RFC 6891, and the largest that no network cuts).
pub const MAX_ANSWER: usize = 1232;
/// Most addresses that are taken of an answer.
const MAX_ADDRESSES: usize = 16;

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// IPv6 addresses (RFC 3596).
    Aaaa = 28,
}

/// What a name server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name's addresses of this kind, perhaps none.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoName,
    /// It cannot say.
    Failed,
}

/// A question for `name`; none when that is no host name.
pub fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    // 255 bytes with the length of each label and the last, empty one.
    if name.is_empty() || name.len() > 253 {
        return None;
    }
    let mut message = id.to_be_bytes().to_vec();
    // Recursion desired; one question, and one record of what we take.
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        let fits = (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !fits {
            return None;
        }
        message.push(u8::try_from(label.len()).ok()?);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, kind as u8, 0, 1]);
    // EDNS0 (RFC 6891 section 6.1.2): the root's name, OPT, our largest message.
    message.extend_from_slice(&[0, 0, 41]);
    message.extend_from_slice(&u16::try_from(MAX_ANSWER).unwrap_or(512).to_be_bytes());
    message.extend_from_slice(&[0; 6]);
    Some(message)
}

/// Reads an answer to `question`; none when it is none, or malformed.
pub fn answer(message: &[u8], question: &[u8], kind: Kind) -> Option<Answer> {
    let head = message.get(..12)?;
    let asked = question.get(12..question.len().checked_sub(11)?)?;
    let number = |at: usize| Some(u16::from_be_bytes([*head.get(at)?, *head.get(at + 1)?]));
    let flags = number(2)?;
    let is_ours = head.get(..2) == question.get(..2) && flags & 0x8000 != 0 && flags & 0x7800 == 0;
    if !is_ours || number(4)? != 1 {
        return None;
    }
    let rest = message.get(12..)?;
    let (repeated, mut rest) = rest.split_at_checked(asked.len())?;
    // A server may change the case of letters, and nothing else.
    if !repeated.eq_ignore_ascii_case(asked) {
        return None;
    }
    match flags & 0xf {
        0 => {}
        3 => return Some(Answer::NoName),
        _ => return Some(Answer::Failed),
    }
    let mut addresses = Vec::new();
    for _ in 0..number(6)? {
        let Some((of, class, data, after)) = record(rest) else { break };
        rest = after;
        if of != kind as u16 || class != 1 || addresses.len() >= MAX_ADDRESSES {
            continue;
        }
        match kind {
            Kind::A => {
                addresses.extend(<[u8; 4]>::try_from(data).ok().map(|a| IpAddr::from(Ipv4Addr::from(a))))
            }
            Kind::Aaaa => {
                addresses.extend(<[u8; 16]>::try_from(data).ok().map(|a| IpAddr::from(Ipv6Addr::from(a))));
            }
        }
    }
    Some(Answer::Addresses(addresses))
}

/// The first record: its type, its class, its data, and what follows.
fn record(mut rest: &[u8]) -> Option<(u16, u16, &[u8], &[u8])> {
    loop {
        let (length, after) = rest.split_first()?;
        match length {
            0 => {
                rest = after;
                break;
            }
            1..=63 => rest = after.get(usize::from(*length)..)?,
            // A pointer ends a name (section 4.1.4).
            192.. => {
                rest = after.get(1..)?;
                break;
            }
            _ => return None,
        }
    }
    let (head, after) = rest.split_first_chunk::<10>()?;
    let [a, b, c, d, _, _, _, _, e, f] = *head;
    let (data, after) = after.split_at_checked(usize::from(u16::from_be_bytes([e, f])))?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), data, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(question: &[u8], code: u8, records: &[&[u8]]) -> Vec<u8> {
        let mut message = question[..question.len() - 11].to_vec();
        message[2] = 0x81;
        message[3] = 0x80 | code;
        message[7] = u8::try_from(records.len()).unwrap();
        message[11] = 0;
        message.extend(records.concat());
        message
    }

    #[test]
    fn addresses_are_read_behind_an_alias() {
        let question = question(7, "db.Example.", Kind::A).unwrap();
        let alias = [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 15][..]].concat();
        let six = [&[0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 9, 0, 16][..], &[1; 16]].concat();
        let four = [1, b'x', 0xc0, 15, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1];
        let message = reply(&question, 0, &[&alias, &six, &four]);
        let expected = Answer::Addresses(vec![[192, 0, 2, 1].into()]);
        assert_eq!(answer(&message, &question, Kind::A), Some(expected));
        assert_eq!(answer(&reply(&question, 3, &[]), &question, Kind::A), Some(Answer::NoName));
        assert_eq!(answer(&reply(&question, 2, &[]), &question, Kind::A), Some(Answer::Failed));
        for at in 0..message.len() {
            let _ = answer(&message[..at], &question, Kind::A);
            for bits in [1, 0x80, 0xff] {
                let mut changed = message.clone();
                changed[at] ^= bits;
                let _ = answer(&changed, &question, Kind::A);
            }
        }
        let other = self::question(8, "db.example", Kind::A).unwrap();
        assert_eq!(answer(&message, &other, Kind::A), None);
        let other = self::question(7, "dc.example", Kind::A).unwrap();
        assert_eq!(answer(&message, &other, Kind::A), None);
        assert_eq!(answer(&question, &question, Kind::A), None);
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for name in ["", ".", "a..b", "a b", "é", &"a".repeat(64), &"ab.".repeat(85), "a\0"] {
            assert_eq!(question(1, name, Kind::Aaaa), None, "{name}");
        }
        assert!(question(1, "_x.a-b.example", Kind::Aaaa).is_some());
    }
}
