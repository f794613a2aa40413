//! `imagebuilder inject`: one rescue session's credentials as a cpio that is appended to the image.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use rescue_schema::Secret;
use rescue_schema::credentials::{Document, LOGIN_NAMES, Login, MAX_DOCUMENT, VERSION};
use rescue_schema::paths;
use sha_crypt::PasswordHasher;
use ssh_key::PublicKey;

use crate::cpio::{Kind, Writer};
use crate::host_key;
use crate::output::Output;

/// Bytes of seed: twice what fills the kernel's pool (256 bits).
const SEED_BYTES: usize = 64;
/// Longest password in bytes (as crypt(5) takes them).
const MAX_PASSWORD: usize = 512;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    /// `device.json`, or `-` for standard input; none: an empty document.
    pub(crate) device: Option<PathBuf>,
    /// The login whose plain password is on standard input.
    pub(crate) password_for: Option<String>,
    /// Whether to add random bytes for the guest's generator.
    pub(crate) seed: bool,
    /// Whether to make the host key.
    pub(crate) host_key: bool,
    /// The names, by commas, under which clients know the machine; none: the document's host name.
    pub(crate) hosts: Option<String>,
}

/// Writes `output`, mode 0600. Returns the line of `known_hosts` for a host key that was made.
///
/// # Errors
/// A document that is wrong or has a host key already, a password that is empty, or those of the file
/// system.
pub(crate) fn inject(wish: &Wish, output: &Path) -> Result<Option<String>> {
    let mut document = document(wish)?;
    let known = match wish.host_key {
        true => Some(host_key::add(&mut document, wish.hosts.as_deref(), &random()?)?),
        false => None,
    };
    let seed = wish.seed.then(random::<SEED_BYTES>).transpose()?;
    let archive = archive(&document, seed.as_ref().map(|seed| &seed[..]))?;
    let name = output
        .file_name()
        .and_then(|n| n.to_str())
        .with_context(|| format!("{}: not a file name", output.display()))?;
    ensure!(!output.is_dir(), "{}: a directory; name a file with -o", output.display());
    let folder = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut files = Output::new(folder, archive.len() as u64)?;
    files.file(name, 0o600, |file| Ok(file.write_all(&archive)?))?;
    files.commit()?;
    Ok(known)
}

/// Random bytes of this machine.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut rest = &mut bytes[..];
    while !rest.is_empty() {
        let got = rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty())
            .context("asking this machine for random bytes")?;
        rest = rest.get_mut(got..).unwrap_or_default();
    }
    Ok(bytes)
}

fn document(wish: &Wish) -> Result<Document> {
    let mut document = match &wish.device {
        Some(path) if path.as_os_str() == "-" => {
            read_document("standard input", &mut std::io::stdin().lock())?
        }
        Some(path) => {
            let mut file =
                std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
            read_document(&path.display().to_string(), &mut file)?
        }
        None => Document::parse(format!("{{\"version\":{VERSION}}}").as_bytes())?,
    };
    if let Some(name) = &wish.password_for {
        let hash = hash(&read_password(&mut std::io::stdin().lock())?)?;
        set_password(&mut document, name, hash)?;
    }
    Ok(document)
}

/// A machine goes by the keys that are whole and says which are not; here is who can still paste it again.
fn check_keys(document: &Document) -> Result<()> {
    let of = |at: usize| format!("logins[{at}].authorized_keys");
    let logins = document.logins.iter().enumerate().map(|(at, login)| (of(at), &login.authorized_keys));
    for (field, lines) in logins.chain([("ssh.user_ca_keys".into(), &document.ssh.user_ca_keys)]) {
        for (at, line) in lines.iter().enumerate() {
            ensure!(
                line.starts_with('#') || has_key(line),
                "{field}[{at}]: no public key, or not all of one"
            );
        }
    }
    Ok(())
}

