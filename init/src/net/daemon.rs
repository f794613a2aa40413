//! The event loop of `rescue netd`: one thread, one `poll`, and no wait that is not for an event.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use rescue_schema::network::{self, Network};
use rescue_schema::report::{LinkReport, NetReport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::apply::apply;
use super::dhcp::{Action, Event, Machine, frame, reply::parse_reply};
use super::lease::Lease;
use super::links::{Wish, wish};
use super::plan::{Plan, plan};
use super::resolv;
use crate::sys::netlink::{Change, Link, Monitor, Netlink};
use crate::sys::notify::Notice;
use crate::sys::packet::{DhcpSocket, dhcp_unicast, send_arp};
use crate::sys::random::unguarded;
use crate::sys::time::since_boot;

/// Replies that are read from one link before the others get their turn.
const MOST_AT_ONCE: usize = 64;
const SERVER_PORT: u16 = 67;

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

/// A card that we configure.
struct Port {
    link: Link,
    wish: Option<network::Link>,
    dhcp: Option<Machine>,
    lease: Option<Box<Lease>>,
    /// When the lease ends; none for one without end.
    expires: Option<Duration>,
    standing: Plan,
    socket: Option<DhcpSocket>,
    unicast: Option<UdpSocket>,
}

struct Daemon<'a> {
    settings: Settings<'a>,
    netlink: Netlink,
    ports: BTreeMap<u32, Port>,
    /// Addresses on every link as the kernel says, link-local ones left out.
    addresses: BTreeMap<u32, Vec<(IpAddr, u8)>>,
    primary: Option<IpAddr>,
    resolv: String,
    /// New addresses that neighbours have not been told of.
    unannounced: Vec<(u32, Ipv4Addr)>,
    report: Option<NetReport>,
}

/// Configures the network for as long as the process lives.
///
/// # Errors
/// Where the kernel gives no netlink socket or refuses to list links.
pub fn run(settings: Settings<'_>) -> io::Result<()> {
    let mut monitor = Monitor::open()?;
    let mut daemon = Daemon {
        settings,
        netlink: Netlink::open()?,
        ports: BTreeMap::new(),
        addresses: BTreeMap::new(),
        primary: None,
        resolv: String::new(),
        unannounced: Vec::new(),
        report: None,
    };
    daemon.look_at_everything()?;
    loop {
        daemon.timers();
        daemon.publish();
        daemon.tidy();
        let (news, ready) = daemon.wait(&monitor)?;
        if news {
            match monitor.changes() {
                Ok(changes) => changes.into_iter().for_each(|change| daemon.change(change)),
                Err(error) => {
                    (daemon.settings.say)(&format!(
                        "notifications were lost ({error}); looking at everything"
                    ));
                    daemon.look_at_everything()?;
                }
            }
        }
        ready.into_iter().for_each(|index| daemon.receive(index));
    }
}

