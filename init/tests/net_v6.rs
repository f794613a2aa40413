//! `rescue netd` on networks of IPv6, against servers that others wrote (radvd, dnsmasq, ISC dhcpd) and
//! frames that nobody should send, in network namespaces of its own. Needs root, `ip` (iproute2),
//! `radvd`, `dnsmasq` and `dhcpd` (isc-dhcp-server).

use std::fs::File;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind, send, socket,
};
use rescue_schema::report::{LinkReport, NetReport};

/// How long a thing that must happen is waited for, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// Of 02:00:00:00:00:01 in 2001:db8:1::/64.
const FORMED: &str = "2001:db8:1::ff:fe00:1/64";

/// Two namespaces and a cable between them; `s0` at the server's end, `c0` at the client's.
struct Lab {
    server: String,
    client: String,
    folder: tempfile::TempDir,
    servers: Vec<Child>,
    netd: Option<Child>,
    _shared: Option<RwLockReadGuard<'static, ()>>,
}

/// The kernel has one table of neighbours for all namespaces, and a flood fills it: whoever makes one is
/// alone.
static NEIGHBOURS: RwLock<()> = RwLock::new(());

impl Lab {
    fn new(name: &str) -> Self {
        let shared = NEIGHBOURS.read().unwrap_or_else(PoisonError::into_inner);
        let mut lab = Self::alone(name);
        lab._shared = Some(shared);
        lab
    }

