//! Documents about networks, each format a target. What is translated is valid, survives the way to the
//! daemon, and can be settled on the cards of a machine.

use init::net::cards::Card;
use init::net::settle::settle;
use init::net::translate::{File, translate};
use rescue_schema::network::Network;

macro_rules! targets {
    ($($name:ident = $format:literal,)*) => {
        $(pub(crate) fn $name(data: &[u8]) {
            run($format, data);
        })*
    };
}

targets! {
    cmdline = "cmdline",
    openstack = "openstack",
    cloud_init = "cloud-init",
    netplan = "netplan",
    systemd = "systemd",
    ifupdown = "ifupdown",
    keyfile = "keyfile",
    ifcfg = "ifcfg",
    suse = "suse",
    wicked = "wicked",
    rc_conf = "rc.conf",
    disk = "disk",
}

fn run(format: &str, data: &[u8]) {
    match translate(format, &files(data)) {
        Ok(found) => {
            found.network.validate("network").expect("translated, then not valid");
            let json = serde_json::to_vec(&found.network).expect("a network is JSON");
            assert_eq!(serde_json::from_slice::<Network>(&json).expect("it reads back"), found.network);
            let settled = settle(&found.network, &cards(), &[]);
            settled.validate("network").expect("settled, then not valid");
            assert!(found.remarks.iter().all(|r| !r.to_string().contains(char::is_control)));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn cards() -> Vec<Card> {
    (1..4)
        .map(|n| Card {
            index: n.into(),
            name: format!("eth{n}"),
            mac: Some([0x52, 0x54, 0, 0, 0, n]),
            pci: format!("0000:0{n}:00.0").parse().ok(),
            ..Card::default()
        })
        .collect()
}

/// One file, or several after lines `-- path --`.
fn files(data: &[u8]) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    for line in data.split_inclusive(|b| *b == b'\n') {
        let path = line.strip_prefix(b"-- ").and_then(|l| l.strip_suffix(b" --\n"));
        match (path, files.last_mut()) {
            (Some(path), _) => {
                files.push(File { path: String::from_utf8_lossy(path).into_owned(), bytes: Vec::new() });
            }
            (None, Some(file)) => file.bytes.extend_from_slice(line),
            (None, None) => files.push(File { path: String::new(), bytes: line.to_vec() }),
        }
    }
    files
}
