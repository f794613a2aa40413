//! The ladder's questions to a switch, in a network namespace: a peer that says nothing of LACP until it is
//! spoken to, as passive switches do, and as slow ones seem to for 30 s. Needs root and `ip` (iproute2).

mod netlab;

use std::time::Duration;

use init::net::lacp::parse_lacp;
use netlab::{Lab, Wire};

/// Sent by Open vSwitch 3.1.
const OVS: &[u8] = include_bytes!("../fuzz/corpus/neighbour/lacp");

/// LACPDUs that arrive within a time.
fn questions(wire: &Wire, within: Duration) -> usize {
    std::iter::from_fn(|| wire.hear(within)).filter(|frame| frame[12..14] == [0x88, 0x09]).count()
}

#[test]
fn a_switch_that_waits_to_be_spoken_to_is_asked() {
    let mut lab = Lab::new("ask", 1);
    let wire = lab.wire("s0");
    lab.start();
    let pdu = loop {
        let frame =
            wire.hear(Duration::from_secs(60)).unwrap_or_else(|| panic!("no question: {}", lab.log()));
        if frame[12..14] == [0x88, 0x09] {
            assert_eq!(frame[..12], [0x01, 0x80, 0xc2, 0, 0, 2, 2, 0, 0, 0, 0, 0]);
            break parse_lacp(&frame[14..]).unwrap();
        }
    };
    assert!(pdu.actor.is_fast() && pdu.actor.is_aggregatable() && !pdu.actor.carries());
    // It answers as a passive switch does, and never speaks again.
    wire.send(OVS);
    let heard = |lab: &Lab| lab.link("c0").neighbours.iter().any(|n| n.by == "lacp");
    lab.until("partner", heard);
    lab.until("bond of it", |lab| lab.log().contains("the switch wants LACP: bond0"));
    assert!(lab.log().contains("c0: nothing answers; asking the switch for LACP"), "{}", lab.log());
}

#[test]
fn nobody_is_asked_where_something_was_said_or_answers() {
    let mut lab = Lab::new("told", 2);
    let wire = lab.wire("s0");
    // The other card has an address: the machine is reached.
    lab.at_client("addr add 10.8.0.2/24 dev c1");
    lab.start();
    lab.until("DHCP", |lab| lab.link("c0").state.contains("try 3"));
    assert_eq!(questions(&wire, Duration::from_secs(4)), 0, "{}", lab.log());
    let mut lab = Lab::new("said", 1);
    let wire = lab.wire("s0");
    lab.wish(r#"{"links":[{"mac":"02:00:00:00:00:00","dhcp4":true}]}"#);
    lab.start();
    lab.until("DHCP", |lab| lab.link("c0").state.contains("try 3"));
    assert_eq!(questions(&wire, Duration::from_secs(4)), 0, "{}", lab.log());
}

#[test]
fn a_switch_that_speaks_no_lacp_is_left_alone_after_a_while() {
    let mut lab = Lab::new("mute", 1);
    let wire = lab.wire("s0");
    lab.start();
    lab.until("question", |lab| lab.log().contains("asking the switch"));
    let heard = questions(&wire, Duration::from_secs(5));
    assert!((1..=4).contains(&heard), "{heard} questions");
    assert_eq!(lab.log().matches("asking the switch").count(), 1);
    // An engineer has it tried again.
    assert!(lab.net(&["retry"]).status.success());
    assert!(questions(&wire, Duration::from_secs(5)) >= 1);
}
