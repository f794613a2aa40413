//! Security keys, with OpenSSH's client and an authenticator in software behind its own interface.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::libraries::compiled;
use crate::server::*;

/// The authenticator: a library that the OpenSSH which is here loads.
fn authenticator(folder: &Path) -> PathBuf {
    let library = folder.join("authenticator.so");
    compiled("authenticator.c", &library, &["-shared", "-fPIC", "-lcrypto"], "libssl-dev");
    library
}

struct Keys {
    folder: tempfile::TempDir,
    library: PathBuf,
}

impl Keys {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = authenticator(folder.path());
        // Who is asked for the PIN.
        let asked = folder.path().join("askpass");
        std::fs::write(&asked, "#!/bin/sh\necho 1234\n").unwrap();
        std::fs::set_permissions(&asked, PermissionsExt::from_mode(0o755)).unwrap();
        Self { folder, library }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn with_pin(&self, command: &mut Command) {
        command.env("SSH_ASKPASS", self.path("askpass")).env("SSH_ASKPASS_REQUIRE", "force");
        command.env("SSH_SK_PROVIDER", &self.library);
    }

    /// A new key, and its public half as a line.
    fn made(&self, name: &str, kind: &str, options: &[&str]) -> String {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-t", kind, "-w"]).arg(&self.library).arg("-f").arg(self.path(name));
        for option in options {
            keygen.args(["-O", option]);
        }
        self.with_pin(&mut keygen);
        said(&keygen.output().unwrap());
        std::fs::read_to_string(self.path(name).with_extension("pub")).unwrap().trim().into()
    }

    fn login(&self, server: &Server, user: &str, name: &str) -> Output {
        let provider = format!("SecurityKeyProvider={}", self.library.display());
        let args = ["-o", &provider, "-o", "PreferredAuthentications=publickey", "--", "echo $USER"];
        let mut ssh = server.client(&[self.path(name)], user, &args);
        self.with_pin(&mut ssh);
        ssh.output().unwrap()
    }
}

#[test]
fn keys_of_both_kinds_log_in_when_touched_and_verified_as_their_options_ask() {
    let keys = Keys::new();
    for kind in ["ed25519-sk", "ecdsa-sk"] {
        let name = |which: &str| format!("{kind}-{which}");
        let touched = keys.made(&name("touched"), kind, &[]);
        let untouched = keys.made(&name("untouched"), kind, &["no-touch-required"]);
        let verified = keys.made(&name("verified"), kind, &["verify-required"]);
        let stranger = keys.made(&name("stranger"), kind, &[]);
        assert!(touched.starts_with("sk-") && stranger.starts_with("sk-"), "{touched}");
        // By plain lines for root; by lines with options for admin.
        let server = Server::with(|_| {
            format!(
                r#"[{{"name":"root","authorized_keys":["{touched}","{untouched}","{verified}"]}},
                    {{"name":"admin","authorized_keys":["verify-required {touched}",
                      "no-touch-required {untouched}","verify-required {verified}"]}}]"#
            )
        });
        for (user, which, is_let_in) in [
            ("root", "touched", true),
            ("root", "untouched", false),
            ("root", "verified", true),
            ("root", "stranger", false),
            ("admin", "touched", false),
            ("admin", "untouched", true),
            ("admin", "verified", true),
            ("admin", "stranger", false),
        ] {
            let output = keys.login(&server, user, &name(which));
            match is_let_in {
                true => assert_eq!(said(&output), format!("{user}\n"), "{kind} {which}"),
                false => assert_denied(&output),
            }
        }
    }
}

#[test]
fn certificates_of_security_keys_log_in_and_a_security_key_can_sign_them() {
    let keys = Keys::new();
    let authority = keys.made("ca", "ecdsa-sk", &[]);
    let touched = keys.made("touched", "ed25519-sk", &[]);
    keys.made("untouched", "ed25519-sk", &["no-touch-required"]);
    assert!(touched.starts_with("sk-ssh-ed25519@openssh.com "));
    let server = Server::with_ssh(
        |_| format!(r#"[{{"name":"root","password_hash":"{HASH}"}}]"#),
        &format!(r#","user_ca_keys":["{authority}"]"#),
    );
    let sign = |name: &str, args: &[&str]| {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-s"]).arg(keys.path("ca")).args(["-I", "somebody", "-n", "root"]).args(args);
        keys.with_pin(keygen.arg(keys.path(name).with_extension("pub")));
        said(&keygen.output().unwrap());
    };
    sign("touched", &[]);
    assert_eq!(said(&keys.login(&server, "root", "touched")), "root\n");
    sign("untouched", &[]);
    assert_denied(&keys.login(&server, "root", "untouched"));
    sign("untouched", &["-O", "no-touch-required"]);
    assert_eq!(said(&keys.login(&server, "root", "untouched")), "root\n");
    sign("touched", &["-O", "verify-required"]);
    assert_denied(&keys.login(&server, "root", "touched"));
}
