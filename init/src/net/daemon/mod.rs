//! The event loop of `rescue netd`: one thread, one `poll`, and no wait that is not for an event.
//!
//! It knows links ([`port`]) and what runs on them only as [`super::protocol::Protocol`]s; to add one
//! of those nothing here changes.

mod climb;
mod port;
mod publish;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use rescue_schema::network::Network;
use rescue_schema::report::NetReport;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::port::Port;
pub use self::port::Role;
use super::links;
use super::protocol::{Context, Event, Protocol};
use crate::sys::netlink::{Change, Link, Monitor, Netlink};
use crate::sys::time::since_boot;

/// Rounds of events that protocols of a port tell one another for one event from outside.
const MOST_ROUNDS: usize = 4;

/// What the daemon is given.
pub struct Settings<'a> {
    /// What is wished.
    pub network: Network,
    /// Where the name servers are written.
    pub resolv_conf: PathBuf,
    /// Where the report is written.
    pub report: PathBuf,
    /// Takes lines for the log.
    pub say: &'a dyn Fn(&str),
}

struct Daemon<'a> {
    settings: Settings<'a>,
    /// What is wished now.
    network: Network,
    /// What the ladder made of nothing said, and when it is to be looked at again.
    climbed: Option<Network>,
    look_again: Option<Duration>,
    netlink: Netlink,
    links: BTreeMap<u32, Link>,
    ports: BTreeMap<u32, Port>,
    /// Links that we have set up: once only, because a card that an engineer sets down stays down.
    raised: BTreeSet<u32>,
    primary: Option<IpAddr>,
    resolv: String,
    /// New addresses that neighbours have not been told of.
    unannounced: Vec<(u32, Ipv4Addr)>,
    report: Option<NetReport>,
    /// The report that an earlier run left.
    before: NetReport,
}

/// Configures the network for as long as the process lives.
///
/// # Errors
/// Where the kernel gives no netlink socket or refuses to list links.
pub fn run(mut settings: Settings<'_>) -> io::Result<()> {
    let mut monitor = Monitor::open()?;
    let mut daemon = Daemon {
        network: std::mem::take(&mut settings.network),
        climbed: None,
        look_again: None,
        netlink: Netlink::open()?,
        links: BTreeMap::new(),
        ports: BTreeMap::new(),
        raised: BTreeSet::new(),
        primary: None,
        resolv: String::new(),
        unannounced: Vec::new(),
        report: None,
        before: standing::earlier_report(&settings.report),
        settings,
    };
    daemon.look_at_everything()?;
    loop {
        daemon.timers();
        daemon.climb();
        daemon.publish();
        daemon.rest();
        let (news, ready) = daemon.wait(&monitor)?;
        if news {
            match monitor.changes() {
                Ok(changes) => changes.into_iter().for_each(|change| daemon.change(change)),
                Err(error) => {
                    let why = format!("notifications were lost ({error}); looking at everything");
                    (daemon.settings.say)(&why);
                    daemon.look_at_everything()?;
                }
            }
        }
        for (index, name) in ready {
            daemon.step(index, &Event::Readable, |other, _| other == name);
        }
    }
}

