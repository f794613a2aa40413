//! Each test plays the kernel: it takes the steps and shows the links that come of them.

use super::*;

fn card(index: u32) -> Link {
    let mac = Some([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]);
    Link { index, name: format!("eth{index}"), ethernet: true, mac, mtu: 1500, ..Link::default() }
}

fn machine(cards: u32) -> Links {
    (1..=cards).map(|index| (index, card(index))).collect()
}

fn network(links: &str) -> Network {
    let network: Network = serde_json::from_str(&format!(r#"{{"links":[{links}]}}"#)).unwrap();
    network.validate("network").unwrap();
    network
}

fn bound(network: &Network, links: &Links) -> Vec<Option<u32>> {
    let card = |wish: &Wish| {
        let mac = wish.mac.filter(|_| wish.kind == Kind::Ethernet)?.0;
        links.values().find(|link| link.mac == Some(mac)).map(|link| link.index)
    };
    let cards: Vec<Option<u32>> = network.links.iter().map(card).collect();
    bind(network, &cards, links)
}

/// Takes steps until none is left; says them, and what is not possible.
fn settle_all(network: &Network, links: &mut Links) -> (Vec<String>, Vec<String>) {
    let mut said = Vec::new();
    for _ in 0..20 {
        let bound = bound(network, links);
        let (steps, problems) = steps(network, &bound, links);
        if steps.is_empty() {
            return (said, problems);
        }
        for step in steps {
            said.push(step.to_string());
            take(network, &bound, &step, links);
        }
    }
    panic!("no end: {said:#?}");
}

/// Whether the kernel would refuse it.
fn is_refused(option: &crate::sys::netlink::BondOption, bond: u32, down: bool, links: &Links) -> bool {
    let has_ports = links.values().any(|port| port.controller == Some(bond));
    (option.wants_down() && links[&bond].up && !down) || (option.wants_no_ports() && has_ports)
}

fn take(network: &Network, bound: &[Option<u32>], step: &Step, links: &mut Links) {
    match step {
        Step::Options { bond, options, down, .. } => {
            assert!(!options.iter().any(|option| is_refused(option, *bond, *down, links)), "{step}");
            let has = &mut links.get_mut(bond).unwrap().bond_options;
            has.retain(|old| options.iter().all(|new| new.name != old.name));
            has.extend(options.iter().cloned());
        }
        Step::Remove { index, .. } => {
            links.remove(index);
            links.values_mut().filter(|l| l.controller == Some(*index)).for_each(|l| l.controller = None);
            links.retain(|_, link| link.vlan.is_none() || link.parent != Some(*index));
        }
        Step::Create { at, name } => {
            let index = links.keys().max().unwrap() + 1;
            let make = make(network, &network.links[*at], bound).unwrap();
            let mut link = Link { index, name: name.clone(), ours: true, ..card(100 + index) };
            link.kind = Some(make.kind().into());
            match make {
                Make::Bond(bond) => link.bond_mode = Some(bond_mode(bond.mode)),
                Make::Vlan { parent, id, service } => {
                    (link.parent, link.vlan) = (Some(parent), Some((id, service)));
                }
                _ => {}
            }
            links.insert(index, link);
        }
        Step::Mac { index, mac, .. } => links.get_mut(index).unwrap().mac = Some(*mac),
        Step::Leave { index, .. } => links.get_mut(index).unwrap().controller = None,
        Step::Join { index, controller, .. } => {
            links.get_mut(index).unwrap().controller = Some(*controller);
        }
        Step::Prefer { bond, port, .. } => links.get_mut(bond).unwrap().bond_primary = Some(*port),
    }
}

const A: &str = r#"{"id":"a","mac":"02:00:00:00:00:01"}"#;
const B: &str = r#"{"id":"b","mac":"02:00:00:00:00:02"}"#;
const BOND: &str = r#"{"id":"bond0","type":{"bond":{"links":["a","b"],"mode":"802.3ad"}}}"#;

#[test]
fn a_vlan_on_a_bond_is_built_from_below() {
    let vlan = r#"{"id":"bond0.7","type":{"vlan":{"link":"bond0","id":7}},"mtu":9000}"#;
    let network = network(&[vlan, BOND, A, B].join(","));
    let mut links = machine(3);
    links.get_mut(&1).unwrap().up = true;
    let (said, problems) = settle_all(&network, &mut links);
    assert_eq!(
        said,
        ["building bond0", "building bond0.7", "putting eth1 into bond0", "putting eth2 into bond0"]
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(settle_all(&network, &mut links).0, Vec::<String>::new(), "what stands is adopted");
    assert_eq!(links[&3].controller, None);
    let storeys: Vec<usize> = network.links.iter().map(|wish| storey(&network, wish)).collect();
    assert_eq!(storeys, [2, 1, 0, 0]);
    // What is below must let pass what is above.
    assert!(network.links.iter().all(|wish| mtu(&network, wish) == Some(9000)));
}

#[test]
fn a_bond_is_there_with_the_ports_that_are() {
    let network = network(&[A, B, BOND].join(","));
    let mut links = machine(1);
    let (said, problems) = settle_all(&network, &mut links);
    assert_eq!(said, ["building bond0", "putting eth1 into bond0"]);
    assert_eq!(problems, ["b: no card 02:00:00:00:00:02 here yet"]);
    links.insert(9, Link { index: 9, ..card(2) });
    assert_eq!(settle_all(&network, &mut links), (vec!["putting eth2 into bond0".into()], vec![]));
}

#[test]
fn the_bond_that_the_module_makes_is_in_the_way() {
    let network = network(&[A, B, BOND].join(","));
    let mut links = machine(2);
    let idle = Link { kind: Some("bond".into()), bond_mode: Some(0), name: "bond0".into(), ..card(5) };
    links.insert(5, idle.clone());
    assert_eq!(settle_all(&network, &mut links).0[..2], ["removing bond0", "building bond0"]);
    // One that is in use is not touched, and the name is another.
    let mut links = machine(2);
    links.insert(5, Link { up: true, ..idle });
    assert_eq!(settle_all(&network, &mut links).0[0], "building r-bond0");
    assert_eq!(settle_all(&network, &mut links).0, Vec::<String>::new());
}

#[test]
fn a_changed_wish_moves_what_differs() {
    let mut links = machine(2);
    settle_all(&network(&[A, B, BOND].join(",")), &mut links);
    let active = r#"{"id":"bond0","type":{"bond":{"links":["a"],"mode":"802.3ad","primary":"a"}}}"#;
    let (said, _) = settle_all(&network(&[A, B, active].join(",")), &mut links);
    assert_eq!(said, ["taking eth2 out of its bond or bridge", "having bond0 prefer link 1"]);
    let bridge = r#"{"id":"br0","type":{"bridge":{"links":["a","b"]}},"mac":"02:00:00:00:00:77"}"#;
    let (said, _) = settle_all(&network(&[A, B, bridge].join(",")), &mut links);
    assert_eq!(said[..2], ["removing bond0", "taking eth1 out of its bond or bridge"]);
    assert!(said.contains(&"setting the address of br0 to 02:00:00:00:00:77".into()), "{said:?}");
    assert_eq!((links[&1].controller, links[&1].controller), (links[&2].controller, links[&2].controller));
    // Nothing is wished: what was built goes, and the cards stay.
    let (said, _) = settle_all(&Network::default(), &mut links);
    assert_eq!(said, ["removing br0"]);
    assert_eq!(links.len(), 2);
}

#[test]
fn stacked_vlans_and_names_that_are_taken() {
    let outer = r#"{"id":"outer","type":{"vlan":{"link":"a","id":100,"service":true}}}"#;
    let inner = r#"{"id":"inner","type":{"vlan":{"link":"outer","id":7}}}"#;
    let network = network(&[inner, outer, A].join(","));
    let mut links = machine(1);
    links.insert(4, Link { name: "inner".into(), ..card(4) });
    let (said, problems) = settle_all(&network, &mut links);
    assert_eq!((said, problems), (vec!["building outer".into(), "building r-inner".into()], vec![]));
    links.insert(8, Link { name: "r-inner".into(), ..card(8) });
    links.retain(|_, link| link.vlan != Some((7, false)));
    assert_eq!(settle_all(&network, &mut links).1, ["inner: other links have this name"]);
    let mut nothing = Links::new();
    let (_, problems) = settle_all(&network, &mut nothing);
    assert_eq!(problems[0], "inner: the link below it is not here yet");
}

#[test]
fn a_port_has_the_address_that_it_is_given_before_it_joins() {
    let given = r#"{"id":"a","mac":"02:00:00:00:00:01","set_mac":"02:00:00:00:00:99"}"#;
    let net = network(&[given, B, BOND].join(","));
    let mut links = machine(2);
    let cards = [Some(1), Some(2), None];
    let (first, _) = steps(&net, &bind(&net, &cards, &links), &links);
    assert_eq!(first[0].to_string(), "setting the address of eth1 to 02:00:00:00:00:99");
    links.get_mut(&1).unwrap().controller = Some(2);
    let (first, _) = steps(&net, &bind(&net, &cards, &links), &links);
    assert!(!first.iter().any(|step| matches!(step, Step::Mac { .. })), "{first:?}");
}

#[test]
fn a_bond_that_stands_gets_the_options_that_it_lacks() {
    use crate::sys::netlink::BondOption;
    let wish = |more: &str| {
        network(&format!(
            r#"{{"id":"a","mac":"02:00:00:00:00:01"}},{{"id":"b","mac":"02:00:00:00:00:02"}},
                {{"id":"bond0","type":{{"bond":{{"links":["a","b"]{more}}}}}}}"#
        ))
    };
    let standing = |mode: u8| {
        let mut links = machine(2);
        let is = |name, value| BondOption { name, values: vec![value] };
        let bond_options =
            vec![is("miimon", 0), is("lacp_rate", 0), is("fail_over_mac", 0), is("min_links", 0)];
        let bond = Link {
            name: "bond0".into(),
            kind: Some("bond".into()),
            bond_mode: Some(mode),
            up: true,
            bond_options,
            ..card(9)
        };
        links.insert(9, bond);
        for port in [1, 2] {
            links.get_mut(&port).unwrap().controller = Some(9);
        }
        links
    };
    let mut links = standing(4);
    let lacp = wish(r#","mode":"802.3ad","lacp_fast":true,"min_links":1"#);
    let (said, problems) = settle_all(&lacp, &mut links);
    assert_eq!(said, ["setting miimon 100, lacp_rate 1, min_links 1 of bond0, which is down for that"]);
    assert!(problems.is_empty() && settle_all(&lacp, &mut links).0.is_empty());
    // What it has more than is said is an engineer's.
    assert_eq!(settle_all(&wish(r#","mode":"802.3ad""#), &mut links).0, [""; 0]);
    let mut links = standing(1);
    let (said, _) = settle_all(&wish(r#","mode":"active-backup","fail_over_mac":"active""#), &mut links);
    let all = [
        "taking eth1 out of its bond or bridge",
        "taking eth2 out of its bond or bridge",
        "setting miimon 100, fail_over_mac 1 of bond0",
        "putting eth1 into bond0",
        "putting eth2 into bond0",
    ];
    assert_eq!(said, all);
}
