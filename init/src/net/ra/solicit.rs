//! A router solicitation as an IPv6 packet (RFC 4861 4.1, RFC 8200 3).

use std::net::Ipv6Addr;

/// ff02::2
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Type 133, no options.
const LENGTH: u8 = 8;
const ICMPV6: u8 = 58;

/// The packet; without a source it is the unspecified address, to which routers answer by multicast.
///
/// Our MAC address is not in it: an address that is used while duplicates are looked for must not tell
/// it (RFC 4429 3.2), and a router that wants to answer to us alone finds out.
pub fn packet(source: Option<Ipv6Addr>) -> Vec<u8> {
    let source = source.unwrap_or(Ipv6Addr::UNSPECIFIED).octets();
    let to = ALL_ROUTERS.octets();
    let pairs = source.chunks_exact(2).chain(to.chunks_exact(2));
    let addresses = pairs.map(|pair| match pair {
        [high, low] => u32::from(*high) << 8 | u32::from(*low),
        _ => 0,
    });
    let mut sum = addresses.sum::<u32>() + u32::from(LENGTH) + u32::from(ICMPV6) + (133 << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [s0, s1] = (!u16::try_from(sum).unwrap_or(0)).to_be_bytes();
    let header = [0x60, 0, 0, 0, 0, LENGTH, ICMPV6, 255];
    [&header[..], &source, &to, &[133, 0, s0, s1, 0, 0, 0, 0]].concat()
}

#[cfg(test)]
mod tests {
    use super::packet;

    #[test]
    fn the_checksum_is_right() {
        // As the kernel of Linux sends it from this address, but for the option with the MAC address.
        for source in [None, Some("fe80::5054:ff:fe12:3456".parse().unwrap())] {
            let packet = packet(source);
            assert_eq!(packet.len(), 48);
            let words = |bytes: &[u8]| -> u32 {
                bytes.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum()
            };
            let sum = words(&packet[8..]) + 8 + 58;
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        }
        assert_eq!(packet(None)[40..44], [133, 0, 0x7b, 0xb8]);
    }
}
