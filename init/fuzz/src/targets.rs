//! Everything that reads bytes of others: the one table of what is fuzzed, and what must hold.
//!
//! `init/tests/corpus.rs` runs all of them on the seeds in `corpus/<name>/` and on thousands of changed
//! ones. To add a target: its row, its function,
//! and a folder of seeds.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use init::sys::cmdline::Cmdline;
use init::sys::notify::Notice;
use init::{accounts, modules, ssh, sys};
use rescue_schema::credentials::Document;
use rescue_schema::crypt;
use rescue_schema::report::{LogLine, Ready, StageLine};

#[path = "configuring.rs"]
mod configuring;
#[path = "disks.rs"]
mod disks;
#[path = "networks.rs"]
mod networks;
#[path = "seal.rs"]
mod seal;
#[path = "sources.rs"]
mod sources;
#[path = "sparse.rs"]
mod sparse;

/// A name, and what is done with each input. It must not panic, and not take long.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: &[Target] = &[
    ("document", document),
    ("crypt", crypt_hash),
    ("accounts", databases),
    ("throttle", throttle),
    ("authorized_keys", authorized_keys),
    ("presented", presented),
    ("sftp", sftp),
    ("dns", dns),
    ("names", names),
    ("url", sources::url),
    ("guestinfo", sources::guestinfo),
    ("monitor", monitor),
    ("connection", connection),
    ("cmdline", cmdline),
    ("notice", notice),
    ("kmsg", kmsg),
    ("lines", lines),
    ("uevent", uevent),
    ("modalias", modalias),
    ("dhcp_reply", configuring::dhcp_reply),
    ("neighbour", configuring::neighbour),
    ("dhcp6_reply", configuring::dhcp6_reply),
    ("router_advert", configuring::router_advert),
    ("network", configuring::wished_network),
    ("fstab", disks::fstab_of_a_system),
    ("crypttab", disks::crypttab_of_a_system),
    ("mdadm", disks::mdadm_of_a_system),
    ("mountinfo", disks::mounts),
    ("os_release", disks::os_release),
    ("registry", disks::registry),
    ("probe", disks::image),
    ("format", disks::one_format),
    ("gpt", disks::sealed_gpt),
    ("table", disks::image),
    ("container", disks::image),
    ("lvm", disks::sealed_lvm),
    ("zpool", disks::zpool),
    ("smbios", sources::smbios),
    ("credentials", sources::credentials),
    ("medium", sources::medium),
    ("said", sources::said),
    ("openstack_meta", sources::openstack_meta),
    ("cloud_config", sources::cloud_config),
    ("ibm_vendor", sources::ibm_vendor),
    ("cloud", sources::cloud),
    ("metadata", sources::metadata),
    ("net_cmdline", networks::cmdline),
    ("net_openstack", networks::openstack),
    ("net_cloud_init", networks::cloud_init),
    ("net_netplan", networks::netplan),
    ("net_systemd", networks::systemd),
    ("net_ifupdown", networks::ifupdown),
    ("net_keyfile", networks::keyfile),
    ("net_ifcfg", networks::ifcfg),
    ("net_suse", networks::suse),
    ("net_wicked", networks::wicked),
    ("net_rc_conf", networks::rc_conf),
    ("net_disk", networks::disk),
];

/// What a connection's process sends to its monitor, and what it is told.
fn monitor(data: &[u8]) {
    ssh::monitor::messages::reread(data);
}

/// A client's packets: before and behind the exchange of keys, before and behind the login.
fn connection(data: &[u8]) {
    let _ = ssh::monitor::rehearsal::converse(data);
}

