//! Bonds and VLANs of `rescue netd` against a peer that is bonded as well, in network namespaces.
//!
//! They want a kernel with `bonding`, `8021q` and `dummy`, which that of a build machine may lack: the scenario
//! `net_bonds` runs them on that of an image.

mod netlab;

use netlab::Lab;

const CARDS: &str = r#"{"id":"a","mac":"02:00:00:00:00:00"},{"id":"b","mac":"02:00:00:00:00:01"}"#;

fn switch(lab: &Lab) {
    lab.at_server("link add agg type bond mode 802.3ad lacp_rate fast miimon 50 xmit_hash_policy layer3+4");
    for port in ["s0", "s1"] {
        lab.at_server(&format!("link set {port} down"));
        lab.at_server(&format!("link set {port} master agg"));
    }
    lab.at_server("link set agg up");
}

#[test]
#[ignore = "needs a kernel with bonding"]
fn lacp_with_a_vlan_survives_a_cut_port_and_a_crash() {
    let mut lab = Lab::new("lacp", 2);
    switch(&lab);
    lab.at_server("link add link agg name agg.7 type vlan id 7");
    lab.at_server("addr add 10.7.0.1/24 dev agg.7");
    lab.at_server("link set agg.7 up");
    lab.wish(&format!(
        r#"{{"links":[{CARDS},
            {{"id":"bond0","type":{{"bond":{{"links":["a","b"],"mode":"802.3ad","lacp_fast":true,
              "xmit_hash_policy":"layer3+4","min_links":1,"ad_select":"bandwidth"}}}},"accept_ra":false}},
            {{"id":"bond0.7","type":{{"vlan":{{"link":"bond0","id":7}}}},"mtu":9000,"accept_ra":false,
              "addresses":["10.7.0.2/24"],"routes":[{{"to":"0.0.0.0/0","via":"10.7.0.1"}}]}}]}}"#
    ));
    lab.start();
    lab.until("way over the bond", |lab| lab.reaches("10.7.0.2"));
    lab.until("both ports", |lab| lab.at_client("-d link show bond0").contains("ad_num_ports 2"));
    let bond = lab.at_client("-d link show bond0");
    for option in [
        "mode 802.3ad",
        "miimon 100",
        "lacp_rate fast",
        "xmit_hash_policy layer3+4",
        "min_links 1",
        "ad_select bandwidth",
    ] {
        assert!(bond.contains(option), "{option}: {bond}");
    }
    assert!(bond.contains("mtu 9000"), "{bond}");
    assert!(lab.at_client("link show bond0.7").contains("mtu 9000"));
    assert!(lab.at_client("route").contains("default via 10.7.0.1 dev bond0.7 proto static"));
    let report = lab.link("bond0");
    assert_eq!(report.kind, "bond 802.3ad");
    assert_eq!(lab.link("c0").controller.as_deref(), Some("bond0"));
    let mac = lab.link("bond0.7").mac;
    assert!(lab.own_kib() < 1 << 10, "{} KiB", lab.own_kib());

    // One cable is cut: the other serves, and the address never leaves.
    lab.at_server("link set s0 down");
    lab.until("loss of the port", |lab| !lab.link("c0").carrier);
    lab.until("way over the other port", |lab| lab.reaches("10.7.0.2"));
    assert!(lab.link("bond0").carrier);
    lab.at_server("link set s0 up");
    lab.until("both ports", |lab| lab.at_client("-d link show bond0").contains("ad_num_ports 2"));

    // SIGKILL: the next run finds everything as it should be.
    let indexes = lab.at_client("-o link");
    lab.kill();
    std::fs::remove_file(lab.path("root/run/rescue/net.json")).unwrap();
    lab.start();
    lab.until("report after the crash", |lab| lab.link("bond0.7").addresses == ["10.7.0.2/24"]);
    let names = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|l| Some(l.split_once(": ")?.1.split(['@', ':']).next()?.to_string()))
            .collect()
    };
    assert_eq!(names(&lab.at_client("-o link")), names(&indexes));
    assert_eq!(lab.link("bond0.7").mac, mac);
    assert_eq!(lab.log().matches("building bond0.7").count(), 1, "{}", lab.log());
    assert_eq!(lab.log().matches("putting c0").count(), 1, "{}", lab.log());
    assert!(lab.reaches("10.7.0.2"));
}

