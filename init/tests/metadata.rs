//! Metadata services as small real servers, in a network of the test's own. Needs root, `ip` (iproute2) and
//! python3.

#![allow(clippy::cast_possible_truncation)]

use std::io::{BufRead, BufReader};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use init::creds::metadata::ask::{self, Answered, Ask, Limits, Link, Network, Outcome};
use init::creds::metadata::hints::Routes;
use init::creds::metadata::{DIALECTS, Dialect};

mod netlab;
use netlab::{Lab, end};

/// A server, and what it has said.
struct Server {
    child: Option<Child>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(lab: &Lab, kind: &str, address: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metadata/server.py");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.server, "python3"]).arg(script).args([kind, address]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("running python3");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().map(Result::unwrap);
        assert_eq!(first.as_deref(), Some("listening"), "{kind}");
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = said.clone();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line))
        });
        Self { child: Some(child), said }
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(self.child.take());
    }
}

/// A cable, with the address of all services at its end, and no route to it.
fn lab(name: &str) -> Lab {
    let lab = Lab::new(name, 1);
    for address in
        ["10.0.0.1/24", "169.254.169.254/32", "169.254.42.42/32", "192.80.8.124/32", "192.0.2.1/32"]
    {
        lab.at_server(&format!("addr add {address} dev s0"));
    }
    lab.at_client("link set c0 up");
    lab.at_client("addr add 10.0.0.2/24 dev c0");
    lab.until("carrier", |lab| lab.at_client("link show c0").contains("LOWER_UP"));
    lab
}

