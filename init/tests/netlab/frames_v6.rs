//! Frames that nobody should send.

use super::*;

/// An ICMPv6 message to all nodes.
fn say(wire: &Wire, from: &str, hops: u8, message: &[u8]) {
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
    wire.send(&frame);
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
    let (_shared, mut lab) = lab("lies6");
    lab.start();
    lab.until("question", |lab| lab.card().state.contains("no router"));
    let namespace = lab.server.clone();
    std::thread::spawn(move || {
        let wire = Wire::open(&namespace, "s0");
        let lie = |at: &str| advert(0, 1800, &[prefix(at, 64, 0xc0, 600, 600)]);
        // The first may be too early for a cable that was only just plugged in.
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(200));
            say(&wire, "fe80::bad", 254, &lie("2001:db8:b1::"));
            say(&wire, "2001:db8:1::1", 255, &lie("2001:db8:b2::"));
            say(&wire, "fe80::bad", 255, &lie("2001:db8:b3::")[..40]);
            say(&wire, "fe80::bad", 255, &lie("2001:db8:b4::")[..15]);
            say(&wire, "fe80::bad", 255, &[&lie("2001:db8:b5::")[..], &[25, 0, 0, 0, 0, 0, 0, 0]].concat());
            say(&wire, "fe80::bad", 255, &[&lie("2001:db8:b6::")[..], &[31, 255, 0, 0, 0, 0, 0, 0]].concat());
            let mut code = lie("2001:db8:b7::");
            code[1] = 1;
            say(&wire, "fe80::bad", 255, &code);
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
            say(&wire, "fe80::1", 255, &truth);
        }
    });
    lab.until("address", |lab| has(lab, FORMED));
    let shown = lab.at_client("-6 addr show dev c0");
    assert_eq!(shown.matches("inet6 ").count(), 2, "{shown}");
    let routes = lab.at_client("-6 route");
    assert_eq!(routes.matches("default").count(), 1, "{routes}");
    // That prefix is on the link even if no address can be formed of it (RFC 4862 5.5.3 c).
    assert_eq!(routes.matches("proto ra").count(), 3, "{routes}");
    assert_eq!(setting(&lab, "mtu"), "1500");
    assert_eq!(lab.file("root/etc/resolv.conf"), "search lan\nnameserver 2001:db8:1::53\n");
    assert!(!lab.file("netd.log").contains('\x1b'));
    assert!(lab.lives(), "netd has ended");
}

/// Thousands of routers, each with prefixes, routes, name servers and names of its own.
#[test]
fn a_flood_takes_nothing_away() {
    let _alone = NEIGHBOURS.write().unwrap_or_else(PoisonError::into_inner);
    let mut lab = alone("flood6");
    radvd(
        &mut lab,
        "AdvDefaultLifetime 60; prefix 2001:db8:1::/64 {}; RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 60; };",
    );
    lab.start();
    lab.until("address", |lab| has(lab, FORMED) && lab.card().gateway.is_some());
    let before = lab.own_kib();
    let began = lab.ticks();
    let namespace = lab.server.clone();
    let sender = std::thread::spawn(move || {
        let wire = Wire::open(&namespace, "s0");
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
            say(&wire, &format!("fe80::f:{high:x}:{low:x}"), 255, &advert(0, 9000, &options));
            sent += 1;
        }
        (sent, start.elapsed())
    });
    let (sent, took) = sender.join().unwrap();
    let ticks = lab.ticks() - began;
    let shown = lab.at_client("-6 addr show dev c0");
    let routes = lab.at_client("-6 route");
    let grown = lab.own_kib().saturating_sub(before);
    println!(
        "{sent} advertisements in {took:?}: {ticks} hundredths of a second of CPU, {grown} KiB more memory"
    );
    assert!(shown.contains(FORMED) && shown.matches("inet6 ").count() <= 9, "{shown}");
    assert!(routes.contains("default via fe80::1 dev c0 proto ra metric 1"), "{routes}");
    assert!(routes.matches("default").count() <= 8 && routes.lines().count() < 80, "{routes}");
    let resolv = lab.file("root/etc/resolv.conf");
    assert!(resolv.contains("2001:db8:1::53"), "{resolv}");
    assert!(grown < 1024, "{grown} KiB");
    assert!(u128::from(ticks) < took.as_millis() / 20, "{ticks} hundredths of {took:?}");
    assert!(lab.file("netd.log").lines().count() < 40, "{}", lab.file("netd.log"));
    // What was queued is read; and then the real router is heard when it takes leave.
    std::thread::sleep(Duration::from_millis(500));
    let namespace = lab.server.clone();
    let leave = move || say(&Wire::open(&namespace, "s0"), "fe80::1", 255, &advert(0, 0, &[]));
    std::thread::spawn(leave).join().unwrap();
    lab.until("end of the real router", |lab| !lab.at_client("-6 route").contains("default via fe80::1 "));
    // The kernel forgets neighbours with their link, a moment after the namespace.
    drop(lab);
    std::thread::sleep(Duration::from_secs(1));
}
