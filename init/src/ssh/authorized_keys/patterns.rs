//! Patterns over names and addresses (ssh_config(5), `PATTERNS`), and networks.

use std::net::IpAddr;

/// ssh_config(5), `PATTERNS`, over addresses alone: the server asks no name service. One negated
/// match refuses whatever else matches.
pub(super) fn matches(patterns: &[String], source: IpAddr) -> bool {
    let source = source.to_canonical();
    let text = source.to_string();
    let mut admitted = false;
    for pattern in patterns {
        let (negated, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern.as_str()),
        };
        let hit = match pattern.split_once('/') {
            Some((network, bits)) => in_network(source, network, bits),
            None => wildcard(pattern.as_bytes(), text.as_bytes()),
        };
        match (hit, negated) {
            (true, true) => return false,
            (true, false) => admitted = true,
            _ => {}
        }
    }
    admitted
}

/// Whether `source` is in one of these networks or one of these addresses (`source-address` of a
/// certificate). What is neither contains nothing.
pub(in crate::ssh) fn from_networks(text: &str, source: IpAddr) -> bool {
    let source = source.to_canonical();
    text.split(',').any(|network| match network.split_once('/') {
        Some((network, bits)) => in_network(source, network, bits),
        None => network.parse() == Ok(source),
    })
}

fn in_network(source: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let (source, network, width) = match (source, network) {
        (IpAddr::V4(s), IpAddr::V4(n)) => (u128::from(s.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(s), IpAddr::V6(n)) => (s.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let differ = source ^ network;
    bits <= width && differ.checked_shr(width - bits).unwrap_or(0) == 0
}

/// `*` and `?`, in time linear in text times stars (the last star is all that need be retried).
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(c) if c.eq_ignore_ascii_case(byte) => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, at)) => {
                    (p, t) = (after, at + 1);
                    star = Some((after, at + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}
