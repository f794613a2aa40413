//! What configures the network: documents, and what servers, routers and neighbours say.

use std::net::Ipv6Addr;
use std::time::Duration;

use init::net::dhcp::{Event, Machine, frame};
use init::net::ladder::{Decision, PATIENCE, Rung, decide};
use init::net::lease::Lease;
use init::net::neighbours::{Neighbours, parse_frame};
use init::net::{dhcp6, parse_reply, plan, ra};
use init::sys;
use rescue_schema::network::Network;

/// A datagram, or its payload, to a client in each state that awaits one.
pub(super) fn dhcp_reply(data: &[u8]) {
    let payload = frame::unwrap(data).map(|(_, payload)| payload);
    for bytes in [Some(data), payload].into_iter().flatten() {
        let Ok(reply) = parse_reply(bytes) else { continue };
        if let Ok(lease) = Lease::from_reply(&reply) {
            if let Some(times) = lease.times {
                assert!(times.renew <= times.rebind && times.rebind <= times.expire, "{times:?}");
            }
            let plan = plan::plan(
                2,
                2,
                &[(sys::netlink::Origin::Dhcp4, lease.brings(lease.times.map(|t| t.expire)))],
            );
            let _ = (plan.gateway(), plan.changes(&plan));
        }
        converse(&reply);
    }
}

/// A document on a machine of four cards: what is accepted is bound, planned and described.
pub(super) fn wished_network(data: &[u8]) {
    use init::net::{build, cards, describe, links, matching};
    let Ok(network) = serde_json::from_slice::<rescue_schema::network::Network>(data) else { return };
    if network.validate("network").is_err() {
        return;
    }
    let card = |index: u32| sys::netlink::Link {
        index,
        name: format!("eth{index}"),
        ethernet: true,
        mac: Some([2, 0, 0, 0, 0, index.to_le_bytes()[0]]),
        ..sys::netlink::Link::default()
    };
    let mut all: build::Links = (0..4).map(|index| (index, card(index))).collect();
    let places: Vec<cards::Card> = (0..4)
        .map(|index| cards::Card {
            index,
            mac: card(index).mac,
            pci: format!("0000:0{index}:00.0").parse().ok(),
            slot: Some(index),
            ..cards::Card::default()
        })
        .collect();
    let found = matching::find(&network, &places, &[]);
    assert_eq!(found.len(), network.links.len());
    // What is built is there in the next round, under the name that the plan gave it.
    for _ in 0..4 {
        let bound = build::bind(&network, &found, &all);
        let (steps, problems) = build::steps(&network, &bound, &all);
        assert!(problems.iter().all(|problem| !problem.is_empty()));
        for step in steps {
            let _ = step.to_string();
            if let build::Step::Create { at, name } = step {
                let made = build::make(&network, &network.links[at], &bound).expect("it can be built");
                let index = u32::try_from(all.len()).unwrap_or(u32::MAX);
                all.insert(
                    index,
                    sys::netlink::Link { name, kind: Some(made.kind().into()), ours: true, ..card(index) },
                );
            }
        }
        let _ = links::roles(&network, &bound, &all);
    }
    assert!(!describe::describe(&network).is_empty());
}

/// The client takes the reply for an answer to what it asked, three times over.
fn converse(reply: &init::net::dhcp::reply::Reply) {
    let mut now = Duration::from_secs(1);
    let mut machine = Machine::new(reply.chaddr, 7);
    let mut actions = machine.step(Event::LinkUp, now);
    for _ in 0..3 {
        let mut answer = reply.clone();
        answer.xid = asked(&actions).unwrap_or(reply.xid);
        actions = machine.step(Event::Reply(&answer), now);
        now = machine.deadline().unwrap_or(now).max(now);
        actions.extend(machine.step(Event::Timer, now));
        let _ = machine.describe();
    }
}

/// The transaction of the last message that was sent.
fn asked(actions: &[init::net::dhcp::Action]) -> Option<u32> {
    use init::net::dhcp::Action::{Broadcast, Unicast};
    actions.iter().rev().find_map(|action| match action {
        Broadcast(message, _) | Unicast { message, .. } => {
            message.get(4..8)?.first_chunk().map(|xid| u32::from_be_bytes(*xid))
        }
        _ => None,
    })
}

