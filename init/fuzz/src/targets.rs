//! Everything that reads bytes of others: the one table of what is fuzzed, and what must hold.
//!
//! `init/tests/corpus.rs` runs all of them on the seeds in `corpus/<name>/` and on thousands of changed
//! ones. To add a target: its row, its function,
//! and a folder of seeds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use init::disk::source::{BUDGET, Reader, Source};
use init::disk::{assemble, crypttab, fstab, mount, mountinfo, probe, system, unmount};
use init::net::dhcp::{Event, Machine, frame};
use init::net::ladder::{Decision, PATIENCE, Rung, decide};
use init::net::lease::Lease;
use init::net::neighbours::{Neighbours, parse_frame};
use init::net::{dhcp6, parse_reply, plan, ra};
use init::sys::cmdline::Cmdline;
use init::sys::notify::Notice;
use init::{accounts, modules, ssh, sys};
use rescue_schema::credentials::Document;
use rescue_schema::crypt;
use rescue_schema::network::Network;
use rescue_schema::report::{
    BlockReport, LogLine, PartitionReport, ProbeReport, ProbeResult, Ready, StageLine,
};

#[path = "networks.rs"]
mod networks;
#[path = "sparse.rs"]
mod sparse;
use sparse::Sparse;
#[path = "seal.rs"]
mod seal;
#[path = "sources.rs"]
mod sources;

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
    ("dhcp_reply", dhcp_reply),
    ("neighbour", neighbour),
    ("dhcp6_reply", dhcp6_reply),
    ("router_advert", router_advert),
    ("network", wished_network),
    ("fstab", fstab_of_a_system),
    ("crypttab", crypttab_of_a_system),
    ("mountinfo", mounts),
    ("os_release", os_release),
    ("registry", registry),
    ("probe", image),
    ("format", one_format),
    ("gpt", sealed_gpt),
    ("table", image),
    ("container", image),
    ("lvm", sealed_lvm),
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

/// A datagram, or its payload, to a client in each state that awaits one.
fn dhcp_reply(data: &[u8]) {
    let payload = frame::unwrap(data).map(|(_, payload)| payload);
    for bytes in [Some(data), payload].into_iter().flatten() {
        let Ok(reply) = parse_reply(bytes) else { continue };
        if let Ok(lease) = Lease::from_reply(&reply) {
            if let Some(times) = lease.times {
                assert!(times.renew <= times.rebind && times.rebind <= times.expire, "{times:?}");
            }
            let plan = plan::plan(
                2,
                2,
                &[(sys::netlink::Origin::Dhcp4, lease.brings(lease.times.map(|t| t.expire)))],
            );
            let _ = (plan.gateway(), plan.changes(&plan));
        }
        converse(&reply);
    }
}

/// A document on a machine of four cards: what is accepted is bound, planned and described.
fn wished_network(data: &[u8]) {
    use init::net::{build, cards, edit, links, matching};
    let Ok(network) = serde_json::from_slice::<rescue_schema::network::Network>(data) else { return };
    if network.validate("network").is_err() {
        return;
    }
    let card = |index: u32| sys::netlink::Link {
        index,
        name: format!("eth{index}"),
        ethernet: true,
        mac: Some([2, 0, 0, 0, 0, index.to_le_bytes()[0]]),
        ..sys::netlink::Link::default()
    };
    let mut all: build::Links = (0..4).map(|index| (index, card(index))).collect();
    let places: Vec<cards::Card> = (0..4)
        .map(|index| cards::Card {
            index,
            mac: card(index).mac,
            pci: format!("0000:0{index}:00.0").parse().ok(),
            slot: Some(index),
            ..cards::Card::default()
        })
        .collect();
    let found = matching::find(&network, &places, &[]);
    assert_eq!(found.len(), network.links.len());
    // What is built is there in the next round, under the name that the plan gave it.
    for _ in 0..4 {
        let bound = build::bind(&network, &found, &all);
        let (steps, problems) = build::steps(&network, &bound, &all);
        assert!(problems.iter().all(|problem| !problem.is_empty()));
        for step in steps {
            let _ = step.to_string();
            if let build::Step::Create { at, name } = step {
                let made = build::make(&network, &network.links[at], &bound).expect("it can be built");
                let index = u32::try_from(all.len()).unwrap_or(u32::MAX);
                all.insert(
                    index,
                    sys::netlink::Link { name, kind: Some(made.kind().into()), ours: true, ..card(index) },
                );
            }
        }
        let _ = links::roles(&network, &bound, &all);
    }
    assert!(!edit::describe(&network).is_empty());
}

