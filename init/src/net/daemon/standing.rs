//! What stands on a port: taken over from an earlier run, brought to what is wanted, restored.

use std::path::Path;

use rescue_schema::report::NetReport;

use super::Daemon;
use super::port::{Port, Role};
use crate::net::apply::{apply, new_addresses};
use crate::net::cards::Card;
use crate::net::dhcp::frame;
use crate::net::plan::Plan;
use crate::net::protocol::Event;
use crate::sys::files::read_capped;
use crate::sys::ipv6;
use crate::sys::netlink::{Address, Link};
use crate::sys::packet::send_arp;
use crate::sys::time::since_boot;

/// Largest report that is read back, in bytes.
const MAX_REPORT: usize = 1 << 20;

/// What an earlier run of this program wrote last, or nothing.
pub(super) fn earlier_report(path: &Path) -> NetReport {
    let bytes = read_capped(path, MAX_REPORT).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

impl Daemon<'_> {
    /// A new port, with what an earlier run of this program left on it: connections over its address
    /// must outlive a crash of ours.
    pub(super) fn adopt(&mut self, link: Link, role: Role) {
        let index = link.index;
        if role.carries && link.up {
            ipv6::take_over(&link.name);
        }
        let mut port = Port::new(link, role);
        port.look(&self.settings.root);
        if port.role.card {
            port.path = Card::path_of(&self.settings.root, &port.link.name);
        }
        port.standing = self.observe(index);
        port.woken |= !port.standing.addresses.is_empty();
        // Whatever the MTU is now: the earlier run may have been killed before it said what it had set.
        let ours = !port.standing.addresses.is_empty();
        let before = self.before.links.iter().find(|old| ours && old.name == port.link.name);
        if let Some(mtu) = before.map(|old| old.mtu_before).filter(|mtu| ![0, port.link.mtu].contains(mtu)) {
            port.mtu = mtu;
            port.standing.mtu = Some(port.link.mtu);
        }
        for address in self.netlink.addresses().unwrap_or_default() {
            if address.index == index {
                port.saw(address);
            }
        }
        let new = port.choose();
        let left = port.standing.addresses.clone();
        self.ports.insert(index, port);
        for address in &left {
            self.step(index, &Event::Adopt(address), |_, protocol| protocol.origin() == address.origin);
        }
        let carrier = self.ports.get(&index).is_some_and(|port| port.link.carrier);
        self.say_of(index, if carrier { "carrier" } else { "no carrier" });
        self.apply(index, true);
        if !left.is_empty() {
            self.step(index, &Event::Given(&left), |_, _| true);
        }
        self.begin(index, &new);
    }

    /// What this program has set on a link at some time, as the kernel shows it.
    fn observe(&mut self, index: u32) -> Plan {
        let ours = |a: &Address| a.index == index && a.origin.is_some();
        let addresses = self.netlink.addresses().unwrap_or_default().into_iter().filter(ours);
        let routes = self.netlink.routes().unwrap_or_default().into_iter().filter(|r| r.index == index);
        Plan {
            addresses: addresses.map(|a| Address { tentative: false, duplicate: false, ..a }).collect(),
            routes: routes.collect(),
            ..Plan::default()
        }
    }

    /// Carrier is back. The kernel drops the routes of a link that was set down, and its IPv6 addresses;
    /// they are set again.
    pub(super) fn restore(&mut self, index: u32) {
        let Some(port) = self.ports.get_mut(&index) else { return };
        port.woken = true;
        let there =
            |a: &Address| port.addresses.iter().any(|b| (a.address, a.length) == (b.address, b.length));
        port.standing.addresses.retain(there);
        if !port.keeps() {
            port.standing.routes.clear();
        }
        self.apply(index, true);
    }

    /// Brings a port to what its wish and its protocols ask for; `news` says so in the log.
    pub(super) fn apply(&mut self, index: u32, news: bool) {
        let Some(port) = self.ports.get_mut(&index).filter(|port| port.role.managed) else { return };
        let (now, say) = (since_boot(), self.settings.say);
        let next = port.plan(now);
        let at = |plan: &Plan| plan.addresses.iter().map(|a| (a.address, a.length)).collect::<Vec<_>>();
        if news && at(&next) != at(&port.standing) {
            say(&format!("{}: {next}", port.link.name));
        }
        apply(&mut self.netlink, &port.link, port.mtu, &port.standing, &next, |text| say(&text));
        self.unannounced.extend(new_addresses(&port.standing, &next).map(|address| (index, address)));
        let given = (at(&next) != at(&port.standing)).then(|| next.addresses.clone());
        let brought = port.sources(now).into_iter().flat_map(|(_, brings)| brings.addresses);
        port.until = brought.filter_map(|a| Some((a.prefix.address, now + a.valid?))).collect();
        port.standing = next;
        if let Some(given) = given {
            self.step(index, &Event::Given(&given), |_, _| true);
        }
    }

    /// What can wait until everybody has their news.
    pub(super) fn rest(&mut self) {
        for (index, address) in std::mem::take(&mut self.unannounced) {
            if let Some(mac) = self.ports.get(&index).and_then(|port| port.link.mac) {
                // Best effort: neighbours learn by themselves a little later.
                let _ = send_arp(index, &frame::gratuitous_arp(mac, address));
            }
        }
        for port in self.ports.values_mut() {
            port.protocols.iter_mut().for_each(|(_, protocol)| protocol.rest());
        }
    }
}
