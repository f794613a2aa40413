//! Foreign documents about networks beside what they are to become: `testdata/<format>/<case>.txt` and
//! `<case>.json`. With `BLESS=1` the expected results are written anew, to be read before they are
//! kept.
//!
//! An input is one file, or several after lines `-- path --`.

use std::path::{Path, PathBuf};

use init::net::translate::{self, File, Translation};
use rescue_schema::network::Network;
use serde_json::{Value, json};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/translate/testdata")
}

fn files(text: &[u8]) -> Vec<File> {
    let text = String::from_utf8_lossy(text).into_owned();
    if !text.starts_with("-- ") {
        return vec![File { path: String::new(), bytes: text.into_bytes() }];
    }
    let mut files: Vec<File> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("-- ").and_then(|l| l.strip_suffix(" --")) {
            Some(path) => files.push(File { path: path.into(), bytes: Vec::new() }),
            None => {
                let bytes = &mut files.last_mut().unwrap().bytes;
                bytes.extend_from_slice(line.as_bytes());
                bytes.push(b'\n');
            }
        }
    }
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Fields that say nothing are left out, so that a pair is short enough to be read.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(key, value)| (key, bare(value)));
            let says = |value: &Value| match value {
                Value::Null | Value::Bool(false) => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(map) => !map.is_empty(),
                Value::String(text) => text != "ethernet",
                _ => true,
            };
            Value::Object(kept.filter(|(key, value)| key == "accept_ra" || says(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(bare).collect()),
        other => other,
    }
}

fn result(format: &str, input: &[u8]) -> Value {
    match translate::translate(format, &files(input)) {
        Ok(Translation { network, remarks }) => {
            network.validate("network").expect("what is translated is valid");
            let again: Network = serde_json::from_slice(&serde_json::to_vec(&network).unwrap()).unwrap();
            assert_eq!(again, network, "it survives the way to the daemon");
            let remarks: Vec<String> = remarks.iter().map(ToString::to_string).collect();
            assert!(!remarks.iter().any(|r| r.contains(char::is_control)), "{remarks:?}");
            bare(json!({ "network": network, "remarks": remarks }))
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

#[test]
fn documents_become_what_is_expected() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    let mut pairs = 0;
    for folder in entries(&testdata()) {
        let format = folder.file_name().unwrap().to_str().unwrap().to_string();
        assert!(translate::FORMATS.iter().any(|f| f.name == format), "{format}");
        for input in entries(&folder).iter().filter(|p| p.extension().is_some_and(|e| e == "txt")) {
            pairs += 1;
            let found = result(&format, &std::fs::read(input).unwrap());
            let path = input.with_extension("json");
            if bless {
                let text = serde_json::to_string_pretty(&found).unwrap();
                std::fs::write(&path, text + "\n").unwrap();
                continue;
            }
            let expected = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let expected: Value = serde_json::from_slice(&expected).unwrap();
            if found != expected {
                let found = serde_json::to_string_pretty(&found).unwrap();
                wrong.push(format!("{} became\n{found}", input.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(pairs >= 30, "{pairs}");
}

#[test]
fn every_format_has_a_pair() {
    for format in translate::FORMATS {
        assert!(testdata().join(format.name).is_dir(), "{}", format.name);
    }
}

#[test]
fn hostile_documents_are_bounded() {
    let many = |line: &str, n: usize| line.repeat(n).into_bytes();
    let mut bomb = String::from("version: 2\na0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for i in 1..20 {
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(",")));
    }
    let addresses: String = (0..20_000)
        .map(|i| {
            format!(
                "{{\"link\":\"a\",\"type\":\"ipv4\",\"ip_address\":\"10.0.{}.{}\"}},",
                i / 256 % 256,
                i % 256
            )
        })
        .collect();
    let openstack = format!("{{\"links\":[{{\"id\":\"a\"}}],\"networks\":[{addresses}{{}}]}}");
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("netplan", bomb.clone().into_bytes()),
        ("cloud-init", bomb.into_bytes()),
        ("cloud-init", many("[", 100_000)),
        ("cloud-init", many("- ", 100_000)),
        ("cloud-init", many("{a: ", 50_000)),
        ("openstack", many("[", 500_000)),
        ("openstack", openstack.into_bytes()),
        ("cmdline", many("ip=eth0:dhcp bond=b:c,d vlan=e.5:f ", 20_000)),
        ("cmdline", [b"bond=b:".to_vec(), many("a,", 100_000)].concat()),
        (
            "ifupdown",
            many(
                "iface eth0 inet static\n address 192.0.2.7\n up ip route add 10.0.0.0/8 via 192.0.2.1\n",
                9_000,
            ),
        ),
        ("ifupdown", many("iface a inet manual inherits a\n", 20_000)),
        ("ifupdown", many("source /etc/network/interfaces\n", 20_000)),
        (
            "systemd",
            [b"-- a.network --\n".to_vec(), many("[Match]\nName=*\n[Network]\nVLAN=a\n", 10_000)].concat(),
        ),
        ("keyfile", many("[connection]\ntype=ethernet\nid=\n", 20_000)),
        ("ifcfg", [b"-- ifcfg-eth0 --\n".to_vec(), many("IPADDR=\"\\\n", 50_000)].concat()),
        ("suse", [b"-- ifcfg-eth0 --\n".to_vec(), many("IPADDR_1=192.0.2.7/24\n", 30_000)].concat()),
        ("rc.conf", many("ifconfig_em0=\"inet 192.0.2.7/24\"\nvlans_em0=\"1 2 3\"\n", 10_000)),
        ("disk", [b"-- etc/rc.conf --\n".to_vec(), vec![0xff; 500_000]].concat()),
        ("openstack", vec![b' '; translate::MAX_BYTES + 1]),
    ];
    for (format, input) in hostile {
        // Of this thread alone: the machine does other things.
        let clock = || {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            std::time::Duration::try_from(now).unwrap()
        };
        let from = clock();
        let _ = result(format, &input);
        let took = clock() - from;
        assert!(took.as_secs() < 10, "{format}: {took:?} for {:?}", String::from_utf8_lossy(&input[..40]));
    }
}

#[test]
fn secrets_of_a_profile_are_not_said() {
    let profile = "-- etc/NetworkManager/system-connections/w --\n[connection]\ntype=wifi\nid=w\n[wifi-security]\npsk=hunter2hunter2\n";
    let said = result("keyfile", profile.as_bytes()).to_string();
    assert!(!said.contains("hunter2"), "{said}");
}
