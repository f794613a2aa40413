//! Who gets in, and who does not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::*;

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
    for method in ["password", "keyboard-interactive"] {
        let login = |user, password| server.with_password_by(method, user, password);
        assert_eq!(text(&login("root", "correct horse").stdout), "in\n", "{method}");
        for (user, password) in [("root", "wrong"), ("root", ""), ("admin", "x"), ("nobody", "correct horse")]
        {
            assert_denied(&login(user, password));
        }
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
               {{"name":"admin","authorized_keys":["tunnel=\"1\" {key}"]}}]"#
        )
    });
    assert_eq!(text(&server.run("id").stdout), "forced id\n");
    let output = server.ssh(&["-tt", "--", "id"]).output().unwrap();
    assert!(text(&output.stderr).contains("PTY allocation request failed"), "{}", text(&output.stderr));
    let args = ["-o", "BatchMode=yes", "--", "true"];
    assert_denied(&server.client(&[server.file("id")], "admin", &args).output().unwrap());
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
    let mut silent = TcpStream::connect(address).unwrap();
    let mut talking = TcpStream::connect(address).unwrap();
    talking.write_all(b"SSH-2.0-x\r\n").unwrap();
    let output = server.run("sleep 4; echo still in");
    assert_eq!(text(&output.stdout), "still in\n", "{}", text(&output.stderr));
    for held in [&mut silent, &mut talking] {
        held.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        held.read_to_end(&mut Vec::new()).unwrap();
    }
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

#[test]
fn a_machine_keeps_its_host_key_and_its_count_of_wrong_passwords() {
    let mut server = Server::on_a_machine();
    assert_eq!(text(&server.with_password("root", "correct horse").stdout), "in\n");

    server.child.kill().unwrap();
    server.child.wait().unwrap();
    server.child = machine(server.folder.path(), server.address);
    // The pinned key is the one it made the first time.
    assert_eq!(text(&server.with_password("root", "correct horse").stdout), "in\n");

    let mut start = Instant::now();
    for _ in 0..5 {
        start = Instant::now();
        assert_denied(&server.with_password("root", "wrong"));
    }
    // Five failures, each on a connection of its own: the next try is looked at some 4 s after the last.
    assert_eq!(text(&server.with_password("root", "correct horse").stdout), "in\n");
    assert!(start.elapsed() > Duration::from_secs(3), "{:?}", start.elapsed());
    // A login forgives. On a busy machine one of several will show it.
    let again = (0..10).any(|_| {
        let start = Instant::now();
        assert_eq!(text(&server.with_password("root", "correct horse").stdout), "in\n");
        start.elapsed() < Duration::from_secs(2)
    });
    assert!(again);
}

/// Signs the public key `name` with the authority `ca`, as OpenSSH does.
fn sign(folder: &Path, ca: &str, name: &str, args: &[&str]) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-s"]).arg(folder.join(ca)).args(["-I", "somebody", "-z", "77"]).args(args);
    said(&keygen.arg(folder.join(format!("{name}.pub"))).output().unwrap());
}

#[test]
fn certificates_of_an_injected_authority_log_in_as_they_say() {
    let keys = tempfile::tempdir().unwrap();
    let path = |name: &str| keys.path().join(name);
    let authority = keygen(&path("ca"), "ed25519");
    let of_rsa = keygen(&path("ca-rsa"), "rsa");
    keygen(&path("ca-other"), "ed25519");
    let server = Server::with_ssh(
        |_| {
            format!(
                r#"[{{"name":"root","password_hash":"{HASH}"}},
                    {{"name":"admin","authorized_keys":["cert-authority,principals=\"ops,x\",no-pty {of_rsa}"]}}]"#
            )
        },
        &format!(r#","user_ca_keys":["{authority}"]"#),
    );
    let login = |user: &str, name: &str, args: &[&str]| {
        server.client(&[path(name)], user, &[&["-o", "BatchMode=yes"], args].concat()).output().unwrap()
    };
    let run = ["--", "echo $USER"];
    let make = |kind: &str, name: &str, ca: &str, args: &[&str]| {
        keygen(&path(name), kind);
        sign(keys.path(), ca, name, args);
    };
    for kind in ["ed25519", "ecdsa", "rsa"] {
        make(kind, kind, "ca", &["-n", "root,other"]);
        assert_eq!(said(&login("root", kind, &run)), "root\n", "{kind}");
        assert_denied(&login("admin", kind, &run));
    }
    make("ed25519", "ops", "ca-rsa", &["-n", "ops"]);
    assert_eq!(said(&login("admin", "ops", &run)), "admin\n");
    assert_denied(&login("root", "ops", &run));
    let output = login("admin", "ops", &["-tt", "--", "true"]);
    assert!(text(&output.stderr).contains("PTY allocation request failed"), "{}", text(&output.stderr));
    make("ed25519", "forced", "ca", &["-n", "root", "-O", "force-command=echo forced", "-O", "no-pty"]);
    assert_eq!(said(&login("root", "forced", &run)), "forced\n");
    make("ed25519", "here", "ca", &["-n", "root", "-O", "source-address=127.0.0.0/8"]);
    assert_eq!(said(&login("root", "here", &run)), "root\n");
    for (name, ca, args) in [
        ("nobody", "ca", &["-n", "nobody"][..]),
        ("everybody", "ca", &[]),
        ("elsewhere", "ca", &["-n", "root", "-O", "source-address=192.0.2.0/24"]),
        ("over", "ca", &["-n", "root", "-V", "20200101:20200102"]),
        ("early", "ca", &["-n", "root", "-V", "20990101:20990102"]),
        ("strange", "ca-other", &["-n", "root"]),
        ("host", "ca", &["-h", "-n", "root"]),
        ("critical", "ca", &["-n", "root", "-O", "critical:x@y=z"]),
    ] {
        make("ed25519", name, ca, args);
        assert_denied(&login("root", name, &run));
    }
    // The authority's own key is none that logs in.
    assert_denied(&login("root", "ca", &run));
    assert_denied(&login("admin", "ca-rsa", &run));
}

