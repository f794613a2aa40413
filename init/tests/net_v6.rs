//! `rescue netd` on networks of IPv6, against servers that others wrote (radvd, dnsmasq, ISC dhcpd) and
//! frames that nobody should send, in network namespaces of its own. Needs root, `ip` (iproute2),
//! `radvd`, `dnsmasq` and `dhcpd` (isc-dhcp-server).

#[path = "netlab/frames_v6.rs"]
mod frames_v6;
mod netlab;

use std::fs::File;
use std::net::{Ipv6Addr, UdpSocket};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use netlab::{Lab, Wire};

/// Of 02:00:00:00:00:01 in 2001:db8:1::/64.
const FORMED: &str = "2001:db8:1::ff:fe00:1/64";

/// The kernel has one table of neighbours for all namespaces, and a flood fills it: whoever makes one is
/// alone.
static NEIGHBOURS: RwLock<()> = RwLock::new(());

/// A lab of one cable that shares the table of neighbours with others.
fn lab(name: &str) -> (RwLockReadGuard<'static, ()>, Lab) {
    (NEIGHBOURS.read().unwrap_or_else(PoisonError::into_inner), alone(name))
}

/// For whoever holds the lock.
fn alone(name: &str) -> Lab {
    let lab = Lab::new(name, 1);
    lab.at_client("link set c0 address 02:00:00:00:00:01");
    // Nothing of the server's end has to be waited for when the cable is plugged in.
    for setting in ["s0.addr_gen_mode=1", "s0.keep_addr_on_down=1", "all.forwarding=1"] {
        let setting = format!("net.ipv6.conf.{setting}");
        netlab::ip(&["netns", "exec", &lab.server, "sysctl", "-q", "-w", &setting]);
    }
    // What was formed before.
    lab.at_server("-6 addr flush dev s0");
    for address in ["fe80::1/64", "2001:db8:1::1/64"] {
        lab.at_server(&format!("addr add {address} dev s0 nodad"));
    }
    lab
}

fn radvd(lab: &mut Lab, content: &str) {
    let (conf, pid) = (lab.path("radvd.conf"), lab.path("radvd.pid"));
    let head = "interface s0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;";
    std::fs::write(&conf, format!("{head} {content} }};\n")).unwrap();
    let (conf, pid) = (conf.display().to_string(), pid.display().to_string());
    lab.serve("radvd", &["-n", "-m", "stderr", "-C", &conf, "-p", &pid], "started");
}

fn dnsmasq(lab: &mut Lab, more: &[&str]) {
    lab.dnsmasq(&[&["--interface=s0", "--log-dhcp"], more].concat(), "IPv6");
}

fn has(lab: &Lab, address: &str) -> bool {
    lab.card().addresses.iter().any(|a| a == address)
}

fn setting(lab: &Lab, name: &str) -> String {
    let path = format!("/proc/sys/net/ipv6/conf/c0/{name}");
    netlab::ip(&["netns", "exec", &lab.client, "cat", &path]).trim().into()
}

fn cable(lab: &Lab, state: &str) {
    lab.at_server(&format!("link set s0 {state}"));
    if state == "up" {
        // Link-local addresses are not kept when a link is set down.
        lab.at_server("addr add fe80::1/64 dev s0 nodad");
    }
}

/// A packet from the client arrives at this address of the server's.
#[track_caller]
fn arrives(lab: &Lab, address: &str) {
    let at = |name: &str, local: String| {
        let name = name.to_string();
        let thread = std::thread::spawn(move || {
            netlab::enter(&name).unwrap();
            UdpSocket::bind(local).unwrap()
        });
        thread.join().unwrap()
    };
    let there = at(&lab.server, format!("[{address}]:4000"));
    let here = at(&lab.client, "[::]:0".into());
    there.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let arrived = (0..15).any(|_| {
        here.send_to(b"hello", format!("[{address}]:4000")).unwrap();
        there.recv(&mut [0; 9]).is_ok()
    });
    assert!(arrived, "{address} is not reached: {}", lab.at_client("-6 route"));
}

