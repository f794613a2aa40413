//! Advertisements for tests.

use std::net::Ipv6Addr;

/// An advertisement with these flags, router lifetime and options.
pub(in crate::net) fn advert(flags: u8, lifetime: u16, options: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![134, 0, 0, 0, 64, flags];
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend([0; 8]);
    options.iter().for_each(|option| bytes.extend(option));
    bytes
}

/// A prefix information option.
pub(in crate::net) fn prefix(prefix: &str, length: u8, flags: u8, valid: u32, preferred: u32) -> Vec<u8> {
    let mut bytes = vec![3, 4, length, flags];
    bytes.extend(valid.to_be_bytes());
    bytes.extend(preferred.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(prefix.parse::<Ipv6Addr>().unwrap().octets());
    bytes
}

/// A route information option.
pub(in crate::net) fn route(to: &str, length: u8, flags: u8, seconds: u32) -> Vec<u8> {
    let mut bytes = vec![24, 3, length, flags];
    bytes.extend(seconds.to_be_bytes());
    bytes.extend(to.parse::<Ipv6Addr>().unwrap().octets());
    bytes
}

/// A recursive name server option.
pub(in crate::net) fn rdnss(seconds: u32, servers: &[&str]) -> Vec<u8> {
    let mut bytes = vec![25, u8::try_from(1 + 2 * servers.len()).unwrap(), 0, 0];
    bytes.extend(seconds.to_be_bytes());
    servers.iter().for_each(|server| bytes.extend(server.parse::<Ipv6Addr>().unwrap().octets()));
    bytes
}

/// A search list option of names in their wire form.
pub(in crate::net) fn dnssl(seconds: u32, names: &[u8]) -> Vec<u8> {
    let mut bytes = vec![31, u8::try_from(1 + names.len().div_ceil(8)).unwrap(), 0, 0];
    bytes.extend(seconds.to_be_bytes());
    bytes.extend(names);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}