/// The client takes the reply for an answer to what it asked, three times over.
fn converse(reply: &init::net::dhcp::reply::Reply) {
    let mut now = Duration::from_secs(1);
    let mut machine = Machine::new(reply.chaddr, 7);
    let mut actions = machine.step(Event::LinkUp, now);
    for _ in 0..3 {
        let mut answer = reply.clone();
        answer.xid = asked(&actions).unwrap_or(reply.xid);
        actions = machine.step(Event::Reply(&answer), now);
        now = machine.deadline().unwrap_or(now).max(now);
        actions.extend(machine.step(Event::Timer, now));
        let _ = machine.describe();
    }
}

/// The transaction of the last message that was sent.
fn asked(actions: &[init::net::dhcp::Action]) -> Option<u32> {
    use init::net::dhcp::Action::{Broadcast, Unicast};
    actions.iter().rev().find_map(|action| match action {
        Broadcast(message, _) | Unicast { message, .. } => {
            message.get(4..8)?.first_chunk().map(|xid| u32::from_be_bytes(*xid))
        }
        _ => None,
    })
}

/// A frame of LLDP, CDP or LACP: what is kept of it can be shown, and a bond of it can be built.
fn neighbour(data: &[u8]) {
    let Some(heard) = parse_frame(data) else { return };
    let (now, mut known) = (Duration::from_secs(60), Neighbours::default());
    known.hear(heard, now);
    for neighbour in known.report() {
        let line = neighbour.to_string();
        assert!(line.len() <= 2048 && !line.contains(char::is_control), "{line:?}");
    }
    let mac = rescue_schema::network::MacAddress([2, 0, 0, 0, 0, 1]);
    let card = Rung { mac, partner: known.partner() };
    if let Decision::Climb(network) = decide(&[card], false, &Network::default(), now + PATIENCE) {
        network.validate("network").expect("a network that cannot be built");
    }
}

/// A message to a DHCPv6 client that asks, twice over.
fn dhcp6_reply(data: &[u8]) {
    let Ok(reply) = dhcp6::reply::parse_reply(data) else { return };
    let iaid = reply.associations.first().map_or(1, |ia| ia.iaid);
    if let Ok(lease) = dhcp6::lease::Lease::from_reply(&reply, iaid, Duration::from_secs(1)) {
        let never = |end: Option<Duration>| end.unwrap_or(Duration::MAX);
        assert!(never(lease.renew) <= never(lease.rebind) && never(lease.rebind) <= never(lease.end()));
        assert!((1..=4).contains(&lease.addresses.len()), "{lease:?}");
    }
    let names = |names: &[String]| names.iter().all(|n| !n.contains(char::is_control) && n.len() < 256);
    assert!(names(&reply.search), "{reply:?}");
    let Some(mac) = reply.client.get(4..).and_then(|mac| mac.try_into().ok()) else { return };
    for mode in [dhcp6::Mode::Stateless, dhcp6::Mode::Stateful] {
        let mut now = Duration::from_secs(1);
        let mut machine = dhcp6::Machine::new(mac, 7);
        let mut actions = machine.step(dhcp6::Event::Want(mode), now);
        actions.extend(machine.step(dhcp6::Event::Ready, now));
        for _ in 0..3 {
            let mut answer = reply.clone();
            let sent = actions.iter().rev().find_map(|action| match action {
                dhcp6::Action::Send(message) => message.first_chunk().copied(),
                _ => None,
            });
            answer.xid = sent.map_or(reply.xid, |[_, a, b, c]| u32::from_be_bytes([0, a, b, c]));
            actions = machine.step(dhcp6::Event::Reply(&answer), now);
            now = machine.deadline().unwrap_or(now).max(now);
            actions.extend(machine.step(dhcp6::Event::Timer, now));
            let _ = (machine.describe(), machine.dns());
        }
    }
}

/// An advertisement, said by two routers; and what it brings ends.
fn router_advert(data: &[u8]) {
    let Ok(advert) = ra::advert::parse_advert(data) else { return };
    assert!(advert.prefixes.iter().all(|p| (1..=128).contains(&p.length)), "{advert:?}");
    assert!(advert.mtu.is_none_or(|mtu| mtu >= 1280), "{advert:?}");
    assert!(advert.search.iter().all(|(name, _)| !name.contains(char::is_control)), "{advert:?}");
    let mut now = Duration::from_secs(1);
    let mut machine = ra::Machine::new([2, 0, 0, 0, 0, 1], 7);
    let _ = machine.step(ra::Event::LinkUp, now);
    for router in [1, 2, 1] {
        let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, router);
        let _ = machine.step(ra::Event::Advert(from, &advert), now);
        now += Duration::from_secs(1);
    }
    let table = machine.table();
    assert!(table.routers.len() <= 2 && table.addresses.len() <= 8, "{table:?}");
    for _ in 0..4 {
        let next = machine.deadline().unwrap_or(now);
        assert!(next >= now || next + Duration::from_secs(5) >= now, "{next:?} {now:?}");
        now = now.max(next);
        let _ = (machine.step(ra::Event::Timer, now), machine.describe());
    }
}

