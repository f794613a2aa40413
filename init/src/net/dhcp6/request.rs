//! What the client asks (RFC 8415 16, 21), as bytes.

use std::net::Ipv6Addr;

/// What a message is for; the number is its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Solicit = 1,
    Request = 3,
    Confirm = 4,
    Renew = 5,
    Rebind = 6,
    Decline = 9,
    Information = 11,
}

/// What goes into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub ask: Ask,
    /// 24 bits.
    pub xid: u32,
    pub mac: [u8; 6],
    /// Hundredths of a second since the exchange began.
    pub elapsed: u16,
    /// The DUID of the server that alone is to answer.
    pub server: Option<&'a [u8]>,
    pub addresses: &'a [Ipv6Addr],
}

/// DUID-LL (RFC 8415 11.4). A rescue keeps nothing from boot to boot, so that its DUID has to be made of
/// what the machine itself has: the MAC address, by which reservations are kept. DUID-LLT has a time in
/// it that nobody remembers, and the UUID of DUID-UUID is in firmware tables that clones of virtual
/// machines share and that boards leave empty. Each link has its own, of its own address, so that what is
/// asked for on one does not depend on which other cards were found first.
pub(super) fn duid(mac: [u8; 6]) -> [u8; 10] {
    let [a, b, c, d, e, f] = mac;
    [0, 3, 0, 1, a, b, c, d, e, f]
}

/// The number of our one association: the lower half of the MAC address, as ISC's client has it.
pub(super) fn iaid([_, _, a, b, c, d]: [u8; 6]) -> u32 {
    u32::from_be_bytes([a, b, c, d])
}

/// The message as it is sent.
pub(super) fn encode(message: &Message<'_>) -> Vec<u8> {
    let Message { ask, xid, mac, elapsed, server, addresses } = *message;
    let [_, x0, x1, x2] = xid.to_be_bytes();
    let mut bytes = vec![ask as u8, x0, x1, x2];
    option(&mut bytes, 1, &duid(mac));
    if let Some(server) = server {
        option(&mut bytes, 2, server);
    }
    option(&mut bytes, 8, &elapsed.to_be_bytes());
    if ask == Ask::Solicit {
        option(&mut bytes, 14, &[]);
    }
    if ask != Ask::Information {
        // IAID, and T1 and T2, which are the server's to choose.
        let mut association = iaid(mac).to_be_bytes().to_vec();
        association.extend([0; 8]);
        for address in addresses {
            let lifetimes = [0; 8];
            option(&mut association, 5, &[&address.octets()[..], &lifetimes].concat());
        }
        option(&mut bytes, 3, &association);
    }
    // Name servers, search domains, SOL_MAX_RT, INF_MAX_RT, and how long other configuration lasts.
    let wanted: &[u8] = match ask {
        Ask::Confirm | Ask::Decline => &[],
        Ask::Information => &[0, 23, 0, 24, 0, 32, 0, 83],
        _ => &[0, 23, 0, 24, 0, 82],
    };
    if !wanted.is_empty() {
        option(&mut bytes, 6, wanted);
    }
    bytes
}

fn option(bytes: &mut Vec<u8>, code: u16, content: &[u8]) {
    bytes.extend(code.to_be_bytes());
    bytes.extend(u16::try_from(content.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solicitation() {
        let message = Message {
            ask: Ask::Solicit,
            xid: 0x0a_0b_0c,
            mac: [2, 0, 0, 0, 0, 1],
            elapsed: 0x0102,
            server: None,
            addresses: &["2001:db8::7".parse().unwrap()],
        };
        let mut wanted = vec![1, 10, 11, 12, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1, 0, 8, 0, 2, 1, 2];
        wanted.extend([0, 14, 0, 0, 0, 3, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 24]);
        wanted.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([0, 6, 0, 6, 0, 23, 0, 24, 0, 82]);
        assert_eq!(encode(&message), wanted);
        let ask = Message { ask: Ask::Information, server: Some(&[9]), ..message };
        let mut wanted = vec![11, 10, 11, 12, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1, 0, 2, 0, 1, 9];
        wanted.extend([0, 8, 0, 2, 1, 2, 0, 6, 0, 8, 0, 23, 0, 24, 0, 32, 0, 83]);
        assert_eq!(encode(&ask), wanted);
    }
}
