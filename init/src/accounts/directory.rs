//! Finding a login: in the databases of a rescue, or in a document on an ordinary machine.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rescue_schema::account::Account;
use rescue_schema::credentials::{LOGIN_NAMES, Login};
use rescue_schema::{Secret, crypt};

use super::{passwd, shadow, verify};
use crate::sys::files;

/// Longest database in bytes.
const MAX_DATABASE: usize = 1 << 20;
/// Longest `authorized_keys` in bytes.
const MAX_KEYS_FILE: usize = 1 << 20;
/// Most lines of `authorized_keys` that are used.
const MAX_KEYS: usize = 256;

/// Where logins are found.
#[derive(Debug, Clone)]
pub struct Directory(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Files(PathBuf),
    Document(Vec<Login>),
}

impl Directory {
    /// The passwd, shadow and `authorized_keys` files, with `root` in the place of `/`. They are read
    /// anew for each login, so that what an engineer changes by hand counts.
    pub fn from_files(root: &Path) -> Self {
        Self(Kind::Files(root.to_path_buf()))
    }

    /// The logins of a document alone, for `rescue sshd --device` on an ordinary machine, whose own passwords and
    /// keys open nothing. Home and shell are those of `/etc/passwd` where it knows the name.
    pub fn from_logins(logins: Vec<Login>) -> Self {
        Self(Kind::Document(logins))
    }

    /// Finds who may log in as `name`: `root` or `admin`, if it has a password or a key and is not
    /// locked.
    ///
    /// # Errors
    /// When a database is there but cannot be read or must not be trusted. An `authorized_keys` of
    /// that kind is left out, with a line in the log, for the password may still be good.
    pub fn find(&self, name: &str) -> anyhow::Result<Option<Account>> {
        if !LOGIN_NAMES.contains(&name) {
            return Ok(None);
        }
        let found = match &self.0 {
            Kind::Files(root) => in_files(root, name)?,
            Kind::Document(logins) => {
                logins.iter().find(|login| login.name == name).map(|login| in_document(login, Path::new("/")))
            }
        };
        Ok(found.filter(|account| account.password_hash.is_some() || !account.authorized_keys.is_empty()))
    }

    /// The account of `name`, if `password` opens it. It takes as long for a name that does not exist
    /// as for one that does: then a hash of the scheme and cost that the others have is computed.
    ///
    /// # Errors
    /// As [`Directory::find`].
    pub fn authenticate(&self, name: &str, password: &[u8]) -> anyhow::Result<Option<Account>> {
        let account = self.find(name)?;
        let hash = account.as_ref().and_then(|a| a.password_hash.as_ref()).map(Secret::expose_secret);
        let others = LOGIN_NAMES.iter().filter(|other| **other != name);
        let decoy = others
            .filter_map(|other| self.find(other).ok().flatten()?.password_hash)
            .find(|hash| crypt::check(hash.expose_secret()).is_ok());
        let right = match &decoy {
            Some(decoy) => verify::verify_like(hash, decoy.expose_secret(), password),
            None => verify::verify(hash, password),
        };
        Ok(account.filter(|_| right))
    }
}

fn in_files(root: &Path, name: &str) -> anyhow::Result<Option<Account>> {
    let Some(row) = passwd::find(&database(&root.join("etc/passwd"))?, name) else { return Ok(None) };
    let password = shadow::find(&zeroize::Zeroizing::new(database(&root.join("etc/shadow"))?), name);
    let password_hash = match password {
        shadow::Password::Locked => return Ok(None),
        shadow::Password::None => None,
        shadow::Password::Hash(hash) => Some(hash),
    };
    let mut account = account(row, password_hash);
    let home = root.join(row_path(&account.home));
    account.authorized_keys = key_lines(&home).unwrap_or_else(|error| {
        crate::sys::log::note("accounts", &format!("no key opens {name}: {error:#}"));
        Vec::new()
    });
    Ok(Some(account))
}

fn in_document(login: &Login, root: &Path) -> Account {
    let row = database(&root.join("etc/passwd")).ok().and_then(|bytes| passwd::find(&bytes, &login.name));
    let row = row.unwrap_or_else(|| passwd::Row::new(&login.name, (0, 0), "", "/", "/bin/sh"));
    let mut account = account(row, login.password_hash.clone());
    account.authorized_keys.clone_from(&login.authorized_keys);
    account
}

/// Both logins have uid 0, whatever id the name has on the machine: that is what they are for.
fn account(row: passwd::Row, password_hash: Option<Secret>) -> Account {
    let absolute = |path: &str, or: &str| PathBuf::from(if path.starts_with('/') { path } else { or });
    Account {
        home: absolute(&row.home, "/"),
        shell: absolute(&row.shell, "/bin/sh"),
        name: row.name,
        uid: 0,
        gid: 0,
        password_hash,
        authorized_keys: Vec::new(),
    }
}

fn row_path(home: &Path) -> &Path {
    home.strip_prefix("/").unwrap_or(home)
}

fn database(path: &Path) -> anyhow::Result<Vec<u8>> {
    trusted(path)?;
    files::read_capped(path, MAX_DATABASE).with_context(|| format!("reading {}", path.display()))
}

