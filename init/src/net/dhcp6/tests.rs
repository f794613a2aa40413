use std::time::Duration;

use super::reply::parse_reply;
use super::testing::{SERVER, association, iaaddr, message, option};
use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const IAID: u32 = 1;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const OURS: &str = "2001:db8::7";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sent(actions: &[Action]) -> Option<&[u8]> {
    let messages: Vec<&[u8]> =
        actions.iter().filter_map(|a| if let Action::Send(m) = a { Some(&m[..]) } else { None }).collect();
    assert!(messages.len() <= 1, "{actions:?}");
    messages.first().copied()
}

fn kind(actions: &[Action]) -> Option<u8> {
    sent(actions).map(|m| m[0])
}

/// The server's answer to the last message.
fn answer(m: &mut Machine, kind: u8, options: &[Vec<u8>], now: Duration) -> Vec<Action> {
    let reply = parse_reply(&message(kind, m.xid, options)).unwrap();
    m.step(Event::Reply(&reply), now)
}

fn address(preferred: u32, valid: u32) -> Vec<u8> {
    association(IAID, 0, 0, &[iaaddr(OURS, preferred, valid)])
}

fn soliciting() -> Machine {
    let mut m = Machine::new(MAC, SEED);
    assert!(m.step(Event::Want(Mode::Stateful), at(0)).is_empty());
    assert_eq!(kind(&m.step(Event::Ready, at(1))), Some(1));
    m
}

fn bound() -> Machine {
    let mut m = soliciting();
    let dns = option(23, &"2001:db8::53".parse::<Ipv6Addr>().unwrap().octets());
    let actions = answer(&mut m, 7, &[option(14, &[]), address(100, 200), dns], at(1));
    assert_eq!(actions, [Action::Configure { news: true }]);
    m
}

/// Until the state is another; how many messages of which kind were sent, and when it was.
fn run(m: &mut Machine, until: Duration) -> Vec<(u8, u64)> {
    let mut all = Vec::new();
    while let Some(due) = m.deadline().filter(|due| *due <= until) {
        let actions = m.step(Event::Timer, due);
        all.extend(kind(&actions).map(|k| (k, due.as_secs())));
    }
    all
}

#[test]
fn the_first_offer_is_requested_at_once() {
    let mut m = soliciting();
    let actions = answer(&mut m, 2, &[address(100, 200)], at(1));
    let request = sent(&actions).unwrap();
    assert_eq!(request[0], 3);
    assert!(request.windows(8).any(|w| w == [&[0, 2, 0, 4][..], &SERVER].concat()), "names its server");
    // A reply of another server is none.
    let mut other = message(7, m.xid, &[address(100, 200)]);
    let at_server = other.windows(4).position(|w| w == SERVER).unwrap();
    other[at_server + 3] = 1;
    assert!(m.step(Event::Reply(&parse_reply(&other).unwrap()), at(1)).is_empty());
    assert_eq!(answer(&mut m, 7, &[address(100, 200)], at(2)), [Action::Configure { news: true }]);
    let lease = m.lease().unwrap();
    assert_eq!(lease.addresses[0].valid, Some(at(1 + 200)), "from when it was asked for");
    assert_eq!((lease.renew, lease.rebind), (Some(at(51)), Some(at(81))));
    assert!(!m.listening());
    assert_eq!(m.describe().unwrap(), "lease of 200 s");
}

#[test]
fn what_is_not_for_us_is_passed_over() {
    let mut m = soliciting();
    let good = message(7, m.xid, &[option(14, &[]), address(100, 200)]);
    for (from, to) in [
        (m.xid.to_be_bytes()[1..].to_vec(), vec![9, 9, 9]),
        (vec![2, 0, 0, 0, 0, 1], vec![2, 0, 0, 0, 0, 2]),
        (vec![0, 14, 0, 0], vec![0, 99, 0, 0]),
        (IAID.to_be_bytes().to_vec(), vec![0, 0, 0, 2]),
    ] {
        let mut bytes = good.clone();
        let place = bytes.windows(from.len()).rposition(|w| w == from).unwrap();
        bytes[place..place + to.len()].copy_from_slice(&to);
        let actions = m.step(Event::Reply(&parse_reply(&bytes).unwrap()), at(1));
        assert!(
            actions.iter().all(|a| matches!(a, Action::Say(_))),
            "{from:?} {place} {bytes:?} {actions:?}"
        );
        assert!(m.lease().is_none());
    }
    m.step(Event::Reply(&parse_reply(&good).unwrap()), at(1));
    assert!(m.lease().is_some());
}

