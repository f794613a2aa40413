//! Messages of servers for tests.

use std::net::Ipv6Addr;

/// The DUID of a machine whose MAC address is 02:00:00:00:00:01.
pub(in crate::net) const CLIENT: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
/// A server's.
pub(in crate::net) const SERVER: [u8; 4] = [0, 3, 9, 9];

/// A message from [`SERVER`] to [`CLIENT`].
pub(in crate::net) fn message(kind: u8, xid: u32, options: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = xid.to_be_bytes().to_vec();
    bytes[0] = kind;
    bytes.extend(option(1, &CLIENT));
    bytes.extend(option(2, &SERVER));
    options.iter().for_each(|option| bytes.extend(option));
    bytes
}

/// Any option.
pub(in crate::net) fn option(code: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&code.to_be_bytes()[..], &length.to_be_bytes(), content].concat()
}

/// IA_NA.
pub(in crate::net) fn association(iaid: u32, t1: u32, t2: u32, options: &[Vec<u8>]) -> Vec<u8> {
    let mut content = [iaid, t1, t2].map(u32::to_be_bytes).concat();
    options.iter().for_each(|option| content.extend(option));
    option(3, &content)
}

/// IA Address.
pub(in crate::net) fn iaaddr(address: &str, preferred: u32, valid: u32) -> Vec<u8> {
    let mut content = address.parse::<Ipv6Addr>().unwrap().octets().to_vec();
    content.extend(preferred.to_be_bytes());
    content.extend(valid.to_be_bytes());
    option(5, &content)
}