#[test]
fn a_router_alone_makes_the_machine_reachable() {
    let (_shared, mut lab) = lab("slaac");
    radvd(
        &mut lab,
        "AdvLinkMTU 1400; AdvDefaultLifetime 60; \
         prefix 2001:db8:1::/64 { AdvValidLifetime 600; AdvPreferredLifetime 300; DeprecatePrefix on; }; \
         route 2001:db8:ff::/48 { RemoveRoute on; }; RDNSS 2001:db8:1::53 {}; DNSSL lab.example {};",
    );
    lab.start();
    lab.until("address", |lab| has(lab, FORMED));
    let shown = lab.at_client("-6 addr show dev c0");
    assert!(
        shown.contains("noprefixroute")
            && !shown.contains("valid_lft forever preferred_lft forever\n    inet6 2001"),
        "{shown}"
    );
    let routes = lab.at_client("-6 route");
    for wanted in [
        "2001:db8:1::/64 dev c0 proto ra",
        "2001:db8:ff::/48 via fe80::1 dev c0",
        "default via fe80::1 dev c0 proto ra",
    ] {
        assert!(routes.contains(wanted), "{wanted}: {routes}");
    }
    assert_eq!(lab.file("root/etc/resolv.conf"), "search lab.example\nnameserver 2001:db8:1::53\n");
    // IPv6 has its own MTU, and the link and IPv4 keep theirs.
    assert_eq!(setting(&lab, "mtu"), "1400");
    assert!(shown.contains("mtu 1500"), "{shown}");
    // Nothing is done twice.
    assert_eq!((setting(&lab, "accept_ra"), setting(&lab, "autoconf")), ("0".into(), "0".into()));
    assert_eq!(lab.card().gateway.as_deref(), Some("fe80::1"));
    let origin = lab.card().origins.into_iter().find(|o| o.address == FORMED).unwrap();
    assert_eq!(origin.by, "router");
    lab.until("end of the search for duplicates", |lab| {
        !lab.at_client("-6 addr show dev c0").contains("tentative")
    });
    arrives(&lab, "2001:db8:1::1");
    assert!(lab.own_kib() < 1 << 10);

    // SIGKILL: the address must never leave the link, and the next run takes it over.
    lab.kill();
    std::fs::remove_file(lab.path("root/run/rescue/net.json")).unwrap();
    lab.start();
    lab.until("report after the crash", |lab| {
        assert!(lab.at_client("-6 addr show dev c0").contains(FORMED));
        lab.card().gateway.is_some() && has(lab, FORMED)
    });
    assert!(lab.file("netd.log").contains("2001:db8:1::ff:fe00:1 stands from before"));

    // The router takes leave: lifetime 0. The address stays, the way out is gone.
    lab.stop_serving();
    lab.until("end of the default route", |lab| !lab.at_client("-6 route").contains("default"));
    assert!(!lab.at_client("-6 route").contains("2001:db8:ff::/48"));
    assert!(lab.at_client("-6 addr show dev c0").contains(FORMED));
    lab.until("report of it", |lab| lab.card().gateway.is_none());
}

#[test]
fn a_server_gives_what_the_router_says_it_gives() {
    let (_shared, mut lab) = lab("dhcp6");
    dnsmasq(
        &mut lab,
        &[
            "--enable-ra",
            "--dhcp-range=2001:db8:1::100,2001:db8:1::1ff,64,2m",
            "--dhcp-option=option6:dns-server,[2001:db8:1::53]",
            "--dhcp-option=option6:domain-search,lab.example",
        ],
    );
    lab.start();
    lab.until("address", |lab| lab.card().addresses.iter().any(|a| a.starts_with("2001:db8:1::1")));
    let address = lab.card().addresses[0].clone();
    assert!(address.ends_with("/128"), "{address}");
    assert_eq!(lab.file("root/etc/resolv.conf"), "search lab.example\nnameserver 2001:db8:1::53\n");
    lab.until("default route", |lab| lab.at_client("-6 route").contains("default via fe80::1 dev c0"));
    let solicits = |lab: &Lab| lab.file("dnsmasq.log").matches("DHCPSOLICIT").count();
    let before = solicits(&lab);
    assert!(lab.file("dnsmasq.log").contains("00:03:00:01:02:00:00:00:00:01"), "DUID-LL of the MAC address");
    // The cable is out for a while, and then the address is confirmed.
    cable(&lab, "down");
    lab.until("loss of carrier", |lab| !lab.card().carrier);
    assert!(has(&lab, &address));
    cable(&lab, "up");
    lab.until("confirmation", |lab| lab.file("dnsmasq.log").contains("DHCPCONFIRM"));
    // After a crash it is asked for again, and never leaves.
    lab.kill();
    lab.start();
    lab.until("rebinding", |lab| {
        assert!(lab.at_client("-6 addr show dev c0").contains(&address));
        lab.file("dnsmasq.log").contains("DHCPREBIND")
    });
    lab.until("lease", |lab| lab.card().state.contains("lease of 120 s"));
    assert_eq!(solicits(&lab), before);
    // At T1, which is half of two minutes.
    lab.until("renewal", |lab| lab.file("dnsmasq.log").contains("DHCPRENEW"));
    assert!(has(&lab, &address));
}

