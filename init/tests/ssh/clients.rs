//! Clients other than OpenSSH's.

use std::process::{Command, Stdio};

use crate::server::*;

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

impl Server {
    /// The host key's fingerprint.
    pub(crate) fn fingerprint(&self) -> String {
        let output = Command::new("ssh-keygen").arg("-lf").arg(self.file("host.pub")).output().unwrap();
        said(&output).split(' ').nth(1).unwrap().to_string()
    }

    /// The key in PuTTY's format.
    pub(crate) fn putty_key(&self) -> std::path::PathBuf {
        let path = self.file("id.ppk");
        let mut puttygen = tool("puttygen", "putty-tools");
        puttygen.arg(self.file("id")).args(["-O", "private", "-o"]).arg(&path);
        said(&puttygen.output().unwrap());
        path
    }
}

#[test]
fn plink_runs_a_command() {
    let server = Server::start();
    let plink = |args: &[&str]| {
        let mut plink = tool("plink", "putty-tools");
        plink.env("HOME", server.folder.path()).args(["-ssh", "-batch", "-hostkey", &server.fingerprint()]);
        plink.args(["-P", &server.address.port().to_string()]).args(args);
        plink.output().unwrap()
    };
    let key = server.putty_key();
    let output = plink(&["-i", key.to_str().unwrap(), "root@127.0.0.1", "echo $USER; exit 3"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), "root\n".into()));
}

#[test]
fn plink_logs_in_by_keyboard_interactive() {
    let server = Server::start();
    let mut plink = tool("plink", "putty-tools");
    plink.env("HOME", server.folder.path()).args(["-ssh", "-batch", "-hostkey", &server.fingerprint()]);
    plink.args(["-P", &server.address.port().to_string(), "-pw", "correct horse", "-v"]);
    let output = plink.args(["root@127.0.0.1", "echo in"]).output().unwrap();
    assert_eq!(said(&output), "in\n");
    assert!(text(&output.stderr).contains("keyboard-interactive"), "{}", text(&output.stderr));
}

#[test]
fn ansible_gathers_facts_runs_a_module_and_copies_a_file() {
    let server = Server::start();
    std::fs::write(server.file("source"), "a file\n").unwrap();
    let inventory = format!(
        "box ansible_host=127.0.0.1 ansible_port={} ansible_user=root ansible_ssh_private_key_file={} \
         ansible_python_interpreter=/usr/bin/python3 ansible_ssh_common_args='-F none -o UserKnownHostsFile={}'\n",
        server.address.port(),
        server.file("id").display(),
        server.file("known_hosts").display()
    );
    std::fs::write(server.file("inventory"), inventory).unwrap();
    let playbook = format!(
        "- hosts: box\n  tasks:\n  - copy: {{src: {0}/source, dest: {0}/copied, mode: '0640'}}\n  \
         - command: cat {0}/copied\n    register: it\n  - assert: {{that: it.stdout == 'a file'}}\n  \
         - fetch: {{src: {0}/copied, dest: {0}/fetched, flat: true}}\n",
        server.folder.path().display()
    );
    std::fs::write(server.file("play.yml"), playbook).unwrap();
    // Its three ways to carry a module.
    for method in ["sftp", "scp", "piped"] {
        let mut ansible = tool("ansible-playbook", "ansible-core");
        ansible.env("HOME", server.folder.path()).env("ANSIBLE_SSH_TRANSFER_METHOD", method);
        ansible.env("ANSIBLE_LOCAL_TEMP", server.file("tmp")).env("ANSIBLE_NOCOWS", "1");
        ansible.env("LC_ALL", "C.UTF-8").arg("-i").arg(server.file("inventory")).arg(server.file("play.yml"));
        let out = said(&ansible.output().unwrap());
        assert!(out.contains("failed=0") && out.contains("ok=5"), "{method}: {out}");
        assert_eq!(std::fs::read_to_string(server.file("fetched")).unwrap(), "a file\n", "{method}");
        std::fs::remove_file(server.file("fetched")).unwrap();
    }
}

#[test]
fn ssh_audit_finds_nothing_to_fail_and_nothing_weak() {
    let server = Server::start();
    let mut audit = tool("ssh-audit", "ssh-audit");
    audit.args(["-n", "-p", &server.address.port().to_string(), "127.0.0.1"]);
    let output = audit.output().unwrap();
    let out = text(&output.stdout);
    assert!(out.contains("(kex) mlkem768x25519-sha256") && out.contains("(mac) "), "{out}");
    for line in out.lines().filter(|line| line.contains("[fail]") || line.contains("[warn]")) {
        // Versions before 3.3 do not know what is newer than they are; later ones warn of every exchange
        // that a quantum computer could break, without which clients before OpenSSH 9.9 have none.
        let known = line.contains("unknown algorithm") || line.contains("post-quantum");
        assert!(known && !line.contains("[fail]"), "{line}\n{out}");
    }
    let first = out.lines().find(|line| line.starts_with("(kex)")).unwrap();
    assert!(first.contains("mlkem768x25519-sha256"), "the first is not the strongest: {first}");
}
