//! Static addresses, policy, duplicates, bridges and corrections by `rescue net`, in network namespaces
//! with real cables.

mod netlab;

use netlab::Lab;

const STATIC: &str = r#"{"links":[{"id":"a","mac":"02:00:00:00:00:00","accept_ra":false,
    "addresses":["10.9.0.2/24","2001:db8::2/64"],
    "routes":[{"to":"0.0.0.0/0","via":"10.9.0.1"},{"to":"::/0","via":"2001:db8::1"}]}]}"#;

#[test]
fn several_addresses_of_both_families_and_a_crash() {
    let mut lab = Lab::new("both", 1);
    lab.at_server("addr add 10.9.0.1/24 dev s0");
    lab.at_server("addr add 2001:db8::1/64 dev s0 nodad");
    lab.wish(STATIC);
    lab.start();
    lab.until("IPv4", |lab| lab.reaches("10.9.0.2"));
    lab.until("IPv6", |lab| lab.reaches("2001:db8::2"));
    assert!(lab.at_client("-6 route").contains("default via 2001:db8::1 dev c0 proto static"));
    let by: Vec<String> =
        lab.link("c0").origins.into_iter().map(|o| format!("{} {}", o.address, o.by)).collect();
    assert!(
        by.contains(&"10.9.0.2/24 static".into()) && by.contains(&"2001:db8::2/64 static".into()),
        "{by:?}"
    );
    assert!(by.iter().any(|by| by.starts_with("fe80::") && by.ends_with("kernel")), "{by:?}");
    assert!(lab.own_kib() < 1 << 10, "{} KiB", lab.own_kib());
    lab.kill();
    std::fs::remove_file(lab.path("root/run/rescue/net.json")).unwrap();
    let before = (lab.at_client("-o addr"), lab.at_client("route"), lab.at_client("-6 route"));
    lab.start();
    lab.until("report", |lab| lab.link("c0").addresses.len() == 2);
    assert_eq!((lab.at_client("-o addr"), lab.at_client("route"), lab.at_client("-6 route")), before);
    assert!(!lab.log().contains("removing"), "{}", lab.log());
    // Set down and up again, the kernel forgets all of IPv6.
    lab.at_client("link set c0 down");
    lab.until("loss of carrier", |lab| !lab.link("c0").carrier);
    lab.at_client("link set c0 up");
    lab.until("IPv6 again", |lab| lab.reaches("2001:db8::2"));
    assert!(lab.at_client("-6 route").contains("default via 2001:db8::1"));
}

#[test]
fn a_static_address_waits_for_the_cable() {
    let mut lab = Lab::new("cable", 1);
    lab.at_server("addr add 10.9.0.1/24 dev s0");
    lab.at_server("link set s0 down");
    lab.wish(STATIC);
    lab.start();
    lab.until("report", |lab| lab.link("c0").state.contains("no carrier"));
    assert!(!lab.at_client("addr show dev c0").contains("10.9.0.2"));
    lab.at_server("link set s0 up");
    lab.until("way", |lab| lab.reaches("10.9.0.2"));
}

