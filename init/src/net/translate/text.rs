//! What all formats read alike: addresses, masks, words for yes and no.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rescue_schema::network::{MacAddress, Prefix};

pub(super) use crate::tree::{flag, words};

/// Text for a log and a terminal that must not obey it; at most `most` characters.
pub(super) fn shown(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(most).collect()
}

/// A MAC address with colons, hyphens or nothing between its bytes. Not a group address, and not zero.
pub(super) fn mac(text: &str) -> Option<MacAddress> {
    let text = text.trim();
    let mac: MacAddress = if text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let bytes = u64::from_str_radix(text, 16).ok()?.to_be_bytes();
        MacAddress(*bytes.last_chunk()?)
    } else {
        text.parse().ok()?
    };
    (mac.0 != [0; 6] && mac.0.first().is_some_and(|b| b & 1 == 0)).then_some(mac)
}

/// An address, in brackets or with a zone or without.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    text.split('%').next()?.parse().ok()
}

/// A mask as a length: `24`, `/24`, `255.255.255.0`, `0xffffff00`, `ffff:ffff::`.
pub(super) fn mask(text: &str, v4: bool) -> Option<u8> {
    let text = text.trim().trim_start_matches('/');
    let most = if v4 { 32 } else { 128 };
    if let Ok(length) = text.parse::<u8>() {
        return (length <= most).then_some(length);
    }
    let (bits, ones) = if let Some(hex) = text.strip_prefix("0x").filter(|_| v4) {
        let mask = u32::from_str_radix(hex, 16).ok()?;
        (u128::from(mask) << 96, mask.count_ones())
    } else {
        match text.parse().ok()? {
            IpAddr::V4(mask) if v4 => (u128::from(u32::from(mask)) << 96, u32::from(mask).count_ones()),
            IpAddr::V6(mask) if !v4 => (u128::from(mask), u128::from(mask).count_ones()),
            _ => return None,
        }
    };
    (bits.leading_ones() == ones).then(|| u8::try_from(ones).ok()).flatten()
}

/// The mask of an address's class (RFC 791 section 3.2), for documents that say none.
pub(super) fn classful(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(a) => match a.octets() {
            [0..=127, ..] => 8,
            [128..=191, ..] => 16,
            _ => 24,
        },
        IpAddr::V6(_) => 64,
    }
}

/// An address with its length, or with a mask beside it; a lone one has the longest.
pub(super) fn prefix(text: &str, beside: Option<&str>) -> Option<Prefix> {
    let (address, length) = match text.trim().split_once('/') {
        Some((address, length)) => (ip(address)?, Some(length)),
        None => (ip(text)?, beside.map(str::trim).filter(|m| !m.is_empty())),
    };
    let length = match length {
        Some(length) => mask(length, address.is_ipv4())?,
        None => longest(address),
    };
    Some(Prefix { address, length })
}

pub(super) fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A destination: `default`, a prefix, a network with a mask beside it, or one host.
pub(super) fn destination(to: &str, beside: Option<&str>, v4: bool) -> Option<Prefix> {
    match to.trim() {
        "default" | "any" | "" => Some(default(v4)),
        "0" if v4 => Some(default(v4)),
        to => prefix(to, beside),
    }
}

pub(super) fn default(v4: bool) -> Prefix {
    let address = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    Prefix { address, length: 0 }
}

/// A number, decimal or with `0x`.
pub(super) fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A routing table by number, or by the names that every system has.
pub(super) fn table(text: &str) -> Option<u32> {
    match text.trim() {
        "main" => Some(254),
        "local" => Some(255),
        "default" => Some(253),
        other => number(other),
    }
}

/// Lines of a file with their numbers, from 1; what is no UTF-8 is replaced.
pub(super) fn lines(bytes: &[u8]) -> Vec<(usize, String)> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    text.lines().enumerate().map(|(i, line)| (i + 1, line.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (text, v4, length) in [
            ("255.255.255.0", true, Some(24)),
            ("255.0.255.0", true, None),
            ("0xffffff00", true, Some(24)),
            ("/28", true, Some(28)),
            ("33", true, None),
            ("64", false, Some(64)),
            ("ffff:ffff:ffff:ffff::", false, Some(64)),
            ("ffff::1", false, None),
            ("0.0.0.0", true, Some(0)),
            ("", true, None),
        ] {
            assert_eq!(mask(text, v4), length, "{text}");
        }
        assert_eq!(prefix("192.0.2.7", Some("255.255.255.0")).unwrap().to_string(), "192.0.2.7/24");
        assert_eq!(prefix("fe80::1%eth0/64", None).unwrap().to_string(), "fe80::1/64");
        assert_eq!(mac("020000000001"), mac("02-00-00-00-00-01"));
        assert_eq!((mac("ff:ff:ff:ff:ff:ff"), mac("00:00:00:00:00:00"), mac("é2:00")), (None, None, None));
    }
}