/// The folder that stands for `/`: the firmware's text, and what netd says of the card.
fn root(lab: &Lab, firmware: &[(&str, &str)], line: &str, addresses: &[&str]) {
    let write = |path: &str, text: &str| {
        let path = lab.path("root").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let _ = std::fs::remove_dir_all(lab.path("root/sys"));
    firmware.iter().for_each(|(file, text)| write(&format!("sys/class/dmi/id/{file}"), text));
    write("sys/class/net/c0/ifindex", &format!("{}\n", index(lab)));
    write("proc/cmdline", line);
    let report = serde_json::json!({ "links": [{ "name": "c0", "carrier": true, "addresses": addresses }] });
    write("run/rescue/net.json", &report.to_string());
}

fn index(lab: &Lab) -> u32 {
    let shown = lab.at_client("-o link show c0");
    shown.split(':').next().unwrap().trim().parse().unwrap()
}

/// What `rescue sources` says of the metadata service: its line, and the remarks.
fn sources(lab: &Lab) -> String {
    let out = Command::new("ip")
        .args(["netns", "exec", &lab.client, env!("CARGO_BIN_EXE_rescue"), "sources", "--root"])
        .arg(lab.path("root"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let at = text.find("metadata service:").unwrap_or_else(|| panic!("{text}"));
    let mut lines = text[at..].lines();
    let first = lines.next().unwrap();
    [first].into_iter().chain(lines.take_while(|line| line.starts_with("  "))).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_service_is_asked_as_it_wants_to_be() {
    let lab = lab("md");
    for (kind, firmware, line, said) in [
        (
            "openstack",
            ("product_name", "OpenStack Nova"),
            "",
            "OpenStack at 169.254.169.254 on c0: device 8f3b1c52-0b1e-4a7c-9a52-5f1c9b6d7e01, logins root, 0 host key(s), 1 link(s)",
        ),
        (
            "ec2",
            ("sys_vendor", "Amazon EC2"),
            "",
            "EC2 at 169.254.169.254 on c0: device i-0abcdef1234567890, logins root",
        ),
        (
            "gce",
            ("product_name", "Google Compute Engine"),
            "",
            "Google Compute Engine at 169.254.169.254 on c0: device 4711081512345678901, logins root",
        ),
        (
            "azure",
            ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
            "",
            "Azure at 169.254.169.254 on c0: device 02aab8a4-74ef-476e-8182-f6d2ba4166a6, logins root",
        ),
        (
            "oracle",
            ("chassis_asset_tag", "OracleCloud.com"),
            "",
            "Oracle at 169.254.169.254 on c0: device ocid1.instance.",
        ),
        (
            "digitalocean",
            ("sys_vendor", "DigitalOcean"),
            "",
            "DigitalOcean at 169.254.169.254 on c0: device 2756294, logins root",
        ),
        (
            "hetzner",
            ("sys_vendor", "Hetzner"),
            "",
            "Hetzner at 169.254.169.254 on c0: device 47110815, logins root, 0 host key(s), 1 link(s)",
        ),
        (
            "scaleway",
            ("sys_vendor", "Scaleway"),
            "",
            "Scaleway at 169.254.42.42 on c0: device 11a2b3c4-5d6e-4f70-8a91-b2c3d4e5f607, logins root",
        ),
        (
            "equinix",
            ("sys_vendor", "Dell Inc."),
            "rescue.metadata=equinix",
            "Equinix Metal at 192.80.8.124 on c0: device c5ce85c5-1eef-4581-90b6-88a91e47e207, logins root, 0 host key(s), 3 link(s)",
        ),
        (
            "nocloud",
            ("product_serial", "ds=nocloud;s=http://10.0.0.1/seed/"),
            "",
            "NoCloud at 10.0.0.1: device iid-7, logins root",
        ),
        (
            "nocloud",
            ("sys_vendor", "QEMU"),
            "quiet ds=nocloud;s=http://10.0.0.1/seed/",
            "NoCloud at 10.0.0.1: device iid-7, logins root",
        ),
        (
            "ec2",
            ("sys_vendor", "QEMU"),
            "rescue.metadata=http://10.0.0.1/",
            "EC2 at 10.0.0.1: device i-0abcdef1234567890, logins root",
        ),
        (
            "late",
            ("product_name", "OpenStack Nova"),
            "",
            "OpenStack at 169.254.169.254 on c0: device 8f3b1c52",
        ),
        (
            "moved",
            ("product_name", "OpenStack Nova"),
            "",
            "OpenStack at 169.254.169.254 on c0: device 8f3b1c52",
        ),
    ] {
        root(&lab, &[firmware], line, &["10.0.0.2/24"]);
        let server = Server::start(&lab, kind, "0.0.0.0");
        let found = sources(&lab);
        assert!(found.contains(&format!("found: {said}")), "{kind}: {found}\n{:#?}", server.said());
        assert!(!found.contains("AAAA"), "{found}");
    }
}

#[test]
fn nobody_is_asked_without_a_reason() {
    let lab = lab("mn");
    let server = Server::start(&lab, "openstack", "0.0.0.0");
    for (firmware, line) in [
        (("sys_vendor", "Dell Inc."), "quiet"),
        (("product_name", "OpenStack Nova"), "rescue.metadata=off"),
        (("product_name", "OpenStack Nova"), "rescue.metadata=https://10.0.0.1/"),
        (("product_name", "OpenStack Nova"), "rescue.metadata=unheard-of"),
    ] {
        root(&lab, &[firmware], line, &["10.0.0.2/24"]);
        let said = sources(&lab);
        assert!(said.contains("absent: neither the firmware, nor DHCP"), "{said}");
        assert_eq!(
            said.contains("\n  rescue.metadata=: "),
            line.contains("http") || line.contains("unheard"),
            "{said}"
        );
    }
    assert_eq!(server.said(), [""; 0]);
}

/// The card of a lab, asked through in this process.
struct Card {
    dialects: Vec<&'static Dialect>,
    link: Link,
}

impl Network for Card {
    fn places(&mut self) -> Vec<Ask> {
        ask::places(&self.dialects, None, std::slice::from_ref(&self.link), &Routes::default())
    }

    fn changes(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Asks these in the client's namespace, for no longer than that.
fn asked(lab: &Lab, names: &[&str], v4: bool, patience: u64) -> Vec<Answered> {
    let dialects = names.iter().map(|name| DIALECTS.iter().find(|d| d.name == *name).unwrap()).collect();
    let link = Link { name: "c0".into(), index: index(lab), v4, v6: false };
    let client = lab.client.clone();
    let work = move || {
        netlab::enter(&client).unwrap();
        let limits = Limits { answer: Duration::from_secs(2), patience: Duration::from_secs(patience) };
        ask::run(&mut Card { dialects, link }, limits)
    };
    std::thread::spawn(work).join().unwrap()
}

/// What came of the one that was asked by IPv4.
fn outcome(answers: &[Answered]) -> String {
    let answer = answers.iter().find(|answer| answer.place.contains("169.254.169.254")).unwrap();
    match &answer.outcome {
        Outcome::Found(_) => "found".into(),
        Outcome::Absent(why) => format!("absent: {why}"),
        Outcome::Refused(why) => format!("refused: {why}"),
    }
}

#[test]
fn services_that_misbehave_let_nobody_in() {
    let lab = lab("mb");
    for (kind, expected) in [
        ("html", "refused: /openstack/latest/meta_data.json: a web page came back"),
        ("garbage", "refused: what answers there speaks no HTTP"),
        ("forbidden", "absent: /openstack/latest/meta_data.json: HTTP 403"),
        (
            "elsewhere",
            "refused: /openstack/latest/meta_data.json: redirected elsewhere, which is not followed",
        ),
        ("around", "refused: /openstack/latest/meta_data.json: redirected elsewhere, which is not followed"),
        ("huge", "refused: over 64 KiB"),
        ("endless", "refused: over 64 KiB"),
        ("missing", "absent: no /openstack/latest/meta_data.json"),
        ("hang", "absent: no answer within 2 s"),
        ("drip", "absent: no answer within 2 s"),
    ] {
        let server = Server::start(&lab, kind, "0.0.0.0");
        let said = outcome(&asked(&lab, &["openstack"], true, 5));
        assert_eq!(said, expected, "{kind}");
        let said = server.said();
        assert!(
            !said.iter().any(|line| line.starts_with("192.0.2.1 ")),
            "{kind} sent us elsewhere: {said:?}"
        );
    }
}

#[test]
fn what_one_body_has_poured_is_not_kept() {
    let lab = lab("mp");
    let server = Server::start(&lab, "endless", "0.0.0.0");
    assert!(outcome(&asked(&lab, &["openstack"], true, 5)).contains("over 64 KiB"));
    let begun = Instant::now();
    let poured = loop {
        let said = server.said();
        if let Some(line) = said.iter().find(|line| line.starts_with("poured ")) {
            break line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the connection is still open: {said:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    // What both sides buffer; not the gigabyte.
    assert!(poured < 64 << 20, "{poured}");
}

#[test]
fn who_hangs_delays_nobody_else() {
    let lab = lab("mh");
    // OpenStack's is at the one address, Scaleway's at the other, and hangs.
    let _hangs = Server::start(&lab, "hang", "169.254.42.42");
    let _answers = Server::start(&lab, "openstack", "169.254.169.254");
    let answers = asked(&lab, &["openstack", "scaleway"], true, 60);
    assert_eq!(outcome(&answers), "found");
    // In the other order its deadline is waited for, once, and not all of the patience.
    let begun = Instant::now();
    let answers = asked(&lab, &["scaleway", "openstack"], true, 600);
    assert_eq!(outcome(&answers), "found");
    assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
    assert!(
        answers.iter().any(|a| a.outcome == Outcome::Absent("no answer within 2 s".into())),
        "{answers:?}"
    );
}

#[test]
fn who_answers_nonsense_opens_no_door_for_those_below() {
    let lab = lab("mo");
    let _nonsense = Server::start(&lab, "html", "169.254.42.42");
    let _good = Server::start(&lab, "openstack", "169.254.169.254");
    let answers = asked(&lab, &["scaleway", "openstack"], true, 60);
    let first = answers.iter().find(|a| !matches!(a.outcome, Outcome::Absent(_))).unwrap();
    assert!(matches!(first.outcome, Outcome::Refused(_)), "{answers:?}");
    assert_eq!(first.name, "scaleway");
}

#[test]
fn a_machine_with_nothing_but_its_link_asks_by_that() {
    let lab = Lab::new("ml", 1);
    lab.at_server("addr add fe80::a9fe:a9fe/64 dev s0 nodad");
    lab.at_client("link set c0 up");
    // Duplicate address detection has its second.
    lab.until("address", |lab| {
        let shown = lab.at_client("-6 addr show dev c0");
        shown.contains("fe80::") && !shown.contains("tentative")
    });
    for (kind, firmware) in [("openstack", "OpenStack Nova"), ("hetzner", "")] {
        let _server = Server::start(&lab, kind, "::");
        let marks =
            [("product_name", firmware), ("sys_vendor", if firmware.is_empty() { "Hetzner" } else { "" })];
        root(&lab, &marks, "", &[]);
        let said = sources(&lab);
        assert!(said.contains("at fe80::a9fe:a9fe on c0: device"), "{said}");
    }
}

#[test]
fn a_network_that_comes_late_is_waited_for() {
    let lab = lab("mt");
    let server = Server::start(&lab, "ec2", "0.0.0.0");
    root(&lab, &[("sys_vendor", "Amazon EC2")], "", &[]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let said = scope.spawn(|| sources(&lab));
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(server.said(), [""; 0]);
        // netd replaces its report, as it does whenever something has changed.
        let (report, new) = (lab.path("root/run/rescue/net.json"), lab.path("root/run/rescue/net.new"));
        let text = std::fs::read_to_string(&report)
            .unwrap()
            .replace("\"addresses\":[]", "\"addresses\":[\"10.0.0.2/24\"]");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &report).unwrap();
        let said = said.join().unwrap();
        assert!(said.contains("found: EC2"), "{said}");
    });
    assert!(begun.elapsed() >= Duration::from_secs(1));
}