/// A frame of LLDP, CDP or LACP: what is kept of it can be shown, and a bond of it can be built.
pub(super) fn neighbour(data: &[u8]) {
    let Some(heard) = parse_frame(data) else { return };
    let (now, mut known) = (Duration::from_secs(60), Neighbours::default());
    known.hear(heard, now);
    for neighbour in known.report() {
        let line = neighbour.to_string();
        assert!(line.len() <= 2048 && !line.contains(char::is_control), "{line:?}");
    }
    let mac = rescue_schema::network::MacAddress([2, 0, 0, 0, 0, 1]);
    let card = Rung { mac, partner: known.partner() };
    if let Decision::Climb(network) = decide(&[card], false, &Network::default(), now + PATIENCE) {
        network.validate("network").expect("a network that cannot be built");
    }
}

/// A message to a DHCPv6 client that asks, twice over.
pub(super) fn dhcp6_reply(data: &[u8]) {
    let Ok(reply) = dhcp6::reply::parse_reply(data) else { return };
    let iaid = reply.associations.first().map_or(1, |ia| ia.iaid);
    if let Ok(lease) = dhcp6::lease::Lease::from_reply(&reply, iaid, Duration::from_secs(1)) {
        let never = |end: Option<Duration>| end.unwrap_or(Duration::MAX);
        assert!(never(lease.renew) <= never(lease.rebind) && never(lease.rebind) <= never(lease.end()));
        assert!((1..=4).contains(&lease.addresses.len()), "{lease:?}");
    }
    let names = |names: &[String]| names.iter().all(|n| !n.contains(char::is_control) && n.len() < 256);
    assert!(names(&reply.search), "{reply:?}");
    let Some(mac) = reply.client.get(4..).and_then(|mac| mac.try_into().ok()) else { return };
    for mode in [dhcp6::Mode::Stateless, dhcp6::Mode::Stateful] {
        let mut now = Duration::from_secs(1);
        let mut machine = dhcp6::Machine::new(mac, 7);
        let mut actions = machine.step(dhcp6::Event::Want(mode), now);
        actions.extend(machine.step(dhcp6::Event::Ready, now));
        for _ in 0..3 {
            let mut answer = reply.clone();
            let sent = actions.iter().rev().find_map(|action| match action {
                dhcp6::Action::Send(message) => message.first_chunk().copied(),
                _ => None,
            });
            answer.xid = sent.map_or(reply.xid, |[_, a, b, c]| u32::from_be_bytes([0, a, b, c]));
            actions = machine.step(dhcp6::Event::Reply(&answer), now);
            now = machine.deadline().unwrap_or(now).max(now);
            actions.extend(machine.step(dhcp6::Event::Timer, now));
            let _ = (machine.describe(), machine.dns());
        }
    }
}

/// An advertisement, said by two routers; and what it brings ends.
pub(super) fn router_advert(data: &[u8]) {
    let Ok(advert) = ra::advert::parse_advert(data) else { return };
    assert!(advert.prefixes.iter().all(|p| (1..=128).contains(&p.length)), "{advert:?}");
    assert!(advert.mtu.is_none_or(|mtu| mtu >= 1280), "{advert:?}");
    assert!(advert.search.iter().all(|(name, _)| !name.contains(char::is_control)), "{advert:?}");
    let mut now = Duration::from_secs(1);
    let mut machine = ra::Machine::new([2, 0, 0, 0, 0, 1], 7);
    let _ = machine.step(ra::Event::LinkUp, now);
    for router in [1, 2, 1] {
        let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, router);
        let _ = machine.step(ra::Event::Advert(from, &advert), now);
        now += Duration::from_secs(1);
    }
    let table = machine.table();
    assert!(table.routers.len() <= 2 && table.addresses.len() <= 8, "{table:?}");
    for _ in 0..4 {
        let next = machine.deadline().unwrap_or(now);
        assert!(next >= now || next + Duration::from_secs(5) >= now, "{next:?} {now:?}");
        now = now.max(next);
        let _ = (machine.step(ra::Event::Timer, now), machine.describe());
    }
}
