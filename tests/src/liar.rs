//! A DHCP server that answers each question with lies, and then with the truth.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::network::Network;

/// The address that it means.
pub const TRUTH: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 70);
const SERVER: [u8; 4] = [192, 0, 2, 1];
const MESSAGE: std::ops::RangeTo<usize> = ..240;

/// The server.
pub struct Liar {
    lies: Arc<AtomicUsize>,
}

impl Liar {
    /// Lies that were sent so far.
    pub fn lies(&self) -> usize {
        self.lies.load(Ordering::SeqCst)
    }
}

/// Starts it on this link of the network, which has the address 192.0.2.1/24.
///
/// # Errors
/// When it cannot listen.
pub fn serve(network: &Network, link: &str) -> Result<Liar> {
    network.ip(&format!("route add 255.255.255.255/32 dev {link}"))?;
    let namespace = network.namespace()?;
    let lies = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&lies);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let socket = (|| -> Result<UdpSocket> {
            // This thread alone.
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            )?;
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67))?;
            socket.set_broadcast(true)?;
            Ok(socket)
        })();
        let socket = match socket {
            Ok(socket) => {
                let _ = sender.send(Ok(()));
                socket
            }
            Err(error) => return drop(sender.send(Err(error))),
        };
        // The socket ends with the namespace's link.
        let mut buffer = [0; 2048];
        while let Ok(length) = socket.recv(&mut buffer) {
            for (at, answer) in answers(&buffer[..length]).iter().enumerate() {
                if socket.send_to(answer, (Ipv4Addr::BROADCAST, 68)).is_err() {
                    return;
                }
                counter.fetch_add(usize::from(at > 0), Ordering::SeqCst);
            }
        }
    });
    receiver.recv().context("the lying server")??;
    Ok(Liar { lies })
}

/// The lies, then the truth; nothing where the question is none.
fn answers(asked: &[u8]) -> Vec<Vec<u8>> {
    let Some(head) = asked.get(MESSAGE) else { return Vec::new() };
    let discover = asked.windows(3).any(|w| w == [53, 1, 1]);
    let from = |server: [u8; 4], address: [u8; 4], options: &[&[u8]]| {
        let mut bytes = head.to_vec();
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&address);
        bytes.extend([53, 1, if discover { 2 } else { 5 }, 54, 4]);
        bytes.extend(server);
        options.iter().for_each(|option| bytes.extend_from_slice(option));
        bytes.push(255);
        bytes
    };
    let answer = |last: u8, options: &[&[u8]]| from(SERVER, [192, 0, 2, last], options);
    let mask: &[u8] = &[1, 4, 255, 255, 255, 0];
    let time: &[u8] = &[51, 4, 0, 0, 14, 16];
    let huge: Vec<u8> = [&[15, 255][..], &[b'x'; 255]].concat();
    let huge: Vec<&[u8]> = std::iter::repeat_n(&huge[..], 5).collect();
    let mut others_transaction = answer(66, &[mask, time]);
    others_transaction[4] ^= 1;
    let mut others_card = answer(67, &[mask, time]);
    others_card[28] ^= 1;
    let mut long_card = answer(68, &[mask, time]);
    long_card[2] = 255;
    let mut a_question = answer(69, &[mask, time]);
    a_question[0] = 1;
    let truth: &[&[u8]] = &[
        mask,
        time,
        // A router outside the subnet, an MTU of 1, a host's name and a domain that write on a terminal,
        // a loopback as name server, a search list that never ends.
        &[3, 4, 203, 0, 113, 1],
        &[26, 2, 0, 1],
        &[12, 7, b'e', 27, b'[', b'2', b'J', 7, b'l'],
        &[6, 8, 127, 0, 0, 1, 192, 0, 2, 53],
        &[119, 2, 0xc0, 0],
        &[15, 8, b'a', b'\n', b'b', 0, 27, b'[', b'3', b'm'],
    ];
    vec![
        Vec::new(),
        vec![2; 240],
        others_transaction,
        others_card,
        long_card,
        a_question,
        from(SERVER, [0, 0, 0, 0], &[mask, time]),
        from(SERVER, [127, 0, 0, 1], &[mask, time]),
        from(SERVER, [224, 0, 0, 1], &[mask, time]),
        from(SERVER, [255, 255, 255, 255], &[mask, time]),
        from([0, 0, 0, 0], [192, 0, 2, 60], &[mask, time]),
        answer(61, &[&[1, 4, 255, 0, 255, 0], time]),
        answer(62, &[mask, &[51, 4, 0, 0, 0, 0]]),
        answer(63, &[mask]),
        answer(64, &huge),
        answer(65, &[mask, &[51, 200, 1]]),
        answer(TRUTH.octets()[3], truth),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_comes_last() {
        let mut asked = vec![0; 240];
        asked.extend([53, 1, 1, 255]);
        let answers = answers(&asked);
        assert!(answers.len() > 12);
        assert_eq!(answers.last().unwrap()[16..20], TRUTH.octets());
        assert!(super::answers(&asked[..239]).is_empty());
    }
}
