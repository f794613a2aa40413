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
