//! Processes and connections that die, and what happens to the others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::server::*;

#[test]
fn a_command_that_takes_the_server_down_lets_its_client_go() {
    let server = Server::start();
    let hup = server.file("hup");
    let script = format!("trap 'echo > {}; exit' HUP; kill -TERM $PPID; sleep 600 & wait", hup.display());
    let output = server.ssh(&["--", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(255), "{}", text(&output.stderr));
    until("the command got SIGHUP", || hup.exists());
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
