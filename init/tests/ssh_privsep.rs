//! The walls around a connection's process: what is left to it, what its monitor does for one that has
//! been taken over, and how many connections it takes to stop a login.

#[path = "ssh/server.rs"]
#[allow(dead_code)]
mod server;
#[path = "ssh/taken_over.rs"]
mod taken_over;

use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rescue_schema::paths::{LOG, LOG_OLD};
use russh::keys::signature::Signer;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::Signature;
use russh::keys::{PrivateKey, load_secret_key};
use server::{HASH, Server, children, kill, text, until};
use sha2::{Digest, Sha256};
use taken_over::{TakenOver, message, newest, password, start, string};

fn status(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_string()
}

/// Seconds since the machine was started, as lines of the log have it.
fn since_boot() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Lines of the log that name a client's port, from a time on: an earlier client may have had the port.
fn logged(since: f64, port: u16) -> Vec<String> {
    // It may have been rotated between two lines.
    let text = [LOG_OLD, LOG].map(|path| std::fs::read_to_string(path).unwrap_or_default()).concat();
    let name = format!("127.0.0.1:{port} ");
    let is_later = |line: &str| {
        let stamp = line.strip_prefix('[').and_then(|rest| rest.split(']').next()?.trim().parse().ok());
        stamp.is_some_and(|stamp: f64| stamp >= since)
    };
    let is_its = |line: &&str| format!("{line} ").contains(&name) && is_later(line);
    text.lines().filter(is_its).map(String::from).collect()
}

/// So that there is a log to look at.
fn with_log() {
    let _ = std::fs::create_dir_all("/run/rescue");
    let _ = std::fs::File::options().create(true).append(true).open(LOG);
}

#[test]
fn an_honest_login_through_the_stolen_socket_works() {
    // Without this the others would prove nothing.
    let server = Server::start();
    let taken = TakenOver::of(&server);
    let session = taken.exchange(7);
    assert_eq!(taken.ask(&taken.key_login(&session)), Some(vec![5, 1]));
    taken.say(&start(b"echo in; id -u"));
    let (reply, descriptors) = taken.hear().unwrap();
    assert_eq!((reply[0], descriptors.len()), (6, 4));
    let mut output = std::fs::File::from(descriptors.into_iter().nth(1).unwrap());
    let mut said = String::new();
    until("the command has spoken", || {
        let _ = output.read_to_string(&mut said);
        said == "in\n0\n"
    });
}

#[test]
fn a_process_that_was_taken_over_gets_the_door() {
    with_log();
    let server = Server::start();
    let door = |what: &str, attack: &dyn Fn(&TakenOver)| {
        let taken = TakenOver::of(&server);
        attack(&taken);
        taken.assert_door(what);
    };
    door("a shell without a login", &|it| {
        it.exchange(7);
        it.say(&start(b"id"));
    });
    door("a shell without anything", &|it| it.say(&start(b"id")));
    door("a signal without a login", &|it| it.say(&message(6, &[&[0; 4], &string(b"KILL")])));
    let address = string(b"127.0.0.1:22");
    for (what, request) in [
        ("a connection", message(10, &[&[0], &string(b"127.0.0.1"), &address])),
        ("a listening socket", message(10, &[&[3], &string(b"localhost"), &address])),
        ("an agent", message(10, &[&[5]])),
        ("the addresses of a host", message(9, &[&string(b"db"), &[0, 0, 0, 22]])),
        ("a socket's removal", message(11, &[&string(b"/etc/hosts")])),
    ] {
        door(&format!("{what} without a login"), &|it| {
            it.exchange(7);
            it.say(&request);
        });
    }
    door("a socket without a login", &|it| {
        it.exchange(7);
        it.say(&message(10, &[&[1], &string(b"/run/x")]));
    });
    door("a password before an exchange", &|it| it.say(&password("root", "correct horse")));
    door("a second exchange", &|it| {
        it.exchange(7);
        it.say(&TakenOver::sign(&it.record(8)));
    });
    let file = [&b"SSHSIG\0\0\0\x04file\0\0\0\0\0\0\0\x06sha256\0\0\0\x20"[..], &[7; 32]].concat();
    door("a signature of a file", &|it| {
        it.say(&message(1, &[&string(b"ssh-ed25519"), &[1], &string(&file)]))
    });
    door("a signature over a foreign hash", &|it| it.say(&TakenOver::sign(&[7; 32])));
    door("an exchange of another server", &|it| {
        let at = string(b"SSH-2.0-intruder").len();
        let mut record = it.record(7);
        record[at + 4..at + 18].copy_from_slice(b"SSH-2.0-Dispute".split_at(14).0);
        it.say(&TakenOver::sign(&record));
    });
    door("twice the login", &|it| {
        let session = it.exchange(7);
        assert_eq!(it.ask(&it.key_login(&session)), Some(vec![5, 1]));
        it.say(&it.key_login(&session));
    });
    door("another session's id", &|it| {
        it.exchange(7);
        let other = Sha256::digest(it.record(8)).to_vec();
        assert_eq!(it.ask(&it.key_login(&other)), Some(vec![4]), "refused");
        it.say(&start(b"id"));
    });
    door("an empty session id", &|it| {
        it.exchange(7);
        assert_eq!(it.ask(&it.key_login(&[])), Some(vec![4]), "refused");
        it.say(&start(b"id"));
    });
    let replayed = {
        let first = TakenOver::of(&server);
        let login = first.key_login(&first.exchange(1));
        assert_eq!(first.ask(&login), Some(vec![5, 1]));
        login
    };
    door("a replayed signature", &|it| {
        it.exchange(7);
        assert_eq!(it.ask(&replayed), Some(vec![4]), "refused");
        it.say(&start(b"id"));
    });
    door("an oversize message", &|it| it.say(&vec![5; 200_000]));
    door("a malformed message", &|it| it.say(&[5, 1, 255, 255, 255, 255]));
    door("an unknown message", &|it| it.say(&[99]));
    door("too many guesses", &|it| {
        it.exchange(7);
        for n in 0..7 {
            assert_eq!(it.ask(&password("root", "guess")), Some(vec![4]), "{n}");
        }
        it.say(&password("root", "correct horse"));
    });
    door("an environment of its own", &|it| {
        let session = it.exchange(7);
        assert_eq!(it.ask(&it.key_login(&session)), Some(vec![5, 1]));
        let variable = [&[0, 0, 0, 1][..], &string(b"LD_PRELOAD"), &string(b"/x")].concat();
        it.say(&message(5, &[&[1], &string(b"id"), &[0], &[0], &variable]));
    });
    // None of it has hurt the server.
    assert_eq!(text(&server.run("echo in").stdout), "in\n");
}

