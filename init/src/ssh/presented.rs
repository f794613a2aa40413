//! What a client logs in with by `publickey` (RFC 4252 section 7): a key, or a certificate for one.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rescue_schema::account::Account;
use russh::keys::Certificate;
use russh::keys::signature::Verifier;
use russh::keys::ssh_encoding::Decode;
use russh::keys::ssh_key::{Algorithm, HashAlg, PublicKey, Signature};

use super::auth::{Gate, Grant, MAX_NAME};
use super::authorized_keys::{self, Options};
use super::{certificate, host_keys, policy};
use crate::sys::log;

/// Flags of a signature by a security key (FIDO; OpenSSH's `PROTOCOL.u2f`): somebody was there, and was
/// recognised.
const PRESENT: u8 = 1;
const VERIFIED: u8 = 4;
/// A certificate may hold another as its authority, and that one another; nobody has use for that, and a
/// parser that follows runs out of stack.
const MAX_NESTING: usize = 1;

/// What is presented.
pub struct Presented {
    key: PublicKey,
    certificate: Option<Certificate>,
    /// By which the client signs.
    algorithm: Algorithm,
}

impl Presented {
    /// Reads the key blob of a request, and the algorithm that it names.
    ///
    /// # Errors
    /// What is malformed.
    pub fn decode(blob: &[u8], name: &str) -> Result<Self, &'static str> {
        const MARKER: &[u8] = b"-cert-v01@";
        let nested = blob.windows(MARKER.len()).filter(|w| *w == MARKER).count();
        if !name.contains("-cert-v01@") {
            let key = if nested == 0 { PublicKey::from_bytes(blob).ok() } else { None };
            let algorithm = Algorithm::new(name).map_err(|_| "an unknown algorithm")?;
            return Self { key: key.ok_or("a malformed key")?, certificate: None, algorithm }.fitting();
        }
        let certificate = if nested <= MAX_NESTING { Certificate::from_bytes(blob).ok() } else { None };
        let certificate = certificate.ok_or("a malformed certificate")?;
        let algorithm = match name {
            "rsa-sha2-256-cert-v01@openssh.com" => Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
            "rsa-sha2-512-cert-v01@openssh.com" => Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
            name => Algorithm::new_certificate(name).map_err(|_| "an unknown algorithm")?,
        };
        let key = PublicKey::new(certificate.public_key().clone(), "");
        Self { key, certificate: Some(certificate), algorithm }.fitting()
    }

    fn fitting(self) -> Result<Self, &'static str> {
        let fits = match (&self.key.algorithm(), &self.algorithm) {
            (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
            (of_key, algorithm) => of_key == algorithm,
        };
        if fits { Ok(self) } else { Err("a key of another algorithm") }
    }

    /// For the log: `publickey` and its fingerprint, and what vouches for it.
    pub fn method(&self) -> String {
        let fingerprint = host_keys::fingerprint(&self.key);
        match &self.certificate {
            Some(it) => format!("publickey {fingerprint} by {}", certificate::describe(it)),
            None => format!("publickey {fingerprint}"),
        }
    }

    /// What `user` may do who logs in with it. Whoever calls this for a login, and not for an offer, must
    /// have it verified by [`Presented::verify`].
    pub fn grant(&self, gate: &dyn Gate, user: &str, source: IpAddr) -> Option<Grant> {
        if user.len() > MAX_NAME || !policy::signs_well(&self.key, &self.algorithm) {
            return None;
        }
        let account = gate.account(user)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
        let options = self.by_lines(&account, source, now).or_else(|| {
            let it = self.certificate.as_ref()?;
            // Of the image's own authorities, as `TrustedUserCAKeys`: the principal is the login.
            gate.authorities().iter().find_map(|line| {
                let authority = authorized_keys::key_of(line)?;
                certified(it, &authority, &[user], source, now)
            })
        })?;
        Some(Grant { account, options })
    }

    /// What the lines of `authorized_keys` allow.
    fn by_lines(&self, account: &Account, source: IpAddr, now: i64) -> Option<Options> {
        for line in &account.authorized_keys {
            let entry = match authorized_keys::parse(line) {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(why) => {
                    let user = &account.name;
                    log::note("sshd", &format!("a line of authorized_keys of {user} is refused: it {why}"));
                    continue;
                }
            };
            let found = match (&self.certificate, entry.authority) {
                (None, None) if entry.key.key_data() == self.key.key_data() => Some(Options::default()),
                (Some(it), Some(names)) if it.signature_key() == entry.key.key_data() => {
                    let names: Vec<&str> = match names.is_empty() {
                        true => vec![&account.name],
                        false => names.iter().map(String::as_str).collect(),
                    };
                    certified(it, &entry.key, &names, source, now)
                }
                _ => None,
            };
            if let Some(allowed) = found
                && entry.options.admit(source, now)
                && let Some(options) = entry.options.and(allowed)
            {
                return Some(options);
            }
        }
        None
    }

    /// Whether `signature` (`string algorithm, string signature`, and for a security key its flags and
    /// its counter) is this key's over `signed`, and nothing else is in it; and whether whoever made it
    /// was there, where that is asked for.
    pub fn verify(&self, signed: &[u8], signature: &[u8], options: &Options) -> bool {
        let mut rest = signature;
        let Ok(signature) = Signature::decode(&mut rest) else { return false };
        rest.is_empty()
            && signature.algorithm() == self.algorithm
            && self.is_attended(&signature, options)
            && Verifier::verify(&self.key, signed, &signature).is_ok()
    }

    fn is_attended(&self, signature: &Signature, options: &Options) -> bool {
        if !matches!(self.algorithm, Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256) {
            return true;
        }
        // The last five bytes: flags and counter.
        let bytes = signature.as_bytes();
        let Some(flags) = bytes.len().checked_sub(5).and_then(|at| bytes.get(at)) else { return false };
        (flags & PRESENT != 0 || !options.touch) && (flags & VERIFIED != 0 || !options.verification)
    }
}