/// How a system would be mounted by this fstab.
fn fstab_of_a_system(data: &[u8]) {
    let (entries, skipped) = fstab::parse(data);
    assert!(entries.windows(2).all(|pair| pair[0].line < pair[1].line));
    assert!(skipped.iter().all(|line| entries.iter().all(|e| e.line != *line)));
    let disk = machine_disk();
    // A line of either may be one of the other.
    let tables = mount::Tables { fstab: Some(data), crypttab: Some(data) };
    let leave = mount::Leave { write: true, degraded: false };
    let plan =
        mount::plan(&disk.children[0], tables, std::slice::from_ref(&disk), Path::new("/mnt/x"), leave);
    assert!(plan.steps.len() <= 128, "{}", plan.steps.len());
    for step in &plan.steps {
        let place = plan.place(step);
        assert!(place.starts_with("/mnt/x"), "{}", place.display());
        let _ = step.to_string();
    }
}

/// A crypttab, a NUL, and what fstab calls a device: what it stands for is open here, or known to be closed.
fn crypttab_of_a_system(data: &[u8]) {
    let (table, source) = halves(data);
    assert!(crypttab::parse(table).iter().all(|(name, _)| !name.is_empty() && !name.contains('/')));
    let mut disk = machine_disk();
    disk.children[0].probe.kind = Some("crypto_LUKS".into());
    let open = |path: &str| BlockReport { path: path.into(), kind: "crypt".into(), ..BlockReport::default() };
    disk.children[0].children = vec![open("/dev/mapper/luks-1")];
    let disks = [disk];
    let known = ["/dev/mapper/luks-1", "/dev/vda", "/dev/vda2"];
    match crypttab::opened(&String::from_utf8_lossy(source), table, &disks, "/dev/vda2") {
        Some(crypttab::Opened::As(path)) => assert_eq!(path, known[0]),
        Some(crypttab::Opened::Not(path)) => assert!(known.contains(&path.as_str()), "{path}"),
        None => {}
    }
}

/// A disk of two file systems.
fn machine_disk() -> BlockReport {
    let part = |number: u32, uuid: &str| BlockReport {
        name: format!("vda{number}"),
        path: format!("/dev/vda{number}"),
        kind: "part".into(),
        partition: Some(PartitionReport { number, ..PartitionReport::default() }),
        probe: ProbeReport {
            result: ProbeResult::Found,
            kind: Some("ext4".into()),
            uuid: Some(uuid.into()),
            label: Some(format!("label{number}")),
            ..ProbeReport::default()
        },
        ..BlockReport::default()
    };
    BlockReport {
        name: "vda".into(),
        path: "/dev/vda".into(),
        kind: "disk".into(),
        serial: Some("S1".into()),
        children: vec![
            part(1, "11111111-2222-3333-4444-555555555555"),
            part(2, "66666666-7777-8888-9999-000000000000"),
        ],
        ..BlockReport::default()
    }
}

fn mounts(data: &[u8]) {
    let mounts = mountinfo::parse(data);
    assert!(mountinfo::planned_unmounts(data).len() <= mounts.len());
    for folder in ["/mnt", "/"] {
        let _ = unmount::plan(data, Path::new(folder));
    }
}

/// What a system calls itself becomes one folder's name.
fn os_release(data: &[u8]) {
    let (release, hostname) = halves(data);
    let facts = system::facts(release, Some(hostname), None);
    let name = system::name(&facts);
    assert!(
        !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && !name.contains('/'),
        "{name:?}"
    );
    assert!(facts.pretty_name.is_none_or(|name| !name.contains(char::is_control)));
}

/// A registry hive, asked for what is asked of Windows.
fn registry(data: &[u8]) {
    let bytes = data.to_vec();
    let reader = Reader::new(&bytes, 512);
    if let Ok(Some(hive)) = system::regf::Hive::open(&reader) {
        for (path, name) in [
            (&["Microsoft", "Windows NT", "CurrentVersion"][..], "ProductName"),
            (&["Select"][..], "Current"),
        ] {
            let _ = hive.value(path, name);
        }
    }
    assert!(reader.spent() <= BUDGET);
}

