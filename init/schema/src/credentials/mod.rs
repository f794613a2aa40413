//! `device.json`: who may enter, as whom the machine answers, and how it is reached.
//!
//! [`Document::parse`] is the only way in. It takes bytes, refuses what is too long before it
//! parses, refuses unknown fields, and names the field that is wrong. Its errors quote no value,
//! because the value may be a secret.

mod blame;
mod validate;

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::check::fail;
use crate::network::Network;

pub use crate::check::DocumentError;

/// Longest document in bytes. A real one with two logins and a host key is some 2 KiB.
pub const MAX_DOCUMENT: usize = 1 << 20;
/// The one version of the document.
pub const VERSION: u32 = 1;
/// The accounts that the user of a rescue knows.
pub const LOGIN_NAMES: [&str; 2] = ["root", "admin"];
/// Algorithms that are offered only when a document asks for them: what clients of the years 2005 to 2018
/// have. Nothing that is broken; SHA-1 only where collisions do not matter (key exchange, HMAC).
pub const OLDER_ALGORITHMS: [&str; 14] = [
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group14-sha1",
    "aes256-cbc",
    "aes192-cbc",
    "aes128-cbc",
    "hmac-sha2-512",
    "hmac-sha2-256",
    "hmac-sha1-etm@openssh.com",
    "hmac-sha1",
];

/// A rescue session, as injected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// The machine that is rescued.
    #[serde(default)]
    pub device: Device,
    /// This session.
    #[serde(default)]
    pub session: Session,
    /// Who may enter. Nobody may when it is empty.
    #[serde(default)]
    pub logins: Vec<Login>,
    /// The SSH server.
    #[serde(default)]
    pub ssh: Ssh,
    /// The network.
    #[serde(default)]
    pub network: Network,
}

/// The machine that is rescued, as its owner knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Device {
    /// The provider's name of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Host name (RFC 1123), with or without domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// OS family that is recorded for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
}

/// This rescue session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// Shown at login, so that the engineer sees that the right image booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whom to tell when the machine is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beacon: Option<Beacon>,
    /// The host's socket that is told when the machine is ready: `vsock:CID:PORT`, as systemd's
    /// `vmm.notify_socket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
}

/// Whom to tell when the machine is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beacon {
    /// An `https://` address.
    pub url: String,
    /// Sent along, to authenticate the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Certificates of authorities, PEM: one of these must vouch for the server, instead of those of the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// One login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// `root` or `admin`.
    pub name: String,
    /// crypt(5) hash that [`crypt::check`] takes: `$6$` (SHA-512), `$5$` (SHA-256), `$y$`
    /// (yescrypt) or `$2b$` (bcrypt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<Secret>,
    /// Lines as in sshd(8) `AUTHORIZED_KEYS FILE FORMAT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorized_keys: Vec<String>,
}

/// The SSH server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// Private host keys in OpenSSH's PEM format, unencrypted. None: one is made at boot.
    pub host_keys: Vec<Secret>,
    /// What an authority says of those host keys: lines as ssh-keygen(1) `-h -s` writes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_certificates: Vec<String>,
    /// Public keys of authorities whose user certificates are accepted.
    pub user_ca_keys: Vec<String>,
    /// TCP port, 1 to 65535.
    pub port: u16,
    /// Algorithms of [`OLDER_ALGORITHMS`] that are offered beside the modern ones, for a client that has
    /// none of those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            host_keys: Vec::new(),
            host_certificates: Vec::new(),
            user_ca_keys: Vec::new(),
            port: 22,
            algorithms: Vec::new(),
        }
    }
}

/// One that says nothing.
impl Default for Document {
    fn default() -> Self {
        Self {
            version: VERSION,
            device: Device::default(),
            session: Session::default(),
            logins: Vec::new(),
            ssh: Ssh::default(),
            network: Network::default(),
        }
    }
}

