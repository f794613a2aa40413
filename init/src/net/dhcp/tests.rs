use super::reply::parse_reply;
use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MASK: (u8, &[u8]) = (1, &[255, 255, 255, 0]);
const TIME: (u8, &[u8]) = (51, &[0, 0, 0, 120]);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A reply to what the machine last asked.
fn answer(machine: &Machine, kind: u8) -> Reply {
    let mut reply = parse_reply(&testing::reply(kind, &[MASK, TIME])).unwrap();
    reply.xid = machine.xid;
    reply
}

fn kind_sent(actions: &[Action]) -> Vec<u8> {
    let kind = |m: &Vec<u8>| {
        let mut options = &m[240..];
        while options[0] != 53 {
            options = &options[2 + usize::from(options[1])..];
        }
        options[2]
    };
    actions
        .iter()
        .filter_map(|a| match a {
            Action::Broadcast(m, _) => Some(kind(m)),
            Action::Unicast { message, .. } => Some(kind(message)),
            _ => None,
        })
        .collect()
}

fn bound(at: Duration) -> Machine {
    let mut machine = Machine::new(MAC, 99);
    machine.step(Event::LinkUp, at);
    let offer = answer(&machine, 2);
    machine.step(Event::Reply(&offer), at);
    let ack = answer(&machine, 5);
    let actions = machine.step(Event::Reply(&ack), at);
    assert!(matches!(&actions[..], [Action::Configure(_, Some(left))] if *left == s(120)), "{actions:?}");
    machine
}

#[test]
fn an_address_takes_two_round_trips_and_no_wait() {
    let mut machine = Machine::new(MAC, 1);
    assert_eq!(machine.deadline(), None);
    assert_eq!(kind_sent(&machine.step(Event::LinkUp, ms(0))), [1]);
    let offer = answer(&machine, 2);
    assert_eq!(kind_sent(&machine.step(Event::Reply(&offer), ms(1))), [3]);
    let ack = answer(&machine, 5);
    let actions = machine.step(Event::Reply(&ack), ms(2));
    assert!(matches!(&actions[..], [Action::Configure(..)]));
    assert!(!machine.listening());
    assert_eq!(machine.deadline(), Some(s(60) + ms(1)));
}

#[test]
fn a_silent_server_is_asked_for_ever_ever_more_slowly() {
    let mut machine = Machine::new(MAC, 5);
    machine.step(Event::LinkUp, s(0));
    let mut last = s(0);
    let mut waits = Vec::new();
    while last < s(600) {
        let at = machine.deadline().unwrap();
        waits.push(at - last);
        assert_eq!(kind_sent(&machine.step(Event::Timer, at)), [1]);
        last = at;
    }
    assert!(waits[0] >= ms(218) && waits[0] <= ms(282), "{waits:?}");
    assert!(waits.iter().take(5).sum::<Duration>() < s(10));
    assert!(waits.iter().all(|w| *w <= s(9)));
    let offer = answer(&machine, 2);
    assert_eq!(kind_sent(&machine.step(Event::Reply(&offer), last)), [3]);
}

#[test]
fn replies_of_others_are_not_ours() {
    let mut machine = Machine::new(MAC, 5);
    machine.step(Event::LinkUp, s(0));
    let good = answer(&machine, 2);
    for spoil in [
        |r: &mut Reply| r.xid ^= 1,
        |r: &mut Reply| r.chaddr[5] ^= 1,
        |r: &mut Reply| r.kind = Kind::Ack,
        |r: &mut Reply| r.kind = Kind::Nak,
        |r: &mut Reply| r.server = None,
        |r: &mut Reply| r.lease_seconds = Some(0),
    ] {
        let mut bad = good.clone();
        spoil(&mut bad);
        let actions = machine.step(Event::Reply(&bad), ms(1));
        assert!(kind_sent(&actions).is_empty(), "{bad:?}");
        assert_eq!(machine.state, State::Selecting);
    }
    machine.step(Event::Reply(&good), ms(1));
    let mut other = answer(&machine, 5);
    other.server = Some(Ipv4Addr::new(10, 0, 0, 2));
    assert!(matches!(&machine.step(Event::Reply(&other), ms(2))[..], [Action::Say(_)]));
    other.kind = Kind::Nak;
    assert!(machine.step(Event::Reply(&other), ms(2)).is_empty());
}

