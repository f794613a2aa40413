//! A device document and what belongs to it on the client's side: its host key's public half, a
//! client key, a password. Made with the programs that an engineer has.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rescue_schema::Secret;
use rescue_schema::credentials::{Device as Machine, Document, Login, Session, Ssh, VERSION};
use rescue_schema::network::Network;

use crate::process;

/// The password of every login that the tests make.
pub const PASSWORD: &str = "correct horse battery";
const SOON: Duration = Duration::from_secs(60);

/// A document in the making.
pub struct DeviceBuilder {
    document: Document,
    dir: PathBuf,
}

/// A document and the client's side of it.
#[derive(Debug, Clone)]
pub struct Device {
    /// The folder of all its files.
    pub dir: PathBuf,
    /// The document, mode 0600.
    pub document: PathBuf,
    /// `ssh-ed25519 AAAA…` of the host key.
    pub host_key_public: String,
    /// `SHA256:…` of the host key.
    pub host_key_fingerprint: String,
    /// The client's private key.
    pub client_key: PathBuf,
    /// A private key that opens nothing.
    pub wrong_key: PathBuf,
    /// A program that prints the password that it is given in its environment, for SSH_ASKPASS.
    pub(crate) askpass: PathBuf,
}

impl DeviceBuilder {
    /// A document without logins; its files go to `dir`.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn new(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
        for name in ["host_key", "client_key", "wrong_key"] {
            if !dir.join(name).exists() {
                let mut command = Command::new("ssh-keygen");
                command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(dir.join(name));
                process::check(&mut command, SOON).context("making a key (package openssh-client)")?;
            }
        }
        let host_key = std::fs::read_to_string(dir.join("host_key"))?;
        let document = Document {
            version: VERSION,
            device: Machine {
                id: Some("srv-0142".into()),
                hostname: Some("db7".into()),
                family: Some("debian".into()),
            },
            session: Session { id: Some("7d5c-test".into()), ..Session::default() },
            logins: Vec::new(),
            ssh: Ssh { host_keys: vec![Secret::new(host_key)], ..Ssh::default() },
            network: Network::default(),
        };
        Ok(Self { document, dir: dir.into() })
    }

    /// Lets `name` in with the client's key.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn key_login(mut self, name: &str) -> Result<Self> {
        let line = std::fs::read_to_string(self.dir.join("client_key.pub"))?.trim().to_string();
        self.login(name).authorized_keys.push(line);
        Ok(self)
    }

    /// Lets `name` in with [`PASSWORD`], hashed by the real mkpasswd with this method (`sha512crypt`,
    /// `yescrypt`, `bcrypt`, …).
    ///
    /// # Errors
    /// When it cannot be hashed.
    pub fn password_login(mut self, name: &str, method: &str) -> Result<Self> {
        let mut command = Command::new("mkpasswd");
        command.args(["--stdin", &format!("--method={method}")]);
        let hash = process::run(&mut command, PASSWORD.as_bytes(), SOON)
            .and_then(process::Output::ok)
            .context("hashing a password (package whois)")?;
        self.login(name).password_hash = Some(Secret::new(hash));
        Ok(self)
    }

    /// Says what the network is, as it stands in the document.
    ///
    /// # Errors
    /// When it is no such section.
    pub fn network(self, section: &serde_json::Value) -> Result<Self> {
        let network: Network = serde_json::from_value(section.clone()).context("the network section")?;
        Ok(self.with(|document| document.network = network))
    }

    /// Changes the document in ways that have no name of their own here.
    pub fn with(mut self, change: impl FnOnce(&mut Document)) -> Self {
        change(&mut self.document);
        self
    }

    fn login(&mut self, name: &str) -> &mut Login {
        let logins = &mut self.document.logins;
        let at = logins.iter().position(|l| l.name == name).unwrap_or_else(|| {
            logins.push(Login { name: name.into(), password_hash: None, authorized_keys: Vec::new() });
            logins.len() - 1
        });
        &mut logins[at]
    }

    /// Writes the document.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn build(self) -> Result<Device> {
        let dir = self.dir;
        let document = dir.join("device.json");
        write_private(&document, &serde_json::to_vec_pretty(&self.document)?)?;
        let askpass = dir.join("askpass");
        std::fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$RESCUE_TEST_PASSWORD\"\n")?;
        std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700))?;
        let public = std::fs::read_to_string(dir.join("host_key.pub"))?;
        let mut command = Command::new("ssh-keygen");
        let fingerprint = process::check(command.arg("-lf").arg(dir.join("host_key.pub")), SOON)?;
        Ok(Device {
            document,
            host_key_public: public.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
            host_key_fingerprint: fingerprint.split_whitespace().nth(1).unwrap_or_default().into(),
            client_key: dir.join("client_key"),
            wrong_key: dir.join("wrong_key"),
            askpass,
            dir,
        })
    }
}

/// Writes a file that only its owner reads.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let shown = || format!("writing {}", path.display());
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(path).with_context(shown)?;
    file.write_all(bytes).with_context(shown)
}