#[test]
fn duplicates_are_noticed_and_said() {
    let mut lab = Lab::new("twice", 1);
    lab.at_server("link set s0 address 02:00:00:00:00:99");
    lab.at_server("addr add 10.9.0.2/24 dev s0");
    lab.at_server("addr add 2001:db8::2/64 dev s0 nodad");
    lab.wish(STATIC);
    lab.start();
    lab.until("use of it all the same", |lab| lab.at_client("addr show dev c0").contains("inet 10.9.0.2/24"));
    lab.until("both duplicates", |lab| lab.link("c0").duplicates.len() == 2);
    let duplicates = lab.link("c0").duplicates;
    let v4 = duplicates.iter().find(|d| d.address == "10.9.0.2").unwrap();
    assert_eq!(v4.mac.as_deref(), Some("02:00:00:00:00:99"));
    assert!(duplicates.iter().any(|d| d.address == "2001:db8::2"), "{duplicates:?}");
    assert!(lab.log().contains("10.9.0.2 is also the address of 02:00:00:00:00:99"), "{}", lab.log());
    let shown = String::from_utf8(lab.net(&[]).stdout).unwrap();
    assert!(shown.contains("DUPLICATE: another host (02:00:00:00:00:99) has 10.9.0.2 as well"), "{shown}");
    // Our own second card answers for the first's address as well (Linux does), and is no other host.
    let mut lab = Lab::new("own", 2);
    lab.at_server("link add br0 type bridge forward_delay 0");
    lab.at_server("link set br0 up");
    lab.at_server("link set s0 master br0");
    lab.at_server("link set s1 master br0");
    lab.wish(
        r#"{"links":[{"mac":"02:00:00:00:00:00","addresses":["10.9.0.2/24"]},
            {"mac":"02:00:00:00:00:01","addresses":["10.9.0.3/24"]}]}"#,
    );
    lab.start();
    lab.until("addresses", |lab| lab.link("c1").addresses == ["10.9.0.3/24"]);
    std::thread::sleep(std::time::Duration::from_millis(3500));
    assert_eq!(lab.link("c0").duplicates.len() + lab.link("c1").duplicates.len(), 0, "{}", lab.log());
}

#[test]
fn two_cards_with_a_way_out_each_and_policy() {
    let mut lab = Lab::new("policy", 2);
    lab.at_server("addr add 10.1.0.1/24 dev s0");
    lab.at_server("addr add 10.2.0.1/24 dev s1");
    lab.wish(
        r#"{"links":[
            {"id":"b","mac":"02:00:00:00:00:01","addresses":["10.2.0.2/24"],
             "routes":[{"to":"0.0.0.0/0","via":"10.2.0.1"},
                       {"to":"0.0.0.0/0","via":"10.2.0.1","table":1002,"source":"10.2.0.2"}],
             "rules":[{"from":"10.2.0.2/32","table":1002}]},
            {"id":"a","mac":"02:00:00:00:00:00","addresses":["10.1.0.2/24"],
             "routes":[{"to":"0.0.0.0/0","via":"10.1.0.1"},{"to":"198.51.100.0/24","via":"10.1.0.9","metric":7}],
             "rules":[{"from":"10.1.0.2/32","to":"192.0.2.0/24","table":7,"priority":50}]}]}"#,
    );
    lab.start();
    lab.until("both", |lab| lab.reaches("10.1.0.2") && lab.reaches("10.2.0.2"));
    let routes = lab.at_client("route");
    assert!(routes.contains("default via 10.2.0.1 dev c1 proto static metric 100"), "{routes}");
    assert!(routes.contains("default via 10.1.0.1 dev c0 proto static metric 101"), "{routes}");
    assert!(routes.contains("198.51.100.0/24 via 10.1.0.9 dev c0 proto static metric 7"), "{routes}");
    let own = lab.at_client("route show table 1002");
    assert!(own.contains("default via 10.2.0.1 dev c1") && own.contains("src 10.2.0.2"), "{own}");
    let rules = lab.at_client("rule");
    assert!(rules.contains("10000:\tfrom 10.2.0.2 lookup 1002"), "{rules}");
    assert!(rules.contains("50:\tfrom 10.1.0.2 to 192.0.2.0/24 lookup 7"), "{rules}");
    assert_eq!(lab.report().links.iter().filter(|l| l.gateway.is_some()).count(), 2);
    lab.kill();
    lab.start();
    lab.until("the next run", |lab| lab.log().matches("c1: carrier").count() == 2);
    lab.until("its report", |lab| lab.link("c0").addresses == ["10.1.0.2/24"]);
    assert_eq!(lab.at_client("rule"), rules, "rules are there once");
    // A wish that is no more takes its rules along.
    lab.wish(r#"{"links":[{"id":"b","mac":"02:00:00:00:00:01","addresses":["10.2.0.2/24"]}]}"#);
    assert!(lab.net(&["retry"]).status.success());
    assert!(lab.at_client("rule").contains("1002"), "retry reads nothing anew");
    assert!(lab.net(&["set", "b", "10.2.0.2/24"]).status.success());
    lab.until("rules gone", |lab| !lab.at_client("rule").contains("1002"));
    assert!(!lab.at_client("rule").contains("lookup 7"), "{}", lab.at_client("rule"));
    assert!(!lab.at_client("addr show dev c0").contains("10.1.0.2"));
    assert!(lab.reaches("10.2.0.2"));
}

