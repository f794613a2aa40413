//! `rescue netd` against a real DHCP server and against one that lies, each in network namespaces of
//! its own. Needs root, `ip` (iproute2) and `dnsmasq`.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rescue_schema::report::NetReport;

/// How long a thing that must happen is waited for, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two namespaces and a cable between them; `s0` at the server's end, `c0` at the client's.
struct Lab {
    server: String,
    client: String,
    folder: tempfile::TempDir,
    dnsmasq: Option<Child>,
    netd: Option<Child>,
}

impl Lab {
    fn new(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root: run this test as root");
        let id = std::process::id();
        let lab = Self {
            server: format!("{name}-s{id}"),
            client: format!("{name}-c{id}"),
            folder: tempfile::tempdir().unwrap(),
            dnsmasq: None,
            netd: None,
        };
        std::fs::create_dir_all(lab.path("root/etc")).unwrap();
        std::fs::create_dir_all(lab.path("root/run/rescue")).unwrap();
        ip(&["netns", "add", &lab.server]);
        ip(&["netns", "add", &lab.client]);
        let cable = ["link", "add", "s0", "type", "veth", "peer", "name", "c0", "netns"];
        ip(&[&["-n", &lab.server][..], &cable, &[&lab.client]].concat());
        ip(&["-n", &lab.client, "link", "set", "c0", "address", "02:00:00:00:00:01"]);
        ip(&["-n", &lab.server, "addr", "add", "10.9.0.1/24", "dev", "s0"]);
        ip(&["-n", &lab.server, "link", "set", "s0", "up"]);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts dnsmasq with this range; its log is appended to `dnsmasq.log`.
    fn serve(&mut self, range: &str) {
        let log = File::options().append(true).create(true).open(self.path("dnsmasq.log")).unwrap();
        let starts = |lab: &Self| lab.log("dnsmasq.log").matches("DHCP, IP range").count();
        let before = starts(self);
        let child = Command::new("ip")
            .args(["netns", "exec", &self.server, "dnsmasq", "--no-daemon", "--conf-file=/dev/null"])
            .args(["--no-resolv", "--no-hosts", "--port=0", "--interface=s0", "--no-ping"])
            .args(["--dhcp-authoritative", "--dhcp-option-force=58,10", "--dhcp-option=6,9.9.9.9"])
            .args(["--dhcp-option=15,lab.example", "--dhcp-option=26,1400"])
            .arg(format!("--dhcp-range={range},2m"))
            .arg(format!("--dhcp-leasefile={}", self.path("leases").display()))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("starting dnsmasq by `ip netns exec`");
        self.dnsmasq = Some(child);
        self.until("dnsmasq", |lab| starts(lab) > before);
    }

    fn stop_serving(&mut self) {
        end(self.dnsmasq.take());
    }

    fn start(&mut self) {
        let log = File::options().append(true).create(true).open(self.path("netd.log")).unwrap();
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.client,
                env!("CARGO_BIN_EXE_rescue"),
                "netd",
                "--verbose",
                "--root",
            ])
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

    fn address(&self) -> Option<String> {
        self.report().links.first()?.addresses.first().cloned()
    }