#[test]
fn name_servers_come_from_a_server_without_addresses() {
    let (_shared, mut lab) = lab("stateless");
    dnsmasq(
        &mut lab,
        &[
            "--enable-ra",
            "--dhcp-range=2001:db8:1::,ra-stateless,ra-names,64,10m",
            "--dhcp-option=option6:dns-server,[2001:db8:1::53]",
            "--dhcp-option=option6:domain-search,lab.example",
        ],
    );
    lab.start();
    lab.until("name servers", |lab| lab.file("root/etc/resolv.conf").contains("2001:db8:1::53"));
    lab.until("question", |lab| lab.file("dnsmasq.log").contains("DHCPINFORMATION-REQUEST"));
    lab.until("address", |lab| has(lab, FORMED));
    assert!(!lab.file("dnsmasq.log").contains("DHCPSOLICIT"));
}

/// ISC's server: no rapid commit, so that all four messages are needed; and no router at all.
#[test]
fn a_server_without_a_router_is_found() {
    let (_shared, mut lab) = lab("norouter");
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
    lab.until("address that is reserved for the DUID", |lab| has(lab, "2001:db8:1::777/128"));
    assert!(lab.file("root/etc/resolv.conf").contains("nameserver 2001:db8:1::53"));
    let log = lab.file("dhcpd.log");
    assert!(log.contains("Request message from fe80::ff:fe00:1"), "{log}");
}

#[test]
fn what_is_set_by_hand_is_all_there_is() {
    let (_shared, mut lab) = lab("hand6");
    radvd(&mut lab, "prefix 2001:db8:1::/64 {};");
    let wishes = r#"{"links":[{"mac":"02:00:00:00:00:01","addresses":["2001:db8:1::7/64"],
        "routes":[{"to":"::/0","via":"2001:db8:1::1"}]}],"dns":{"servers":["2001:db8:1::53"],"search":[]}}"#;
    std::fs::write(lab.path("root/run/rescue/network.json"), wishes).unwrap();
    lab.start();
    lab.until("static address", |lab| has(lab, "2001:db8:1::7/64"));
    assert!(lab.at_client("-6 route").contains("default via 2001:db8:1::1 dev c0 proto static"));
    arrives(&lab, "2001:db8:1::1");
    // Longer than the router takes to advertise itself again.
    std::thread::sleep(Duration::from_secs(5));
    let shown = lab.at_client("-6 addr show dev c0");
    assert_eq!(shown.matches("inet6 ").count(), 2, "{shown}");
    assert_eq!(lab.at_client("-6 route").matches("default").count(), 1);
}

#[test]
fn an_address_of_another_host_is_declined_and_said() {
    let (_shared, mut lab) = lab("twice");
    lab.at_server("addr add 2001:db8:1::100/64 dev s0 nodad");
    lab.at_server(&format!("addr add {FORMED} dev s0 nodad"));
    dnsmasq(&mut lab, &["--enable-ra", "--dhcp-range=2001:db8:1::100,2001:db8:1::100,slaac,64,10m"]);
    lab.start();
    lab.until("refusal", |lab| lab.file("dnsmasq.log").contains("DHCPDECLINE"));
    lab.until("word of it", |lab| {
        let log = lab.file("netd.log");
        ["2001:db8:1::100", "2001:db8:1::ff:fe00:1"]
            .iter()
            .all(|address| log.contains(&format!("{address} is another host's as well")))
    });
    lab.until("end of both", |lab| !lab.at_client("-6 addr show dev c0").contains("2001:db8"));
    assert!(lab.lives(), "netd has ended");
}

/// From carrier to an address that can be used, with servers that answer at once.
#[test]
fn an_instant_router_and_server_make_an_instant_address() {
    let _alone = NEIGHBOURS.write().unwrap_or_else(PoisonError::into_inner);
    let mut lab = alone("instant6");
    dnsmasq(&mut lab, &["--enable-ra", "--dhcp-range=2001:db8:1::100,2001:db8:1::1ff,slaac,64,10m"]);
    // The first advertisements of the server are over.
    std::thread::sleep(Duration::from_secs(1));
    let mut monitor = Command::new("ip")
        .args(["-n", &lab.client, "-ts", "-o", "monitor", "link", "address", "route"])
        .stdout(File::create(lab.path("monitor")).unwrap())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    lab.start();
    lab.until("both addresses", |lab| has(lab, FORMED) && lab.card().addresses.len() == 2);
    lab.until("routes", |lab| lab.file("monitor").contains("default via fe80::1"));
    let _ = monitor.kill();
    let _ = monitor.wait();
    let log = lab.file("monitor");
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