/// Lines of `home/.ssh/authorized_keys`, comments left out. No file, no lines.
fn key_lines(home: &Path) -> anyhow::Result<Vec<String>> {
    let ssh = home.join(".ssh");
    let path = ssh.join("authorized_keys");
    if !path.exists() {
        return Ok(Vec::new());
    }
    // As sshd_config(5) StrictModes: whoever could write a folder could replace the file.
    for part in [home, &ssh, &path] {
        trusted(part)?;
    }
    let bytes =
        files::read_capped(&path, MAX_KEYS_FILE).with_context(|| format!("reading {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.take(MAX_KEYS).map(String::from).collect())
}

/// Whether nobody but root (or who runs this) could have written it.
fn trusted(path: &Path) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
    if !(metadata.is_dir() || metadata.is_file()) {
        bail!("{} is neither a file nor a folder", path.display());
    }
    if ![0, rustix::process::geteuid().as_raw()].contains(&Metadata::uid(&metadata)) {
        bail!("{} does not belong to root: `chown root {}`", path.display(), path.display());
    }
    if metadata.mode() & 0o022 != 0 {
        bail!("{} may be written by others: `chmod go-w {}`", path.display(), path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::plan;
    use super::*;
    use rescue_schema::credentials::Document;

    const HASH: &str = "$5$abc$HEtZB/1K6XJ99xRK14R.qL6AxT3f9/cPAGbTKZddAT6";

    fn document() -> Document {
        let json = format!(
            r#"{{"version":1,"logins":[
                {{"name":"root","password_hash":"{HASH}","authorized_keys":["ssh-ed25519 AAAA a"]}},
                {{"name":"admin","authorized_keys":["ssh-rsa BBBB b"]}}]}}"#
        );
        Document::parse(json.as_bytes()).unwrap()
    }

    fn rescue(document: Option<&Document>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        plan(document, Path::new("/bin/sh")).apply(root.path()).unwrap();
        root
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_was_planned_is_found() {
        let root = rescue(Some(&document()));
        let directory = Directory::from_files(root.path());
        assert_eq!(
            directory.find("root").unwrap(),
            Some(Account {
                name: "root".into(),
                uid: 0,
                gid: 0,
                home: "/root".into(),
                shell: "/bin/sh".into(),
                password_hash: Some(Secret::new(HASH)),
                authorized_keys: vec!["ssh-ed25519 AAAA a".into()],
            })
        );
        let admin = directory.find("admin").unwrap().unwrap();
        assert_eq!((admin.password_hash, admin.authorized_keys.len()), (None, 1));
        for nobody in ["nobody", "daemon", "sshd", "", "ROOT", "root\n", "../root", "root:x"] {
            assert_eq!(directory.find(nobody).unwrap(), None, "{nobody:?}");
        }
    }

    #[test]
    fn a_password_opens_its_account_alone() {
        let root = rescue(Some(&document()));
        for directory in [Directory::from_files(root.path()), Directory::from_logins(document().logins)] {
            assert_eq!(directory.authenticate("root", b"correct horse").unwrap().unwrap().name, "root");
            for (name, password) in
                [("root", "wrong"), ("admin", "correct horse"), ("nobody", "correct horse"), ("root", "")]
            {
                assert_eq!(
                    directory.authenticate(name, password.as_bytes()).unwrap(),
                    None,
                    "{name} {password}"
                );
            }
        }
    }

    #[test]
    fn without_credentials_nobody_is_found() {
        let root = rescue(None);
        let directory = Directory::from_files(root.path());
        assert_eq!(directory.find("root").unwrap(), None);
        assert_eq!(directory.find("admin").unwrap(), None);
    }

    #[test]
    fn databases_that_others_could_write_are_an_error_and_keys_are_left_out() {
        let root = rescue(Some(&document()));
        let directory = Directory::from_files(root.path());
        set_mode(&root.path().join("root/.ssh"), 0o770);
        assert_eq!(directory.find("root").unwrap().unwrap().authorized_keys, Vec::<String>::new());
        set_mode(&root.path().join("etc/shadow"), 0o620);
        assert!(directory.find("root").unwrap_err().to_string().contains("chmod go-w"));
    }

    #[test]
    fn garbage_lets_nobody_in() {
        let root = rescue(Some(&document()));
        let directory = Directory::from_files(root.path());
        let junk: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
        for content in [&b""[..], &junk, &vec![b':'; 1 << 20], &vec![b'\n'; 1 << 20], &b"root:".repeat(9999)]
        {
            std::fs::write(root.path().join("etc/shadow"), content).unwrap();
            assert_eq!(directory.find("root").unwrap(), None);
        }
        std::fs::write(root.path().join("etc/passwd"), &junk).unwrap();
        assert_eq!(directory.find("root").unwrap(), None);
        std::fs::write(root.path().join("etc/passwd"), vec![b'x'; (1 << 20) + 1]).unwrap();
        assert!(directory.find("root").is_err());
        std::fs::remove_file(root.path().join("etc/passwd")).unwrap();
        assert!(directory.find("root").is_err());
    }

    #[test]
    fn a_document_takes_home_and_shell_of_the_machine() {
        let root = tempfile::tempdir().unwrap();
        let login = &document().logins[1];
        assert_eq!(in_document(login, root.path()).home, PathBuf::from("/"));
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "admin:x:1000:1000::/home/a:/bin/zsh\n").unwrap();
        let account = in_document(login, root.path());
        assert_eq!(
            (account.uid, account.home, account.shell),
            (0, PathBuf::from("/home/a"), "/bin/zsh".into())
        );
    }
}
