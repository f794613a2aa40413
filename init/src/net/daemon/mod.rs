//! The event loop of `rescue netd`: one thread, one `poll`, and no wait that is not for an event.
//!
//! It knows links ([`port`]) and what runs on them only as [`super::protocol::Protocol`]s; to add one
//! of those nothing here changes.

mod building;
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

use self::building::Building;
use self::port::Port;
pub use self::port::Role;
use super::control::Control;
use super::protocol::{Context, Event, Protocol};
use crate::sys::ipv6;
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
    /// Where what the ladder made is kept for the next run.
    pub ladder: PathBuf,
    /// Where orders are taken.
    pub control: PathBuf,
    /// Reads the wishes again.
    pub reload: &'a dyn Fn() -> Result<Network, String>,
    /// The folder below which /sys is looked at.
    pub root: PathBuf,
    /// Loads a kernel module with these parameters, or says why not.
    pub load: &'a dyn Fn(&str, &str) -> Result<(), String>,
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
    building: Building,
    /// Links that we have set up: once only, because a card that an engineer sets down stays down.
    raised: BTreeSet<u32>,
    primary: Option<IpAddr>,
    /// Since when there are addresses, but none that is worth telling.
    poor_since: Option<Duration>,
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
        climbed: climb::earlier(&settings),
        network: std::mem::take(&mut settings.network),
        look_again: None,
        netlink: Netlink::open()?,
        links: BTreeMap::new(),
        ports: BTreeMap::new(),
        building: Building::default(),
        raised: BTreeSet::new(),
        primary: None,
        poor_since: None,
        resolv: String::new(),
        unannounced: Vec::new(),
        report: None,
        before: standing::earlier_report(&settings.report),
        settings,
    };
    daemon.climb_back();
    let control = Control::open(&daemon.settings.control);
    if let Err(error) = &control {
        let path = daemon.settings.control.display();
        (daemon.settings.say)(&format!("opening {path}: {error}; `rescue net` cannot give orders"));
    }
    let control = control.ok();
    daemon.look_at_everything()?;
    loop {
        daemon.timers();
        daemon.climb();
        daemon.publish();
        daemon.rest();
        let (news, ready) = daemon.wait(&monitor, control.as_ref())?;
        if news {
            match monitor.changes() {
                Ok(changes) => daemon.changes(changes),
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
        while let Some((order, from)) = control.as_ref().and_then(Control::next) {
            let answer = daemon.obey(order);
            daemon.publish();
            if let Some(control) = &control {
                control.answer(&from, &answer);
            }
        }
    }
}

impl Daemon<'_> {
    fn look_at_everything(&mut self) -> io::Result<()> {
        self.look_at_links(&BTreeSet::new());
        self.ports.values_mut().for_each(|port| port.addresses.clear());
        for address in self.netlink.addresses()? {
            self.address(Change::Address(address));
        }
        Ok(())
    }

    fn address(&mut self, change: Change) {
        let (Change::Address(address) | Change::AddressGone(address)) = &change else { return };
        let index = address.index;
        let Some(port) = self.ports.get_mut(&index) else { return };
        let before = port.duplicates();
        let mut after = Vec::new();
        let changed = match change {
            Change::Address(address) => port.saw(address),
            Change::AddressGone(address) => {
                // The kernel itself takes one with a lifetime away when another host has it.
                after.extend(address.duplicate.then_some(address.address));
                port.lost(&address)
            }
            Change::Link(_) | Change::LinkGone(_) => false,
        };
        after.extend(port.duplicates());
        let found: Vec<IpAddr> = after.into_iter().filter(|ip| !before.contains(ip)).collect();
        if changed {
            let event = Event::LinkLocal(port.link_local);
            self.step(index, &event, |_, _| true);
        }
        for address in found {
            self.say_of(index, &format!("{address} is another host's as well; it is not used here"));
            self.step(index, &Event::Duplicate { address, mac: None }, |_, _| true);
        }
    }

    /// Every link in its role; what is below comes before what is built upon it.
    fn place_all(&mut self, roles: BTreeMap<u32, Role>, lost: &BTreeSet<u32>) {
        // A bond sets the ports that leave it down: they are to be set up again.
        let left = |index: &u32| self.ports.get(index).is_some_and(|port| !port.role.raise);
        let freed = roles.iter().filter(|(index, role)| role.raise && left(index));
        for (index, _) in freed {
            self.raised.remove(index);
        }
        for link in self.links.values().filter(|link| !link.up && !self.raised.contains(&link.index)) {
            let wanted = link.loopback || roles.get(&link.index).is_some_and(|role| role.raise);
            if wanted && !link.loopback {
                ipv6::take_over(&link.name);
            }
            if wanted && let Err(error) = self.netlink.set_up(link.index) {
                (self.settings.say)(&format!("{}: setting it up: {error}", link.name));
            }
        }
        self.raised.extend(roles.iter().filter(|(_, role)| role.raise).map(|(index, _)| *index));
        self.ports.retain(|index, _| roles.contains_key(index));
        let mut roles: Vec<(u32, Role)> = roles.into_iter().collect();
        roles.sort_by_key(|(_, role)| role.storey);
        for (index, role) in roles {
            if let Some(link) = self.links.get(&index).cloned() {
                self.place(link, role, lost.contains(&index));
            }
        }
    }

    /// One link in its role. It had no carrier since, where it has `lost` it.
    fn place(&mut self, link: Link, role: Role, lost: bool) {
        let index = link.index;
        // Another address is another card to every protocol.
        if self.ports.get(&index).is_some_and(|port| port.link.mac != link.mac) {
            self.ports.remove(&index);
        }
        let Some(port) = self.ports.get_mut(&index) else { return self.adopt(link, role) };
        let (before, carrier) = (port.link.carrier, link.carrier);
        let changed = port.role != role;
        port.link = link;
        port.role = role;
        if before != carrier || lost {
            port.look(&self.settings.root);
        }
        if changed {
            let new = port.choose();
            self.begin(index, &new);
            self.apply(index, true);
        }
        if before && (lost || !carrier) {
            self.say_of(index, "no carrier");
            self.step(index, &Event::Carrier(false), |_, _| true);
        }
        if carrier && (lost || !before) {
            self.say_of(index, "carrier");
            self.restore(index);
            self.step(index, &Event::Carrier(true), |_, _| true);
        }
    }

    /// Tells protocols that begin how things stand.
    fn begin(&mut self, index: u32, new: &[&str]) {
        let Some(port) = self.ports.get(&index).filter(|_| !new.is_empty()) else { return };
        for event in port.beginning() {
            self.step(index, &event, |name, _| new.contains(&name));
        }
    }

    fn say_of(&self, index: u32, text: &str) {
        if let Some(port) = self.ports.get(&index).filter(|port| port.role.managed) {
            (self.settings.say)(&format!("{}: {text}", port.link.name));
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
        let mut context = Context::new(since_boot(), &port.link, &self.links, self.settings.say);
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
    fn wait(
        &self,
        monitor: &Monitor,
        control: Option<&Control>,
    ) -> io::Result<(bool, Vec<(u32, &'static str)>)> {
        let deadline = self.ports.values().filter_map(Port::deadline);
        let deadline = deadline.chain(self.publish_deadline()).chain(self.climbs_at()).min();
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
        // Last, and only to wake: every turn of the loop looks for orders.
        fds.extend(control.map(|control| PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)));
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
