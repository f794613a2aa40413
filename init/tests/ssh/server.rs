//! A server of its own for a test, and OpenSSH's client for it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Of `correct horse`, by `mkpasswd -m sha512crypt -R 1000`.
pub(crate) const HASH: &str = "$6$rounds=1000$ZOn7TNEJfXn8A//y$Vb7oprhkamzZmMsCO4.qn5YY4XKAIFHuYsMqTzXZYL5FmyJG4qwHUfQmtPNLQ2PkaeYpGwiLsdbBa4lC9ZOvj1";

pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

pub(crate) fn keygen(path: &Path, kind: &str) -> String {
    let done = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(path).status();
    assert!(done.unwrap().success());
    std::fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_string()
}

pub(crate) fn keygen_public(private: &Path) -> String {
    let output = Command::new("ssh-keygen").arg("-yf").arg(private).output().unwrap();
    text(&output.stdout).trim().to_string()
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(|key| {
            format!(
                r#"[{{"name":"root","password_hash":"{HASH}","authorized_keys":["{key}"]}},
                   {{"name":"admin","authorized_keys":["{key}"]}}]"#
            )
        })
    }

    pub(crate) fn with(logins: impl FnOnce(&str) -> String) -> Self {
        Self::with_ssh(logins, "")
    }

    /// With more members of the document's `ssh`.
    pub(crate) fn with_ssh(logins: impl FnOnce(&str) -> String, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = keygen(&folder.path().join("id"), "ed25519");
        keygen(&folder.path().join("stranger"), "ed25519");
        let public = keygen(&folder.path().join("host"), "ed25519");
        let host = std::fs::read_to_string(folder.path().join("host")).unwrap().replace('\n', "\\n");
        let document =
            format!(r#"{{"version":1,"logins":{},"ssh":{{"host_keys":["{host}"]{more}}}}}"#, logins(&key));
        std::fs::write(folder.path().join("device.json"), document).unwrap();
        let (child, address) = Self::listen(folder.path(), "127.0.0.1:0", &[]);
        let known = format!("[127.0.0.1]:{} {public}\n", address.port());
        std::fs::write(folder.path().join("known_hosts"), known).unwrap();
        Self { child, address, folder }
    }

    /// As on a rescued machine, without a document: root has a password, and `run/rescue` is in the folder.
    pub(crate) fn on_a_machine() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("ssh")).unwrap();
        std::fs::create_dir_all(path("run/rescue")).unwrap();
        std::fs::write(path("passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
        std::fs::write(path("shadow"), format!("root:{HASH}:19000:0:99999:7:::\n")).unwrap();
        std::fs::set_permissions(path("shadow"), PermissionsExt::from_mode(0o600)).unwrap();
        // A port that was free a moment ago may be somebody's by now.
        let mut tries = 0;
        let (child, address) = loop {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            if let Some(child) = try_machine(folder.path(), address) {
                break (child, address);
            }
            tries += 1;
            assert!(tries < 5, "no server listens");
        };
        let public = keygen_public(&path("ssh/ssh_host_ed25519_key"));
        std::fs::write(path("known_hosts"), format!("[127.0.0.1]:{} {public}\n", address.port())).unwrap();
        Self { child, address, folder }
    }

    pub(crate) fn listen(folder: &Path, address: &str, more: &[&str]) -> (Child, SocketAddr) {
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

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// OpenSSH's client with these keys, and the host key pinned.
    pub(crate) fn client(&self, keys: &[PathBuf], user: &str, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "120", "ssh", "-F", "none", "-l", user]);
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

    pub(crate) fn ssh(&self, args: &[&str]) -> Command {
        self.client(&[self.file("id")], "root", &[&["-o", "BatchMode=yes"], args].concat())
    }

    pub(crate) fn run(&self, command: &str) -> Output {
        self.ssh(&["--", command]).output().unwrap()
    }

    pub(crate) fn with_password(&self, user: &str, password: &str) -> Output {
        self.with_password_by("password", user, password)
    }

    pub(crate) fn with_password_by(&self, method: &str, user: &str, password: &str) -> Output {
        let method = format!("PreferredAuthentications={method}");
        let options = ["-o", &method, "-o", "NumberOfPasswordPrompts=1", "--", "echo in"];
        let ssh = self.client(&[], user, &options);
        let mut command = Command::new("sshpass");
        command.args(["-p", password]).arg(ssh.get_program()).args(ssh.get_args());
        command.stdin(Stdio::null()).output().unwrap()
    }
}

/// Starts a server in a mount namespace in which `folder` holds what it finds in /etc and /run, and waits until
/// it listens.
pub(crate) fn machine(folder: &Path, address: SocketAddr) -> Child {
    try_machine(folder, address).expect("it listens")
}

fn try_machine(folder: &Path, address: SocketAddr) -> Option<Child> {
    let script = r#"
        set -e
        for part in passwd shadow; do mount --bind "$1/$part" "/etc/$part"; done
        mount --bind "$1/ssh" /etc/ssh
        mount --bind "$1/run" /run
        exec "$2" sshd --listen "$3""#;
    let mut child = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(folder)
        .args([env!("CARGO_BIN_EXE_rescue"), &address.to_string()])
        .spawn()
        .unwrap();
    let mut ended = false;
    until("it listens", || {
        ended = child.try_wait().unwrap().is_some();
        ended || TcpStream::connect(address).is_ok()
    });
    (!ended).then_some(child)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn assert_denied(output: &Output) {
    let said = text(&output.stderr);
    assert!(said.contains("Permission denied (publickey,password,keyboard-interactive)"), "{said}");
    assert!(!output.status.success() && output.stdout.is_empty());
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|p| p.parse().unwrap()).collect()
}

pub(crate) fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// A client by its program, which a Debian package brings.
pub(crate) fn tool(program: &str, package: &str) -> Command {
    let found = std::env::var("PATH").unwrap().split(':').any(|dir| Path::new(dir).join(program).is_file());
    assert!(found, "{program} is missing; it comes by: apt-get install {package}");
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "90", program]).stdin(Stdio::null());
    command
}

/// A script for Debian's Python with this module, and its arguments: the port, the key, the known hosts and
/// what is asked for.
pub(crate) fn python(server: &Server, module: &str, script: &str, args: &[&str]) -> Output {
    let there = Command::new("/usr/bin/python3").args(["-c", &format!("import {module}")]).output();
    assert!(
        there.is_ok_and(|output| output.status.success()),
        "Python's {module} is missing; it comes by: apt-get install python3-{module}"
    );
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "90", "/usr/bin/python3", "-c", script]);
    command.arg(server.address.port().to_string()).args([server.file("id"), server.file("known_hosts")]);
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

/// The standard output of a client that must succeed.
pub(crate) fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