#[test]
fn an_offer_that_is_not_confirmed_is_given_up() {
    let mut machine = Machine::new(MAC, 5);
    machine.step(Event::LinkUp, s(0));
    let offer = answer(&machine, 2);
    let mut sent = kind_sent(&machine.step(Event::Reply(&offer), ms(1)));
    while machine.state != State::Selecting {
        let at = machine.deadline().unwrap();
        sent.extend(kind_sent(&machine.step(Event::Timer, at)));
    }
    assert_eq!(sent, [3, 3, 3, 3, 1]);
}

#[test]
fn a_lease_is_renewed_rebound_and_given_up() {
    let mut machine = bound(s(0));
    let actions = machine.step(Event::Timer, s(60));
    let server = Ipv4Addr::new(10, 0, 0, 1);
    assert!(matches!(&actions[..], [Action::Unicast { to, .. }] if *to == server), "{actions:?}");
    assert_eq!(machine.deadline(), Some(s(105)));
    let actions = machine.step(Event::Timer, s(105));
    assert!(matches!(&actions[..], [Action::Broadcast(_, from)] if *from == Ipv4Addr::new(10, 0, 0, 50)));
    assert_eq!(machine.deadline(), Some(s(120)));
    let actions = machine.step(Event::Timer, s(120));
    assert!(actions.contains(&Action::Release));
    assert_eq!(kind_sent(&actions), [1]);
}

#[test]
fn a_renewed_lease_counts_anew() {
    let mut machine = bound(s(0));
    machine.step(Event::Timer, s(60));
    let ack = answer(&machine, 5);
    let actions = machine.step(Event::Reply(&ack), s(61));
    assert!(matches!(&actions[..], [Action::Configure(_, Some(left))] if *left == s(119)));
    assert_eq!(machine.deadline(), Some(s(120)));
    // Another address in answer to a renewal was not asked for.
    machine.step(Event::Timer, s(120));
    let mut other = answer(&machine, 5);
    other.yiaddr = Ipv4Addr::new(10, 0, 0, 51);
    assert!(matches!(&machine.step(Event::Reply(&other), s(121))[..], [Action::Say(_)]));
}

#[test]
fn a_flap_verifies_the_old_address_and_keeps_it_meanwhile() {
    let mut machine = bound(s(0));
    assert!(machine.step(Event::LinkDown, s(5)).is_empty());
    assert_eq!(machine.deadline(), Some(s(120)));
    let actions = machine.step(Event::LinkUp, s(6));
    assert_eq!(kind_sent(&actions), [3]);
    assert!(machine.step(Event::LinkUp, s(6)).is_empty(), "said twice");
    let nak = answer(&machine, 6);
    let actions = machine.step(Event::Reply(&nak), s(7));
    assert!(actions.contains(&Action::Release));
    assert_eq!(kind_sent(&actions), [1]);
}

#[test]
fn without_carrier_a_lease_still_ends() {
    let mut machine = bound(s(0));
    machine.step(Event::LinkDown, s(5));
    let actions = machine.step(Event::Timer, s(120));
    assert!(actions.contains(&Action::Release));
    assert!(kind_sent(&actions).is_empty());
    assert_eq!(machine.deadline(), None);
}