impl Daemon<'_> {
    fn look_at_everything(&mut self) -> io::Result<()> {
        let links = self.netlink.links()?;
        let gone: Vec<u32> =
            self.links.keys().copied().filter(|i| !links.iter().any(|link| link.index == *i)).collect();
        gone.into_iter().for_each(|index| self.change(Change::LinkGone(index)));
        for link in links {
            self.change(Change::Link(link));
        }
        self.ports.values_mut().for_each(|port| port.addresses.clear());
        for address in self.netlink.addresses()? {
            self.change(Change::Address(address));
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Link(link) => {
                let index = link.index;
                if self.links.get(&index) != Some(&link) {
                    self.links.insert(index, link);
                    self.reconcile();
                }
            }
            Change::LinkGone(index) => {
                self.raised.remove(&index);
                if let Some(link) = self.links.remove(&index) {
                    if self.ports.remove(&index).is_some() {
                        (self.settings.say)(&format!("{}: gone", link.name));
                    }
                    self.reconcile();
                }
            }
            Change::Address(address) => {
                let index = address.index;
                let changed = self.ports.get_mut(&index).is_some_and(|port| port.saw(address));
                self.link_local(index, changed);
            }
            Change::AddressGone(address) => {
                let index = address.index;
                let changed = self.ports.get_mut(&index).is_some_and(|port| port.lost(&address));
                self.link_local(index, changed);
            }
        }
    }

    fn link_local(&mut self, index: u32, changed: bool) {
        if let Some(port) = self.ports.get(&index).filter(|_| changed) {
            let event = Event::LinkLocal(port.link_local);
            self.step(index, &event, |_, _| true);
        }
    }

    /// Brings the ports in line with the links that are there and with what is wished of them.
    fn reconcile(&mut self) {
        let roles = links::roles(&self.network, &self.links);
        for link in self.links.values().filter(|link| !link.up && !self.raised.contains(&link.index)) {
            let wanted = link.loopback || roles.get(&link.index).is_some_and(|role| role.carries);
            if wanted && let Err(error) = self.netlink.set_up(link.index) {
                (self.settings.say)(&format!("{}: setting it up: {error}", link.name));
            }
        }
        self.raised.extend(roles.iter().filter(|(_, role)| role.carries).map(|(index, _)| *index));
        let left: Vec<u32> = self.ports.keys().copied().filter(|index| !roles.contains_key(index)).collect();
        left.into_iter().for_each(|index| drop(self.ports.remove(&index)));
        for (index, role) in roles {
            if let Some(link) = self.links.get(&index).cloned() {
                self.place(link, role);
            }
        }
    }

    /// One link in its role.
    fn place(&mut self, link: Link, role: Role) {
        let index = link.index;
        // Another address is another card to every protocol.
        if self.ports.get(&index).is_some_and(|port| port.link.mac != link.mac) {
            self.ports.remove(&index);
        }
        let Some(port) = self.ports.get_mut(&index) else { return self.adopt(link, role) };
        let flapped = port.link.carrier != link.carrier;
        let carrier = link.carrier;
        let changed = port.role != role;
        port.link = link;
        port.role = role;
        if changed {
            let new = port.choose();
            self.begin(index, &new);
            self.apply(index, true);
        }
        if flapped {
            self.say_carrier(index);
            if carrier {
                self.restore(index);
            }
            self.step(index, &Event::Carrier(carrier), |_, _| true);
        }
    }

    /// Tells protocols that begin how things stand.
    fn begin(&mut self, index: u32, new: &[&str]) {
        let Some(port) = self.ports.get(&index).filter(|_| !new.is_empty()) else { return };
        for event in port.beginning() {
            self.step(index, &event, |name, _| new.contains(&name));
        }
    }

    fn say_carrier(&self, index: u32) {
        if let Some(port) = self.ports.get(&index).filter(|port| port.role.carries) {
            let state = if port.link.carrier { "carrier" } else { "no carrier" };
            (self.settings.say)(&format!("{}: {state}", port.link.name));
        }
    }

    fn timers(&mut self) {
        let now = since_boot();
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let ports = self.ports.iter().filter(|(_, port)| due(port.deadline()));
        let ports: Vec<u32> = ports.map(|(index, _)| *index).collect();
        for index in ports {
            self.step(index, &Event::Timer, |_, protocol| due(protocol.deadline()));
        }
    }

    /// Hands an event to the chosen protocols of a port, and does what they want done for it.
    fn step(&mut self, index: u32, event: &Event<'_>, chosen: impl Fn(&str, &dyn Protocol) -> bool) {
        let Some(port) = self.ports.get_mut(&index) else { return };
        let mut context = Context::new(since_boot(), &port.link, self.settings.say);
        for (name, protocol) in &mut port.protocols {
            if chosen(name, protocol.as_ref()) {
                protocol.step(event, &mut context);
            }
        }
        for _ in 0..MOST_ROUNDS {
            for event in std::mem::take(&mut context.told) {
                for (_, protocol) in &mut port.protocols {
                    protocol.step(&event, &mut context);
                }
            }
        }
        if let Some(news) = context.changed.get() {
            self.apply(index, news);
        }
    }

    /// Waits for the kernel's notifications, what arrives on the sockets, and the next deadline.
    fn wait(&self, monitor: &Monitor) -> io::Result<(bool, Vec<(u32, &'static str)>)> {
        let deadline = self.ports.values().filter_map(Port::deadline).chain(self.climbs_at()).min();
        let timeout = deadline.map(|at| at.saturating_sub(since_boot()));
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let mut sockets: Vec<(u32, &'static str, BorrowedFd<'_>)> = Vec::new();
        for (index, port) in &self.ports {
            let open = port.protocols.iter().filter_map(|(name, protocol)| Some((*name, protocol.socket()?)));
            sockets.extend(open.map(|(name, fd)| (*index, name, fd)));
        }
        let mut fds = vec![PollFd::from_borrowed_fd(monitor.as_fd(), PollFlags::IN)];
        fds.extend(sockets.iter().map(|(.., fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let news = ready.next().unwrap_or(false);
        let ready = sockets.iter().zip(ready).filter(|(_, ready)| *ready);
        Ok((news, ready.map(|((index, name, _), _)| (*index, *name)).collect()))
    }
}