impl Daemon<'_> {
    fn look_at_everything(&mut self) -> io::Result<()> {
        let links = self.netlink.links()?;
        let gone: Vec<u32> =
            self.ports.keys().copied().filter(|i| !links.iter().any(|link| link.index == *i)).collect();
        gone.into_iter().for_each(|index| self.change(Change::LinkGone(index)));
        self.addresses.clear();
        for address in self.netlink.addresses()? {
            self.change(Change::Address(address));
        }
        for link in links {
            self.change(Change::Link(link));
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Link(link) => self.link(link),
            Change::LinkGone(index) => {
                self.addresses.remove(&index);
                if let Some(port) = self.ports.remove(&index) {
                    (self.settings.say)(&format!("{}: gone", port.link.name));
                }
            }
            Change::Address(address) => {
                let at = (address.address, address.length);
                let all = self.addresses.entry(address.index).or_default();
                if !all.contains(&at) && !is_link_local(address.address) {
                    all.push(at);
                }
            }
            Change::AddressGone(address) => {
                if let Some(all) = self.addresses.get_mut(&address.index) {
                    all.retain(|at| *at != (address.address, address.length));
                }
            }
        }
    }

    fn link(&mut self, link: Link) {
        let index = link.index;
        // Once only: a card that an engineer sets down later stays down.
        let wanted = || !self.ports.contains_key(&index) && wish(&link, &self.settings.network).is_some();
        if !link.up
            && (link.loopback || wanted())
            && let Err(error) = self.netlink.set_up(index)
        {
            (self.settings.say)(&format!("{}: setting it up: {error}", link.name));
        }
        let wished = match wish(&link, &self.settings.network) {
            Some(Wish::Lease) => Some((None, true)),
            Some(Wish::Named(wish)) => Some((Some(wish.clone()), wish.dhcp4)),
            None => None,
        };
        let Some((wished, dhcp)) = wished else {
            // It may have become a port of a bond or bridge that an engineer made.
            self.ports.remove(&index);
            return;
        };
        let carrier = link.carrier;
        if self.ports.get(&index).is_some_and(|port| port.link.mac != link.mac) {
            self.ports.remove(&index);
        }
        let mut flapped = true;
        match self.ports.get_mut(&index) {
            Some(port) => {
                flapped = port.link.carrier != carrier;
                port.link = link;
            }
            None => {
                let port = self.adopt(link, wished, dhcp);
                self.ports.insert(index, port);
            }
        }
        if flapped {
            if let Some(port) = self.ports.get_mut(&index) {
                if port.lease.is_some() || port.dhcp.is_none() {
                    // The kernel drops the routes of a link that was set down; they are set again.
                    port.standing.routes.clear();
                }
                let state = if carrier { "carrier" } else { "no carrier" };
                (self.settings.say)(&format!("{}: {state}", port.link.name));
            }
            if carrier {
                self.apply(index, true);
            }
            self.step(index, if carrier { Event::LinkUp } else { Event::LinkDown });
        }
    }

    /// A new card, with what an earlier run of this program left on it: connections over its address
    /// must outlive a crash of ours.
    fn adopt(&mut self, link: Link, wish: Option<network::Link>, dhcp: bool) -> Port {
        let mut standing = Plan::default();
        let addresses = self.netlink.addresses().unwrap_or_default().into_iter();
        standing.addresses = addresses.filter(|a| a.index == link.index && a.ours).collect();
        let routes = self.netlink.routes().unwrap_or_default().into_iter();
        standing.routes = routes.filter(|r| r.index == link.index && r.dhcp).collect();
        let mut machine = dhcp.then(|| Machine::new(link.mac.unwrap_or_default(), unguarded()));
        let is_static = |ip: IpAddr| wish.iter().flat_map(|w| &w.addresses).any(|p| p.address == ip);
        if let Some(machine) = &mut machine {
            for old in &standing.addresses {
                if let IpAddr::V4(address) = old.address
                    && !is_static(old.address)
                {
                    (self.settings.say)(&format!("{}: {address} stands from before", link.name));
                    machine.resume(address, old.valid.map(|s| Duration::from_secs(s.into())), since_boot());
                }
            }
        }
        Port { link, wish, dhcp: machine, lease: None, expires: None, standing, socket: None, unicast: None }
    }

    fn timers(&mut self) {
        let now = since_boot();
        let due = |port: &Port| port.dhcp.as_ref().and_then(Machine::deadline).is_some_and(|at| at <= now);
        let due: Vec<u32> =
            self.ports.iter().filter(|(_, port)| due(port)).map(|(index, _)| *index).collect();
        due.into_iter().for_each(|index| self.step(index, Event::Timer));
    }

    fn step(&mut self, index: u32, event: Event<'_>) {
        let now = since_boot();
        let Some(port) = self.ports.get_mut(&index) else { return };
        let Some(machine) = &mut port.dhcp else { return };
        let actions = machine.step(event, now);
        if machine.listening() && port.socket.is_none() {
            match DhcpSocket::open(index) {
                Ok(socket) => port.socket = Some(socket),
                Err(error) => (self.settings.say)(&format!("{}: packet socket: {error}", port.link.name)),
            }
        }
        for action in actions {
            self.act(index, action);
        }
    }

    fn act(&mut self, index: u32, action: Action) {
        let Some(port) = self.ports.get_mut(&index) else { return };
        let name = &port.link.name;
        let say = self.settings.say;
        match action {
            Action::Say(text) => say(&format!("{name}: {text}")),
            Action::Broadcast(message, from) => {
                let sent = port.socket.as_ref().map(|s| s.broadcast(&frame::wrap(&message, from)));
                if let Some(Err(error)) = sent {
                    say(&format!("{name}: asking by broadcast: {error}"));
                }
            }
            Action::Unicast { message, from, to } => {
                let socket = match port.unicast.take() {
                    Some(socket) => Ok(socket),
                    None => dhcp_unicast(name, from),
                };
                let sent = socket.and_then(|socket| {
                    socket.send_to(&message, SocketAddrV4::new(to, SERVER_PORT))?;
                    port.unicast = Some(socket);
                    Ok(())
                });
                if let Err(error) = sent {
                    say(&format!("{name}: asking {to} to renew: {error}"));
                }
            }
            Action::Configure(lease, left) => {
                let news = port.lease.as_ref() != Some(&lease);
                port.expires = left.map(|left| since_boot() + left);
                port.lease = Some(lease);
                self.apply(index, news);
            }
            Action::Release => {
                port.lease = None;
                self.apply(index, true);
            }
        }
    }

    /// Brings a card to what its wish and lease ask for; `news` says so in the log.
    fn apply(&mut self, index: u32, news: bool) {
        let Some(port) = self.ports.get_mut(&index) else { return };
        let say = self.settings.say;
        let left = port.expires.map(|at| at.saturating_sub(since_boot()));
        let lease = port.lease.as_deref().map(|lease| (lease, left));
        let mut next = plan(index, port.wish.as_ref(), lease);
        let verifying = port.lease.is_none() && port.dhcp.as_ref().is_some_and(Machine::holds);
        if verifying {
            // An address of before stays as it is until the server has spoken.
            next.addresses.extend(port.standing.addresses.iter().cloned());
            next.addresses.dedup_by_key(|a| a.address);
            next.routes.extend(port.standing.routes.iter().cloned());
            next.routes.dedup_by_key(|r| r.to);
        }
        let at = |plan: &Plan| plan.addresses.iter().map(|a| (a.address, a.length)).collect::<Vec<_>>();
        if news && at(&next) != at(&port.standing) {
            say(&format!("{}: {next}", port.link.name));
        }
        let new = apply(&mut self.netlink, &port.link, &port.standing, &next, |text| say(&text));
        self.unannounced.extend(new.into_iter().map(|address| (index, address)));
        port.standing = next;
    }

    /// What can wait until everybody has their news. Closing a packet socket takes the kernel's grace
    /// period, some 10 ms, which must not stand between the server's answer and a usable address.
    fn tidy(&mut self) {
        for (index, address) in std::mem::take(&mut self.unannounced) {
            if let Some(mac) = self.ports.get(&index).and_then(|port| port.link.mac) {
                // Best effort: neighbours learn by themselves a little later.
                let _ = send_arp(index, &frame::gratuitous_arp(mac, address));
            }
        }
        for port in self.ports.values_mut() {
            // A link that awaits no answer costs nothing.
            if !port.dhcp.as_ref().is_some_and(Machine::listening) {
                port.socket = None;
                port.unicast = None;
            }
        }
    }

    /// Waits for the kernel's notifications, replies and the next deadline.
    fn wait(&self, monitor: &Monitor) -> io::Result<(bool, Vec<u32>)> {
        let deadline = self.ports.values().filter_map(|p| p.dhcp.as_ref()?.deadline()).min();
        let timeout = deadline.map(|at| at.saturating_sub(since_boot()));
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let sockets: Vec<(u32, &DhcpSocket)> =
            self.ports.iter().filter_map(|(index, port)| Some((*index, port.socket.as_ref()?))).collect();
        let mut fds = vec![PollFd::from_borrowed_fd(monitor.as_fd(), PollFlags::IN)];
        fds.extend(sockets.iter().map(|(_, s)| PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let news = ready.next().unwrap_or(false);
        let ready = sockets.iter().zip(ready).filter(|(_, ready)| *ready).map(|((index, _), _)| *index);
        Ok((news, ready.collect()))
    }

    fn receive(&mut self, index: u32) {
        let mut buffer = [0; 9216];
        for _ in 0..MOST_AT_ONCE {
            let socket = self.ports.get(&index).and_then(|port| port.socket.as_ref());
            // An error is the link's state, of which the kernel notifies us.
            let Some(Ok(Some(datagram))) = socket.map(|s| s.receive(&mut buffer)) else { return };
            if let Some((_, message)) = frame::unwrap(datagram)
                && let Ok(reply) = parse_reply(message)
            {
                self.step(index, Event::Reply(&reply));
            }
        }
    }

    /// Tells everybody what has changed: PID 1, resolvers, `rescue status`.
    fn publish(&mut self) {
        let say = self.settings.say;
        let here = |ip: IpAddr| {
            self.ports.values().any(|port| port.standing.addresses.iter().any(|a| a.address == ip))
        };
        if !self.primary.is_some_and(here) {
            // The first that has a way out, or else the first.
            let ports = || self.ports.values().filter(|port| !port.standing.addresses.is_empty());
            let port = ports().find(|port| port.standing.gateway().is_some()).or_else(|| ports().next());
            let next = port.and_then(|port| port.standing.addresses.first()).map(|a| a.address);
            match next {
                Some(address) => Notice::Address(address).send(),
                None if self.primary.is_some() => Notice::AddressLost.send(),
                None => {}
            }
            self.primary = next;
        }

        let leases = self.ports.values().filter_map(|port| port.lease.as_deref());
        let dns = resolv::merge(&self.settings.network.dns, leases);
        let text = resolv::render(&dns);
        // After a restart the file of before serves until there is something to say; an empty one would
        // cut off an engineer whose lease is only being verified.
        let verifying =
            self.ports.values().any(|p| p.lease.is_none() && p.dhcp.as_ref().is_some_and(Machine::holds));
        if text != self.resolv && !(text.is_empty() && verifying) {
            match crate::sys::files::replace(&self.settings.resolv_conf, 0o644, text.as_bytes()) {
                Ok(()) => {}
                Err(error) => say(&format!("writing {}: {error}", self.settings.resolv_conf.display())),
            }
            self.resolv = text;
        }

        let report = NetReport {
            links: self.ports.iter().map(|(index, port)| self.describe(*index, port)).collect(),
            dns: dns.servers.iter().map(ToString::to_string).collect(),
        };
        if self.report.as_ref() != Some(&report) {
            let written = serde_json::to_vec(&report).map_err(io::Error::from);
            let written =
                written.and_then(|json| crate::sys::files::replace(&self.settings.report, 0o644, &json));
            if let Err(error) = written {
                say(&format!("writing {}: {error}", self.settings.report.display()));
            }
            self.report = Some(report);
        }
    }

    fn describe(&self, index: u32, port: &Port) -> LinkReport {
        let addresses = self.addresses.get(&index).map(Vec::as_slice).unwrap_or_default();
        LinkReport {
            name: port.link.name.clone(),
            mac: port.link.mac.map(|mac| network::MacAddress(mac).to_string()).unwrap_or_default(),
            carrier: port.link.carrier,
            addresses: addresses.iter().map(|(ip, length)| format!("{ip}/{length}")).collect(),
            gateway: port.standing.gateway().map(|ip| ip.to_string()),
            state: match &port.dhcp {
                Some(machine) => machine.describe(),
                None if !port.link.carrier => "static, no carrier".into(),
                None => "static".into(),
            },
            neighbours: Vec::new(),
            lacp: None,
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address == Ipv4Addr::LOCALHOST,
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_loopback(),
    }
}
