//! Forwarding, with OpenSSH's client: -L, -R, -D, -W, -J, -A, and Unix sockets both ways.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::server::*;

/// A client that runs until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // `timeout` passes the signal on.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

impl Server {
    fn forwarding(&self, args: &[&str]) -> Running {
        let more = ["-N", "-o", "ExitOnForwardFailure=yes"];
        Running(self.ssh(&[&more, args].concat()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Server {
    /// An agent that holds the key, and where it answers.
    fn agent(&self) -> (Running, std::path::PathBuf) {
        let agent = self.file("agent");
        let mut ssh_agent = tool("ssh-agent", "openssh-client");
        let running =
            Running(ssh_agent.arg("-D").arg("-a").arg(&agent).stdout(Stdio::null()).spawn().unwrap());
        until("the agent listens", || agent.exists());
        let add = Command::new("ssh-add").env("SSH_AUTH_SOCK", &agent).arg(self.file("id")).output().unwrap();
        assert!(add.status.success(), "{}", text(&add.stderr));
        (running, agent)
    }
}

/// A server that sends back what it reads, backwards, once its client has ended; on a port of its own.
fn reverser() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                socket.read_to_end(&mut all).unwrap();
                all.reverse();
                socket.write_all(&all).unwrap();
            });
        }
    });
    port
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Sends, ends that direction alone, and reads the other.
fn exchange(mut socket: TcpStream, data: &[u8]) -> Vec<u8> {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut writer = socket.try_clone().unwrap();
    let sent = data.to_vec();
    let writing = std::thread::spawn(move || {
        let _ = writer.write_all(&sent);
        let _ = writer.shutdown(Shutdown::Write);
    });
    let mut back = Vec::new();
    let _ = socket.read_to_end(&mut back);
    writing.join().unwrap();
    back
}

fn connected(port: u16) -> TcpStream {
    let mut socket = None;
    until("the forwarded port listens", || {
        socket = TcpStream::connect(("127.0.0.1", port)).ok();
        socket.is_some()
    });
    socket.unwrap()
}

#[test]
fn local_forwarding_carries_both_directions_to_their_own_ends() {
    let server = Server::start();
    let (target, port, closed) = (reverser(), free_port(), free_port());
    let _ssh = server.forwarding(&[
        "-L",
        &format!("{port}:localhost:{target}"),
        "-L",
        &format!("{closed}:127.0.0.1:{}", free_port()),
    ]);
    let data: Vec<u8> = (0..5_000_000u32).map(|n| ((n * 7) >> 3).to_le_bytes()[0]).collect();
    let back = exchange(connected(port), &data);
    assert!(back.iter().eq(data.iter().rev()), "{} bytes came back", back.len());
    // Many at once, and one that is refused.
    std::thread::scope(|scope| {
        for n in 0..40u8 {
            scope.spawn(move || assert_eq!(exchange(connected(port), &[n, 1, 2]), [2, 1, n]));
        }
    });
    assert_eq!(exchange(connected(closed), b"x"), b"");
}

/// The client closes its channel at once where the other direction has ended already.
#[test]
fn what_was_sent_before_a_forwarded_connection_is_closed_arrives_at_one_who_reads_late() {
    let server = Server::start();
    let (listener, port) = (TcpListener::bind("127.0.0.1:0").unwrap(), free_port());
    let target = listener.local_addr().unwrap().port();
    let _ssh = server.forwarding(&["-L", &format!("{port}:127.0.0.1:{target}")]);
    let mut near = connected(port);
    let (mut far, _) = listener.accept().unwrap();
    far.shutdown(Shutdown::Write).unwrap();
    let data: Vec<u8> = (0..8_000_000u32).map(|n| ((n * 7) >> 3).to_le_bytes()[0]).collect();
    let sent = data.clone();
    let writing = std::thread::spawn(move || near.write_all(&sent).unwrap());
    // Until what is under way fills all that lies between, or is all of it.
    std::thread::sleep(Duration::from_secs(2));
    far.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (mut got, mut piece) = (Vec::new(), vec![0; 16 << 10]);
    while let Ok(length @ 1..) = far.read(&mut piece) {
        got.extend_from_slice(&piece[..length]);
        std::thread::sleep(Duration::from_millis(1));
    }
    writing.join().unwrap();
    assert!(got == data, "{} of {} bytes arrived", got.len(), data.len());
}