#[test]
fn a_refusal_takes_the_same_time_for_every_user() {
    // On a busy machine one of several tries will show it.
    let shown = (0..10).any(|_| {
        let server = Server::start();
        let taken = TakenOver::of(&server);
        taken.exchange(7);
        let took = |user: &str, word: &str| {
            let start = Instant::now();
            assert_eq!(taken.ask(&password(user, word)), Some(vec![4]));
            start.elapsed().as_millis()
        };
        let times =
            [took("root", "wrong"), took("admin", "wrong"), took("nobody", "wrong"), took("root", "")];
        println!("{times:?} ms");
        assert!(times.iter().all(|time| *time >= 500), "{times:?}");
        times.iter().all(|time| *time < 600)
    });
    assert!(shown);
}

/// Whether a process's memory holds these bytes.
fn remembers(pid: u32, what: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().any(|line| {
        let mut ends = line.split([' ', '-']).map(|end| u64::from_str_radix(end, 16));
        let (Some(Ok(start)), Some(Ok(end))) = (ends.next(), ends.next()) else { return false };
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        let read = memory.seek(SeekFrom::Start(start)).and_then(|_| memory.read_exact(&mut bytes));
        read.is_ok() && bytes.windows(what.len()).any(|window| window == what)
    })
}

#[test]
fn a_connections_process_has_nothing_and_may_nothing() {
    let server = Server::start();
    let mut client = Command::new("sshpass");
    let ssh = server.client(&[], "root", &["-o", "PubkeyAuthentication=no", "--", "echo in; cat"]);
    client.args(["-p", "correct horse"]).arg(ssh.get_program()).args(ssh.get_args());
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 3];
    client.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let (monitor, connection) = newest(&server, &[]);

    let ids: Vec<u32> = ["Uid", "Gid"]
        .iter()
        .flat_map(|f| status(connection, f).split('\t').map(|n| n.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    assert_eq!(ids, [ids[0]; 8]);
    assert!(ids[0] >= 65534, "{ids:?}");
    assert_eq!(status(connection, "Groups"), "");
    assert_eq!(status(connection, "NoNewPrivs"), "1");
    assert_eq!(status(connection, "Seccomp"), "2");
    assert_eq!(status(connection, "Threads"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(connection, set), "0000000000000000", "{set}");
    }
    let root = format!("/proc/{connection}/root");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(format!("/proc/{connection}/cwd")).unwrap().count(), 0);
    assert!(std::fs::File::create(format!("{root}/x")).is_err(), "nothing can be put there");
    // Not dumpable: what is its own in /proc belongs to root.
    assert_eq!(std::fs::metadata(format!("/proc/{connection}/mem")).unwrap().uid(), 0);
    let limits = std::fs::read_to_string(format!("/proc/{connection}/limits")).unwrap();
    for (name, value) in [("Max processes", "0"), ("Max core file size", "0"), ("Max open files", "1024")] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(value), "{limits}");
    }
    for entry in std::fs::read_dir(format!("/proc/{connection}/fd")).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_str().unwrap();
        let known = ["socket:", "pipe:", "anon_inode:", "/dev/null"];
        assert!(known.iter().any(|name| target.starts_with(name)), "{target}");
    }

    let host = load_secret_key(server.file("host"), None).unwrap();
    let seed = host.key_data().ed25519().unwrap().private.to_bytes();
    let hash = HASH.rsplit('$').next().unwrap().as_bytes();
    assert!(remembers(monitor, &seed) && remembers(monitor, hash), "the search finds what is there");
    assert!(!remembers(connection, &seed), "the host key");
    assert!(!remembers(connection, hash), "the password's hash");
    drop(client.stdin.take());
    assert!(client.wait().unwrap().success());
}