#[test]
fn a_silent_network_after_a_flap_keeps_the_address_to_its_end() {
    let mut machine = bound(s(0));
    machine.step(Event::LinkDown, s(5));
    machine.step(Event::LinkUp, s(6));
    let mut released = Vec::new();
    while machine.held.is_some() {
        let at = machine.deadline().unwrap();
        let actions = machine.step(Event::Timer, at);
        released.extend(actions.contains(&Action::Release).then_some(at));
    }
    assert_eq!(released, [s(120)]);
    assert_eq!(machine.state, State::Selecting);
    assert!(machine.deadline().is_some());
}

#[test]
fn an_address_of_an_earlier_run_is_verified() {
    let mut machine = Machine::new(MAC, 5);
    machine.resume(Ipv4Addr::new(10, 0, 0, 50), Some(s(100)), s(0));
    assert_eq!(kind_sent(&machine.step(Event::LinkUp, s(0))), [3]);
    let ack = answer(&machine, 5);
    assert!(matches!(&machine.step(Event::Reply(&ack), ms(1))[..], [Action::Configure(..)]));
}

#[test]
fn a_server_that_offers_and_refuses_makes_no_busy_loop() {
    let mut machine = Machine::new(MAC, 5);
    let mut now = s(0);
    machine.step(Event::LinkUp, now);
    let mut offers = 0;
    while now < s(300) {
        let offer = answer(&machine, 2);
        if !kind_sent(&machine.step(Event::Reply(&offer), now)).is_empty() {
            offers += 1;
            let nak = answer(&machine, 6);
            machine.step(Event::Reply(&nak), now);
        }
        now = now.max(machine.deadline().unwrap());
        machine.step(Event::Timer, now);
    }
    assert!(offers < 60, "{offers} rounds in 300 s");
}

/// Leases of a second and without end, and timers that come late.
#[test]
fn extreme_leases_do_not_spin() {
    for (seconds, rounds) in [(1_u32, 100), (u32::MAX, 1), (u32::MAX - 1, 10)] {
        let mut machine = Machine::new(MAC, 5);
        machine.step(Event::LinkUp, s(0));
        let mut now = s(0);
        for _ in 0..rounds {
            for kind in [2, 5] {
                let mut reply = answer(&machine, kind);
                reply.lease_seconds = Some(seconds);
                machine.step(Event::Reply(&reply), now);
            }
            let Some(next) = machine.deadline() else {
                assert_eq!(seconds, u32::MAX);
                break;
            };
            assert!(next >= now);
            now = next + ms(1);
            machine.step(Event::Timer, now);
        }
        assert!(seconds != 1 || now >= s(10), "{now:?}");
    }
}

#[test]
fn a_taken_address_is_declined_twice_and_then_kept() {
    let mut now = Duration::from_secs(1);
    let mut machine = Machine::new([2, 0, 0, 0, 0, 1], 7);
    let decline = |actions: &[Action]| {
        actions.iter().any(|a| matches!(a, Action::Broadcast(m, _) if m.windows(3).any(|w| w == [53, 1, 4])))
    };
    assert_eq!(machine.step(Event::Conflict, now), []);
    machine.step(Event::LinkUp, now);
    for round in 0..3 {
        for kind in [Kind::Offer, Kind::Ack] {
            let bytes = super::testing::reply(5, &[(1, &[255, 255, 255, 0]), (51, &[0, 0, 1, 0])]);
            let mut reply = super::reply::parse_reply(&bytes).unwrap();
            (reply.kind, reply.xid, reply.chaddr) = (kind, machine.xid, machine.mac);
            machine.step(Event::Reply(&reply), now);
        }
        assert!(machine.holds(), "round {round}");
        let actions = machine.step(Event::Conflict, now);
        assert_eq!(decline(&actions), round < 2);
        assert_eq!(machine.holds(), round == 2);
        if round < 2 {
            assert!(actions.contains(&Action::Release));
            assert_eq!(machine.deadline(), Some(now + Duration::from_secs(10)));
            now += Duration::from_secs(10);
            assert!(matches!(machine.step(Event::Timer, now)[..], [Action::Broadcast(..)]));
        }
    }
}