#[test]
fn a_forwarded_connection_that_does_not_read_holds_up_no_other() {
    let server = Server::start();
    let (target, stuck, port) = (reverser(), TcpListener::bind("127.0.0.1:0").unwrap(), free_port());
    let (at_stuck, other) = (stuck.local_addr().unwrap().port(), free_port());
    let _ssh = server.forwarding(&[
        "-L",
        &format!("{port}:127.0.0.1:{at_stuck}"),
        "-L",
        &format!("{other}:127.0.0.1:{target}"),
    ]);
    let full = connected(port);
    let _unread = stuck.accept().unwrap();
    full.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let piece = vec![0; 1 << 20];
    let written = (0..200).take_while(|_| (&full).write_all(&piece).is_ok()).count();
    assert!(written < 100, "{written} MiB were taken of a connection that is not read");
    assert_eq!(exchange(connected(other), b"abc"), b"cba");
}

/// The addresses at which a port is listened at.
fn listening(port: u16) -> Vec<String> {
    let output = Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]).output().unwrap();
    let mut addresses: Vec<String> =
        said(&output).lines().filter_map(|l| l.split_whitespace().nth(3).map(str::to_string)).collect();
    addresses.sort();
    addresses
}

#[test]
fn remote_forwarding_by_a_port_of_its_own_choice_and_to_the_loopback_alone() {
    let server = Server::start();
    let target = reverser();
    let args = ["-v", "-N", "-o", "ExitOnForwardFailure=yes", "-R", &format!("0:127.0.0.1:{target}")];
    let log = std::fs::File::create(server.file("log")).unwrap();
    let ssh = Running(server.ssh(&args).stderr(log).spawn().unwrap());
    let mut port = None;
    until("the server has said its port", || {
        let log = std::fs::read_to_string(server.file("log")).unwrap();
        let line = log.lines().find_map(|l| l.strip_prefix("Allocated port ").map(str::to_string));
        port = line.and_then(|l| l.split(' ').next().and_then(|p| p.parse::<u16>().ok()));
        port.is_some()
    });
    let port = port.unwrap();
    let data = vec![7; 1_000_000];
    assert!(exchange(connected(port), &data) == data);
    assert_eq!(listening(port), [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
    drop(ssh);
    until("it listens no more", || TcpStream::connect(("127.0.0.1", port)).is_err());
    // Everywhere, when that is asked for.
    let port = free_port();
    let _ssh = server.forwarding(&["-R", &format!("*:{port}:127.0.0.1:{target}")]);
    assert_eq!(exchange(connected(port), b"ab"), b"ba");
    assert_eq!(listening(port), [format!("0.0.0.0:{port}"), format!("[::]:{port}")]);
}

#[test]
fn remote_forwarding_is_cancelled_and_a_taken_port_refused() {
    let server = Server::start();
    let (target, port) = (reverser(), free_port());
    let socket = server.file("master");
    let master = ["-M", "-S", socket.to_str().unwrap(), "-N"];
    let _ssh = Running(server.ssh(&master).spawn().unwrap());
    until("the master listens", || socket.exists());
    let control = |what: &str, port: u16| {
        let forward = format!("{port}:127.0.0.1:{target}");
        server.ssh(&["-S", socket.to_str().unwrap(), "-O", what, "-R", &forward]).output().unwrap()
    };
    assert!(control("forward", port).status.success());
    assert_eq!(exchange(connected(port), b"ab"), b"ba");
    assert!(control("cancel", port).status.success());
    until("it listens no more", || TcpStream::connect(("127.0.0.1", port)).is_err());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(!control("forward", taken.local_addr().unwrap().port()).status.success());
}

#[test]
fn dynamic_forwarding_reaches_names_and_addresses() {
    let server = Server::start();
    let (target, port) = (reverser(), free_port());
    let _ssh = server.forwarding(&["-D", &port.to_string()]);
    let socks = |host: &[u8]| {
        let mut socket = connected(port);
        socket.write_all(&[5, 1, 0]).unwrap();
        socket.read_exact(&mut [0; 2]).unwrap();
        let mut request = vec![5, 1, 0];
        request.extend_from_slice(host);
        request.extend(target.to_be_bytes());
        socket.write_all(&request).unwrap();
        let mut answer = [0; 10];
        socket.read_exact(&mut answer).map(|()| (answer[1], socket))
    };
    for host in [&b"\x03\x09localhost"[..], b"\x01\x7f\0\0\x01"] {
        let (code, socket) = socks(host).unwrap();
        assert_eq!(code, 0);
        assert_eq!(exchange(socket, b"xyz"), b"zyx");
    }
    // A name that nobody has: the client closes.
    let name = b"no-such-name.invalid";
    let asked = socks(&[&[3, 20][..], name].concat());
    assert!(asked.is_err() || asked.is_ok_and(|(code, _)| code != 0));
}

#[test]
fn unix_sockets_are_forwarded_both_ways() {
    let server = Server::start();
    let path = |name: &str| server.file(name).display().to_string();
    let listener = UnixListener::bind(path("there")).unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut all = Vec::new();
            socket.read_to_end(&mut all).unwrap();
            all.reverse();
            socket.write_all(&all).unwrap();
        }
    });
    let ssh = server.forwarding(&[
        "-L",
        &format!("{}:{}", path("local"), path("there")),
        "-R",
        &format!("{}:{}", path("remote"), path("there")),
    ]);
    for name in ["local", "remote"] {
        until("the socket is there", || server.file(name).exists());
        let mut socket = UnixStream::connect(path(name)).unwrap();
        socket.write_all(b"through").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut back = String::new();
        socket.read_to_string(&mut back).unwrap();
        assert_eq!(back, "hguorht", "{name}");
    }
    let mode = std::fs::metadata(path("remote")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(ssh);
    until("the socket is gone with the connection", || !server.file("remote").exists());
}