/// Whether a key stands in a line of `authorized_keys`, behind its options and before its comment (sshd(8)).
fn has_key(line: &str) -> bool {
    let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| PublicKey::from_openssh(&pair.join(" ")).is_ok())
}

/// Reads and validates a document, its keys as well.
///
/// # Errors
/// When it cannot be read or is wrong.
pub(crate) fn read_document(name: &str, source: &mut dyn Read) -> Result<Document> {
    let mut bytes = Vec::new();
    source
        .take(MAX_DOCUMENT as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {name}"))?;
    let document = Document::parse(&bytes).with_context(|| name.to_string())?;
    check_keys(&document).with_context(|| name.to_string())?;
    Ok(document)
}

fn read_password(source: &mut dyn Read) -> Result<Secret> {
    let mut bytes = Vec::new();
    source.take(MAX_PASSWORD as u64 + 2).read_to_end(&mut bytes).context("reading the password")?;
    let text =
        String::from_utf8(bytes).map_err(|_| anyhow!("the password on standard input is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    ensure!(!text.is_empty(), "no password on standard input; give it as one line");
    ensure!(!text.contains(['\n', '\0']), "the password on standard input is more than one line");
    ensure!(text.len() <= MAX_PASSWORD, "the password is over {MAX_PASSWORD} bytes");
    Ok(Secret::new(text))
}

/// Bytes of salt: 16 characters in its encoding, the most that crypt(5) takes. The library's own
/// salts are longer, and other implementations would cut them.
const SALT_BYTES: usize = 12;

/// `$6$` with a random salt (crypt(5)).
fn hash(password: &Secret) -> Result<Secret> {
    let hash = sha_crypt::ShaCrypt::default()
        .hash_password_with_salt(password.expose_secret().as_bytes(), &random::<SALT_BYTES>()?)
        .map_err(|e| anyhow!("hashing the password: {e}"))?;
    Ok(Secret::new(hash.as_str()))
}

fn set_password(document: &mut Document, name: &str, hash: Secret) -> Result<()> {
    ensure!(LOGIN_NAMES.contains(&name), "no login {name:?}; there are: {}", LOGIN_NAMES.join(", "));
    match document.logins.iter_mut().find(|login| login.name == name) {
        Some(login) => login.password_hash = Some(hash),
        None => document.logins.push(Login {
            name: name.into(),
            password_hash: Some(hash),
            authorized_keys: Vec::new(),
        }),
    }
    Ok(document.validate()?)
}

/// The archive, with the parent folders that an image may not have yet.
///
/// # Errors
/// None in practice; the writer's.
pub(crate) fn archive(document: &Document, seed: Option<&[u8]>) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(document)?;
    let mut writer = Writer::new(Vec::new());
    writer.entry("etc", 0o755, Kind::Directory)?;
    writer.entry("etc/rescue", 0o700, Kind::Directory)?;
    writer.entry(paths::DEVICE_DOCUMENT.trim_start_matches('/'), 0o600, Kind::File(&json))?;
    if let Some(seed) = seed {
        writer.entry(paths::RANDOM_SEED.trim_start_matches('/'), 0o600, Kind::File(seed))?;
    }
    Ok(writer.finish()?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha_crypt::PasswordVerifier;
    use std::os::unix::fs::PermissionsExt;

    const JSON: &str = r#"{"version":1,"logins":[{"name":"root","authorized_keys":["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEr5zwQYcZ6uQ0pyo5yYy5Q9P8CeSGbPOkT1Lq1rS3vK a"]}]}"#;

    #[test]
    fn a_password_is_hashed_with_its_own_salt() {
        let one = hash(&Secret::new("correct horse")).unwrap();
        let two = hash(&Secret::new("correct horse")).unwrap();
        assert!(one.expose_secret().starts_with("$6$") && one != two);
        let parsed = sha_crypt::PasswordHash::new(one.expose_secret()).unwrap();
        assert!(sha_crypt::ShaCrypt::default().verify_password(b"correct horse", &parsed).is_ok());
        assert!(sha_crypt::ShaCrypt::default().verify_password(b"correct hors", &parsed).is_err());
    }

    #[test]
    fn another_implementation_makes_the_same_hash() {
        let ours = hash(&Secret::new("correct horse")).unwrap();
        let fields: Vec<&str> = ours.expose_secret().split('$').collect();
        let [_, "6", parameters @ .., salt, _] = &fields[..] else { panic!("{fields:?}") };
        let salt = parameters.iter().chain([salt]).copied().collect::<Vec<_>>().join("$");
        let theirs = std::process::Command::new("openssl")
            .args(["passwd", "-6", "-salt", &salt, "correct horse"])
            .output()
            .expect("openssl is needed: apt-get install openssl");
        assert_eq!(String::from_utf8_lossy(&theirs.stdout).trim_end(), ours.expose_secret());
    }

    #[test]
    fn a_password_goes_into_its_login_or_makes_it() {
        let mut document = Document::parse(JSON.as_bytes()).unwrap();
        set_password(&mut document, "root", hash(&Secret::new("x")).unwrap()).unwrap();
        set_password(&mut document, "admin", hash(&Secret::new("y")).unwrap()).unwrap();
        assert_eq!(document.logins.len(), 2);
        assert_eq!(document.logins[0].authorized_keys.len(), 1);
        assert!(set_password(&mut document, "bob", Secret::new("$6$a$b")).is_err());
    }

    #[test]
    fn passwords_are_one_line() {
        assert_eq!(read_password(&mut &b"a b\n"[..]).unwrap().expose_secret(), "a b");
        for wrong in [&b""[..], b"\n", b"a\nb\n", b"a\0", &[0xff], &[b'a'; 600]] {
            assert!(read_password(&mut &wrong[..]).is_err());
        }
    }

    #[test]
    fn the_file_is_private_and_without_a_seed_always_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("device.json");
        std::fs::write(&json, JSON).unwrap();
        let wish = Wish { device: Some(json), password_for: None, seed: false, host_key: false, hosts: None };
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        inject(&wish, &a).unwrap();
        inject(&wish, &b).unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        assert_eq!(std::fs::metadata(&a).unwrap().permissions().mode() & 0o777, 0o600);
        inject(&Wish { seed: true, ..wish }, &b).unwrap();
        assert!(std::fs::read(&b).unwrap().len() > std::fs::read(&a).unwrap().len() + SEED_BYTES);
    }

    #[test]
    fn a_key_that_is_cut_off_is_named() {
        let whole = Document::parse(JSON.as_bytes()).unwrap();
        check_keys(&whole).unwrap();
        let key = &whole.logins[0].authorized_keys[0];
        let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJHGjVb+MSM/BaoS38Nnjn8xambJYwiUOgG77eCwOg9TPXHZAfzRHPovgPwtesaE4sY2DWsHREFAXD9ril/eQWo=";
        for line in [
            &format!("restrict,command=\"a b\" {key}"),
            ecdsa,
            "# mine, and yours",
            "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIEr5zwQYcZ6uQ0pyo5yYy5Q9P8CeSGbPOkT1Lq1rS3vKAAAABHNzaDo=",
        ] {
            let mut document = whole.clone();
            document.logins[0].authorized_keys.push(line.to_string());
            check_keys(&document).unwrap();
        }
        for line in ["ssh-ed25519 A", &key[..60], "no key", &ecdsa[..ecdsa.len() - 4]] {
            let mut document = whole.clone();
            document.logins[0].authorized_keys.push(line.to_string());
            let text = format!("{:#}", check_keys(&document).unwrap_err());
            assert!(text.starts_with("logins[0].authorized_keys[1]: "), "{text}");
        }
    }

    #[test]
    fn a_wrong_document_writes_nothing() {
        let text = format!("{:#}", read_document("x", &mut &b"{\"version\":9}"[..]).unwrap_err());
        assert!(text.contains("version"), "{text}");
    }
}