    /// What the kernel itself says of IPv4 on the client's side.
    fn kernel(&self, what: &[&str]) -> String {
        let out = Command::new("ip").args(["-4", "-n", &self.client]).args(what).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    #[track_caller]
    fn until(&self, what: &str, mut met: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !met(self) {
            if start.elapsed() > PATIENCE {
                panic!(
                    "no {what}\nnetd:\n{}\nreport: {:?}\ndnsmasq:\n{}",
                    self.log("netd.log"),
                    self.report(),
                    self.log("dnsmasq.log")
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        end(self.netd.take());
        end(self.dnsmasq.take());
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

/// Memory of its own; what is mapped of a program built for debugging says nothing of the one that ships.
fn own_kib(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_lease_configures_the_link_and_outlives_a_crash() {
    let mut lab = Lab::new("lease");
    lab.serve("10.9.0.50,10.9.0.60");
    lab.start();
    lab.until("address", |lab| lab.address().is_some());
    let address = lab.address().unwrap();
    let ip_only = address.trim_end_matches("/24").to_string();
    let shown = lab.kernel(&["addr", "show", "dev", "c0"]);
    assert!(shown.contains(&format!("inet {address} brd 10.9.0.255")), "{shown}");
    assert!(shown.contains("mtu 1400"), "{shown}");
    let routes = lab.kernel(&["route"]);
    assert!(routes.contains(&format!("default via 10.9.0.1 dev c0 proto dhcp src {ip_only}")), "{routes}");
    assert_eq!(lab.log("root/etc/resolv.conf"), "search lab.example\nnameserver 9.9.9.9\n");
    assert!(own_kib(lab.netd.as_ref().unwrap()) < 1 << 10);
    assert!(lab.kernel(&["addr", "show", "dev", "lo"]).contains("UP"));

    // SIGKILL; the address must never leave the link, and the next run must verify and not discover.
    let discovers = |lab: &Lab| lab.log("dnsmasq.log").matches("DHCPDISCOVER").count();
    let before = discovers(&lab);
    end(lab.netd.take());
    std::fs::remove_file(lab.path("root/run/rescue/net.json")).unwrap();
    lab.start();
    lab.until("lease after the crash", |lab| {
        assert!(lab.kernel(&["addr", "show", "dev", "c0"]).contains(&address));
        lab.report().links.iter().any(|link| link.state.starts_with("lease of 120 s"))
    });
    assert_eq!(discovers(&lab), before);
}

#[test]
fn a_lease_is_renewed_and_verified_after_a_flap() {
    let mut lab = Lab::new("renew");
    lab.serve("10.9.0.50,10.9.0.60");
    lab.start();
    let acks = |lab: &Lab| lab.log("dnsmasq.log").matches("DHCPACK").count();
    lab.until("first lease", |lab| lab.address().is_some());
    let discovers = lab.log("dnsmasq.log").matches("DHCPDISCOVER").count();
    let before = acks(&lab);
    lab.until("renewal at T1", |lab| acks(lab) > before);
    ip(&["-n", &lab.server, "link", "set", "s0", "down"]);
    lab.until("loss of carrier", |lab| lab.report().links.iter().any(|link| !link.carrier));
    assert!(lab.address().is_some(), "the address stays while the cable is out");
    let before = acks(&lab);
    ip(&["-n", &lab.server, "link", "set", "s0", "up"]);
    lab.until("verification", |lab| acks(lab) > before);
    // A card that an engineer sets down stays down; when it is set up again, its routes are back.
    ip(&["-n", &lab.client, "link", "set", "c0", "down"]);
    lab.until("link down", |lab| lab.report().links.iter().any(|link| !link.carrier));
    assert!(!lab.kernel(&["route"]).contains("default"));
    assert!(lab.kernel(&["link", "show", "dev", "c0"]).contains("state DOWN"));
    let before = acks(&lab);
    ip(&["-n", &lab.client, "link", "set", "c0", "up"]);
    lab.until("routes", |lab| lab.kernel(&["route"]).contains("default via 10.9.0.1"));
    lab.until("second verification", |lab| acks(lab) > before);
    assert_eq!(lab.log("dnsmasq.log").matches("DHCPDISCOVER").count(), discovers);
}

#[test]
fn another_range_replaces_the_address() {
    let mut lab = Lab::new("nak");
    lab.serve("10.9.0.50,10.9.0.60");
    lab.start();
    lab.until("address", |lab| lab.address().is_some());
    lab.stop_serving();
    std::fs::remove_file(lab.path("leases")).unwrap();
    lab.serve("10.9.0.100,10.9.0.110");
    ip(&["-n", &lab.server, "link", "set", "s0", "down"]);
    ip(&["-n", &lab.server, "link", "set", "s0", "up"]);
    lab.until("other address", |lab| lab.address().is_some_and(|a| a.starts_with("10.9.0.1")));
    let shown = lab.kernel(&["addr", "show", "dev", "c0"]);
    assert_eq!(shown.matches("inet ").count(), 1, "{shown}");
    assert!(lab.log("dnsmasq.log").contains("DHCPNAK"));
    assert_eq!(lab.kernel(&["route"]).matches("default").count(), 1);
}

#[test]
fn the_mtu_of_a_lease_ends_with_it() {
    let mut lab = Lab::new("mtu");
    lab.serve("10.9.0.50,10.9.0.60");
    lab.start();
    lab.until("MTU of the lease", |lab| lab.kernel(&["link", "show", "dev", "c0"]).contains("mtu 1400"));
    let acks = lab.log("dnsmasq.log").matches("DHCPACK").count();
    // SIGKILL; the next run knows from the report of this one what the MTU was before.
    end(lab.netd.take());
    lab.start();
    lab.until("lease after the crash", |lab| lab.log("netd.log").matches("stands from before").count() == 1);
    lab.until("renewed lease", |lab| lab.log("dnsmasq.log").matches("DHCPACK").count() > acks);
    assert!(lab.kernel(&["link", "show", "dev", "c0"]).contains("mtu 1400"));
    // An engineer prefers a static address: the lease is no more.
    lab.stop_serving();
    let net = ["net", "--root"];
    let root = lab.path("root").display().to_string();
    let done = Command::new("ip")
        .args(["netns", "exec", &lab.client, env!("CARGO_BIN_EXE_rescue")])
        .args(net)
        .args([&root, "set", "c0", "10.9.0.7/24"])
        .status();
    assert!(done.unwrap().success());
    lab.until("MTU of before", |lab| lab.kernel(&["link", "show", "dev", "c0"]).contains("mtu 1500"));
    assert_eq!(lab.kernel(&["addr", "show", "dev", "c0"]).matches("inet ").count(), 1);
}

#[test]
fn a_server_that_comes_late_is_heard() {
    let mut lab = Lab::new("late");
    lab.start();
    lab.until("request", |lab| lab.report().links.iter().any(|l| l.state.contains("try 2")));
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(lab.address(), None);
    lab.serve("10.9.0.50,10.9.0.60");
    lab.until("address", |lab| lab.address().is_some());
}

#[test]
fn static_addresses_are_set_and_a_card_plugged_in_later_is_seen() {
    let mut lab = Lab::new("static");
    ip(&["-n", &lab.client, "link", "del", "c0"]);
    let wishes = r#"{"links":[{"mac":"02:00:00:00:00:07","mtu":1300,"addresses":["192.0.2.7/32"],
        "routes":[{"to":"0.0.0.0/0","via":"192.0.2.1"}]}],"dns":{"servers":["192.0.2.53"],"search":[]}}"#;
    std::fs::write(lab.path("root/run/rescue/network.json"), wishes).unwrap();
    lab.start();
    lab.until("first report", |lab| lab.path("root/run/rescue/net.json").exists());
    let cable = ["link", "add", "s0", "type", "veth", "peer", "name", "c9", "netns"];
    ip(&[&["-n", &lab.server][..], &cable, &[&lab.client]].concat());
    ip(&["-n", &lab.client, "link", "set", "c9", "address", "02:00:00:00:00:07"]);
    ip(&["-n", &lab.server, "link", "set", "s0", "up"]);
    lab.until("static address", |lab| lab.address().as_deref() == Some("192.0.2.7/32"));
    let routes = lab.kernel(&["route"]);
    assert!(routes.contains("default via 192.0.2.1 dev c9 proto static"), "{routes}");
    assert!(routes.contains("onlink"), "{routes}");
    assert_eq!(lab.log("root/etc/resolv.conf"), "nameserver 192.0.2.53\n");
}

/// A server in the namespace `name` that answers each message by lies and then by what is true.
fn liar(name: &str) -> std::io::Result<()> {
    // This thread alone moves to the other namespace.
    let namespace = File::open(Path::new("/run/netns").join(name))?;
    nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67))?;
    socket.set_broadcast(true)?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::BindToDevice, &"s0".into())?;
    let mut buffer = [0; 2048];
    loop {
        let length = socket.recv(&mut buffer)?;
        let asked = &buffer[..length];
        let discover = asked.windows(3).any(|w| w == [53, 1, 1]);
        let kind = if discover { 2 } else { 5 };
        let answer = |address: [u8; 4], options: &[&[u8]]| {
            let mut bytes = asked[..240].to_vec();
            bytes[0] = 2;
            bytes[16..20].copy_from_slice(&address);
            bytes.extend([53, 1, kind, 54, 4, 10, 9, 0, 1]);
            options.iter().for_each(|option| bytes.extend_from_slice(option));
            bytes.push(255);
            bytes
        };
        let mask: &[u8] = &[1, 4, 255, 255, 255, 0];
        let time: &[u8] = &[51, 4, 0, 0, 1, 0];
        let mut others = answer([10, 9, 0, 66], &[mask, time]);
        others[4] ^= 1;
        let mut for_others = answer([10, 9, 0, 67], &[mask, time]);
        for_others[28] ^= 1;
        let mut hlen = answer([10, 9, 0, 68], &[mask, time]);
        hlen[2] = 255;
        let huge: Vec<u8> = [&[15, 255][..], &[b'x'; 255]].concat();
        let huge: Vec<&[u8]> = std::iter::repeat_n(&huge[..], 4).collect();
        let truth: &[&[u8]] = &[
            mask,
            time,
            &[3, 4, 198, 51, 100, 1],
            &[26, 2, 0, 1],
            &[12, 5, b'a', 27, b'[', b'2', b'J'],
            &[6, 8, 127, 0, 0, 1, 9, 9, 9, 9],
            &[119, 2, 0xc0, 0],
            &[15, 8, b'a', b'\n', b'b', 0, 27, b'[', b'3', b'm'],
        ];
        for lie in [
            vec![],
            vec![2; 240],
            others,
            for_others,
            hlen,
            answer([0, 0, 0, 0], &[mask, time]),
            answer([127, 0, 0, 1], &[mask, time]),
            answer([224, 0, 0, 1], &[mask, time]),
            answer([10, 9, 0, 61], &[&[1, 4, 255, 0, 255, 0], time]),
            answer([10, 9, 0, 62], &[mask, &[51, 4, 0, 0, 0, 0]]),
            answer([10, 9, 0, 63], &[mask]),
            answer([10, 9, 0, 64], &huge),
            answer([10, 9, 0, 65], &[mask, &[51, 200, 1]]),
            answer([10, 9, 0, 70], truth),
        ] {
            socket.send_to(&lie, (Ipv4Addr::BROADCAST, 68))?;
        }
    }
}

#[test]
fn lies_are_not_believed() {
    let mut lab = Lab::new("lies");
    let namespace = lab.server.clone();
    std::thread::spawn(move || {
        if let Err(error) = liar(&namespace) {
            let _ = writeln!(std::io::stderr(), "the lying server: {error}");
        }
    });
    lab.start();
    lab.until("lease", |lab| lab.address().is_some());
    assert_eq!(lab.address().as_deref(), Some("10.9.0.70/24"), "{}", lab.log("netd.log"));
    let shown = lab.kernel(&["addr", "show", "dev", "c0"]);
    assert_eq!(shown.matches("inet ").count(), 1, "{shown}");
    assert!(shown.contains("mtu 1500"), "{shown}");
    let routes = lab.kernel(&["route"]);
    assert!(routes.contains("default via 198.51.100.1 dev c0") && routes.contains("onlink"), "{routes}");
    assert_eq!(lab.log("root/etc/resolv.conf"), "nameserver 9.9.9.9\n");
    assert!(!lab.log("netd.log").contains('\x1b'));
    assert!(matches!(lab.netd.as_mut().unwrap().try_wait(), Ok(None)), "netd has ended");
}
