//! What a document must be beyond its types: limits, names, kinds of keys. Nothing of a value is quoted.

use super::{Document, LOGIN_NAMES, Login, OLDER_ALGORITHMS, Ssh, VERSION};
use crate::check::{DocumentError, fail, is_host_name, is_label};
use crate::crypt;

/// Longest line of `authorized_keys`, a 16384-bit RSA key with options.
const MAX_KEY_LINE: usize = 8192;
/// Most lines of `authorized_keys` a login.
const MAX_KEYS: usize = 256;
/// Longest private host key, a 16384-bit RSA key in OpenSSH's format.
const MAX_HOST_KEY: usize = 32768;
/// Longest host certificate, of a 16384-bit RSA key by another, with its principals.
pub(super) const MAX_HOST_CERTIFICATE: usize = 16384;
/// What a host certificate is called when it begins its line (OpenSSH's `PROTOCOL.certkeys`).
const HOST_CERTIFICATES: [&str; 5] = [
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "ssh-rsa-cert-v01@openssh.com",
];
/// Most host keys: one of each type that OpenSSH has, twice.
const MAX_HOST_KEYS: usize = 8;

impl Document {
    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self) -> Result<(), DocumentError> {
        self.validate_translated()?;
        self.network.validate_own("network")
    }

    /// As [`Self::validate`], for a document that was made of a foreign one: there a card may be known by
    /// its name.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate_translated(&self) -> Result<(), DocumentError> {
        if self.version != VERSION {
            return fail("version", format!("{}; this image speaks version {VERSION}", self.version));
        }
        for (field, value) in [
            ("device.id", &self.device.id),
            ("device.family", &self.device.family),
            ("session.id", &self.session.id),
            ("session.notify", &self.session.notify),
        ] {
            if value.as_ref().is_some_and(|v| !is_label(v)) {
                return fail(field, "1 to 128 printable ASCII characters".into());
            }
        }
        if self.device.hostname.as_ref().is_some_and(|name| !is_host_name(name)) {
            return fail("device.hostname", "not a host name (RFC 1123)".into());
        }
        if self.session.beacon.as_ref().is_some_and(|b| !b.url.starts_with("https://") || b.url.len() > 2048)
        {
            return fail("session.beacon.url", "an https:// address of at most 2048 bytes".into());
        }
        for (i, login) in self.logins.iter().enumerate() {
            login.validate(&format!("logins[{i}]"), !self.ssh.user_ca_keys.is_empty())?;
            if self.logins.iter().take(i).any(|other| other.name == login.name) {
                return fail(format!("logins[{i}].name"), format!("{} is named twice", login.name));
            }
        }
        self.ssh.validate()?;
        self.network.validate("network")
    }
}

impl Login {
    fn validate(&self, at: &str, certified: bool) -> Result<(), DocumentError> {
        if !LOGIN_NAMES.contains(&self.name.as_str()) {
            return fail(format!("{at}.name"), "neither root nor admin".into());
        }
        if self.password_hash.is_none() && self.authorized_keys.is_empty() && !certified {
            return fail(at, "neither password_hash nor authorized_keys".into());
        }
        if let Some(hash) = &self.password_hash {
            crypt::check(hash.expose_secret())
                .or_else(|reason| fail(format!("{at}.password_hash"), reason.into()))?;
        }
        check_key_lines(&self.authorized_keys, &format!("{at}.authorized_keys"))
    }
}

impl Ssh {
    fn validate(&self) -> Result<(), DocumentError> {
        if self.port == 0 {
            return fail("ssh.port", "1 to 65535".into());
        }
        if self.host_keys.len() > MAX_HOST_KEYS {
            return fail("ssh.host_keys", format!("at most {MAX_HOST_KEYS}"));
        }
        for (i, key) in self.host_keys.iter().enumerate() {
            let text = key.expose_secret();
            if text.len() > MAX_HOST_KEY {
                return fail(format!("ssh.host_keys[{i}]"), format!("at most {MAX_HOST_KEY} bytes"));
            }
            if !text.trim_start().starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
                return fail(format!("ssh.host_keys[{i}]"), "not an OpenSSH private key".into());
            }
        }
        self.validate_certificates()?;
        if let Some(name) = self.algorithms.iter().position(|a| !OLDER_ALGORITHMS.contains(&a.as_str())) {
            let known = OLDER_ALGORITHMS.join(", ");
            return fail(format!("ssh.algorithms[{name}]"), format!("none of {known}"));
        }
        check_key_lines(&self.user_ca_keys, "ssh.user_ca_keys")
    }

    /// Lengths and kinds; what is in one is for the SSH server, which has the keys.
    fn validate_certificates(&self) -> Result<(), DocumentError> {
        let at = "ssh.host_certificates";
        if self.host_certificates.len() > MAX_HOST_KEYS {
            return fail(at, format!("at most {MAX_HOST_KEYS}"));
        }
        if self.host_keys.is_empty() && !self.host_certificates.is_empty() {
            return fail(at, "without ssh.host_keys; a certificate is of a key that is injected".into());
        }
        for (i, line) in self.host_certificates.iter().enumerate() {
            let kind = line.split(' ').next().unwrap_or_default();
            let reason = if line.len() > MAX_HOST_CERTIFICATE {
                format!("at most {MAX_HOST_CERTIFICATE} bytes")
            } else if line.trim_end_matches('\n').chars().any(char::is_control) {
                "has a control character; one certificate a line".into()
            } else if !HOST_CERTIFICATES.contains(&kind) {
                format!("begins with none of {}", HOST_CERTIFICATES.join(", "))
            } else {
                continue;
            };
            return fail(format!("{at}[{i}]"), reason);
        }
        Ok(())
    }
}

fn check_key_lines(lines: &[String], at: &str) -> Result<(), DocumentError> {
    if lines.len() > MAX_KEYS {
        return fail(at, format!("{} keys; at most {MAX_KEYS}", lines.len()));
    }
    for (i, line) in lines.iter().enumerate() {
        let reason = if line.len() > MAX_KEY_LINE {
            format!("at most {MAX_KEY_LINE} bytes")
        } else if line.chars().any(char::is_control) {
            "has a control character; one key a line".into()
        } else if line.contains("PRIVATE KEY") {
            "is a private key; the public half belongs here".into()
        } else if line.split_whitespace().count() < 2 {
            "not a line of authorized_keys".into()
        } else {
            continue;
        };
        return fail(format!("{at}[{i}]"), reason);
    }
    Ok(())
}