#[test]
fn an_agent_is_forwarded_and_hops_on() {
    let server = Server::start();
    let (_agent, agent) = server.agent();
    let hop = format!(
        "stat -c %a $(dirname $SSH_AUTH_SOCK); ssh-add -l; ssh -F none -o BatchMode=yes -o IdentityFile=none \
         -o UserKnownHostsFile={} -p {} admin@127.0.0.1 echo 'hopped as $USER'; echo $SSH_AUTH_SOCK",
        server.file("known_hosts").display(),
        server.address.port()
    );
    let output = server.ssh(&["-A", "--", &hop]).env("SSH_AUTH_SOCK", &agent).output().unwrap();
    let out = said(&output);
    assert!(out.starts_with("700\n") && out.contains("SHA256:"), "{out}{}", text(&output.stderr));
    assert!(out.contains("hopped as admin"), "{out}{}", text(&output.stderr));
    let socket = out.lines().last().unwrap().to_string();
    until("the agent's folder is gone", || !std::path::Path::new(&socket).parent().unwrap().exists());
    // Unasked, none.
    assert_eq!(text(&server.ssh(&["--", "echo ${SSH_AUTH_SOCK-none}"]).output().unwrap().stdout), "none\n");
}

#[test]
fn one_jumps_through_it_to_another() {
    let (first, second) = (Server::start(), Server::start());
    // -J takes no options for the first; a configuration file does.
    let config = format!(
        "Host *\n User root\n BatchMode yes\n IdentitiesOnly yes\n StrictHostKeyChecking yes\n\
         Host jump\n HostName 127.0.0.1\n Port {}\n IdentityFile {}\n UserKnownHostsFile {}\n\
         Host far\n HostName 127.0.0.1\n Port {}\n IdentityFile {}\n UserKnownHostsFile {}\n",
        first.address.port(),
        first.file("id").display(),
        first.file("known_hosts").display(),
        second.address.port(),
        second.file("id").display(),
        second.file("known_hosts").display()
    );
    std::fs::write(first.file("config"), config).unwrap();
    let mut ssh = tool("ssh", "openssh-client");
    ssh.arg("-F").arg(first.file("config")).args([
        "-J",
        "jump",
        "far",
        "head -c 3000000 /dev/zero | wc -c; cat",
    ]);
    let output = ssh.output().unwrap();
    assert_eq!(said(&output), "3000000\n", "{}", text(&output.stderr));
}

