//! `rescue netd` against a real DHCP server and against one that lies, each in network namespaces of
//! its own. Needs root, `ip` (iproute2) and `dnsmasq`.

mod netlab;

use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use netlab::Lab;

/// A lab of one cable, with the address of a server at its end.
fn lab(name: &str) -> Lab {
    let lab = Lab::new(name, 1);
    lab.at_server("addr add 10.9.0.1/24 dev s0");
    lab
}

/// dnsmasq with this range.
fn serve(lab: &mut Lab, range: &str) {
    let range = format!("--dhcp-range={range},2m");
    let more = [
        "--interface=s0",
        "--dhcp-authoritative",
        "--dhcp-option-force=58,10",
        "--dhcp-option=6,9.9.9.9",
        "--dhcp-option=15,lab.example",
        "--dhcp-option=26,1400",
        &range,
    ];
    lab.dnsmasq(&more, "DHCP, IP range");
}

#[test]
fn a_lease_configures_the_link_and_outlives_a_crash() {
    let mut lab = lab("lease");
    serve(&mut lab, "10.9.0.50,10.9.0.60");
    lab.start();
    lab.until("address", |lab| lab.address().is_some());
    let address = lab.address().unwrap();
    let ip_only = address.trim_end_matches("/24").to_string();
    let shown = lab.at_client("-4 addr show dev c0");
    assert!(shown.contains(&format!("inet {address} brd 10.9.0.255")), "{shown}");
    assert!(shown.contains("mtu 1400"), "{shown}");
    let routes = lab.at_client("-4 route");
    assert!(routes.contains(&format!("default via 10.9.0.1 dev c0 proto dhcp src {ip_only}")), "{routes}");
    assert_eq!(lab.file("root/etc/resolv.conf"), "search lab.example\nnameserver 9.9.9.9\n");
    assert!(lab.own_kib() < 1 << 10);
    assert!(lab.at_client("-4 addr show dev lo").contains("UP"));

    // SIGKILL; the address must never leave the link, and the next run must verify and not discover.
    let discovers = |lab: &Lab| lab.file("dnsmasq.log").matches("DHCPDISCOVER").count();
    let before = discovers(&lab);
    lab.kill();
    std::fs::remove_file(lab.path("root/run/rescue/net.json")).unwrap();
    lab.start();
    lab.until("lease after the crash", |lab| {
        assert!(lab.at_client("-4 addr show dev c0").contains(&address));
        lab.report().links.iter().any(|link| link.state.starts_with("lease of 120 s"))
    });
    assert_eq!(discovers(&lab), before);
}

#[test]
fn a_lease_is_renewed_and_verified_after_a_flap() {
    let mut lab = lab("renew");
    serve(&mut lab, "10.9.0.50,10.9.0.60");
    lab.start();
    let acks = |lab: &Lab| lab.file("dnsmasq.log").matches("DHCPACK").count();
    lab.until("first lease", |lab| lab.address().is_some());
    let discovers = lab.file("dnsmasq.log").matches("DHCPDISCOVER").count();
    let before = acks(&lab);
    lab.until("renewal at T1", |lab| acks(lab) > before);
    lab.at_server("link set s0 down");
    lab.until("loss of carrier", |lab| lab.report().links.iter().any(|link| !link.carrier));
    assert!(lab.address().is_some(), "the address stays while the cable is out");
    let before = acks(&lab);
    lab.at_server("link set s0 up");
    lab.until("verification", |lab| acks(lab) > before);
    // A card that an engineer sets down stays down; when it is set up again, its routes are back.
    lab.at_client("link set c0 down");
    lab.until("link down", |lab| lab.report().links.iter().any(|link| !link.carrier));
    assert!(!lab.at_client("-4 route").contains("default"));
    assert!(lab.at_client("-4 link show dev c0").contains("state DOWN"));
    let before = acks(&lab);
    lab.at_client("link set c0 up");
    lab.until("routes", |lab| lab.at_client("-4 route").contains("default via 10.9.0.1"));
    lab.until("second verification", |lab| acks(lab) > before);
    assert_eq!(lab.file("dnsmasq.log").matches("DHCPDISCOVER").count(), discovers);
}