/// What the rescued machine is told. Whatever is accepted can be planned.
fn document(data: &[u8]) {
    match Document::parse(data) {
        Ok(document) => {
            document.validate().expect("accepted, then not valid");
            let _ = accounts::plan(Some(&document), Path::new("/bin/sh"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Whatever hash is accepted can be checked, by crates that must not panic on it either.
fn crypt_hash(data: &[u8]) {
    let Ok(hash) = std::str::from_utf8(data) else { return };
    let Ok(_) = crypt::check(hash) else { return };
    let cheap = match hash.split('$').nth(2) {
        Some("04" | "05") => true,
        Some("j75") => true,
        Some(rounds) => rounds.strip_prefix("rounds=").is_some_and(|r| r.len() <= 4),
        None => false,
    };
    if cheap {
        let _ = accounts::verify(Some(hash), b"x");
    }
}

/// passwd(5) and shadow(5), one after the other with a NUL between.
fn databases(data: &[u8]) {
    let (passwd, shadow) = halves(data);
    for name in ["root", "admin", "", "\u{fffd}"] {
        if let Some((account, password)) = accounts::parsers::look_up(passwd, shadow, name) {
            assert_eq!(account, name);
            let _ = password;
        }
    }
}

/// A table that was read back and written is read the same again.
fn throttle(data: &[u8]) {
    let once = accounts::parsers::reread_throttle(data, 1_000_000);
    assert_eq!(accounts::parsers::reread_throttle(once.as_bytes(), 1_000_000), once);
}

fn authorized_keys(data: &[u8]) {
    for line in String::from_utf8_lossy(data).lines() {
        if let Ok(Some(entry)) = ssh::authorized_keys::parse(line) {
            for source in
                [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])]
            {
                let _ = entry.options.admit(source, 1_800_000_000);
            }
        }
    }
}

/// An algorithm's name, a zero byte, and the blob of a key or a certificate.
fn presented(data: &[u8]) {
    let (name, blob) = halves(data);
    if let Ok(it) = ssh::presented::Presented::decode(blob, &String::from_utf8_lossy(name)) {
        assert!(it.method().starts_with("publickey "));
        assert!(!it.verify(b"signed", blob, &ssh::authorized_keys::Options::default()));
    }
}

/// What a client of the SFTP server sends. It changes nothing, and ends with its input.
fn sftp(data: &[u8]) {
    let options = ssh::subsystem::sftp::Options { read_only: true, home: "/".into() };
    let _ = ssh::subsystem::sftp::serve(options, data, std::io::sink());
}

/// An answer of a name server.
fn dns(data: &[u8]) {
    use init::web::dns::{Answer, Kind, answer, question};
    for kind in [Kind::A, Kind::Aaaa] {
        let question = question(7, "db.example", kind).expect("a name");
        if let Some(Answer::Addresses(found)) = answer(data, &question, kind) {
            assert!(found.iter().all(|address| address.is_ipv4() == (kind == Kind::A)));
        }
    }
    let name = String::from_utf8_lossy(data);
    assert!(question(1, &name, Kind::A).is_none_or(|question| question.len() <= 282));
}

fn names(data: &[u8]) {
    let settings = init::web::names::settings(data);
    assert!(settings.servers.len() <= 3 && settings.search.len() <= 6);
    let _ = init::web::names::in_hosts(data, "db");
}

fn cmdline(data: &[u8]) {
    let line = Cmdline::parse(data);
    for (name, _) in line.iter() {
        assert!(line.get(name).is_some(), "{name:?} is there and not found");
    }
    let _ = line.all("rescue.x").count();
}

/// What is understood is said back in the same words.
fn notice(data: &[u8]) {
    if let Some(notice) = Notice::parse(data) {
        assert_eq!(Notice::parse(notice.to_string().as_bytes()), Some(notice));
    }
}

fn kmsg(data: &[u8]) {
    if let Some(record) = sys::kmsg::decode(data) {
        assert!(record.level < 8);
    }
}

/// Lines of ours, as tools read them.
fn lines(data: &[u8]) {
    for line in String::from_utf8_lossy(data).lines() {
        let _ = LogLine::parse(line);
        let _ = Ready::find(line);
        let _ = StageLine::find(line);
    }
}

fn uevent(data: &[u8]) {
    if let Some(event) = modules::hotplug::parse(data) {
        assert!(!event.action.is_empty());
    }
}

/// A pattern, a NUL, and a name: the index finds what the pattern alone matches.
fn modalias(data: &[u8]) {
    let (pattern, name) = halves(data);
    let (Ok(pattern), Ok(name)) = (std::str::from_utf8(pattern), std::str::from_utf8(name)) else { return };
    let mut index = modules::alias::Index::default();
    index.insert(pattern, "module");
    assert_eq!(modules::alias::matches(pattern, name), !index.matches(name).is_empty());
}

/// What stands before the first NUL, and after.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = data.splitn(2, |b| *b == 0);
    (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
}