fn image(data: &[u8]) {
    if let Some(image) = Sparse::parse(data) {
        look(&image);
    }
}

/// The name of a format, a NUL, and an image that this format alone looks at.
fn one_format(data: &[u8]) {
    let (name, image) = halves(data);
    if let (Ok(name), Some(mut image)) = (std::str::from_utf8(name), Sparse::parse(image)) {
        seal::seal(name, &mut image);
        let reader = Reader::new(&image, image.sector);
        for found in probe::ask_one(name, &reader) {
            assert!(!found.kind.is_empty() && found.offset < image.size());
        }
        assert!(reader.spent() <= BUDGET);
    }
}

/// With the checksums of a GPT made right, so that what they guard is reached too.
fn sealed_gpt(data: &[u8]) {
    let Some(mut image) = Sparse::parse(data) else { return };
    let sector = if image.sector == 4096 { 4096 } else { 512 };
    let mut header = [0; 512];
    if image.size() < sector + 512 || image.read_at(sector, &mut header).is_err() {
        return;
    }
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (size, count, entry) = (number(12) as usize, number(80), number(84));
    let start = u64::from_le_bytes(*header[72..].first_chunk().unwrap_or(&[0; 8]));
    let length = u64::from(count) * u64::from(entry);
    if let Some(at) = start.checked_mul(sector)
        && length <= 1 << 21
        && at.checked_add(length).is_some_and(|end| end <= image.size())
    {
        #[allow(clippy::cast_possible_truncation)]
        let mut entries = vec![0; length as usize];
        let _ = image.read_at(at, &mut entries);
        header[88..92].copy_from_slice(&crc(&entries).to_le_bytes());
    }
    if (92..=512).contains(&size) {
        header[16..20].fill(0);
        let sum = crc(&header[..size]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
    }
    image.put(sector, &header);
    look(&image);
}

/// With the checksums of a physical volume made right from the inside out: text, header, label.
fn sealed_lvm(data: &[u8]) {
    const SEED: u32 = 0xf597_a6cf;
    let Some(mut image) = Sparse::parse(data) else { return };
    let sum = |bytes: &[u8]| init::disk::source::crc32(0xEDB8_8320, SEED, bytes).to_le_bytes();
    if image.size() < 8192 {
        return;
    }
    let mut header = vec![0; 512];
    let _ = image.read_at(4096, &mut header);
    let number = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().unwrap_or(&[0; 8]));
    let (offset, length) = (number(40), number(48).min(1 << 16));
    let from = offset.checked_add(4096).filter(|from| from.saturating_add(length) <= image.size());
    if let Some(from) = from {
        #[allow(clippy::cast_possible_truncation)]
        let mut text = vec![0; length as usize];
        let _ = image.read_at(from, &mut text);
        header[56..60].copy_from_slice(&sum(&text));
    }
    let sealed = sum(&header[4..]);
    header[..4].copy_from_slice(&sealed);
    image.put(4096, &header);
    let mut label = vec![0; 512];
    let _ = image.read_at(512, &mut label);
    let sealed = sum(&label[20..]);
    label[16..20].copy_from_slice(&sealed);
    image.put(512, &label);
    look(&image);
}

fn crc(bytes: &[u8]) -> u32 {
    !init::disk::source::crc32(0xEDB8_8320, !0, bytes)
}

/// What is found of an image can be said as JSON and is read back.
fn look(image: &Sparse<'_>) {
    let report = probe::image(&Reader::new(image, image.sector));
    let json = serde_json::to_vec(&report).expect("a report is JSON");
    assert_eq!(serde_json::from_slice::<ProbeReport>(&json).expect("a report reads back"), report);
    if report.result == ProbeResult::Found {
        assert!(!report.signatures.is_empty());
    }
    put_together(report);
}

/// Whatever an image says of arrays and groups, what is planned of it is of the devices that there are.
fn put_together(probe: ProbeReport) {
    let disk = |path: &str| BlockReport { path: path.into(), probe: probe.clone(), ..BlockReport::default() };
    let disks = [disk("/dev/vda"), disk("/dev/vdb")];
    for (count, degraded) in [(1, false), (1, true), (2, true)] {
        let wish = assemble::Wish { degraded, ..assemble::Wish::default() };
        let plan = assemble::plan(&disks[..count], &wish);
        let named = assemble::members(&plan, false);
        assert!(named.iter().all(|path| disks.iter().any(|disk| disk.path == *path)), "{named:?}");
        let _ =
            (format!("{:?}", plan.remarks), plan.steps.iter().map(ToString::to_string).collect::<String>());
    }
}

/// What stands before the first NUL, and after.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = data.splitn(2, |b| *b == 0);
    (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
}