#[test]
fn options_of_a_key_bound_what_is_forwarded() {
    let (target, other) = (reverser(), reverser());
    let server = Server::with(|key| {
        format!(
            r#"[{{"name":"root","authorized_keys":["permitopen=\"127.0.0.1:{target}\",permitlisten=\"localhost:1\",no-agent-forwarding {key}"]}},
               {{"name":"admin","authorized_keys":["restrict {key}"]}}]"#
        )
    });
    let via = |user: &str, port: u16| {
        let args = ["-o", "BatchMode=yes", "-W", &format!("127.0.0.1:{port}")];
        let mut ssh = server.client(&[server.file("id")], user, &args);
        let mut child =
            ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(b"abc");
        child.wait_with_output().unwrap()
    };
    assert_eq!(said(&via("root", target)), "cba");
    for (user, port) in [("root", other), ("admin", target)] {
        let output = via(user, port);
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(text(&output.stderr).contains("administratively prohibited"), "{}", text(&output.stderr));
    }
    let listen = format!("{}:127.0.0.1:{target}", free_port());
    let args = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", &listen];
    let output = server.ssh(&args).output().unwrap();
    assert!(text(&output.stderr).contains("remote port forwarding failed"), "{}", text(&output.stderr));
    let args = ["-A", "--", "echo ${SSH_AUTH_SOCK-none}"];
    let (_agent, agent) = server.agent();
    let output = server.ssh(&args).env("SSH_AUTH_SOCK", agent).output().unwrap();
    assert_eq!(said(&output), "none\n");
}

#[test]
fn what_is_forwarded_is_in_the_log_a_line_each_and_a_flood_is_counted() {
    let server = Server::on_a_machine();
    keygen(&server.file("id"), "ed25519");
    let (target, port) = (reverser(), free_port());
    let (_agent, agent) = server.agent();
    let path = |name: &str| server.file(name).display().to_string();
    let start = |args: &[&str]| {
        let options = ["-o", "PreferredAuthentications=password"];
        let ssh = server.client(&[], "root", &[&options, args].concat());
        let mut command = Command::new("sshpass");
        command.args(["-p", "correct horse"]).arg(ssh.get_program()).args(ssh.get_args());
        command.env("SSH_AUTH_SOCK", &agent).stdin(Stdio::null());
        Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    };
    // With a log of its own, so there is nobody else's line in it.
    let log = || std::fs::read_to_string(server.file("run/rescue/log")).unwrap_or_default();
    let mut ssh = start(&[
        "-A",
        "-R",
        &format!("{port}:127.0.0.1:{target}"),
        "-R",
        &format!("{}:127.0.0.1:{target}", path("remote")),
        "--",
        "ssh-add -l; echo; sleep 60",
    ]);
    ssh.0.stdout.as_mut().unwrap().read_exact(&mut [0; 60]).unwrap();
    let visitor = connected(port);
    let from = visitor.local_addr().unwrap();
    assert_eq!(exchange(visitor, b"ab"), b"ba");
    let mut visitor = UnixStream::connect(path("remote")).unwrap();
    visitor.shutdown(Shutdown::Write).unwrap();
    visitor.read_to_end(&mut Vec::new()).unwrap();
    for line in [
        format!("gets a connection from {from} to 127.0.0.1:{port}"),
        format!("gets a connection to {:?}", path("remote")),
        "has its agent asked".into(),
    ] {
        assert!(
            log().lines().any(|l| l.contains("sshd: root from ") && l.ends_with(&line)),
            "{line}: {}",
            log()
        );
    }
    // Hundreds, of which none that is told hides a login.
    for _ in 0..300 {
        assert_eq!(exchange(connected(port), b"x"), b"x");
    }
    drop(ssh);
    until("the connection has ended", || log().contains(" ended: "));
    let log = log();
    let told = log.lines().filter(|l| l.contains("gets a connection from")).count();
    let held = log.lines().filter_map(|l| l.split_once(" more lines of what is forwarded"));
    let held: usize = held.map(|(l, _)| l.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert!(held > 0 && told + held >= 301 && told + held <= 310, "{told} and {held}: {log}");
}
