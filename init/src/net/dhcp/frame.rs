//! IPv4 and UDP around a DHCP message, for a link that has no address (RFC 791, RFC 768).

use std::net::Ipv4Addr;

const IP: usize = 20;
const UDP: usize = 8;

/// Wraps a client's message for the broadcast address; `source` is ours where we have one.
pub fn wrap(message: &[u8], source: Ipv4Addr) -> Vec<u8> {
    let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    let total = length(IP + UDP + message.len());
    let udp = length(UDP + message.len());
    let source = source.octets();
    let mut ip = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
    if let Some(field) = ip.get_mut(12..16) {
        field.copy_from_slice(&source);
    }
    let sum = checksum(&[&ip]);
    if let Some(field) = ip.get_mut(10..12) {
        field.copy_from_slice(&sum);
    }
    let ports = [0, 68, 0, 67];
    let sum = checksum(&[&source, &[255; 4], &[0, 17], &udp, &ports, &udp, message]);
    // Zero stands for "no checksum"; a sum of zero is sent as its other form.
    let sum = if sum == [0, 0] { [0xff, 0xff] } else { sum };
    [&ip[..], &ports, &udp, &sum, message].concat()
}

/// The content of a UDP datagram from the server's port to the client's, with its source address.
///
/// The UDP checksum is not verified: a server on the same host leaves it to be computed by hardware
/// that the datagram never meets, and the frame's own check has covered it on a wire.
pub fn unwrap(datagram: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let (&first, _) = datagram.split_first()?;
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header < IP {
        return None;
    }
    let total = usize::from(be16(datagram.get(2..4)?)?);
    let fragment = be16(datagram.get(6..8)?)? & 0x3fff;
    let datagram = datagram.get(..total)?;
    if fragment != 0 || datagram.get(9) != Some(&17) || checksum(&[datagram.get(..header)?]) != [0, 0] {
        return None;
    }
    let source = Ipv4Addr::from(*datagram.get(12..16)?.first_chunk::<4>()?);
    let udp = datagram.get(header..)?;
    let length = usize::from(be16(udp.get(4..6)?)?);
    if udp.get(..4) != Some(&[0, 67, 0, 68]) {
        return None;
    }
    Some((source, udp.get(UDP..length)?))
}

/// A gratuitous ARP request (RFC 5227 3): neighbours that knew this address elsewhere learn of us.
pub fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let ip = address.octets();
    [&[0, 1, 8, 0, 6, 4, 0, 1], &mac[..], &ip, &[0; 6], &ip].concat()
}

fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// The Internet checksum (RFC 1071) over parts; only the last may be of odd length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0_u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        let (high, low) = (pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0));
        sum += u64::from(u16::from_be_bytes([high, low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_message_is_whole() {
        let mut frame = wrap(&[7; 301], Ipv4Addr::UNSPECIFIED);
        assert_eq!(checksum(&[&frame[..20]]), [0, 0]);
        assert_eq!(unwrap(&frame), None, "a client's message is no server's");
        frame[20..24].copy_from_slice(&[0, 67, 0, 68]);
        assert_eq!(unwrap(&frame), Some((Ipv4Addr::UNSPECIFIED, &[7; 301][..])));
        for length in 0..frame.len() {
            assert_eq!(unwrap(&frame[..length]), None);
        }
        for (at, byte) in [(0, 0x44), (0, 0x4f), (6, 0x20), (9, 6), (10, 1), (24, 7)] {
            let mut bad = frame.clone();
            bad[at] = byte;
            assert_eq!(unwrap(&bad), None, "byte {at}");
        }
    }
}