#[test]
fn solicitations_get_slower_and_the_server_may_say_how_slow() {
    let mut m = soliciting();
    let times: Vec<u64> = run(&mut m, at(400)).iter().map(|(kind, at)| *kind as u64 * at).collect();
    let gaps: Vec<u64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(times[0] >= 2 && times[0] <= 3, "{times:?}");
    assert!(gaps.iter().all(|g| *g <= 66) && gaps.last().is_some_and(|g| *g >= 54), "{gaps:?}");
    let none = association(IAID, 0, 0, &[option(13, b"\0\x02all are taken")]);
    let said = answer(&mut m, 2, &[none.clone(), option(82, &3600_u32.to_be_bytes())], at(400));
    assert_eq!(
        said,
        [Action::Say("refusing a DHCPv6 offer: it has no address for us (status 2: all are taken)".into())]
    );
    assert!(answer(&mut m, 2, &[none], at(400)).is_empty(), "said once");
    let times = run(&mut m, at(40_000));
    assert!(times.last().unwrap().1 - times[times.len() - 2].1 > 3000, "{times:?}");
}

#[test]
fn a_lease_is_renewed_then_rebound_then_lost() {
    let mut m = bound();
    let asked = run(&mut m, at(200));
    assert_eq!(asked[0], (5, 51));
    assert!(asked.iter().any(|(kind, at)| (*kind, *at) == (6, 81)), "{asked:?}");
    assert!(asked.iter().all(|(kind, at)| *kind == if *at < 81 { 5 } else { 6 }), "{asked:?}");
    assert!(asked.len() < 12, "{asked:?}");
    let actions = m.step(Event::Timer, at(201));
    assert_eq!(
        actions[..2],
        [Action::Say("the DHCPv6 lease has run out".into()), Action::Configure { news: true }]
    );
    assert_eq!(kind(&actions), Some(1));
    // In time, it is renewed; with the same address it is no news.
    let mut m = bound();
    run(&mut m, at(51));
    assert_eq!(answer(&mut m, 7, &[address(100, 200)], at(52)), [Action::Configure { news: false }]);
    assert_eq!(m.lease().unwrap().addresses[0].valid, Some(at(51 + 200)));
}

#[test]
fn a_server_without_memory_is_asked_again_and_one_that_takes_back_is_obeyed() {
    let mut m = bound();
    run(&mut m, at(51));
    let forgot = association(IAID, 0, 0, &[option(13, &[0, 3])]);
    let actions = answer(&mut m, 7, &[forgot], at(51));
    assert_eq!(kind(&actions), Some(3));
    assert!(m.lease().is_some());
    assert_eq!(answer(&mut m, 7, &[address(100, 200)], at(51)), [Action::Configure { news: false }]);
    run(&mut m, at(101));
    let actions = answer(&mut m, 7, &[address(0, 0)], at(101));
    assert!(actions.contains(&Action::Configure { news: true }));
    assert_eq!(kind(&actions), Some(1));
    assert!(m.lease().is_none());
}

#[test]
fn after_a_flap_the_address_is_confirmed() {
    let mut m = bound();
    m.step(Event::NotReady, at(10));
    assert!(m.lease().is_some());
    assert_eq!(kind(&m.step(Event::Ready, at(20))), Some(4));
    assert!(answer(&mut m, 7, &[option(13, &[0, 0])], at(20)).is_empty());
    assert_eq!(m.deadline(), Some(at(51)), "T1 as before");
    // Nobody answers: it is believed, and renewed at its time.
    m.step(Event::NotReady, at(21));
    m.step(Event::Ready, at(22));
    let asked = run(&mut m, at(60));
    assert!(asked.iter().filter(|(k, at)| *k == 4 && *at < 32).count() >= 2, "{asked:?}");
    assert_eq!(asked.iter().find(|(k, _)| *k == 5), Some(&(5, 51)));
    // Another network.
    m.step(Event::NotReady, at(60));
    m.step(Event::Ready, at(61));
    let actions = answer(&mut m, 7, &[option(13, &[0, 4])], at(61));
    assert!(actions.contains(&Action::Configure { news: true }) && m.lease().is_none());
    assert_eq!(kind(&actions), Some(1));
}

#[test]
fn what_stands_from_before_is_rebound_and_then_replaced() {
    let mut m = Machine::new(MAC, SEED);
    m.resume(OURS.parse().unwrap(), Some(at(500)), Some(at(400)));
    m.step(Event::Want(Mode::Stateful), at(0));
    assert_eq!(kind(&m.step(Event::Ready, at(1))), Some(6));
    assert_eq!(m.describe().unwrap(), "an address of an earlier lease, renewing");
    let asked = run(&mut m, at(10));
    assert_eq!(asked.iter().map(|(k, _)| *k).take(2).collect::<Vec<_>>(), [6, 1], "{asked:?}");
    assert!(m.lease().is_some(), "and stays until then");
    let actions = answer(&mut m, 7, &[option(14, &[]), address(100, 200)], at(10));
    assert_eq!(actions, [Action::Configure { news: false }]);
}