#[test]
fn a_host_certificate_is_believed_and_the_key_alone_still_is() {
    let server = Server::start();
    // The certificate needs the host key that the server was given: another server gets both.
    let folder = server.folder.path();
    keygen(&folder.join("ca"), "ed25519");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-s", "ca", "-I", "db7", "-h", "-n", "127.0.0.1,db7", "host.pub"])
        .current_dir(folder)
        .status();
    assert!(made.unwrap().success());
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let certificate = read("host-cert.pub");
    let mut document: serde_json::Value = serde_json::from_str(&read("device.json")).unwrap();
    document["ssh"]["host_certificates"] = serde_json::json!([certificate.trim_end()]);
    std::fs::write(folder.join("device.json"), document.to_string()).unwrap();
    let (child, address) = Server::listen(folder, "127.0.0.1:0", &[]);
    let _listening = Listening(child);
    let log_in = |known: String, algorithms: &str| {
        std::fs::write(folder.join("known"), known).unwrap();
        std::process::Command::new("ssh")
            .args(["-F", "none", "-v", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
            .args(["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null"])
            .args(["-o", &format!("HostKeyAlgorithms={algorithms}")])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", folder.join("known").display()))
            .arg("-i")
            .arg(folder.join("id"))
            .args(["-p", &address.port().to_string(), "root@127.0.0.1", "echo in"])
            .output()
            .unwrap()
    };
    let (ca, host, stranger) = (read("ca.pub"), read("host.pub"), read("stranger.pub"));
    let (name, both) = ("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519-cert-v01@openssh.com,ssh-ed25519");
    let place = format!("[127.0.0.1]:{}", address.port());
    let outs = [
        (log_in(format!("@cert-authority * {ca}"), name), true),
        (log_in(format!("@cert-authority * {ca}"), both), true),
        (log_in(format!("{place} {host}"), both), true),
        (log_in(format!("{place} {host}"), "ssh-ed25519"), true),
        (log_in(format!("@cert-authority * {stranger}"), both), false),
        (log_in(String::new(), both), false),
    ];
    for (at, (out, admitted)) in outs.iter().enumerate() {
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.stdout == b"in\n", *admitted, "{at}: {said}");
    }
    let said = String::from_utf8_lossy(&outs[0].0.stderr).into_owned();
    assert!(said.contains("Server host certificate: ssh-ed25519-cert-v01@openssh.com"), "{said}");
}

/// Ended with the test, whatever its end.
struct Listening(std::process::Child);

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn a_short_rsa_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short");
    let mut keygen = Command::new("ssh-keygen");
    said(&keygen.args(["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f"]).arg(&path).output().unwrap());
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    let server = Server::with(|_| format!(r#"[{{"name":"root","authorized_keys":["{}"]}}]"#, public.trim()));
    let args = ["-o", "BatchMode=yes", "-o", "RequiredRSASize=1024", "--", "true"];
    assert_denied(&server.client(&[path], "root", &args).output().unwrap());
}

#[test]
fn who_is_in_is_listed_told_and_can_be_thrown_out() {
    let server = Server::on_a_machine();
    let start = |args: &[&str]| {
        let options = ["-o", "PreferredAuthentications=password"];
        let ssh = server.client(&[], "root", &[&options, args].concat());
        let mut command = Command::new("sshpass");
        command.args(["-p", "correct horse"]).arg(ssh.get_program()).args(ssh.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let rescue = |args: &str| {
        let command = format!("{} {args}", env!("CARGO_BIN_EXE_rescue"));
        said(&start(&["--", &command]).wait_with_output().unwrap())
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut first = start(&["-R", &format!("{port}:127.0.0.1:1"), "--", "echo; sleep 60"]);
    std::io::Read::read_exact(first.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_str(&rescue("who --json")).unwrap();
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!((&list[0]["user"], &list[0]["method"]), (&"root".into(), &"password".into()));
    assert_eq!(list[0]["running"], serde_json::json!(["command"]));
    assert_eq!(list[0]["listening"][0], format!("127.0.0.1:{port}"));
    let text = rescue("who");
    assert!(text.starts_with("ID ") && text.lines().count() == 3, "{text}");
    rescue(&format!("who --kick {}", list[0]["id"]));
    let output = first.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(255), "{}", text_of(&output));
    until("its record is gone", || server.file("run/rescue/connections").read_dir().unwrap().count() == 0);
    let log = rescue("log --auth");
    for expected in [
        "sshd: login of root from 127.0.0.1:",
        "by password",
        "is let listen for \"localhost\" at 127.0.0.1:",
        "ended: ended by `rescue who --kick`",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
}

fn text_of(output: &std::process::Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
