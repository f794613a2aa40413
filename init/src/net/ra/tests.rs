use std::net::Ipv6Addr;
use std::time::Duration;

use super::advert::parse_advert;
use super::testing::{advert, dnssl, prefix, rdnss, route};
use super::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const HOUR: u32 = 3600;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn router(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)
}

fn hear(machine: &mut Machine, from: Ipv6Addr, bytes: &[u8], now: Duration) -> Vec<Action> {
    machine.step(Event::Advert(from, &parse_advert(bytes).unwrap()), now)
}

fn up() -> Machine {
    let mut machine = Machine::new(MAC, 7);
    assert_eq!(machine.step(Event::LinkUp, at(1)), [Action::Solicit(None)]);
    machine
}

fn plain() -> Vec<u8> {
    advert(0, 1800, &[prefix("2001:db8:1::", 64, 0xc0, 4 * HOUR, HOUR)])
}

#[test]
fn a_router_is_asked_at_once_and_believed_at_once() {
    let mut machine = up();
    // By its own name as soon as there is one.
    assert_eq!(machine.step(Event::LinkLocal(Some(router(9))), at(1)), [Action::Solicit(Some(router(9)))]);
    assert!(machine.step(Event::LinkLocal(Some(router(9))), at(1)).is_empty());
    let actions = hear(&mut machine, router(1), &plain(), at(1));
    assert_eq!(actions, [Action::Configure { news: true }, Action::Dhcp { managed: false, other: false }]);
    let table = machine.table();
    assert_eq!(table.addresses[0].address.to_string(), "2001:db8:1:0:5054:ff:fe12:3456");
    assert_eq!(table.routers[0].address, router(1));
    assert_eq!(table.on_link[0].prefix, ("2001:db8:1::".parse().unwrap(), 64));
    // Said again, it is no news; and nobody is asked any more.
    assert_eq!(hear(&mut machine, router(1), &plain(), at(2)), [Action::Configure { news: false }]);
    assert_eq!(machine.deadline(), Some(at(2 + 1800)));
    assert_eq!(machine.describe(), "router fe80::1");
}