/// What a certificate allows; a line in the log when it is of this authority, and refused.
fn certified(
    it: &Certificate,
    authority: &PublicKey,
    names: &[&str],
    source: IpAddr,
    now: i64,
) -> Option<Options> {
    if it.signature_key() != authority.key_data() {
        return None;
    }
    match certificate::check(it, authority.key_data(), names, source, now) {
        Ok(options) => Some(options),
        Err(why) => {
            log::note("sshd", &format!("{} {why}", certificate::describe(it)));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use russh::keys::PrivateKey;
    use russh::keys::signature::Signer;
    use russh::keys::ssh_encoding::Encode;
    use russh::keys::ssh_key::public::{KeyData, SkEd25519};
    use sha2::{Digest, Sha256};

    use super::*;

    /// What a security key with this secret sends (OpenSSH's `PROTOCOL.u2f`).
    fn sign(secret: &PrivateKey, signed: &[u8], flags: u8) -> Vec<u8> {
        let mut data = Sha256::digest(b"ssh:").to_vec();
        data.push(flags);
        data.extend([0, 0, 0, 9]);
        data.extend(Sha256::digest(signed));
        let signature: Signature = secret.key_data().try_sign(&data).unwrap();
        let mut bytes = Vec::new();
        "sk-ssh-ed25519@openssh.com".encode(&mut bytes).unwrap();
        signature.as_bytes().encode(&mut bytes).unwrap();
        bytes.push(flags);
        bytes.extend([0, 0, 0, 9]);
        bytes
    }

    #[test]
    fn a_security_key_must_have_been_touched() {
        let secret = host_keys::generate().unwrap();
        let KeyData::Ed25519(public) = secret.public_key().key_data() else { panic!() };
        let key = PublicKey::new(KeyData::SkEd25519(SkEd25519::new(*public, "ssh:")), "");
        let blob = key.to_bytes().unwrap();
        let it = Presented::decode(&blob, "sk-ssh-ed25519@openssh.com").unwrap();
        assert!(Presented::decode(&blob, "ssh-ed25519").is_err());
        let plain = Options::default();
        let untouched = Options { touch: false, ..Options::default() };
        let verified = Options { verification: true, ..Options::default() };
        for (flags, plainly, without, recognised) in
            [(0, false, true, false), (1, true, true, false), (4, false, true, false), (5, true, true, true)]
        {
            let signature = sign(&secret, b"signed", flags);
            assert_eq!(it.verify(b"signed", &signature, &plain), plainly, "{flags}");
            assert_eq!(it.verify(b"signed", &signature, &untouched), without, "{flags}");
            assert_eq!(it.verify(b"signed", &signature, &verified), recognised, "{flags}");
            assert!(!it.verify(b"other", &signature, &untouched));
        }
        // A flag that is set afterwards is not what was signed.
        let mut forged = sign(&secret, b"signed", 0);
        let at = forged.len() - 5;
        forged[at] = 1;
        assert!(!it.verify(b"signed", &forged, &plain));
        for end in 0..forged.len() {
            assert!(!it.verify(b"signed", &forged[..end], &untouched));
        }
    }

    #[test]
    fn keys_and_names_that_do_not_fit_are_refused() {
        let blob = host_keys::generate().unwrap().public_key().to_bytes().unwrap();
        assert!(Presented::decode(&blob, "ssh-ed25519").is_ok());
        for name in ["", "ssh-rsa", "rsa-sha2-512", "ssh-ed25519-cert-v01@openssh.com", "none", "ssh-dss"] {
            assert!(Presented::decode(&blob, name).is_err(), "{name}");
        }
        assert!(Presented::decode(&[&blob[..], b"x-cert-v01@"].concat(), "ssh-ed25519").is_err());
        assert!(Presented::decode(&b"-cert-v01@".repeat(1000), "ssh-ed25519-cert-v01@openssh.com").is_err());
    }
}