#[test]
fn other_configuration_alone() {
    let mut m = Machine::new(MAC, SEED);
    m.step(Event::Ready, at(0));
    assert_eq!(kind(&m.step(Event::Want(Mode::Stateless), at(1))), Some(11));
    let dns = option(23, &"2001:db8::53".parse::<Ipv6Addr>().unwrap().octets());
    let refresh = option(32, &5_u32.to_be_bytes());
    let actions = answer(&mut m, 7, &[dns, option(24, b"\x03lan\0"), refresh], at(1));
    assert_eq!(actions, [Action::Configure { news: true }]);
    assert_eq!(m.dns().0.len(), 1);
    assert_eq!(m.dns().1, ["lan"]);
    assert_eq!(m.deadline(), Some(at(601)), "no more often than each ten minutes");
    assert_eq!(run(&mut m, at(601)), [(11, 601)]);
    // A router says that there are addresses after all, and then that there are none.
    assert_eq!(kind(&m.step(Event::Want(Mode::Stateful), at(602))), Some(1));
    assert_eq!(kind(&m.step(Event::Want(Mode::Stateless), at(603))), Some(11));
    assert!(m.step(Event::Want(Mode::Off), at(604)).is_empty());
    assert_eq!((m.deadline(), m.describe()), (None, None));
}

#[test]
fn an_address_that_another_has_is_declined() {
    let mut m = bound();
    assert!(m.step(Event::Duplicate("2001:db8::8".parse().unwrap()), at(5)).is_empty());
    let actions = m.step(Event::Duplicate(OURS.parse().unwrap()), at(5));
    assert_eq!(actions[0], Action::Configure { news: true });
    assert_eq!(kind(&actions), Some(9));
    assert_eq!(kind(&answer(&mut m, 7, &[option(13, &[0, 0])], at(5))), Some(1));
    // A server that gives it again and again makes no storm of us.
    let mut count = 0;
    let mut now = at(6);
    while now < at(600) {
        let actions = answer(&mut m, 7, &[option(14, &[]), address(100, 200)], now);
        count += usize::from(kind(&m.step(Event::Duplicate(OURS.parse().unwrap()), now)).is_some());
        now = m.deadline().unwrap().max(now + at(1));
        m.step(Event::Timer, now);
        let _ = actions;
    }
    assert!(count < 150, "{count}");
}

#[test]
fn a_server_that_offers_and_refuses_makes_no_storm() {
    let mut m = soliciting();
    let mut now = at(1);
    let mut requests = 0;
    while now < at(600) {
        if kind(&answer(&mut m, 2, &[address(100, 200)], now)) == Some(3) {
            requests += 1;
            answer(&mut m, 7, &[option(13, &[0, 1])], now);
        }
        now = m.deadline().unwrap();
        m.step(Event::Timer, now);
    }
    assert!(requests < 25, "{requests}");
}

#[test]
fn times_make_sense_whatever_is_said() {
    let lease = |t1, t2, preferred, valid| {
        let ia = association(IAID, t1, t2, &[iaaddr(OURS, preferred, valid)]);
        Lease::from_reply(&parse_reply(&message(7, 1, &[ia])).unwrap(), IAID, at(0))
    };
    assert!(lease(0, 0, 0, 0).is_err());
    assert!(lease(9, 8, 100, 200).is_err());
    for t1 in [0, 1, 300, u32::MAX] {
        for t2 in [0, 1, 300, u32::MAX] {
            for (preferred, valid) in [(0, 1), (1, 1), (100, 200), (100, u32::MAX), (u32::MAX, u32::MAX)] {
                let Ok(lease) = lease(t1, t2, preferred, valid) else { continue };
                let or_never = |end: Option<Duration>| end.unwrap_or(Duration::MAX);
                assert!(or_never(lease.renew) <= or_never(lease.rebind), "{lease:?}");
                assert!(or_never(lease.rebind) <= or_never(lease.end()), "{lease:?}");
            }
        }
    }
    assert_eq!(lease(0, 0, u32::MAX, u32::MAX).unwrap().renew, None);
    assert_eq!(lease(0, 0, u32::MAX - 1, u32::MAX).unwrap().renew, Some(at(u64::from(u32::MAX - 1) / 2)));
}