#[test]
fn where_nobody_answers_dhcp_is_tried_and_the_asking_gets_slower() {
    let mut machine = up();
    let (mut sent, mut dhcp, mut waits) = (0, Vec::new(), Vec::new());
    let mut now = at(1);
    while sent < 10 {
        let next = machine.deadline().unwrap();
        waits.push((next - now).as_millis());
        now = next;
        for action in machine.step(Event::Timer, now) {
            match action {
                Action::Solicit(None) => sent += 1,
                Action::Dhcp { managed: true, other: true } => dhcp.push(sent),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(dhcp, [1], "once, before the third is sent");
    assert!((900..=1100).contains(&waits[0]) && (1800..=2200).contains(&waits[1]), "{waits:?}");
    assert!(waits.iter().all(|w| *w <= 66_000) && waits[9] >= 54_000, "{waits:?}");
    // A router that comes late says what is really to be done.
    let actions = hear(&mut machine, router(1), &plain(), now);
    assert!(actions.contains(&Action::Dhcp { managed: false, other: false }));
}

#[test]
fn lifetimes_end() {
    let mut machine = up();
    let bytes = advert(
        0x40,
        30,
        &[
            prefix("2001:db8:1::", 64, 0xc0, 100, 50),
            route("2001:db8:f::", 48, 0, 40),
            rdnss(20, &["2001:db8::53"]),
            dnssl(u32::MAX, b"\x03lan\0"),
        ],
    );
    hear(&mut machine, router(1), &bytes, at(10));
    let count = |m: &Machine| {
        let t = m.table();
        (t.dns.len(), t.routers.len(), t.routes.len(), t.on_link.len(), t.addresses.len(), t.search.len())
    };
    assert_eq!(count(&machine), (1, 1, 1, 1, 1, 1));
    for (second, left) in [
        (30, (0, 1, 1, 1, 1, 1)),
        (40, (0, 0, 1, 1, 1, 1)),
        (50, (0, 0, 0, 1, 1, 1)),
        (110, (0, 0, 0, 0, 0, 1)),
    ] {
        while machine.deadline().unwrap() < at(second) {
            let early = machine.deadline().unwrap();
            machine.step(Event::Timer, early);
        }
        assert_eq!(machine.deadline(), Some(at(second)));
        let actions = machine.step(Event::Timer, at(second));
        assert!(actions.contains(&Action::Configure { news: true }), "{second}: {actions:?}");
        assert_eq!(count(&machine), left, "{second}");
        if second == 40 {
            assert!(actions.contains(&Action::Solicit(None)), "another router is looked for");
        }
    }
}

#[test]
fn nothing_lasts_because_it_is_withdrawn() {
    let mut machine = up();
    let full = |router, seconds| {
        advert(
            0,
            router,
            &[
                prefix("2001:db8:1::", 64, 0x80, seconds, 0),
                route("2001:db8:f::", 48, 0, seconds),
                rdnss(seconds, &["2001:db8::53"]),
                dnssl(seconds, b"\x03lan\0"),
            ],
        )
    };
    hear(&mut machine, router(1), &full(1800, 900), at(1));
    hear(&mut machine, router(2), &full(1800, 900), at(1));
    assert_eq!(machine.table().routers.len(), 2);
    hear(&mut machine, router(1), &full(0, 0), at(2));
    let table = machine.table();
    assert_eq!(table.routers.iter().map(|r| r.address).collect::<Vec<_>>(), [router(2)]);
    assert!(table.on_link.is_empty() && table.dns.is_empty() && table.search.is_empty());
    assert_eq!(table.routes.iter().map(|r| r.via).collect::<Vec<_>>(), [router(2)], "each for itself");
    let actions = hear(&mut machine, router(2), &full(0, 0), at(3));
    assert!(actions.iter().any(|a| matches!(a, Action::Solicit(_))), "{actions:?}");
}

/// RFC 4862 5.5.3 e.
#[test]
fn an_address_is_not_taken_away_within_two_hours() {
    let valid = |m: &Machine| m.table().addresses[0].valid;
    let said = |v, p| advert(0, 1800, &[prefix("2001:db8:1::", 64, 0x40, v, p)]);
    let mut machine = up();
    hear(&mut machine, router(1), &said(10 * HOUR, HOUR), at(0));
    assert_eq!(valid(&machine), Some(at(36_000)));
    hear(&mut machine, router(2), &said(0, 0), at(10));
    assert_eq!(valid(&machine), Some(at(10 + 7200)));
    assert_eq!(machine.table().addresses[0].preferred, Some(at(10)), "but it is no longer preferred");
    hear(&mut machine, router(2), &said(5, 5), at(20));
    assert_eq!(valid(&machine), Some(at(10 + 7200)));
    hear(&mut machine, router(1), &said(7201, 60), at(30));
    assert_eq!(valid(&machine), Some(at(30 + 7201)));
    hear(&mut machine, router(1), &said(u32::MAX, u32::MAX), at(40));
    assert_eq!(valid(&machine), None);
    hear(&mut machine, router(1), &said(60, 60), at(50));
    assert_eq!(valid(&machine), Some(at(50 + 7200)));
    // What never was is not formed by being withdrawn.
    let mut fresh = up();
    hear(&mut fresh, router(1), &said(0, 0), at(1));
    assert!(fresh.table().addresses.is_empty());
    // A short one grows.
    hear(&mut fresh, router(1), &said(60, 60), at(1));
    hear(&mut fresh, router(1), &said(120, 60), at(2));
    assert_eq!(valid(&fresh), Some(at(122)));
}

#[test]
fn the_preferred_router_comes_first_and_the_first_stays_first() {
    let mut machine = up();
    for (n, flags) in [(1, 0x18), (2, 0), (3, 0), (4, 0x08)] {
        hear(&mut machine, router(n), &advert(flags, 1800, &[]), at(n.into()));
    }
    let order = |m: &Machine| m.table().routers.iter().map(|r| r.address).collect::<Vec<_>>();
    assert_eq!(order(&machine), [router(4), router(2), router(3), router(1)]);
    hear(&mut machine, router(3), &advert(0, 1800, &[]), at(9));
    assert_eq!(order(&machine), [router(4), router(2), router(3), router(1)]);
    hear(&mut machine, router(4), &advert(0x18, 1800, &[]), at(9));
    assert_eq!(order(&machine), [router(2), router(3), router(4), router(1)]);
}

#[test]
fn a_flood_neither_grows_nor_evicts_nor_keeps_the_kernel_busy() {
    let mut machine = up();
    hear(&mut machine, router(1), &plain(), at(1));
    let mine = machine.table().addresses[0].clone();
    let (mut configured, mut said) = (0, 0);
    for n in 0..20_000_u16 {
        let p = format!("2001:db9:{n:x}::");
        let bytes = advert(
            0x08,
            9000,
            &[
                prefix(&p, 64, 0xc0, u32::MAX, u32::MAX),
                route(&p, 64, 0x08, u32::MAX),
                rdnss(u32::MAX, &[&format!("{p}53")]),
                dnssl(u32::MAX, format!("\x08x{n:07}\0").as_bytes()),
            ],
        );
        let now = at(1) + Duration::from_micros(u64::from(n) * 100);
        for action in hear(&mut machine, router(n.wrapping_add(2)), &bytes, now) {
            match action {
                Action::Configure { .. } => configured += 1,
                Action::Say(_) => said += 1,
                _ => {}
            }
        }
    }
    assert!(configured <= 10, "{configured} in two seconds");
    assert_eq!(said, 1);
    let table = machine.table();
    assert_eq!((table.routers.len(), table.on_link.len(), table.addresses.len()), (8, 16, 8));
    assert_eq!((table.routes.len(), table.dns.len(), table.search.len()), (32, 8, 16));
    assert_eq!(table.addresses[0], mine);
    assert!(table.routers.iter().any(|r| r.address == router(1)));
    // What awaits its turn gets it, and what works is renewed.
    let due = machine.deadline().unwrap();
    assert!(due <= at(4), "{due:?}");
    assert!(machine.step(Event::Timer, due).iter().any(|a| matches!(a, Action::Configure { .. })));
    hear(&mut machine, router(1), &plain(), at(100));
    assert_eq!(machine.table().addresses[0].valid, Some(at(100 + 4 * 3600)));
}

#[test]
fn after_a_flap_the_routers_of_another_network_are_dropped() {
    let mut machine = up();
    hear(&mut machine, router(1), &plain(), at(1));
    machine.step(Event::LinkDown, at(5));
    assert_eq!(machine.table().routers.len(), 1, "a cable that comes back finds everything as it was");
    assert!(machine.step(Event::Timer, at(6)).is_empty());
    assert_eq!(machine.step(Event::LinkUp, at(10)), [Action::Solicit(None)]);
    let other = advert(0, 1800, &[prefix("2001:db8:2::", 64, 0xc0, HOUR, HOUR)]);
    hear(&mut machine, router(2), &other, at(10));
    assert_eq!(machine.table().routers.len(), 2);
    let actions = machine.step(Event::Timer, at(15));
    assert_eq!(actions[0], Action::Say("router fe80::1 is not on this network any more".into()));
    let table = machine.table();
    assert_eq!(table.routers.iter().map(|r| r.address).collect::<Vec<_>>(), [router(2)]);
    assert_eq!(table.on_link.len(), 1);
    assert_eq!(table.addresses[0].preferred, Some(at(15)), "deprecated");
    assert_eq!(table.addresses[1].preferred, Some(at(10 + 3600)));
    // And when only the old one is heard, or none, nothing is dropped.
    machine.step(Event::LinkDown, at(20));
    machine.step(Event::LinkUp, at(21));
    assert!(
        machine
            .step(Event::Timer, at(26))
            .iter()
            .all(|a| matches!(a, Action::Solicit(_) | Action::Dhcp { .. }))
    );
    assert_eq!(machine.table().routers.len(), 1);
}

#[test]
fn what_stands_from_before_is_kept_until_a_router_speaks() {
    let mut machine = Machine::new(MAC, 7);
    let old = "2001:db8:1:0:5054:ff:fe12:3456".parse().unwrap();
    machine.resume(old, Some(at(5000)), Some(at(400)), at(0));
    machine.step(Event::LinkUp, at(1));
    assert!(machine.keeps());
    hear(&mut machine, router(1), &plain(), at(2));
    assert!(!machine.keeps());
    assert_eq!(machine.table().addresses.len(), 1);
    assert_eq!(machine.table().addresses[0].valid, Some(at(2 + 4 * 3600)));
    let mut silent = Machine::new(MAC, 7);
    silent.resume(old, None, None, at(0));
    assert_eq!(silent.deadline(), Some(KEEP));
    silent.step(Event::Timer, KEEP);
    assert!(!silent.keeps());
}

#[test]
fn only_neighbours_are_routers() {
    let mut machine = up();
    assert!(hear(&mut machine, "2001:db8::1".parse().unwrap(), &plain(), at(1)).is_empty());
    assert!(machine.table().routers.is_empty());
    machine.step(Event::LinkDown, at(2));
    assert!(hear(&mut machine, router(1), &plain(), at(2)).is_empty());
}

#[test]
fn an_address_that_another_has_is_not_used_until_the_cable_was_out() {
    let mut machine = up();
    hear(&mut machine, router(1), &plain(), at(1));
    let ours = machine.table().addresses[0].address;
    assert_eq!(machine.step(Event::Duplicate(ours), at(2)), [Action::Configure { news: true }]);
    assert!(machine.step(Event::Duplicate(ours), at(2)).is_empty());
    hear(&mut machine, router(1), &plain(), at(3));
    assert!(machine.table().addresses[0].duplicate);
    machine.step(Event::LinkDown, at(4));
    machine.step(Event::LinkUp, at(5));
    assert!(!machine.table().addresses[0].duplicate);
}
