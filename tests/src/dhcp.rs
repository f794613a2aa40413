//! A DHCP server (RFC 2131) at the other end of a QEMU wire, which answers only once it is told
//! to: for a network that is silent at first. It speaks raw Ethernet in QEMU's stream framing, so it
//! needs no privilege and no network of the host.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The server's own address, and the router's.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// What every client gets.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const SERVER_MAC: [u8; 6] = [0x52, 0x54, 0, 0xd4, 0xc9, 1];
/// The largest frame that QEMU passes on, with room.
const MAX_FRAME: usize = 69_632;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// A server that runs until its wire is cut.
pub struct Server {
    /// The loopback port for [`crate::qemu::Link::Wire`].
    pub port: u16,
    asked: Arc<AtomicU32>,
    answered: Arc<AtomicU32>,
}

impl Server {
    /// A server that ignores all requests for `silence` after the first one.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn silent_for(silence: Duration) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening for QEMU")?;
        let port = listener.local_addr()?.port();
        let (asked, answered) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let counters = (Arc::clone(&asked), Arc::clone(&answered));
        std::thread::spawn(move || {
            if let Ok((wire, _)) = listener.accept() {
                // The wire ends when the machine does.
                let _ = serve(wire, silence, &counters.0, &counters.1);
            }
        });
        Ok(Self { port, asked, answered })
    }

    /// Requests that came in so far, those that were ignored included.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Leases that were acknowledged so far.
    pub fn answered(&self) -> u32 {
        self.answered.load(Ordering::SeqCst)
    }
}

fn serve(mut wire: TcpStream, silence: Duration, asked: &AtomicU32, answered: &AtomicU32) -> Result<()> {
    let mut first = None;
    loop {
        let mut length = [0; 4];
        wire.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        anyhow::ensure!(length <= MAX_FRAME, "a frame of {length} bytes");
        let mut frame = vec![0; length];
        wire.read_exact(&mut frame)?;
        let answer = if is_dhcp(&frame) {
            asked.fetch_add(1, Ordering::SeqCst);
            let since = *first.get_or_insert_with(Instant::now);
            match since.elapsed() < silence {
                true => None,
                false => dhcp_answer(&frame)
                    .inspect(|(_, kind)| {
                        if *kind == ACK {
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                    })
                    .map(|(frame, _)| frame),
            }
        } else {
            arp_answer(&frame)
        };
        if let Some(frame) = answer {
            wire.write_all(&u32::try_from(frame.len())?.to_be_bytes())?;
            wire.write_all(&frame)?;
        }
    }
}

/// ARP (RFC 826): who has the server's address?
fn arp_answer(frame: &[u8]) -> Option<Vec<u8>> {
    let request = frame.get(12..22)? == [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    if !request || frame.get(38..42)? != SERVER.octets() {
        return None;
    }
    let sender = frame.get(22..32)?;
    let mut answer = Vec::new();
    answer.extend_from_slice(&sender[..6]);
    answer.extend_from_slice(&SERVER_MAC);
    answer.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    answer.extend_from_slice(&SERVER_MAC);
    answer.extend_from_slice(&SERVER.octets());
    answer.extend_from_slice(sender);
    Some(answer)
}

/// The UDP payload of an IPv4 frame to port 67.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let ip = frame.get(14..)?;
    let header = usize::from(ip.first()? & 15) * 4;
    let udp = ip.get(header..)?;
    let to_server = frame.get(12..14)? == [8, 0] && *ip.get(9)? == 17 && udp.get(2..4)? == [0, 67];
    if to_server { udp.get(8..) } else { None }
}

fn is_dhcp(frame: &[u8]) -> bool {
    payload(frame).and_then(message_type).is_some()
}

/// Option 53 (RFC 2132, 9.6).
fn message_type(message: &[u8]) -> Option<u8> {
    if message.get(236..240)? != [99, 130, 83, 99] {
        return None;
    }
    let mut options = message.get(240..)?;
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] | [] | [_] => return None,
            [53, 1, kind, ..] => return Some(*kind),
            [_, length, rest @ ..] => options = rest.get(usize::from(*length)..)?,
        }
    }
}

/// The frame that answers, and the type of the message in it.
fn dhcp_answer(frame: &[u8]) -> Option<(Vec<u8>, u8)> {
    let request = payload(frame)?;
    let kind = match message_type(request)? {
        DISCOVER => OFFER,
        REQUEST => ACK,
        _ => return None,
    };
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[4..8].copy_from_slice(request.get(4..8)?); // xid
    message[10..12].copy_from_slice(request.get(10..12)?); // flags
    message[16..20].copy_from_slice(&CLIENT.octets());
    message[20..24].copy_from_slice(&SERVER.octets());
    message[28..44].copy_from_slice(request.get(28..44)?); // chaddr
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    let mut option = |code: u8, value: &[u8]| {
        message.push(code);
        message.push(u8::try_from(value.len()).unwrap_or(0));
        message.extend_from_slice(value);
    };
    option(53, &[kind]);
    option(54, &SERVER.octets());
    option(51, &3600_u32.to_be_bytes());
    option(1, &[255, 255, 255, 0]);
    option(3, &SERVER.octets());
    option(6, &SERVER.octets());
    message.push(255);

    let udp_length = u16::try_from(8 + message.len()).ok()?;
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&(20 + udp_length).to_be_bytes());
    ip.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend_from_slice(&SERVER.octets());
    ip.extend_from_slice(&Ipv4Addr::BROADCAST.octets());
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);

    let mut out = vec![0xff; 6];
    out.extend_from_slice(&SERVER_MAC);
    out.extend_from_slice(&[8, 0]);
    out.extend_from_slice(&ip);
    out.extend_from_slice(&[0, 67, 0, 68]);
    out.extend_from_slice(&udp_length.to_be_bytes());
    out.extend_from_slice(&[0, 0]); // no checksum (RFC 768)
    out.extend_from_slice(&message);
    Some((out, kind))
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discover() -> Vec<u8> {
        let mut message = vec![0; 240];
        message[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
        message[236..].copy_from_slice(&[99, 130, 83, 99]);
        message.extend_from_slice(&[12, 2, b'a', b'b', 53, 1, DISCOVER, 255]);
        let mut frame = vec![0xff; 12];
        frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend_from_slice(&[0; 8]);
        frame.extend_from_slice(&[0, 68, 0, 67, 0, 0, 0, 0]);
        frame.extend_from_slice(&message);
        frame
    }

    #[test]
    fn a_discover_is_offered_an_address() {
        let (frame, kind) = dhcp_answer(&discover()).unwrap();
        assert_eq!(kind, OFFER);
        assert_eq!(checksum(&frame[14..34]), 0, "the sum over a header with its checksum");
        assert_eq!(frame[42 + 16..42 + 20], CLIENT.octets());
        assert_eq!(frame[42 + 4..42 + 8], [1, 2, 3, 4]);
    }

    #[test]
    fn junk_is_not_answered() {
        for frame in [vec![], vec![0; 13], vec![0xff; 60], vec![8; 2000]] {
            assert!(!is_dhcp(&frame) && arp_answer(&frame).is_none());
        }
        let whole = discover();
        for cut in 0..whole.len() - 4 {
            assert!(dhcp_answer(&whole[..cut]).is_none());
        }
    }
}
