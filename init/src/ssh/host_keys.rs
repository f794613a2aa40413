//! Host keys: injected, kept from an earlier start of the listener, or made.

use std::path::Path;

use anyhow::{Context, anyhow};
use rescue_schema::{Secret, paths};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey};

use super::short_scalar;
use crate::sys::files;

/// Longest host key file in bytes, a 16384-bit RSA key in OpenSSH's format.
const MAX_KEY: usize = 32768;
/// The types that are looked for, in the order in which clients prefer them.
const TYPES: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

/// Writes injected keys to `/etc/ssh/ssh_host_<type>_key` below `root`, as OpenSSH names them (0600,
/// the folder 0700).
///
/// # Errors
/// A key that does not parse or is of a type that the server does not have, by its number and never
/// by its content; those of the file system.
pub fn install(root: &Path, keys: &[Secret]) -> anyhow::Result<()> {
    let folder = root.join(paths::HOST_KEYS.trim_start_matches('/'));
    let parsed = parse_all(keys)?;
    for key in &parsed {
        write(&folder, key)?;
    }
    // One that was made before these came would be offered beside them.
    for name in TYPES.iter().filter(|_| !parsed.is_empty()) {
        if !parsed.iter().any(|key| type_name(key) == Ok(name)) {
            let path = folder.join(format!("ssh_host_{name}_key"));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Parses keys in OpenSSH's format.
///
/// # Errors
/// The first that does not parse, is encrypted or is of another type, by its number.
pub fn parse_all(keys: &[Secret]) -> anyhow::Result<Vec<PrivateKey>> {
    keys.iter()
        .enumerate()
        .map(|(i, key)| parse(key).map_err(|why| anyhow!("ssh.host_keys[{i}]: {why}")))
        .collect()
}

/// Parses host certificates, each of which must be of a host key that is shown: the first of its type.
/// Whether one is valid now, and for whom, is the client's to say; the clock of a rescued machine is not
/// to be relied upon.
///
/// # Errors
/// The first that is no certificate of such a host key, by its number.
pub fn parse_certificates(lines: &[String], keys: &[PrivateKey]) -> anyhow::Result<Vec<Certificate>> {
    lines
        .iter()
        .enumerate()
        .map(|(i, line)| {
            parse_certificate(line, keys).map_err(|why| anyhow!("ssh.host_certificates[{i}]: {why}"))
        })
        .collect()
}

fn parse_certificate(line: &str, keys: &[PrivateKey]) -> Result<Certificate, &'static str> {
    let it = Certificate::from_openssh(line.trim()).map_err(|_| "not an OpenSSH certificate")?;
    if it.cert_type() != CertType::Host {
        return Err("is of a user; ssh-keygen -h makes one of a host");
    }
    let key = keys.iter().find(|key| key.algorithm() == it.algorithm());
    if key.is_none_or(|key| key.public_key().key_data() != it.public_key()) {
        return Err("is of no host key in ssh.host_keys");
    }
    it.verify_signature().map_err(|_| "has a wrong signature")?;
    Ok(it)
}

fn parse(key: &Secret) -> Result<PrivateKey, &'static str> {
    // The parser's own error may quote what it read.
    let text = key.expose_secret();
    let key = PrivateKey::from_openssh(text).ok().or_else(|| short_scalar::parse(text));
    let key = key.ok_or("not an OpenSSH private key")?;
    if key.is_encrypted() {
        return Err("is encrypted; a host key must open without a passphrase");
    }
    type_name(&key).map(|_| key)
}

fn type_name(key: &PrivateKey) -> Result<&'static str, &'static str> {
    match key.algorithm() {
        Algorithm::Ed25519 => Ok("ed25519"),
        Algorithm::Ecdsa { .. } => Ok("ecdsa"),
        Algorithm::Rsa { .. } => Ok("rsa"),
        _ => Err("is of a type that makes no host key; use ed25519, ecdsa or rsa"),
    }
}

/// The keys in a folder; one is made, and kept there, when there is none. So the listener comes back
/// with the same key however it ended.
///
/// # Errors
/// A key that is there and cannot be read (a client that has pinned it must not be shown another),
/// and those of the file system.
pub fn load_or_generate(folder: &Path) -> anyhow::Result<Vec<PrivateKey>> {
    let mut keys = Vec::new();
    for name in TYPES {
        let path = folder.join(format!("ssh_host_{name}_key"));
        match files::read_capped(&path, MAX_KEY) {
            Ok(bytes) => {
                let text = Secret::new(String::from_utf8_lossy(&bytes));
                keys.push(parse(&text).map_err(|why| anyhow!("{}: {why}", path.display()))?);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
    if keys.is_empty() {
        let key = generate()?;
        write(folder, &key)?;
        keys.push(key);
    }
    Ok(keys)
}

/// Signs a message as `ssh-keygen -Y sign` does (OpenSSH's `PROTOCOL.sshsig`), by the Ed25519 key where there
/// is one: the armored signature, and the public key that checks it.
///
/// # Errors
/// Where there is no key.
pub fn sign(keys: &[PrivateKey], namespace: &str, message: &[u8]) -> anyhow::Result<(String, String)> {
    let best = keys.iter().find(|key| key.algorithm() == Algorithm::Ed25519).or(keys.first());
    let key = best.context("there is no host key")?;
    let signature = key.sign(namespace, HashAlg::Sha512, message).context("signing with the host key")?;
    let armored = signature.to_pem(LineEnding::LF).context("signing with the host key")?;
    let public = key.public_key().key_data().clone();
    Ok((armored, russh::keys::PublicKey::from(public).to_openssh()?))
}

/// Makes an Ed25519 key. Waits, once after power-on, until the kernel has collected enough
/// randomness (getrandom(2)).
///
/// # Errors
/// Those of getrandom(2).
pub fn generate() -> anyhow::Result<PrivateKey> {
    let mut seed = zeroize::Zeroizing::new([0u8; 32]);
    let mut filled = 0;
    while let Some(rest) = seed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("making a host key: getrandom"),
        }
    }
    Ok(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
}

fn write(folder: &Path, key: &PrivateKey) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let name = type_name(key).map_err(|why| anyhow!("host key: {why}"))?;
    let path = folder.join(format!("ssh_host_{name}_key"));
    let pem = key.to_openssh(LineEnding::LF).map_err(|_| anyhow!("encoding a host key"))?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("making {}", folder.display()))?;
    files::replace(&path, 0o600, pem.as_bytes()).with_context(|| format!("writing {}", path.display()))
}

/// The fingerprint as `ssh-keygen -l` prints it: `SHA256:` and base64 without padding.
pub fn fingerprint(key: &russh::keys::PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The keys as text, to be handed to the processes that need them.
///
/// # Errors
/// A key that does not encode.
pub fn to_secrets(keys: &[PrivateKey]) -> anyhow::Result<Vec<Secret>> {
    keys.iter()
        .map(|key| {
            let pem = key.to_openssh(LineEnding::LF).map_err(|_| anyhow!("encoding a host key"))?;
            Ok(Secret::new(pem.as_str()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_made_key_is_kept_and_matches_ssh_keygen() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("ssh");
        let first = load_or_generate(&folder).unwrap();
        let again = load_or_generate(&folder).unwrap();
        assert_eq!(fingerprint(first[0].public_key()), fingerprint(again[0].public_key()));
        let path = folder.join("ssh_host_ed25519_key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let out = std::process::Command::new("ssh-keygen").arg("-lf").arg(&path).output().unwrap();
        let line = String::from_utf8(out.stdout).unwrap();
        assert_eq!(line.split(' ').nth(1).unwrap(), fingerprint(first[0].public_key()));
    }

    #[test]
    fn injected_keys_of_each_type_are_installed() {
        let root = tempfile::tempdir().unwrap();
        let mut keys = Vec::new();
        for name in TYPES {
            let path = root.path().join(name);
            let status = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", name, "-N", "", "-f"])
                .arg(&path)
                .status()
                .unwrap();
            assert!(status.success());
            keys.push(Secret::new(std::fs::read_to_string(&path).unwrap()));
        }
        install(root.path(), &keys).unwrap();
        assert_eq!(load_or_generate(&root.path().join("etc/ssh")).unwrap().len(), 3);
    }

    #[test]
    fn a_certificate_is_of_a_host_and_of_its_key() {
        use russh::keys::ssh_key::certificate::Builder;
        let (ca, key, other) = (generate().unwrap(), generate().unwrap(), generate().unwrap());
        let line = |kind, of: &PrivateKey| {
            let mut it = Builder::new(vec![7; 16], of.public_key().key_data().clone(), 1000, 2000).unwrap();
            it.serial(1)
                .unwrap()
                .key_id("h")
                .unwrap()
                .cert_type(kind)
                .unwrap()
                .valid_principal("db7")
                .unwrap();
            it.sign(&ca).unwrap().to_openssh().unwrap()
        };
        let keys = [key.clone(), other.clone()];
        let refused = |line: String| parse_certificates(&[line], &keys).unwrap_err().to_string();
        let good = line(CertType::Host, &key);
        assert_eq!(parse_certificates(std::slice::from_ref(&good), &keys).unwrap().len(), 1);
        assert!(refused(line(CertType::User, &key)).contains("of a user"));
        // Of two of a type the first is shown.
        assert!(refused(line(CertType::Host, &other)).contains("host_certificates[0]: is of no host key"));
        for cut in 0..good.trim_end().len() {
            assert!(parse_certificates(&[good[..cut].into()], &keys).is_err(), "{cut}");
        }
        let bytes = Certificate::from_openssh(good.trim()).unwrap().to_bytes().unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let Ok(text) = Certificate::from_bytes(&changed).and_then(|it| it.to_openssh()) else { continue };
            assert!(parse_certificates(&[text], &keys).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_bad_key_is_named_and_not_quoted() {
        let root = tempfile::tempdir().unwrap();
        let bad =
            Secret::new("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n");
        let error = format!("{:#}", install(root.path(), &[bad]).unwrap_err());
        assert!(error.contains("host_keys[0]") && !error.contains("hunter2"), "{error}");
        assert!(!root.path().join("etc/ssh").exists());
    }
}