#[test]
fn another_range_replaces_the_address() {
    let mut lab = lab("nak");
    serve(&mut lab, "10.9.0.50,10.9.0.60");
    lab.start();
    lab.until("address", |lab| lab.address().is_some());
    lab.stop_serving();
    std::fs::remove_file(lab.path("leases")).unwrap();
    serve(&mut lab, "10.9.0.100,10.9.0.110");
    lab.at_server("link set s0 down");
    lab.at_server("link set s0 up");
    lab.until("other address", |lab| lab.address().is_some_and(|a| a.starts_with("10.9.0.1")));
    let shown = lab.at_client("-4 addr show dev c0");
    assert_eq!(shown.matches("inet ").count(), 1, "{shown}");
    assert!(lab.file("dnsmasq.log").contains("DHCPNAK"));
    assert_eq!(lab.at_client("-4 route").matches("default").count(), 1);
}

#[test]
fn the_mtu_of_a_lease_ends_with_it() {
    let mut lab = lab("mtu");
    serve(&mut lab, "10.9.0.50,10.9.0.60");
    lab.start();
    lab.until("MTU of the lease", |lab| lab.at_client("-4 link show dev c0").contains("mtu 1400"));
    let acks = lab.file("dnsmasq.log").matches("DHCPACK").count();
    // SIGKILL; the next run knows from the report of this one what the MTU was before.
    lab.kill();
    lab.start();
    lab.until("lease after the crash", |lab| lab.file("netd.log").matches("stands from before").count() == 1);
    lab.until("renewed lease", |lab| lab.file("dnsmasq.log").matches("DHCPACK").count() > acks);
    assert!(lab.at_client("-4 link show dev c0").contains("mtu 1400"));
    // An engineer prefers a static address: the lease is no more.
    lab.stop_serving();
    let done = lab.net(&["set", "c0", "10.9.0.7/24"]);
    assert!(done.status.success(), "{done:?}");
    lab.until("MTU of before", |lab| lab.at_client("-4 link show dev c0").contains("mtu 1500"));
    assert_eq!(lab.at_client("-4 addr show dev c0").matches("inet ").count(), 1);
}

#[test]
fn a_server_that_comes_late_is_heard() {
    let mut lab = lab("late");
    lab.start();
    lab.until("request", |lab| lab.report().links.iter().any(|l| l.state.contains("try 2")));
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(lab.address(), None);
    serve(&mut lab, "10.9.0.50,10.9.0.60");
    lab.until("address", |lab| lab.address().is_some());
}

#[test]
fn static_addresses_are_set_and_a_card_plugged_in_later_is_seen() {
    let mut lab = lab("static");
    lab.at_client("link del c0");
    let wishes = r#"{"links":[{"mac":"02:00:00:00:00:07","mtu":1300,"addresses":["192.0.2.7/32"],
        "routes":[{"to":"0.0.0.0/0","via":"192.0.2.1"}]}],"dns":{"servers":["192.0.2.53"],"search":[]}}"#;
    std::fs::write(lab.path("root/run/rescue/network.json"), wishes).unwrap();
    lab.start();
    lab.until("first report", |lab| lab.path("root/run/rescue/net.json").exists());
    lab.at_server(&format!("link add s0 type veth peer name c9 netns {}", lab.client));
    lab.at_client("link set c9 address 02:00:00:00:00:07");
    lab.at_server("link set s0 up");
    lab.until("static address", |lab| lab.address().as_deref() == Some("192.0.2.7/32"));
    let routes = lab.at_client("-4 route");
    assert!(routes.contains("default via 192.0.2.1 dev c9 proto static"), "{routes}");
    assert!(routes.contains("onlink"), "{routes}");
    assert_eq!(lab.file("root/etc/resolv.conf"), "nameserver 192.0.2.53\n");
}

/// A server in the namespace `name` that answers each message by lies and then by what is true.
fn liar(name: &str) -> std::io::Result<()> {
    netlab::enter(name)?;
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
    let mut lab = lab("lies");
    let namespace = lab.server.clone();
    std::thread::spawn(move || {
        if let Err(error) = liar(&namespace) {
            let _ = writeln!(std::io::stderr(), "the lying server: {error}");
        }
    });
    lab.start();
    lab.until("lease", |lab| lab.address().is_some());
    assert_eq!(lab.address().as_deref(), Some("10.9.0.70/24"), "{}", lab.file("netd.log"));
    let shown = lab.at_client("-4 addr show dev c0");
    assert_eq!(shown.matches("inet ").count(), 1, "{shown}");
    assert!(shown.contains("mtu 1500"), "{shown}");
    let routes = lab.at_client("-4 route");
    assert!(routes.contains("default via 198.51.100.1 dev c0") && routes.contains("onlink"), "{routes}");
    assert_eq!(lab.file("root/etc/resolv.conf"), "nameserver 9.9.9.9\n");
    assert!(!lab.file("netd.log").contains('\x1b'));
    assert!(lab.lives(), "netd has ended");
}
