//! Whether another host has one of our IPv4 addresses (RFC 5227).
//!
//! An address is used at once and probed for meanwhile: whoever rescues a server wants to get in, and
//! what he is told a second later is as good as what he is told a second before. IPv6 has this in the
//! kernel.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rescue_schema::network::MacAddress;
use rescue_schema::report::{DuplicateReport, LinkReport};

use super::{Context, Event, Protocol};
use crate::net::dhcp::frame::gratuitous_arp;
use crate::sys::netlink::Origin;
use crate::sys::packet::ArpSocket;

/// PROBE_NUM and PROBE_MIN of RFC 5227 1.1.
const PROBES: u8 = 3;
const SPACING: Duration = Duration::from_secs(1);
/// DEFEND_INTERVAL: at most one announcement in it, so that two hosts do not shout at one another.
const DEFEND: Duration = Duration::from_secs(10);
/// Packets that are read from one link before the others get their turn.
const MOST_AT_ONCE: usize = 64;

/// An address that is watched.
#[derive(Debug)]
struct Watched {
    address: Ipv4Addr,
    /// Probes that are yet to be sent.
    probes: u8,
    /// Who else has it.
    other: Option<[u8; 6]>,
    defended: Option<Duration>,
}

/// The watch of one port.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    watched: Vec<Watched>,
    wake: Option<Duration>,
    socket: Option<ArpSocket>,
}

impl Conflicts {
    fn watch(&mut self, addresses: impl Iterator<Item = Ipv4Addr>, cx: &Context<'_>) {
        let mut old = std::mem::take(&mut self.watched);
        for address in addresses.take(ArpSocket::MOST) {
            let known = old.iter().position(|w| w.address == address).map(|at| old.swap_remove(at));
            let new = Watched { address, probes: PROBES, other: None, defended: None };
            self.watched.push(known.unwrap_or(new));
        }
        let all: Vec<Ipv4Addr> = self.watched.iter().map(|w| w.address).collect();
        let opened = match &self.socket {
            _ if all.is_empty() => {
                self.socket = None;
                Ok(())
            }
            Some(socket) => socket.watch(&all),
            None => ArpSocket::open(cx.link.index, &all).map(|socket| self.socket = Some(socket)),
        };
        if let Err(error) = opened {
            cx.say(&format!("watching for duplicate addresses: {error}"));
        }
        // Not now: what has just been given is to be told of first.
        self.wake = self.due().then_some(cx.now);
    }

    fn due(&self) -> bool {
        self.watched.iter().any(|w| w.probes > 0)
    }

    fn probe(&mut self, cx: &Context<'_>) {
        if let (Some(socket), Some(mac)) = (&self.socket, cx.link.mac.filter(|_| cx.link.carrier)) {
            for watched in self.watched.iter_mut().filter(|w| w.probes > 0) {
                watched.probes -= 1;
                // An error is the link's state, of which the kernel notifies us.
                let _ = socket.broadcast(&probe(mac, watched.address));
            }
        }
        self.wake = (self.due() && cx.link.carrier).then(|| cx.now + SPACING);
    }

    fn receive(&mut self, cx: &mut Context<'_>) {
        let mut buffer = [0; 64];
        for _ in 0..MOST_AT_ONCE {
            let Some(Ok(Some(packet))) = self.socket.as_ref().map(|s| s.receive(&mut buffer)) else { return };
            let Some((mac, address)) = sender(packet).filter(|(mac, _)| !cx.is_own(*mac)) else { continue };
            let Some(watched) = self.watched.iter_mut().find(|w| w.address == address) else { continue };
            let news = watched.other != Some(mac);
            watched.other = Some(mac);
            if news {
                let who = MacAddress(mac);
                cx.say(&format!("{address} is also the address of {who}: one of the two is wrong"));
                cx.tell(Event::Duplicate { address: IpAddr::V4(address), mac: Some(mac) });
            }
            if watched.defended.is_none_or(|at| at + DEFEND <= cx.now) {
                watched.defended = Some(cx.now);
                if let (Some(socket), Some(own)) = (&self.socket, cx.link.mac) {
                    let _ = socket.broadcast(&gratuitous_arp(own, address));
                }
            }
        }
    }
}

impl Protocol for Conflicts {
    fn origin(&self) -> Option<Origin> {
        None
    }

    fn step(&mut self, event: &Event<'_>, cx: &mut Context<'_>) {
        match event {
            Event::Given(all) => {
                // In the network of a lone address (clouds) a gateway answers for every other, ours included.
                let v4 = all.iter().filter(|a| a.length < 32).filter_map(|a| match a.address {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                });
                self.watch(v4, cx);
            }
            // Another cable may lead to another network.
            Event::Carrier(true) => {
                for watched in &mut self.watched {
                    (watched.probes, watched.other) = (PROBES, None);
                }
                self.wake = self.due().then_some(cx.now);
            }
            Event::Timer => self.probe(cx),
            Event::Readable => self.receive(cx),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.wake
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    fn report(&self, report: &mut LinkReport) {
        for watched in &self.watched {
            report.duplicates.extend(watched.other.map(|mac| DuplicateReport {
                address: watched.address.to_string(),
                mac: Some(MacAddress(mac).to_string()),
            }));
        }
    }
}

/// An ARP probe (RFC 5227 2.1.1): asks without claiming.
fn probe(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, 1], &mac[..], &[0; 4], &[0; 6], &address.octets()].concat()
}

/// Who claims which address, in an ARP packet of Ethernet and IPv4 (RFC 826).
fn sender(packet: &[u8]) -> Option<([u8; 6], Ipv4Addr)> {
    let rest = packet.strip_prefix(&[0, 1, 8, 0, 6, 4])?;
    let mac = *rest.get(2..)?.first_chunk::<6>()?;
    let address = *rest.get(8..)?.first_chunk::<4>()?;
    Some((mac, Ipv4Addr::from(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let claim = gratuitous_arp([2, 0, 0, 0, 0, 1], address);
        assert_eq!(sender(&claim), Some(([2, 0, 0, 0, 0, 1], address)));
        assert_eq!(
            sender(&probe([2, 0, 0, 0, 0, 1], address)).map(|(_, ip)| ip),
            Some(Ipv4Addr::UNSPECIFIED)
        );
        for length in 0..18 {
            assert_eq!(sender(&claim[..length]), None);
        }
        assert_eq!(sender(&[0xff; 64]), None);
    }
}