#[test]
fn a_bridge_of_two_cables_and_a_late_third() {
    let mut lab = Lab::new("bridge", 2);
    lab.at_server("addr add 10.9.0.1/24 dev s1");
    lab.wish(
        r#"{"links":[{"id":"a","mac":"02:00:00:00:00:00"},{"id":"b","mac":"02:00:00:00:00:01"},
            {"id":"c","mac":"02:00:00:00:00:02"},
            {"id":"br0","mac":"02:00:00:00:00:aa","type":{"bridge":{"links":["a","b","c"]}},"mtu":1400,
             "addresses":["10.9.0.2/24"]}]}"#,
    );
    lab.start();
    lab.until("way over the bridge", |lab| lab.reaches("10.9.0.2"));
    let shown = lab.at_client("-d link show br0");
    assert!(shown.contains("forward_delay 0") && shown.contains("stp_state 0"), "{shown}");
    assert!(shown.contains("02:00:00:00:00:aa") && shown.contains("mtu 1400"), "{shown}");
    assert_eq!(lab.report().problems, ["c: no card 02:00:00:00:00:02 here yet"]);
    lab.plug(2);
    lab.until("late port", |lab| lab.link("c2").controller.as_deref() == Some("br0"));
    assert!(lab.report().problems.is_empty());
    // A port that leaves is gone from the bridge, and not from the machine.
    lab.at_client("link set c2 nomaster");
    lab.until("return of the port", |lab| lab.link("c2").controller.as_deref() == Some("br0"));
    assert!(!lab.log().contains("c2: gone"), "{}", lab.log());
}

#[test]
fn the_console_corrects_a_wrong_address_by_difference() {
    let mut lab = Lab::new("set", 2);
    lab.at_server("addr add 10.9.0.1/24 dev s0");
    lab.wish(STATIC);
    lab.start();
    lab.until("first address", |lab| lab.reaches("10.9.0.2"));
    let index = lab.at_client("-o link show c0");
    let dry = lab.net(&["--dry-run", "set", "c0", "10.9.0.7/24", "via", "10.9.0.1"]);
    let said = String::from_utf8(dry.stdout).unwrap();
    assert_eq!(
        said,
        "a (02:00:00:00:00:00): 10.9.0.7/24, 2001:db8::2/64, default via 2001:db8::1, default via 10.9.0.1\n"
    );
    assert!(lab.reaches("10.9.0.2"));
    let out = lab.net(&["set", "c0", "10.9.0.7/24", "via", "10.9.0.1", "dns", "9.9.9.9"]);
    assert!(out.status.success(), "{out:?}");
    assert!(lab.reaches("10.9.0.7") && !lab.at_client("addr").contains("10.9.0.2/"));
    assert!(lab.log().matches("removing address 10.9.0.2").count() == 0, "only errors are said step by step");
    assert_eq!(std::fs::read_to_string(lab.path("root/etc/resolv.conf")).unwrap(), "nameserver 9.9.9.9\n");
    assert_eq!(lab.at_client("-o link show c0"), index);
    let mode = std::fs::metadata(lab.path("root/run/rescue/network-in-force.json")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    // The correction outlives a crash.
    lab.kill();
    lab.start();
    lab.until("next run", |lab| lab.link("c0").addresses.contains(&"10.9.0.7/24".into()));
    let wrong = lab.net(&["set", "c9", "10.9.0.7/24"]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("there is no link c9; there are: c0, c1"), "{said}");
    assert_eq!(lab.net(&["set", "c0", "10.9.0.7"]).status.code(), Some(2));
    lab.kill();
    let nobody = String::from_utf8(lab.net(&["retry"]).stderr).unwrap();
    assert!(nobody.contains("asking netd"), "{nobody}");
}

#[test]
fn cards_are_found_by_place() {
    let mut lab = Lab::new("place", 2);
    for (name, device) in
        [("c0", "pci0000:00/0000:00:04.0/virtio1"), ("c1", "pci0000:00/0000:00:03.0/virtio0")]
    {
        let device = lab.path("root/sys/devices").join(device);
        std::fs::create_dir_all(&device).unwrap();
        let class = lab.path("root/sys/class/net").join(name);
        std::fs::create_dir_all(&class).unwrap();
        std::os::unix::fs::symlink(device, class.join("device")).unwrap();
        std::fs::write(class.join("speed"), "2500\n").unwrap();
    }
    lab.wish(
        r#"{"links":[{"id":"first","name":"eth0","addresses":["10.9.0.2/24"]},
            {"id":"second","path":"pci-0000:00:04.*","addresses":["10.8.0.2/24"]}]}"#,
    );
    lab.start();
    lab.until("both", |lab| {
        lab.link("c1").addresses == ["10.9.0.2/24"] && lab.link("c0").addresses == ["10.8.0.2/24"]
    });
    let link = lab.link("c1");
    assert_eq!((link.path.as_deref(), link.speed), (Some("pci-0000:00:03.0"), Some(2500)));
}

