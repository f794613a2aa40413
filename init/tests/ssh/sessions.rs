//! What runs in a session.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::server::*;

#[test]
fn a_key_logs_in_and_status_and_stderr_come_apart() {
    let server = Server::start();
    let output = server.run("echo out; echo err >&2; exit 42");
    assert_eq!(output.status.code(), Some(42), "{}", text(&output.stderr));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n".into(), "err\n".into()));
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
fn a_command_that_has_all_its_input_is_left_to_it_when_its_channel_is_closed() {
    let server = Server::start();
    let script = r#"
import paramiko, os, sys, time
client = paramiko.SSHClient()
client.load_host_keys(sys.argv[3])
client.connect("127.0.0.1", int(sys.argv[1]), "admin", key_filename=sys.argv[2], allow_agent=False, look_for_keys=False)
channel = client.get_transport().open_session()
channel.exec_command("sleep 1; cat >%s; echo whole >%s.done" % (sys.argv[4], sys.argv[4]))
channel.sendall(b"x" * 1500000)
channel.shutdown_write()
channel.close()
while not os.path.exists(sys.argv[4] + ".done"): time.sleep(0.05)
print(os.path.getsize(sys.argv[4]))
"#;
    let output = Command::new("timeout")
        .args(["60", "/usr/bin/python3", "-c", script, &server.address.port().to_string()])
        .args([server.file("id"), server.file("known_hosts"), server.file("taken")])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "1500000\n", "{}", text(&output.stderr));
}

#[test]
fn questions_whether_the_server_is_there_are_answered() {
    let server = Server::start();
    let args = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1", "--", "sleep 4; echo here"];
    let output = server.ssh(&args).output().unwrap();
    assert_eq!(text(&output.stdout), "here\n", "{}", text(&output.stderr));
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
    // Its monitor's first child.
    let connection = children(children(server.child.id())[0])[0];
    let status = std::fs::read_to_string(format!("/proc/{connection}/status")).unwrap();
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident < 64 << 10, "{resident} KiB are held for a client that does not read");
    // The master ends every session with it; to kill `timeout` would leave it behind.
    assert!(server.ssh(&["-o", &socket, "-O", "exit", "--"]).status().unwrap().success());
    let _ = (stuck.wait(), master.wait());
}

#[test]
fn sessions_that_have_ended_count_no_more() {
    let server = Server::start();
    let socket = format!("ControlPath={}", server.file("mux").display());
    let mut master = server.ssh(&["-M", "-N", "-o", &socket]).spawn().unwrap();
    until("the master is there", || server.file("mux").exists());
    // More than a connection may have at once, as ansible has them one after the other.
    for n in 0..150 {
        let output = server.ssh(&["-o", &socket, "--", &format!("echo {n}")]).output().unwrap();
        assert_eq!(text(&output.stdout), format!("{n}\n"), "{}", text(&output.stderr));
    }
    assert!(server.ssh(&["-o", &socket, "-O", "exit", "--"]).status().unwrap().success());
    let _ = master.wait();
}

#[test]
fn a_terminal_ends_with_its_first_process_whoever_else_holds_it() {
    let server = Server::start();
    let output =
        server.ssh(&["-tt", "--", "(trap '' HUP; exec sleep 600) & echo pid=$!; seq 20000; sleep 0.5"]);
    let output = { output }.stdin(Stdio::null()).output().unwrap();
    let shown = text(&output.stdout).replace('\r', "");
    let pid = shown.lines().find_map(|line| line.strip_prefix("pid=")).unwrap_or_else(|| panic!("{shown}"));
    assert!(shown.ends_with("19999\n20000\n"), "{shown}");
    // The client has not waited for it.
    assert!(server.run(&format!("kill {pid}")).status.success(), "the other has ended by itself");
}

#[test]
fn a_background_process_loses_no_output_and_delays_no_end_without_it() {
    let server = Server::start();
    // The client gives up before.
    assert!(server.run("sleep 600 >/dev/null 2>&1 </dev/null &").status.success());
    assert_eq!(text(&server.run("(sleep 1; echo late) & echo early").stdout), "early\nlate\n");
}

#[test]
fn keys_are_changed_under_way_and_nothing_is_lost() {
    let server = Server::start();
    let piece: Vec<u8> = (0..6_000_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for cipher in ["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr"] {
        let args = ["-v", "-c", cipher, "-o", "RekeyLimit=1M", "--", "cat"];
        let mut child = server
            .ssh(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, sent) = (child.stdin.take().unwrap(), piece.clone());
        let writer = std::thread::spawn(move || input.write_all(&sent));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success() && output.stdout == piece, "{cipher}: {}", text(&output.stderr));
        let changes = text(&output.stderr).matches("SSH2_MSG_NEWKEYS received").count();
        assert!(changes >= 5, "{cipher}: {changes} changes of keys");
    }
}

#[test]
fn the_modes_of_the_clients_terminal_are_those_of_the_session() {
    let server = Server::start();
    let ssh = server.ssh(&["-tt", "--", "stty -a; stty -g"]);
    // Without its `timeout`, which in a shell is a process group in the background: the terminal would stop it.
    let line = ssh.get_args().skip_while(|arg| *arg != "ssh");
    let line: Vec<String> = line.map(|arg| format!("'{}'", arg.to_str().unwrap())).collect();
    // Each is the opposite of what a fresh terminal has, or another character.
    let changes = "intr ^B quit ^E erase ^H kill ^Y eof ^F susp ^G werase ^K lnext ^L rprnt ^N start ^P stop ^O \
                   eol ^T eol2 ^V ignpar parmrk inpck istrip inlcr igncr -icrnl iuclc -ixon ixany ixoff \
                   imaxbel -iutf8 -isig -icanon xcase -echo -echoe -echok echonl noflsh tostop -iexten -echoctl \
                   -echoke -opost olcuc -onlcr ocrnl onocr onlret";
    let script = format!("stty {changes}; stty -a > {0}; {1}", server.file("ours").display(), line.join(" "));
    let mut typist = Command::new("timeout")
        .args(["-k", "1", "120", "script", "-qec", &script, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its input stays open: at an end of input `script` types an end of file, and stops listening.
    let input = typist.stdin.take();
    let output = typist.wait_with_output().unwrap();
    drop(input);
    assert!(output.status.success(), "{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
    let theirs = text(&output.stdout);
    let ours = std::fs::read_to_string(server.file("ours")).unwrap();
    assert!(ours.contains("-onlcr") && ours.contains("intr = ^B"), "{ours}");
    // `xcase` and the like upset what stty prints; letters may come in another case.
    let theirs = theirs.to_lowercase();
    let words = |text: &str| -> Vec<String> {
        let text = text.replace([';', '\r'], " ");
        text.split_whitespace().map(str::to_string).collect()
    };
    let theirs = words(&theirs);
    for word in words(&ours.to_lowercase()).iter().filter(|word| word.len() > 4) {
        let of_the_line =
            ["speed", "baud;", "rows", "columns", "crtscts", "-crtscts", "cread", "-cread", "hupcl"];
        let of_the_line = of_the_line.contains(&word.trim_start_matches('-'))
            || [
                "clocal", "cstopb", "cmspar", "extproc", "flusho", "ignbrk", "brkint", "cdtrdsr", "parenb",
                "parodd",
            ]
            .contains(&word.trim_start_matches('-'));
        assert!(of_the_line || theirs.contains(word), "{word}: {ours}\n{}", text(&output.stdout));
    }
}