    /// For whoever holds the lock.
    fn alone(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root: run this test as root");
        let id = std::process::id();
        let lab = Self {
            server: format!("{name}-s{id}"),
            client: format!("{name}-c{id}"),
            folder: tempfile::tempdir().unwrap(),
            servers: Vec::new(),
            netd: None,
            _shared: None,
        };
        std::fs::create_dir_all(lab.path("root/etc")).unwrap();
        std::fs::create_dir_all(lab.path("root/run/rescue")).unwrap();
        ip(&["netns", "add", &lab.server]);
        ip(&["netns", "add", &lab.client]);
        let here = lab.server.as_str();
        let cable = ["link", "add", "s0", "type", "veth", "peer", "name", "c0", "netns"];
        ip(&[&["-n", here][..], &cable, &[&lab.client]].concat());
        ip(&["-n", &lab.client, "link", "set", "c0", "address", "02:00:00:00:00:01"]);
        // Nothing of the server's end has to be waited for when the cable is plugged in.
        for setting in ["s0.addr_gen_mode=1", "s0.keep_addr_on_down=1", "all.forwarding=1"] {
            let setting = format!("net.ipv6.conf.{setting}");
            ip(&["netns", "exec", here, "sysctl", "-q", "-w", &setting]);
        }
        for address in ["fe80::1/64", "2001:db8:1::1/64"] {
            ip(&["-n", here, "addr", "add", address, "dev", "s0", "nodad"]);
        }
        ip(&["-n", here, "link", "set", "s0", "up"]);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a server in its namespace and waits until its log, `<name>.log`, says that it is ready.
    fn serve(&mut self, name: &str, args: &[&str], ready: &str) {
        let log = File::options().append(true).create(true).open(self.path(&format!("{name}.log"))).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.server, name])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("starting {name} by `ip netns exec`: {e}"));
        self.servers.push(child);
        self.until(name, |lab| lab.log(&format!("{name}.log")).contains(ready));
    }

    fn radvd(&mut self, content: &str) {
        let (conf, pid) = (self.path("radvd.conf"), self.path("radvd.pid"));
        let head = "interface s0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;";
        std::fs::write(&conf, format!("{head} {content} }};\n")).unwrap();
        let (conf, pid) = (conf.display().to_string(), pid.display().to_string());
        self.serve("radvd", &["-n", "-m", "stderr", "-C", &conf, "-p", &pid], "started");
    }

    fn dnsmasq(&mut self, more: &[&str]) {
        let leases = format!("--dhcp-leasefile={}", self.path("leases").display());
        let args = ["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port=0"];
        let ours = ["--interface=s0", "--log-dhcp", &leases];
        self.serve("dnsmasq", &[&args[..], &ours, more].concat(), "IPv6");
    }

    fn stop_serving(&mut self) {
        for mut child in self.servers.drain(..) {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
    }

    fn start(&mut self) {
        let log = File::options().append(true).create(true).open(self.path("netd.log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.client, env!("CARGO_BIN_EXE_rescue")])
            .args(["netd", "--verbose", "--root"])
            .arg(self.path("root"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting netd by `ip netns exec`");
        self.netd = Some(child);
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn report(&self) -> NetReport {
        serde_json::from_slice(&std::fs::read(self.path("root/run/rescue/net.json")).unwrap_or_default())
            .unwrap_or_default()
    }

    fn link(&self) -> LinkReport {
        self.report().links.into_iter().next().unwrap_or_default()
    }

    fn has(&self, address: &str) -> bool {
        self.link().addresses.iter().any(|a| a == address)
    }

    /// What the kernel itself says of IPv6 on the client's side.
    fn kernel(&self, what: &[&str]) -> String {
        let out = Command::new("ip").args(["-6", "-n", &self.client]).args(what).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    fn setting(&self, name: &str) -> String {
        let path = format!("/proc/sys/net/ipv6/conf/c0/{name}");
        let out = Command::new("ip").args(["netns", "exec", &self.client, "cat", &path]).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().into()
    }

    fn cable(&self, state: &str) {
        ip(&["-n", &self.server, "link", "set", "s0", state]);
        if state == "up" {
            // Link-local addresses are not kept when a link is set down.
            ip(&["-n", &self.server, "addr", "add", "fe80::1/64", "dev", "s0", "nodad"]);
        }
    }

    #[track_caller]
    fn until(&self, what: &str, mut met: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !met(self) {
            if start.elapsed() > PATIENCE {
                let logs = ["netd.log", "radvd.log", "dnsmasq.log", "dhcpd.log"];
                let logs: String = logs.map(|name| format!("{name}:\n{}", self.log(name))).concat();
                let kernel = [self.kernel(&["addr"]), self.kernel(&["route"])].concat();
                panic!("no {what}\n{logs}\nreport: {:?}\n{kernel}", self.report());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a packet from the client arrives at this address of the server's.
    #[track_caller]
    fn reaches(&self, address: &str) {
        let at = |name: &str, local: String| {
            let name = name.to_string();
            let thread = std::thread::spawn(move || {
                Lab::enter(&name).unwrap();
                UdpSocket::bind(local).unwrap()
            });
            thread.join().unwrap()
        };
        let there = at(&self.server, format!("[{address}]:4000"));
        let here = at(&self.client, "[::]:0".into());
        there.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let arrived = (0..15).any(|_| {
            here.send_to(b"hello", format!("[{address}]:4000")).unwrap();
            there.recv(&mut [0; 9]).is_ok()
        });
        assert!(arrived, "{address} is not reached: {}", self.kernel(&["route"]));
    }

    /// A namespace for this thread.
    fn enter(name: &str) -> std::io::Result<()> {
        let begun = Instant::now();
        loop {
            let namespace = File::open(Path::new("/run/netns").join(name))?;
            match nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET) {
                // While another `ip netns add` mounts the folder upon itself, files of before show.
                Err(nix::errno::Errno::EINVAL) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => return Ok(other?),
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop_serving();
        end(self.netd.take());
        for name in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let out = Command::new("ip").args(args).output().expect("running ip (package iproute2)");
    assert!(out.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Its own memory: what is mapped of an unoptimised program says nothing of the one that is shipped.
fn resident_kib(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_router_alone_makes_the_machine_reachable() {
    let mut lab = Lab::new("slaac");
    lab.radvd(
        "AdvLinkMTU 1400; AdvDefaultLifetime 60; \
         prefix 2001:db8:1::/64 { AdvValidLifetime 600; AdvPreferredLifetime 300; DeprecatePrefix on; }; \
         route 2001:db8:ff::/48 { RemoveRoute on; }; RDNSS 2001:db8:1::53 {}; DNSSL lab.example {};",
    );
    lab.start();
    lab.until("address", |lab| lab.has(FORMED));
    let shown = lab.kernel(&["addr", "show", "dev", "c0"]);
    assert!(
        shown.contains("noprefixroute")
            && !shown.contains("valid_lft forever preferred_lft forever\n    inet6 2001"),
        "{shown}"
    );
    let routes = lab.kernel(&["route"]);
    for wanted in [
        "2001:db8:1::/64 dev c0 proto ra",
        "2001:db8:ff::/48 via fe80::1 dev c0",
        "default via fe80::1 dev c0 proto ra",
    ] {
        assert!(routes.contains(wanted), "{wanted}: {routes}");
    }
    assert_eq!(lab.log("root/etc/resolv.conf"), "search lab.example\nnameserver 2001:db8:1::53\n");
    // IPv6 has its own MTU, and the link and IPv4 keep theirs.
    assert_eq!(lab.setting("mtu"), "1400");
    assert!(shown.contains("mtu 1500"), "{shown}");
    // Nothing is done twice.
    assert_eq!((lab.setting("accept_ra"), lab.setting("autoconf")), ("0".into(), "0".into()));
    assert_eq!(lab.link().gateway.as_deref(), Some("fe80::1"));
    let origin = lab.link().origins.into_iter().find(|o| o.address == FORMED).unwrap();
    assert_eq!(origin.by, "router");
    lab.until("end of the search for duplicates", |lab| {
        !lab.kernel(&["addr", "show", "dev", "c0"]).contains("tentative")
    });
    lab.reaches("2001:db8:1::1");
    assert!(resident_kib(lab.netd.as_ref().unwrap()) < 1 << 10);

    // SIGKILL: the address must never leave the link, and the next run takes it over.
    end(lab.netd.take());
    std::fs::remove_file(lab.path("root/run/rescue/net.json")).unwrap();
    lab.start();
    lab.until("report after the crash", |lab| {
        assert!(lab.kernel(&["addr", "show", "dev", "c0"]).contains(FORMED));
        lab.link().gateway.is_some() && lab.has(FORMED)
    });
    assert!(lab.log("netd.log").contains("2001:db8:1::ff:fe00:1 stands from before"));

    // The router takes leave: lifetime 0. The address stays, the way out is gone.
    lab.stop_serving();
    lab.until("end of the default route", |lab| !lab.kernel(&["route"]).contains("default"));
    assert!(!lab.kernel(&["route"]).contains("2001:db8:ff::/48"));
    assert!(lab.kernel(&["addr", "show", "dev", "c0"]).contains(FORMED));
    assert_eq!(lab.link().gateway, None);
}

#[test]
fn a_server_gives_what_the_router_says_it_gives() {
    let mut lab = Lab::new("dhcp6");
    lab.dnsmasq(&[
        "--enable-ra",
        "--dhcp-range=2001:db8:1::100,2001:db8:1::1ff,64,2m",
        "--dhcp-option=option6:dns-server,[2001:db8:1::53]",
        "--dhcp-option=option6:domain-search,lab.example",
    ]);
    lab.start();
    lab.until("address", |lab| lab.link().addresses.iter().any(|a| a.starts_with("2001:db8:1::1")));
    let address = lab.link().addresses[0].clone();
    assert!(address.ends_with("/128"), "{address}");
    assert_eq!(lab.log("root/etc/resolv.conf"), "search lab.example\nnameserver 2001:db8:1::53\n");
    lab.until("default route", |lab| lab.kernel(&["route"]).contains("default via fe80::1 dev c0"));
    let solicits = |lab: &Lab| lab.log("dnsmasq.log").matches("DHCPSOLICIT").count();
    let before = solicits(&lab);
    assert!(lab.log("dnsmasq.log").contains("00:03:00:01:02:00:00:00:00:01"), "DUID-LL of the MAC address");
    // The cable is out for a while, and then the address is confirmed.
    lab.cable("down");
    lab.until("loss of carrier", |lab| !lab.link().carrier);
    assert!(lab.has(&address));
    lab.cable("up");
    lab.until("confirmation", |lab| lab.log("dnsmasq.log").contains("DHCPCONFIRM"));
    // After a crash it is asked for again, and never leaves.
    end(lab.netd.take());
    lab.start();
    lab.until("rebinding", |lab| {
        assert!(lab.kernel(&["addr", "show", "dev", "c0"]).contains(&address));
        lab.log("dnsmasq.log").contains("DHCPREBIND")
    });
    lab.until("lease", |lab| lab.link().state.contains("lease of 120 s"));
    assert_eq!(solicits(&lab), before);
    // At T1, which is half of two minutes.
    lab.until("renewal", |lab| lab.log("dnsmasq.log").contains("DHCPRENEW"));
    assert!(lab.has(&address));
}

#[test]
fn name_servers_come_from_a_server_without_addresses() {
    let mut lab = Lab::new("stateless");
    lab.dnsmasq(&[
        "--enable-ra",
        "--dhcp-range=2001:db8:1::,ra-stateless,ra-names,64,10m",
        "--dhcp-option=option6:dns-server,[2001:db8:1::53]",
        "--dhcp-option=option6:domain-search,lab.example",
    ]);
    lab.start();
    lab.until("name servers", |lab| lab.log("root/etc/resolv.conf").contains("2001:db8:1::53"));
    lab.until("question", |lab| lab.log("dnsmasq.log").contains("DHCPINFORMATION-REQUEST"));
    lab.until("address", |lab| lab.has(FORMED));
    assert!(!lab.log("dnsmasq.log").contains("DHCPSOLICIT"));
}

/// ISC's server: no rapid commit, so that all four messages are needed; and no router at all.
#[test]
fn a_server_without_a_router_is_found() {
    let mut lab = Lab::new("norouter");
    let (conf, leases) = (lab.path("dhcpd.conf"), lab.path("dhcpd.leases"));
    std::fs::write(&leases, "").unwrap();
    std::fs::write(
        &conf,
        "default-lease-time 600; option dhcp6.name-servers 2001:db8:1::53;\n\
         subnet6 2001:db8:1::/64 { range6 2001:db8:1::200 2001:db8:1::2ff; }\n\
         host rescue { host-identifier option dhcp6.client-id 00:03:00:01:02:00:00:00:00:01;\n\
         fixed-address6 2001:db8:1::777; }\n",
    )
    .unwrap();
    let (conf, leases) = (conf.display().to_string(), leases.display().to_string());
    let pid = lab.path("dhcpd.pid").display().to_string();
    let args = ["-6", "-f", "-d", "--no-pid", "-user", "root", "-group", "root", "-pf", &pid, "-cf", &conf];
    lab.serve("dhcpd", &[&args[..], &["-lf", &leases, "s0"]].concat(), "Server starting service");
    lab.start();
    lab.until("address that is reserved for the DUID", |lab| lab.has("2001:db8:1::777/128"));
    assert!(lab.log("root/etc/resolv.conf").contains("nameserver 2001:db8:1::53"));
    let log = lab.log("dhcpd.log");
    assert!(log.contains("Request message from fe80::ff:fe00:1"), "{log}");
}

#[test]
fn what_is_set_by_hand_is_all_there_is() {
    let mut lab = Lab::new("hand6");
    lab.radvd("prefix 2001:db8:1::/64 {};");
    let wishes = r#"{"links":[{"mac":"02:00:00:00:00:01","addresses":["2001:db8:1::7/64"],
        "routes":[{"to":"::/0","via":"2001:db8:1::1"}]}],"dns":{"servers":["2001:db8:1::53"],"search":[]}}"#;
    std::fs::write(lab.path("root/run/rescue/network.json"), wishes).unwrap();
    lab.start();
    lab.until("static address", |lab| lab.has("2001:db8:1::7/64"));
    assert!(lab.kernel(&["route"]).contains("default via 2001:db8:1::1 dev c0 proto static"));
    lab.reaches("2001:db8:1::1");
    // Longer than the router takes to advertise itself again.
    std::thread::sleep(Duration::from_secs(5));
    let shown = lab.kernel(&["addr", "show", "dev", "c0"]);
    assert_eq!(shown.matches("inet6 ").count(), 2, "{shown}");
    assert_eq!(lab.kernel(&["route"]).matches("default").count(), 1);
}

#[test]
fn an_address_of_another_host_is_declined_and_said() {
    let mut lab = Lab::new("twice");
    ip(&["-n", &lab.server, "addr", "add", "2001:db8:1::100/64", "dev", "s0", "nodad"]);
    ip(&["-n", &lab.server, "addr", "add", FORMED, "dev", "s0", "nodad"]);
    lab.dnsmasq(&["--enable-ra", "--dhcp-range=2001:db8:1::100,2001:db8:1::100,slaac,64,10m"]);
    lab.start();
    lab.until("refusal", |lab| lab.log("dnsmasq.log").contains("DHCPDECLINE"));
    lab.until("word of it", |lab| {
        let log = lab.log("netd.log");
        ["2001:db8:1::100", "2001:db8:1::ff:fe00:1"]
            .iter()
            .all(|address| log.contains(&format!("{address} is another host's as well")))
    });
    lab.until("end of both", |lab| !lab.kernel(&["addr", "show", "dev", "c0"]).contains("2001:db8"));
    assert!(matches!(lab.netd.as_mut().unwrap().try_wait(), Ok(None)), "netd has ended");
}

/// Sends whatever Ethernet frames there are from the bridge to the client.
struct Wire(std::os::fd::OwnedFd);

impl Wire {
    fn new(namespace: &str) -> Self {
        Lab::enter(namespace).unwrap();
        let all = nix::ifaddrs::getifaddrs().unwrap();
        let link = |i: &nix::ifaddrs::InterfaceAddress| {
            let address = i.address.as_ref().filter(|_| i.interface_name == "s0");
            address.and_then(SockaddrStorage::as_link_addr).copied()
        };
        let link = all.into_iter().find_map(|i| link(&i)).unwrap();
        assert_eq!(link.family(), Some(AddressFamily::Packet));
        let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &link).unwrap();
        Self(fd)
    }

    /// An ICMPv6 message to all nodes.
    fn say(&self, from: &str, hops: u8, message: &[u8]) {
        let from: Ipv6Addr = from.parse().unwrap();
        let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        let pseudo = [&from.octets()[..], &to.octets(), &[0, 0], &length, &[0, 0, 0, 58], message].concat();
        let mut sum: u32 =
            pseudo.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let mut message = message.to_vec();
        let place = message.len().min(4);
        let sum = (!u16::try_from(sum).unwrap()).to_be_bytes();
        message[place.min(2)..place].copy_from_slice(&sum[..place - place.min(2)]);
        let ethernet = [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe, 0x86, 0xdd];
        let header = [0x60, 0, 0, 0, length[0], length[1], 58, hops];
        let frame = [&ethernet[..], &header, &from.octets(), &to.octets(), &message].concat();
        while send(self.0.as_raw_fd(), &frame, MsgFlags::empty()) == Err(nix::errno::Errno::ENOBUFS) {}
    }
}

fn advert(flags: u8, lifetime: u16, options: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![134, 0, 0, 0, 64, flags];
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend(options.concat());
    bytes
}

fn prefix(prefix: &str, length: u8, flags: u8, valid: u32, preferred: u32) -> Vec<u8> {
    let mut bytes = vec![3, 4, length, flags];
    bytes.extend(valid.to_be_bytes());
    bytes.extend(preferred.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(prefix.parse::<Ipv6Addr>().unwrap().octets());
    bytes
}

#[test]
fn lies_are_not_believed() {
    let mut lab = Lab::new("lies6");
    lab.start();
    lab.until("question", |lab| lab.link().state.contains("no router"));
    let namespace = lab.server.clone();
    std::thread::spawn(move || {
        let wire = Wire::new(&namespace);
        let lie = |at: &str| advert(0, 1800, &[prefix(at, 64, 0xc0, 600, 600)]);
        // The first may be too early for a cable that was only just plugged in.
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(200));
            wire.say("fe80::bad", 254, &lie("2001:db8:b1::"));
            wire.say("2001:db8:1::1", 255, &lie("2001:db8:b2::"));
            wire.say("fe80::bad", 255, &lie("2001:db8:b3::")[..40]);
            wire.say("fe80::bad", 255, &lie("2001:db8:b4::")[..15]);
            wire.say("fe80::bad", 255, &[&lie("2001:db8:b5::")[..], &[25, 0, 0, 0, 0, 0, 0, 0]].concat());
            wire.say("fe80::bad", 255, &[&lie("2001:db8:b6::")[..], &[31, 255, 0, 0, 0, 0, 0, 0]].concat());
            let mut code = lie("2001:db8:b7::");
            code[1] = 1;
            wire.say("fe80::bad", 255, &code);
            let mut rdnss = vec![25, 7, 0, 0, 0, 0, 1, 0];
            for server in ["ff02::1", "::1", "2001:db8:1::53"] {
                rdnss.extend(server.parse::<Ipv6Addr>().unwrap().octets());
            }
            let dnssl =
                [&[31, 5, 0, 0, 0, 0, 1, 0][..], b"\x06a\x1b[2Jb\0\x02c\n\0\x03lan\0\xc0\x00padpadpadpad1"]
                    .concat();
            let truth = advert(
                0,
                1800,
                &[
                    prefix("2001:db8:b8::", 129, 0xc0, 600, 600),
                    prefix("2001:db8:b9::", 64, 0xc0, 600, 601),
                    prefix("fe80::", 64, 0xc0, 600, 600),
                    prefix("ff02::", 64, 0xc0, 600, 600),
                    prefix("2001:db8:ba::", 64, 0x40, 0, 0),
                    vec![5, 1, 0, 0, 0, 0, 0, 68],
                    vec![24, 1, 64, 0, 0, 0, 1, 0],
                    rdnss,
                    dnssl[..40].to_vec(),
                    prefix("2001:db8:1::", 64, 0xc0, 600, 600),
                ],
            );
            wire.say("fe80::1", 255, &truth);
        }
    });
    lab.until("address", |lab| lab.has(FORMED));
    let shown = lab.kernel(&["addr", "show", "dev", "c0"]);
    assert_eq!(shown.matches("inet6 ").count(), 2, "{shown}");
    let routes = lab.kernel(&["route"]);
    assert_eq!(routes.matches("default").count(), 1, "{routes}");
    // That prefix is on the link even if no address can be formed of it (RFC 4862 5.5.3 c).
    assert_eq!(routes.matches("proto ra").count(), 3, "{routes}");
    assert_eq!(lab.setting("mtu"), "1500");
    assert_eq!(lab.log("root/etc/resolv.conf"), "search lan\nnameserver 2001:db8:1::53\n");
    assert!(!lab.log("netd.log").contains('\x1b'));
    assert!(matches!(lab.netd.as_mut().unwrap().try_wait(), Ok(None)), "netd has ended");
}

/// Thousands of routers, each with prefixes, routes, name servers and names of its own.
#[test]
fn a_flood_takes_nothing_away() {
    let _alone = NEIGHBOURS.write().unwrap_or_else(PoisonError::into_inner);
    let mut lab = Lab::alone("flood6");
    lab.radvd(
        "AdvDefaultLifetime 60; prefix 2001:db8:1::/64 {}; RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 60; };",
    );
    lab.start();
    lab.until("address", |lab| lab.has(FORMED) && lab.link().gateway.is_some());
    let before = resident_kib(lab.netd.as_ref().unwrap());
    let used = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", lab.netd.as_ref().unwrap().id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let began = used();
    let namespace = lab.server.clone();
    let sender = std::thread::spawn(move || {
        let wire = Wire::new(&namespace);
        let start = Instant::now();
        let mut sent = 0_u32;
        while start.elapsed() < Duration::from_secs(4) || sent <= 5000 {
            let (high, low) = (sent >> 16, sent & 0xffff);
            let at = format!("2001:db9:{high:x}:{low:x}::");
            let mut rdnss = vec![25, 3, 0, 0, 0xff, 0xff, 0xff, 0xff];
            rdnss.extend(at.parse::<Ipv6Addr>().unwrap().octets());
            let mut route = vec![24, 3, 64, 8, 0xff, 0xff, 0xff, 0xff];
            route.extend(at.parse::<Ipv6Addr>().unwrap().octets());
            let options = [prefix(&at, 64, 0xc0, u32::MAX, u32::MAX), rdnss, route];
            wire.say(&format!("fe80::f:{high:x}:{low:x}"), 255, &advert(0, 9000, &options));
            sent += 1;
        }
        (sent, start.elapsed())
    });
    let (sent, took) = sender.join().unwrap();
    let ticks = used() - began;
    let shown = lab.kernel(&["addr", "show", "dev", "c0"]);
    let routes = lab.kernel(&["route"]);
    let grown = resident_kib(lab.netd.as_ref().unwrap()).saturating_sub(before);
    println!(
        "{sent} advertisements in {took:?}: {ticks} hundredths of a second of CPU, {grown} KiB more memory"
    );
    assert!(shown.contains(FORMED) && shown.matches("inet6 ").count() <= 9, "{shown}");
    assert!(routes.contains("default via fe80::1 dev c0 proto ra metric 1"), "{routes}");
    assert!(routes.matches("default").count() <= 8 && routes.lines().count() < 80, "{routes}");
    let resolv = lab.log("root/etc/resolv.conf");
    assert!(resolv.contains("2001:db8:1::53"), "{resolv}");
    assert!(grown < 1024, "{grown} KiB");
    assert!(u128::from(ticks) < took.as_millis() / 20, "{ticks} hundredths of {took:?}");
    assert!(lab.log("netd.log").lines().count() < 40, "{}", lab.log("netd.log"));
    // What was queued is read; and then the real router is heard when it takes leave.
    std::thread::sleep(Duration::from_millis(500));
    let namespace = lab.server.clone();
    let leave = move || Wire::new(&namespace).say("fe80::1", 255, &advert(0, 0, &[]));
    std::thread::spawn(leave).join().unwrap();
    lab.until("end of the real router", |lab| !lab.kernel(&["route"]).contains("default via fe80::1 "));
    // The kernel forgets neighbours with their link, a moment after the namespace.
    drop(lab);
    std::thread::sleep(Duration::from_secs(1));
}

/// From carrier to an address that can be used, with servers that answer at once.
#[test]
fn an_instant_router_and_server_make_an_instant_address() {
    let _alone = NEIGHBOURS.write().unwrap_or_else(PoisonError::into_inner);
    let mut lab = Lab::alone("instant6");
    lab.dnsmasq(&["--enable-ra", "--dhcp-range=2001:db8:1::100,2001:db8:1::1ff,slaac,64,10m"]);
    // The first advertisements of the server are over.
    std::thread::sleep(Duration::from_secs(1));
    let mut monitor = Command::new("ip")
        .args(["-n", &lab.client, "-ts", "-o", "monitor", "link", "address", "route"])
        .stdout(File::create(lab.path("monitor")).unwrap())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    lab.start();
    lab.until("both addresses", |lab| lab.has(FORMED) && lab.link().addresses.len() == 2);
    lab.until("routes", |lab| lab.log("monitor").contains("default via fe80::1"));
    let _ = monitor.kill();
    let _ = monitor.wait();
    let log = lab.log("monitor");
    let at = |what: &[&str]| {
        let line = log.lines().find(|line| what.iter().all(|w| line.contains(w)));
        let line = line.unwrap_or_else(|| panic!("{what:?}: {log}"));
        let time = line[1..].split(']').next().unwrap().rsplit('T').next().unwrap();
        time.split(':').fold(0.0, |all, part| all * 60.0 + part.parse::<f64>().unwrap())
    };
    // Before, the kernel sends nothing over the link.
    let carrier = at(&["c0", "state UP"]);
    let since = |what: &[&str]| (at(what) - carrier) * 1000.0;
    let (formed, leased) = (since(&["c0", FORMED]), since(&["c0", "2001:db8:1::1", "/128"]));
    let routed = since(&["default via fe80::1"]);
    println!("from carrier: SLAAC {formed:.1} ms, default route {routed:.1} ms, DHCPv6 {leased:.1} ms");
    // And it can be used in that instant, while duplicates are looked for.
    assert!(log.lines().any(|line| line.contains(FORMED) && line.contains("optimistic")), "{log}");
}