#[test]
#[ignore = "needs a kernel with bonding"]
fn every_mode_is_built_with_its_options() {
    for (mode, options, shown) in [
        ("balance-rr", "", "mode balance-rr"),
        (
            "active-backup",
            r#","primary":"b","fail_over_mac":"active","up_delay":200,"down_delay":100"#,
            "updelay 200 downdelay 100",
        ),
        ("balance-xor", r#","xmit_hash_policy":"encap2+3","miimon":50"#, "miimon 50"),
        ("broadcast", "", "mode broadcast"),
        ("802.3ad", r#","lacp_fast":false,"ad_select":"count""#, "mode 802.3ad"),
        ("balance-tlb", "", "mode balance-tlb"),
        ("balance-alb", "", "mode balance-alb"),
    ] {
        let mut lab = Lab::new("modes", 2);
        lab.wish(&format!(
            r#"{{"links":[{CARDS},{{"id":"bond0","mac":"02:00:00:00:00:aa","addresses":["10.9.0.2/24"],
                "type":{{"bond":{{"links":["a","b"],"mode":"{mode}"{options}}}}}}}]}}"#
        ));
        lab.start();
        lab.until(mode, |lab| lab.link("bond0").addresses == ["10.9.0.2/24"]);
        lab.until("ports", |lab| lab.at_client("link show master bond0").matches("SLAVE,UP").count() == 2);
        let bond = lab.at_client("-d link show bond0");
        assert!(bond.contains(shown) && bond.contains(&format!("mode {mode}")), "{shown}: {bond}");
        let given = bond.contains("link/ether 02:00:00:00:00:aa");
        assert_eq!(given, mode != "active-backup", "fail_over_mac gives it that of its port: {bond}");
        if mode == "active-backup" {
            lab.until("primary", |lab| lab.at_client("-d link show bond0").contains("primary c1"));
            assert!(bond.contains("fail_over_mac active"), "{bond}");
        }
        assert!(!lab.log().contains("rror"), "{}", lab.log());
    }
}

#[test]
#[ignore = "needs a kernel with bonding"]
fn a_bond_asks_by_arp_where_it_is_told_to() {
    let mut lab = Lab::new("arp", 2);
    lab.wish(&format!(
        r#"{{"links":[{CARDS},{{"id":"bond0","addresses":["10.9.0.2/24"],"type":{{"bond":{{"links":["a","b"],
            "mode":"active-backup","arp_interval":200,"arp_targets":["10.9.0.1","10.9.0.3"]}}}}}}]}}"#
    ));
    lab.start();
    lab.until("bond", |lab| lab.at_client("-d link").contains("arp_ip_target 10.9.0.1,10.9.0.3"));
    let bond = lab.at_client("-d link show bond0");
    assert!(bond.contains("miimon 0") && bond.contains("arp_interval 200"), "{bond}");
}

#[test]
#[ignore = "needs a kernel with bonding"]
fn the_bond_is_there_with_the_ports_that_are_and_a_late_one_joins() {
    let mut lab = Lab::new("late", 1);
    lab.at_server("addr add 10.9.0.1/24 dev s0");
    // A bond that the module made by itself is in the way, and no reason for another name.
    lab.at_client("link add bond0 type bond");
    lab.wish(&format!(
        r#"{{"links":[{CARDS},{{"id":"bond0","addresses":["10.9.0.2/24"],
            "type":{{"bond":{{"links":["a","b"],"mode":"active-backup"}}}}}}]}}"#
    ));
    lab.start();
    lab.until("way over one port", |lab| lab.reaches("10.9.0.2"));
    assert_eq!(lab.report().problems, ["b: no card 02:00:00:00:00:01 here yet"]);
    lab.plug(1);
    lab.until("late port", |lab| lab.link("c1").controller.as_deref() == Some("bond0"));
    lab.until("carrier of the late port", |lab| lab.link("c1").carrier);
    assert_eq!(lab.report().problems, Vec::<String>::new());
    assert!(lab.reaches("10.9.0.2"));
    lab.at_server("link set s0 down");
    lab.at_server("addr del 10.9.0.1/24 dev s0");
    lab.at_server("addr add 10.9.0.1/24 dev s1");
    lab.until("way over the late port", |lab| lab.reaches("10.9.0.2"));
}