impl Document {
    /// Reads and validates a document.
    ///
    /// # Errors
    /// Anything that is not a valid document of [`VERSION`], with the field that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_DOCUMENT {
            return fail("", format!("{} bytes; at most {MAX_DOCUMENT}", bytes.len()));
        }
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let document: Self = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
            let field = match e.path().to_string() {
                path if path == "." => String::new(),
                path => path,
            };
            DocumentError { field, reason: blame::reason(e.inner()) }
        })?;
        reader.end().map_err(|e| DocumentError { field: String::new(), reason: blame::reason(&e) })?;
        document.validate()?;
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_certificates_are_of_a_known_kind_and_of_injected_keys() {
        let parse = |key: &str, line: &str| {
            let json =
                format!(r#"{{"version":1,"ssh":{{"host_keys":[{key}],"host_certificates":["{line}"]}}}}"#);
            Document::parse(json.as_bytes()).map_err(|e| e.to_string())
        };
        let key = r#""-----BEGIN OPENSSH PRIVATE KEY-----""#;
        let good = "ssh-ed25519-cert-v01@openssh.com AAAA host";
        assert_eq!(parse(key, good).unwrap().ssh.host_certificates, [good]);
        assert!(parse("", good).unwrap_err().contains("without ssh.host_keys"));
        let long = format!("{good}{}", "x".repeat(validate::MAX_HOST_CERTIFICATE));
        let two = format!("{good}\\n{good}");
        for wrong in ["", "ssh-ed25519 AAAA", "ssh-dss-cert-v01@openssh.com AAAA", &long, &two] {
            assert!(parse(key, wrong).unwrap_err().contains("host_certificates[0]"), "{wrong:.40}");
        }
    }

    fn reason(json: &str) -> String {
        Document::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_design_example_is_accepted() {
        let json = r#"{ "version": 1,
          "device":  { "id": "srv-0142", "hostname": "db7", "family": "redhat" },
          "session": { "id": "7d5c", "beacon": { "url": "https://portal.example/x", "token": "t" } },
          "logins":  [ { "name": "root",  "password_hash": "$6$abc$dv7vAygfDghQeO8lNAuLv4y4HAQXw9d6a14dcjFGfTijFc0S6MgzM7g53hZv6MaGDXhNpGxhpXakWuTlqHtzn.", "authorized_keys": ["ssh-ed25519 AAAA x"] },
                       { "name": "admin", "password_hash": "$y$j9T$fstNqhgYoubnmc2FkFyho.$TAnGmytgt1ugmhxLhw7P1Y0wleoWMhmRWByAtLDg.C0" } ],
          "ssh":     { "host_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----\nx"], "user_ca_keys": [], "port": 22 },
          "network": { "links": [ {"mac": "52:54:00:00:00:01", "dhcp4": true} ], "dns": { "servers": ["192.0.2.53"], "search": [] } } }"#;
        let document = Document::parse(json.as_bytes()).unwrap();
        assert_eq!(document.logins.len(), 2);
        let again = serde_json::to_vec(&document).unwrap();
        assert_eq!(Document::parse(&again).unwrap(), document);
    }

    #[test]
    fn errors_name_the_field() {
        for (json, field) in [
            (r#"{"version":1,"logins":[{"name":"root","password_hash":7}]}"#, "logins[0].password_hash"),
            (
                r#"{"version":1,"logins":[{"name":"root","password_hash":"hunter2"}]}"#,
                "logins[0].password_hash",
            ),
            (r#"{"version":1,"logins":[{"name":"bob","password_hash":"$6$a$b"}]}"#, "logins[0].name"),
            (
                r#"{"version":1,"logins":[{"name":"root","password_hash":"$2b$31$L1v5SJDC.mu9CWN7.ebReOyrBmMkvZnge0wGSQwmokvTG8m373bMO"}]}"#,
                "logins[0].password_hash: asks for a bcrypt cost",
            ),
            (r#"{"version":1,"logins":[{"name":"root"}]}"#, "logins[0]"),
            (r#"{"version":1,"device":{"hostname":"a b"}}"#, "device.hostname"),
            (r#"{"version":2}"#, "version"),
            (r#"{"version":1,"ssh":{"port":0}}"#, "ssh.port"),
            (r#"{"version":1,"ssh":{"algorithms":["hmac-sha1","3des-cbc"]}}"#, "ssh.algorithms[1]"),
            (r#"{"version":1,"network":{"links":[{"mac":"zz"}]}}"#, "network.links[0].mac"),
            (r#"{"version":1,"pasword":"x"}"#, "pasword"),
        ] {
            assert!(reason(json).contains(field), "{json}: {}", reason(json));
        }
    }

    #[test]
    fn errors_quote_no_value() {
        for json in [
            r#"{"version":1,"logins":[{"name":"root","password_hash":["hunter2"]}]}"#,
            r#"{"version":1,"logins":"hunter2"}"#,
            r#"{"version":"hunter2"}"#,
            r#"{"version":1,"logins":[{"name":"root","password_hash":"hunter2"}]}"#,
            r#"{"version":1,"logins":[{"name":"hunter2","password_hash":"$6$a$b"}]}"#,
        ] {
            assert!(!reason(json).contains("hunter2"), "{json}: {}", reason(json));
        }
    }

    #[test]
    fn too_long_is_refused_before_it_is_parsed() {
        assert!(reason(&" ".repeat(MAX_DOCUMENT + 1)).contains("at most"));
    }

    #[test]
    fn deep_nesting_and_garbage_are_errors() {
        assert!(Document::parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(Document::parse(&[0xff; 64]).is_err());
        assert!(Document::parse(br#"{"version":1} trailing"#).is_err());
    }
}