#[test]
fn a_monitor_that_dies_takes_its_connection_with_it() {
    let server = Server::start();
    let mut client = server.ssh(&["--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let (monitor, connection) = newest(&server, &[]);
    kill("-9", monitor);
    until("the connection's process is gone", || status(connection, "State").is_empty());
    until("the client knows", || client.try_wait().unwrap().is_some());
}

/// Connects from `source` as often as it can, up to 1,000 times a second, until told to stop.
fn flood(source: [u8; 4], address: SocketAddr, stop: &AtomicBool, count: &AtomicU32, bytes: &[u8]) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
    while !stop.load(Ordering::Relaxed) {
        let next = Instant::now() + Duration::from_millis(1);
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let bound = bind(&socket, &SocketAddr::from((source, 0)));
        if bound.and_then(|()| connect(&socket, &address)).is_ok() {
            let _ = rustix::net::send(&socket, bytes, rustix::net::SendFlags::NOSIGNAL);
            count.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn held_open_connections_stop_no_login() {
    let server = Server::start();
    let mut held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(500));
    assert!(children(server.child.id()).is_empty(), "who says nothing has no process");
    assert_eq!(text(&server.run("echo in").stdout), "in\n");
    // The same, each in the middle of its login.
    for socket in &mut held {
        socket.write_all(b"SSH-2.0-held\r\n").unwrap();
    }
    until("they have processes", || children(server.child.id()).len() >= 32);
    assert_eq!(text(&server.run("echo in").stdout), "in\n");
    assert!(children(server.child.id()).len() <= 34, "and not all of them");
    drop(held);
    until("their processes are gone", || children(server.child.id()).is_empty());
}

/// Three logins from 127.0.0.1 beside floods from `source`.
fn beside_floods(source: [u8; 4], floods: &[&[u8]]) {
    let server = Server::start();
    let (stop, count) = (AtomicBool::new(false), AtomicU32::new(0));
    let outputs = std::thread::scope(|scope| {
        for garbage in floods {
            let (stop, count, address) = (&stop, &count, server.address);
            scope.spawn(move || flood(source, address, stop, count, garbage));
        }
        let start = Instant::now();
        let outputs: Vec<_> = (0..3).map(|_| server.run("echo in")).collect();
        eprintln!("3 logins in {:?} beside {} connections", start.elapsed(), count.load(Ordering::Relaxed));
        stop.store(true, Ordering::Relaxed);
        outputs
    });
    for output in outputs {
        assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    }
}

#[test]
fn a_flood_of_garbage_stops_no_login_from_the_same_place() {
    beside_floods(
        [127, 0, 0, 1],
        &[b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"", b"SSH-2.0-x\r\n\xff\xff\xff\xff"],
    );
}

#[test]
fn a_flood_that_speaks_the_protocol_stops_no_login_from_elsewhere() {
    beside_floods([127, 0, 0, 2], &[b"SSH-2.0-x\r\n", b"SSH-2.0-y\r\n\0\0\x02\0\x04\x14"]);
}

#[test]
fn a_password_of_a_megabyte_costs_a_line() {
    with_log();
    let (server, since) = (Server::start(), since_boot());
    let script = r#"
import paramiko, socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(sock.getsockname()[1])
transport = paramiko.Transport(sock)
transport.start_client(timeout=30)
try:
    transport.auth_password("root", "x" * (1 << 20))
    print("in")
except (paramiko.SSHException, EOFError, OSError):
    print("refused")
"#;
    let port = server.address.port().to_string();
    let output =
        Command::new("timeout").args(["60", "/usr/bin/python3", "-c", script, &port]).output().unwrap();
    let said = text(&output.stdout);
    let (port, answer) = said.trim().split_once('\n').unwrap();
    assert_eq!(answer, "refused", "{}", text(&output.stderr));
    let port = port.parse().unwrap();
    until("the connection has ended", || logged(since, port).iter().any(|line| line.contains("ended")));
    assert_eq!(logged(since, port).len(), 1, "{:?}", logged(since, port));
    assert_eq!(text(&server.run("echo in").stdout), "in\n", "others are served on");
}