#[test]
#[ignore = "needs a kernel with 8021q"]
fn stacked_vlans_of_both_kinds() {
    let mut lab = Lab::new("stack", 1);
    lab.at_server("link add link s0 name outer type vlan protocol 802.1ad id 100");
    lab.at_server("link add link outer name inner type vlan id 7");
    lab.at_server("addr add 10.7.0.1/24 dev inner");
    lab.at_server("link set outer up");
    lab.at_server("link set inner up");
    lab.wish(
        r#"{"links":[
            {"id":"customer","type":{"vlan":{"link":"service","id":7}},"addresses":["10.7.0.2/24"],"mtu":1400},
            {"id":"service","type":{"vlan":{"link":"a","id":100,"service":true}},"accept_ra":false},
            {"id":"a","mac":"02:00:00:00:00:00","mtu":1600,"accept_ra":false},
            {"id":"blank","type":"dummy","addresses":["192.0.2.1/32"]}]}"#,
    );
    lab.start();
    lab.until("way over both tags", |lab| lab.reaches("10.7.0.2"));
    let shown = lab.at_client("-d link show service");
    assert!(shown.contains("vlan protocol 802.1ad id 100") && shown.contains("service@c0"), "{shown}");
    assert!(lab.at_client("link show customer").contains("mtu 1400"));
    assert!(lab.at_client("link show c0").contains("mtu 1600"));
    let report = lab.link("customer");
    assert_eq!((report.kind.as_str(), report.parent.as_deref()), ("vlan 7", Some("service")));
    lab.until("dummy", |lab| lab.link("blank").addresses == ["192.0.2.1/32"]);
}

#[test]
#[ignore = "needs a kernel with bonding"]
fn a_bond_is_made_of_the_card_that_ssh_is_on() {
    let mut lab = Lab::new("move", 2);
    lab.wish(
        r#"{"links":[{"id":"a","mac":"02:00:00:00:00:00","addresses":["10.9.0.2/24"],"accept_ra":false}]}"#,
    );
    lab.at_server("addr add 10.9.0.1/24 dev s0");
    lab.start();
    lab.until("way", |lab| lab.reaches("10.9.0.2"));
    let out = lab.net(&["set", "bond0", "10.9.0.2/24", "via", "10.9.0.1", "bond", "c0", "c1"]);
    assert!(out.status.success(), "{out:?}");
    lab.until("bond", |lab| lab.link("bond0").addresses == ["10.9.0.2/24"]);
    lab.until("ports", |lab| lab.at_client("link show master bond0").matches("SLAVE,UP").count() == 2);
    assert!(!lab.at_client("addr show dev c0").contains("inet 10.9"));
    // And back: the cards work again, each for itself.
    let out = lab.net(&["dhcp"]);
    assert!(out.status.success(), "{out:?}");
    lab.until("no bond", |lab| lab.link("bond0").name.is_empty());
    lab.until("cards", |lab| lab.link("c0").carrier && lab.link("c1").carrier);
    lab.until("DHCP", |lab| lab.link("c1").state.contains("asking for a lease"));
}

#[test]
#[ignore = "needs a kernel with bonding"]
fn a_lease_over_a_bond_goes_on_over_the_port_that_is_left() {
    let mut lab = Lab::new("lease", 2);
    switch(&lab);
    lab.at_server("addr add 10.9.0.1/24 dev agg");
    let more = ["--interface=agg", "--dhcp-authoritative", "--dhcp-range=10.9.0.50,10.9.0.60,2m"];
    lab.dnsmasq(&[&more[..], &["--dhcp-option-force=58,3"]].concat(), "DHCP, IP range");
    lab.wish(&format!(
        r#"{{"links":[{CARDS},{{"id":"bond0","dhcp4":true,"accept_ra":false,
            "type":{{"bond":{{"links":["a","b"],"mode":"802.3ad","lacp_fast":true}}}}}}]}}"#
    ));
    lab.start();
    lab.until("lease", |lab| lab.link("bond0").addresses.len() == 1);
    let address = lab.link("bond0").addresses[0].trim_end_matches("/24").to_string();
    lab.until("both ports", |lab| lab.at_client("-d link show bond0").contains("ad_num_ports 2"));
    lab.at_server("link set s0 down");
    lab.until("loss of the port", |lab| !lab.link("c0").carrier);
    let acks = |lab: &Lab| lab.file("dnsmasq.log").matches("DHCPACK").count();
    let before = acks(&lab);
    lab.until("renewal over the other port", |lab| acks(lab) > before);
    assert!(lab.reaches(&address));
    // Nobody asked on a port of the bond.
    assert!(!lab.link("c0").state.contains("lease") && !lab.link("c1").state.contains("lease"));
}
