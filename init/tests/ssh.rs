//! `rescue sshd` as an ordinary program on loopback, against real clients: OpenSSH's, dropbear's and
//! paramiko. A client that is not installed fails its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Of `correct horse`, by `mkpasswd -m sha512crypt -R 1000`.
const HASH: &str = "$6$rounds=1000$ZOn7TNEJfXn8A//y$Vb7oprhkamzZmMsCO4.qn5YY4XKAIFHuYsMqTzXZYL5FmyJG4qwHUfQmtPNLQ2PkaeYpGwiLsdbBa4lC9ZOvj1";

struct Server {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn keygen(path: &Path, kind: &str) -> String {
    let done = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(path).status();
    assert!(done.unwrap().success());
    std::fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_string()
}

impl Server {
    fn start() -> Self {
        Self::with(|key| {
            format!(
                r#"[{{"name":"root","password_hash":"{HASH}","authorized_keys":["{key}"]}},
                   {{"name":"admin","authorized_keys":["{key}"]}}]"#
            )
        })
    }

    fn with(logins: impl FnOnce(&str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = keygen(&folder.path().join("id"), "ed25519");
        keygen(&folder.path().join("stranger"), "ed25519");
        let public = keygen(&folder.path().join("host"), "ed25519");
        let host = std::fs::read_to_string(folder.path().join("host")).unwrap().replace('\n', "\\n");
        let document =
            format!(r#"{{"version":1,"logins":{},"ssh":{{"host_keys":["{host}"]}}}}"#, logins(&key));
        std::fs::write(folder.path().join("device.json"), document).unwrap();
        let (child, address) = Self::listen(folder.path(), "127.0.0.1:0", &[]);
        let known = format!("[127.0.0.1]:{} {public}\n", address.port());
        std::fs::write(folder.path().join("known_hosts"), known).unwrap();
        Self { child, address, folder }
    }

    fn listen(folder: &Path, address: &str, more: &[&str]) -> (Child, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rescue"))
            .args(["sshd", "--listen", address, "--device"])
            .arg(folder.join("device.json"))
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        errors.read_line(&mut line).unwrap();
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        let address = line.split([' ', ',']).nth(2).and_then(|a| a.parse().ok());
        (child, address.unwrap_or_else(|| panic!("{line}")))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// OpenSSH's client with these keys, and the host key pinned.
    fn client(&self, keys: &[PathBuf], user: &str, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "60", "ssh", "-F", "none", "-l", user]);
        command.args(["-p", &self.address.port().to_string(), "-o", "IdentitiesOnly=yes"]);
        command.args(["-o", "StrictHostKeyChecking=yes", "-o"]);
        command.arg(format!("UserKnownHostsFile={}", self.file("known_hosts").display()));
        for key in keys {
            command.arg("-i").arg(key);
        }
        let split = args.iter().position(|a| *a == "--").unwrap_or(args.len());
        command.args(&args[..split]).arg("127.0.0.1").args(args.get(split + 1..).unwrap_or_default());
        command.stdin(Stdio::null());
        command
    }

    fn ssh(&self, args: &[&str]) -> Command {
        self.client(&[self.file("id")], "root", &[&["-o", "BatchMode=yes"], args].concat())
    }

    fn run(&self, command: &str) -> Output {
        self.ssh(&["--", command]).output().unwrap()
    }

    fn with_password(&self, user: &str, password: &str) -> Output {
        let options = ["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", "--", "echo in"];
        let ssh = self.client(&[], user, &options);
        let mut command = Command::new("sshpass");
        command.args(["-p", password]).arg(ssh.get_program()).args(ssh.get_args());
        command.stdin(Stdio::null()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_denied(output: &Output) {
    let said = text(&output.stderr);
    assert!(said.contains("Permission denied (publickey,password)"), "{said}");
    assert!(!output.status.success() && output.stdout.is_empty());
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|p| p.parse().unwrap()).collect()
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_key_logs_in_and_status_and_stderr_come_apart() {
    let server = Server::start();
    let output = server.run("echo out; echo err >&2; exit 42");
    assert_eq!(output.status.code(), Some(42), "{}", text(&output.stderr));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n".into(), "err\n".into()));
}

#[test]
fn ecdsa_and_rsa_keys_log_in_and_sha1_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let keys = ["ecdsa", "rsa"].map(|kind| keygen(&folder.path().join(kind), kind));
    let server =
        Server::with(|_| format!(r#"[{{"name":"admin","authorized_keys":["{}","{}"]}}]"#, keys[0], keys[1]));
    let login = |kind: &str, option: &str| {
        let args = ["-o", "BatchMode=yes", "-o", option, "--", "echo $USER"];
        server.client(&[folder.path().join(kind)], "admin", &args).output().unwrap()
    };
    for kind in ["ecdsa", "rsa"] {
        let output = login(kind, "Compression=no");
        assert_eq!(text(&output.stdout), "admin\n", "{kind}: {}", text(&output.stderr));
    }
    assert_denied(&login("rsa", "PubkeyAcceptedAlgorithms=ssh-rsa"));
    assert_denied(&server.run("true"));
}

#[test]
fn passwords_open_only_when_right() {
    let server = Server::start();
    assert_eq!(text(&server.with_password("root", "correct horse").stdout), "in\n");
    for (user, password) in [("root", "wrong"), ("root", ""), ("admin", "x"), ("nobody", "correct horse")] {
        assert_denied(&server.with_password(user, password));
    }
}

#[test]
fn a_strange_key_and_no_credentials_get_nobody_in() {
    let server = Server::start();
    let stranger = [server.file("stranger")];
    let args = ["-o", "BatchMode=yes", "--", "true"];
    assert_denied(&server.client(&stranger, "root", &args).output().unwrap());
    let both = [server.file("stranger"), server.file("id")];
    assert!(server.client(&both, "root", &args).status().unwrap().success());
    let server = Server::with(|_| "[]".into());
    assert_denied(&server.run("true"));
    assert_denied(&server.with_password("root", "correct horse"));
}

#[test]
fn options_of_a_key_are_kept() {
    let server = Server::with(|key| {
        format!(
            r#"[{{"name":"root","authorized_keys":["restrict,command=\"echo forced $SSH_ORIGINAL_COMMAND\" {key}"]}},
               {{"name":"admin","authorized_keys":["permitopen=\"a:1\" {key}"]}}]"#
        )
    });
    assert_eq!(text(&server.run("id").stdout), "forced id\n");
    let output = server.ssh(&["-tt", "--", "id"]).output().unwrap();
    assert!(text(&output.stderr).contains("PTY allocation request failed"), "{}", text(&output.stderr));
    let args = ["-o", "BatchMode=yes", "--", "true"];
    assert_denied(&server.client(&[server.file("id")], "admin", &args).output().unwrap());
}

#[test]
fn a_signal_is_told_as_a_signal() {
    let server = Server::start();
    let output = server.ssh(&["-v", "--", "kill -TERM $$; sleep 5"]).output().unwrap();
    assert!(text(&output.stderr).contains("exit-signal"), "{}", text(&output.stderr));
}

#[test]
fn a_gigabyte_comes_back_byte_by_byte() {
    let server = Server::start();
    // A prime length: a piece that is lost, doubled or moved shows.
    let mut piece = vec![0u8; 1_000_003];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut piece).unwrap();
    let times = (1 << 30) / piece.len() + 1;
    let mut child = server.ssh(&["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let sent = piece.clone();
    let writer = std::thread::spawn(move || (0..times).for_each(|_| input.write_all(&sent).unwrap()));
    let mut output = child.stdout.take().unwrap();
    let mut back = vec![0u8; piece.len()];
    for n in 0..times {
        output.read_exact(&mut back).unwrap();
        assert!(back == piece, "piece {n} came back, and not the same");
    }
    assert_eq!(output.read(&mut back).unwrap(), 0);
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_channel_takes_signals() {
    let server = Server::start();
    let script = r#"
import paramiko, sys
client = paramiko.SSHClient()
client.load_host_keys(sys.argv[3])
client.connect("127.0.0.1", int(sys.argv[1]), "admin", key_filename=sys.argv[2], allow_agent=False, look_for_keys=False)
transport = client.get_transport()
channel = transport.open_session()
channel.settimeout(30)
channel.exec_command("trap 'echo caught' USR1; trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
def signal(name):
    message = paramiko.Message()
    message.add_byte(b"b"); message.add_int(channel.remote_chanid)
    message.add_string("signal"); message.add_boolean(False); message.add_string(name)
    transport._send_user_message(message)
def until(word):
    seen = b""
    while word not in seen: seen += channel.recv(1000)
until(b"ready"); signal("USR1"); until(b"caught"); signal("NONESUCH"); signal("USR1"); until(b"caught")
signal("TERM")
print("exit", channel.recv_exit_status())
"#;
    let output = Command::new("timeout")
        .args(["60", "/usr/bin/python3", "-c", script, &server.address.port().to_string()])
        .args([server.file("id"), server.file("known_hosts")])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "exit 7\n", "{}", text(&output.stderr));
}

#[test]
fn who_does_not_log_in_is_closed_and_who_does_stays() {
    let mut server = Server::start();
    let (child, address) = Server::listen(server.folder.path(), "127.0.0.1:0", &["--login-grace", "2"]);
    let known = std::fs::read_to_string(server.file("known_hosts")).unwrap();
    let known = known.replace(&server.address.port().to_string(), &address.port().to_string());
    std::fs::write(server.file("known_hosts"), known).unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    (server.child, server.address) = (child, address);
    let start = Instant::now();
    let mut silent = TcpStream::connect(address).unwrap();
    let mut talking = TcpStream::connect(address).unwrap();
    talking.write_all(b"SSH-2.0-x\r\n").unwrap();
    let output = server.run("sleep 4; echo still in");
    assert_eq!(text(&output.stdout), "still in\n", "{}", text(&output.stderr));
    for held in [&mut silent, &mut talking] {
        held.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        held.read_to_end(&mut Vec::new()).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn questions_whether_the_server_is_there_are_answered() {
    let server = Server::start();
    let args = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1", "--", "sleep 4; echo here"];
    let output = server.ssh(&args).output().unwrap();
    assert_eq!(text(&output.stdout), "here\n", "{}", text(&output.stderr));
}

#[test]
fn a_command_that_takes_the_server_down_lets_its_client_go() {
    let server = Server::start();
    let (hup, start) = (server.file("hup"), Instant::now());
    let script = format!("trap 'echo > {}; exit' HUP; kill -TERM $PPID; sleep 30 & wait", hup.display());
    let output = server.ssh(&["--", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(255), "{}", text(&output.stderr));
    assert!(start.elapsed() < Duration::from_secs(10));
    until("the command got SIGHUP", || hup.exists());
}

#[test]
fn passwords_checked_at_once_wait_for_one_another_and_not_in_vain() {
    let server = Server::start();
    std::thread::scope(|scope| {
        let logins: Vec<_> = (0..12)
            .map(|n| {
                let password = if n % 3 == 0 { "wrong" } else { "correct horse" };
                (n, scope.spawn(|| server.with_password("root", password)))
            })
            .collect();
        for (n, login) in logins {
            let output = login.join().unwrap();
            if n % 3 == 0 {
                assert_denied(&output);
            } else {
                assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
            }
        }
    });
}

/// Starts the server as on a rescued machine, without a document, in a mount namespace in which
/// `folder` holds what it would find in /etc and /run.
fn on_a_machine(folder: &Path, port: u16) -> Child {
    let script = r#"
        set -e
        for part in passwd shadow; do mount --bind "$1/$part" "/etc/$part"; done
        mount --bind "$1/ssh" /etc/ssh
        mount --bind "$1/run" /run
        exec "$2" sshd --listen "127.0.0.1:$3""#;
    Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(folder)
        .args([env!("CARGO_BIN_EXE_rescue"), &port.to_string()])
        .spawn()
        .unwrap()
}

#[test]
fn a_machine_keeps_its_host_key_and_its_count_of_wrong_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("ssh")).unwrap();
    std::fs::create_dir_all(path("run/rescue")).unwrap();
    std::fs::write(path("passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    std::fs::write(path("shadow"), format!("root:{HASH}:19000:0:99999:7:::\n")).unwrap();
    Command::new("chmod").arg("600").arg(path("shadow")).status().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = on_a_machine(folder.path(), address.port());
    let mut server = Server { child, address, folder };
    let listening = || TcpStream::connect(address).is_ok();
    until("it listens", listening);
    let public = keygen_public(&server.file("ssh/ssh_host_ed25519_key"));
    let known = format!("[127.0.0.1]:{} {public}\n", address.port());
    std::fs::write(server.file("known_hosts"), known).unwrap();
    assert_eq!(text(&server.with_password("root", "correct horse").stdout), "in\n");

    server.child.kill().unwrap();
    server.child.wait().unwrap();
    server.child = on_a_machine(server.folder.path(), address.port());
    until("it listens again", listening);
    // The pinned key is the one it made the first time.
    assert_eq!(text(&server.with_password("root", "correct horse").stdout), "in\n");

    for _ in 0..5 {
        assert_denied(&server.with_password("root", "wrong"));
    }
    // Five failures, each on a connection of its own: the next try is looked at after some 4 s.
    let start = Instant::now();
    assert_eq!(text(&server.with_password("root", "correct horse").stdout), "in\n");
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(text(&server.with_password("root", "correct horse").stdout), "in\n");
    assert!(start.elapsed() < Duration::from_secs(2), "a login forgives: {:?}", start.elapsed());
}

fn keygen_public(private: &Path) -> String {
    let output = Command::new("ssh-keygen").arg("-yf").arg(private).output().unwrap();
    text(&output.stdout).trim().to_string()
}

#[test]
fn a_terminal_has_the_size_and_the_name_of_the_client() {
    let server = Server::start();
    let script = r#"
import paramiko, sys
client = paramiko.SSHClient()
client.load_host_keys(sys.argv[3])
client.connect("127.0.0.1", int(sys.argv[1]), "root", key_filename=sys.argv[2], allow_agent=False, look_for_keys=False)
channel = client.get_transport().open_session()
channel.settimeout(30)
channel.get_pty("vt220", 91, 37)
channel.exec_command("trap 'stty size; exit 5' WINCH; stty size; echo $TERM; tty; echo ready; while :; do sleep 0.1; done")
seen = b""
while b"ready" not in seen: seen += channel.recv(1000)
channel.resize_pty(120, 50)
while True:
    data = channel.recv(1000)
    if not data: break
    seen += data
print(seen.decode(), "exit", channel.recv_exit_status())
"#;
    let output = Command::new("timeout")
        .args(["60", "/usr/bin/python3", "-c", script, &server.address.port().to_string()])
        .args([server.file("id"), server.file("known_hosts")])
        .output()
        .unwrap();
    let said = text(&output.stdout);
    for expected in ["37 91", "vt220", "/dev/pts/", "50 120", "exit 5"] {
        assert!(said.contains(expected), "no {expected}: {said}{}", text(&output.stderr));
    }
}

#[test]
fn a_shell_on_a_terminal_is_a_login_shell() {
    let server = Server::start();
    let mut ssh = server.client(&[server.file("id")], "admin", &["-o", "BatchMode=yes", "-tt"]);
    let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"echo \"<$0>\"; echo \"<$SSH_TTY>\"; exit 9\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(9));
    assert!(said.contains("<-sh>") && said.contains("</dev/pts/"), "{said}");
}

#[test]
fn the_client_sets_its_language_and_nothing_else() {
    let server = Server::start();
    let set = "SetEnv=LC_ALL=de_DE.UTF-8 LD_PRELOAD=/x PATH=/x BASH_ENV=/x";
    // As admin: the shell of an ordinary machine's root may have a start file that sets the path anew.
    let args = ["-o", "BatchMode=yes", "-o", set, "--", "echo $LC_ALL:$LD_PRELOAD:$BASH_ENV:$PATH"];
    let output = server.client(&[server.file("id")], "admin", &args).output().unwrap();
    assert!(text(&output.stdout).starts_with("de_DE.UTF-8:::/usr/local/sbin:"), "{}", text(&output.stdout));
}

#[test]
fn dropbears_client_logs_in() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let made = Command::new("dropbearkey").args(["-t", "ed25519", "-f"]).arg(&key).output().unwrap();
    let public = text(&made.stdout).lines().find(|l| l.starts_with("ssh-")).unwrap().to_string();
    let server = Server::with(|_| format!(r#"[{{"name":"root","authorized_keys":["{public}"]}}]"#));
    let output = Command::new("timeout")
        .args(["60", "dbclient", "-y", "-y", "-i"])
        .arg(&key)
        .args(["-p", &server.address.port().to_string(), "root@127.0.0.1", "echo in; exit 3"])
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn sessions_share_a_connection_and_neither_waits_for_the_other() {
    let server = Server::start();
    let socket = format!("ControlPath={}", server.file("mux").display());
    let mut master = server.ssh(&["-M", "-N", "-o", &socket]).spawn().unwrap();
    until("the master is there", || server.file("mux").exists());
    // The first neither reads its input nor has its output read.
    let mut stuck = server
        .ssh(&["-o", &socket, "--", "cat /dev/zero & sleep 60"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = stuck.stdin.take().unwrap();
    std::thread::spawn(move || while input.write_all(&[0; 65536]).is_ok() {});
    std::thread::sleep(Duration::from_secs(1));
    let other = server.ssh(&["-o", &socket, "--", "head -c 8388608 /dev/zero"]).output().unwrap();
    assert_eq!(other.stdout.len(), 8 << 20, "{}", text(&other.stderr));
    let connection = children(server.child.id())[0];
    let status = std::fs::read_to_string(format!("/proc/{connection}/status")).unwrap();
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident < 64 << 10, "{resident} KiB are held for a client that does not read");
    // The master ends every session with it; to kill `timeout` would leave it behind.
    assert!(server.ssh(&["-o", &socket, "-O", "exit", "--"]).status().unwrap().success());
    let _ = (stuck.wait(), master.wait());
}

/// A session that echoes lines, and its connection's process.
fn session(server: &Server) -> (Child, u32) {
    let before = children(server.child.id());
    let mut child = server.ssh(&["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    echo(&mut child);
    (child, *children(server.child.id()).iter().find(|p| !before.contains(p)).unwrap())
}

fn echo(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"ping\n").unwrap();
    let mut line = [0u8; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"ping\n");
}

#[test]
fn killing_the_listener_or_one_connection_leaves_the_others() {
    let mut server = Server::start();
    let (mut first, process) = session(&server);
    let (mut second, _) = session(&server);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    echo(&mut first);
    echo(&mut second);
    // It comes back at the same address, as the same host.
    server.child = Server::listen(server.folder.path(), &server.address.to_string(), &[]).0;
    assert_eq!(text(&server.run("echo again").stdout), "again\n");
    kill("-9", process);
    until("the first session ends", || first.try_wait().unwrap().is_some());
    kill("-TERM", server.child.id());
    assert!(server.child.wait().unwrap().success());
    echo(&mut second);
    drop(second.stdin.take());
    assert!(second.wait().unwrap().success());
}

#[test]
fn what_runs_is_hung_up_when_its_client_or_its_connection_dies() {
    let server = Server::start();
    for (terminal, connection) in [(false, false), (false, true), (true, false), (true, true)] {
        let (ready, hup) = (server.file("ready"), server.file("hup"));
        let _ = (std::fs::remove_file(&ready), std::fs::remove_file(&hup));
        let script = format!(
            "trap 'echo > {}; exit' HUP; echo > {}; while :; do sleep 0.1; done",
            hup.display(),
            ready.display()
        );
        let before = children(server.child.id());
        let args: &[&str] = if terminal { &["-tt", "--", &script] } else { &["--", &script] };
        let mut client = server.ssh(args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        until("it runs", || ready.exists());
        kill(
            "-9",
            match connection {
                true => *children(server.child.id()).iter().find(|p| !before.contains(p)).unwrap(),
                // `timeout` runs ssh as its child.
                false => children(client.id())[0],
            },
        );
        until(&format!("the session got SIGHUP ({terminal} {connection})"), || hup.exists());
        let _ = client.wait();
        until("its connection is gone", || children(server.child.id()).is_empty());
    }
}

#[test]
fn a_background_process_loses_no_output_and_delays_no_end_without_it() {
    let server = Server::start();
    let start = Instant::now();
    assert!(server.run("sleep 50 >/dev/null 2>&1 </dev/null &").status.success());
    assert_eq!(text(&server.run("(sleep 1; echo late) & echo early").stdout), "early\nlate\n");
    assert!(start.elapsed() < Duration::from_secs(40));
}

#[test]
fn an_interactive_session_is_told_of_a_shutdown() {
    let server = Server::start();
    let mut command = server.ssh(&["-tt", "--", "echo ready; cat"]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    kill("-TERM", children(server.child.id())[0]);
    output.read_to_string(&mut said).unwrap();
    assert!(said.contains("The rescue is going down for reboot"), "{said}");
    let _ = client.wait();
}

#[test]
fn garbage_and_held_connections_stop_no_login() {
    let server = Server::start();
    let garbage: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 100_000], b"SSH-2.0-x\r\n\xff\xff\xff\xff", b""];
    for bytes in garbage {
        let _ = TcpStream::connect(server.address).unwrap().write_all(bytes);
    }
    let held: Vec<_> = (0..100).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let output = server.run("echo in");
    assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    drop(held);
    until("the processes are reaped", || children(server.child.id()).is_empty());
}

#[test]
fn a_password_of_a_megabyte_ends_its_connection_alone() {
    let server = Server::start();
    let script = r#"
import paramiko, sys
transport = paramiko.Transport(("127.0.0.1", int(sys.argv[1])))
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
    assert_eq!(text(&output.stdout), "refused\n", "{}", text(&output.stderr));
    assert_eq!(text(&server.run("echo in").stdout), "in\n");
}