#[test]
fn where_none_of_the_cards_is_here_every_card_asks_until_one_comes() {
    let mut lab = Lab::new("absent", 2);
    lab.at_server("addr add 10.9.0.1/24 dev s0");
    // The boot has begun, and drivers are still loading.
    std::fs::write(lab.path("root/run/rescue/notify"), "").unwrap();
    let wish = r#"{"links":[{"id":"a","mac":"02:00:00:00:00:07","addresses":["10.7.0.2/24"]},
        {"id":"b","path":"0000:7f:1f.7"},{"id":"vlan","type":{"vlan":{"link":"a","id":7}}}]}"#;
    lab.wish(wish);
    lab.start();
    let waits =
        |lab: &Lab| lab.report().problems.iter().any(|p| p == "a: no card 02:00:00:00:00:07 here yet");
    lab.until("wish that waits", waits);
    assert!(!lab.report().fallback && !lab.log().contains("using DHCP"), "{}", lab.log());
    let boot = r#"{"stages":[{"name":"modules","result":"ok","ms":7}]}"#;
    std::fs::write(lab.path("boot.json"), boot).unwrap();
    std::fs::rename(lab.path("boot.json"), lab.path("root/run/rescue/boot.json")).unwrap();
    let asks = |lab: &Lab, name: &str| lab.link(name).state.contains("asking for a lease");
    lab.until("DHCP on both", |lab| asks(lab, "c0") && asks(lab, "c1"));
    let said = "the document names only cards that are not here (card 02:00:00:00:00:07, card at 0000:7f:1f.7); \
                using DHCP on every link until one is";
    assert_eq!(lab.log().matches(said).count(), 1, "{}", lab.log());
    assert_eq!(lab.report().problems, [said]);
    let shown = String::from_utf8(lab.net(&[]).stdout).unwrap();
    assert!(shown.contains("names only cards that are not here"), "{shown}");
    // A correction from the console builds on what is used, and keeps the wish.
    let dry = lab.net(&["--dry-run", "set", "c0", "10.9.0.2/24"]);
    let dry = String::from_utf8(dry.stdout).unwrap();
    assert!(dry.contains("c1 (02:00:00:00:00:01): DHCP") && dry.contains("02:00:00:00:00:07"), "{dry}");
    // The next run knows it at once.
    lab.kill();
    lab.start();
    lab.until("the next run", |lab| lab.log().matches(said).count() == 2);
    lab.until("DHCP again", |lab| asks(lab, "c0"));
    // The card comes, and the wish is in effect; it goes, and the others serve again.
    lab.plug(7);
    lab.at_server("addr add 10.7.0.1/24 dev s7");
    lab.until("wish in effect", |lab| lab.reaches("10.7.0.2"));
    assert!(!lab.report().fallback && !asks(&lab, "c0"), "{:?}", lab.report());
    assert!(lab.log().contains("its network is used"), "{}", lab.log());
    lab.at_client("link del c7");
    lab.until("fall-back again", |lab| lab.report().fallback && asks(lab, "c0"));
}
