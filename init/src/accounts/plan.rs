//! From a document to databases and homes: pure, then applied.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use rescue_schema::credentials::{Document, LOGIN_NAMES, Login};

use super::{group, passwd, shadow};
use crate::sys::files;

/// System accounts that tools and udev rules name. None of them may log in.
const SYSTEM: &[(&str, u32, u32, &str)] = &[
    ("daemon", 1, 1, "/usr/sbin"),
    ("bin", 2, 2, "/bin"),
    ("sys", 3, 3, "/dev"),
    ("mail", 8, 8, "/var/mail"),
    ("sshd", 74, 74, "/run/sshd"),
    ("nobody", 65534, 65534, "/nonexistent"),
];
const NO_LOGIN: &str = "/usr/sbin/nologin";

/// The accounts of a rescue, before they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    passwd: Vec<passwd::Row>,
    shadow: Vec<shadow::Row>,
    homes: Vec<Home>,
    shell: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Home {
    path: String,
    authorized_keys: Vec<String>,
}

/// Plans the accounts that `document` names, with `shell` as login shell.
///
/// `root` always exists, because tools look up uid 0, and comes first, so that uid 0 is called
/// `root`; without a document it is locked. `admin` exists when the document names it.
pub fn plan(document: Option<&Document>, shell: &Path) -> Plan {
    let logins = document.map_or(&[][..], |d| &d.logins);
    let shell = shell.to_string_lossy().into_owned();
    let mut plan = Plan { passwd: Vec::new(), shadow: Vec::new(), homes: Vec::new(), shell };
    for name in LOGIN_NAMES {
        let login = logins.iter().find(|login| login.name == name);
        if login.is_some() || name == "root" {
            plan.add_login(name, login);
        }
    }
    for (name, uid, gid, home) in SYSTEM {
        plan.passwd.push(passwd::Row::new(name, (*uid, *gid), "", home, NO_LOGIN));
        plan.shadow.push(shadow::Row { name: name.to_string(), password: shadow::Password::Locked });
    }
    plan
}

impl Plan {
    fn add_login(&mut self, name: &str, login: Option<&Login>) {
        let home = if name == "root" { "/root".to_string() } else { format!("/home/{name}") };
        self.passwd.push(passwd::Row::new(name, (0, 0), "Rescue", &home, &self.shell));
        let password = match login {
            None => shadow::Password::Locked,
            Some(Login { password_hash: None, .. }) => shadow::Password::None,
            Some(Login { password_hash: Some(hash), .. }) => shadow::Password::Hash(hash.clone()),
        };
        self.shadow.push(shadow::Row { name: name.to_string(), password });
        let authorized_keys = login.map(|l| l.authorized_keys.clone()).unwrap_or_default();
        self.homes.push(Home { path: home, authorized_keys });
    }

    /// Writes the databases and homes, with `root` in the place of `/`. Each file is replaced whole.
    /// A home that fails does not keep the others from being made; the password hashes come last,
    /// so that no login works before all of it is there.
    ///
    /// # Errors
    /// The first thing that failed, after everything was tried.
    pub fn apply(&self, root: &Path) -> anyhow::Result<()> {
        let shells = match self.shell.as_str() {
            "/bin/sh" => "/bin/sh\n".to_string(),
            other => format!("/bin/sh\n{other}\n"),
        };
        let mut results = vec![make_folder(&root.join("etc"), 0o755)];
        results.extend(self.homes.iter().map(|home| home.make(root)));
        let shadow = shadow::render(&self.shadow);
        for (path, mode, content) in [
            ("etc/shells", 0o644, shells.as_bytes()),
            ("etc/group", 0o644, group::render().as_bytes()),
            ("etc/passwd", 0o644, passwd::render(&self.passwd).as_bytes()),
            ("etc/shadow", 0o600, shadow.as_bytes()),
        ] {
            let path = root.join(path);
            results.push(
                files::replace(&path, mode, content).with_context(|| format!("writing {}", path.display())),
            );
        }
        results.into_iter().collect()
    }
}

impl Home {
    fn make(&self, root: &Path) -> anyhow::Result<()> {
        let home = root.join(self.path.trim_start_matches('/'));
        if let Some(parent) = home.parent() {
            make_folder(parent, 0o755)?;
        }
        make_folder(&home, 0o700)?;
        let ssh = home.join(".ssh");
        let keys = ssh.join("authorized_keys");
        if self.authorized_keys.is_empty() {
            // Keys that an image brought along were not injected: they open nothing.
            return match std::fs::remove_file(&keys) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("removing {}", keys.display()))
                }
                _ => Ok(()),
            };
        }
        make_folder(&ssh, 0o700)?;
        let lines: String = self.authorized_keys.iter().map(|line| format!("{line}\n")).collect();
        files::replace(&keys, 0o600, lines.as_bytes()).with_context(|| format!("writing {}", keys.display()))
    }
}

fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("making the folder {}", path.display()))
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("accounts:")?;
        for (row, home) in self.shadow.iter().zip(&self.homes) {
            let password = match row.password {
                shadow::Password::Hash(_) => "password",
                shadow::Password::None => "no password",
                shadow::Password::Locked => "locked",
            };
            write!(f, " {} ({password}, {} keys)", row.name, home.authorized_keys.len())?;
        }
        write!(f, ", shell {}", self.shell)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HASH: &str = "$5$abc$HEtZB/1K6XJ99xRK14R.qL6AxT3f9/cPAGbTKZddAT6";

    fn document() -> Document {
        let json = format!(
            r#"{{"version":1,"logins":[
                {{"name":"admin","password_hash":"{HASH}"}},
                {{"name":"root","authorized_keys":["ssh-ed25519 AAAA a","ssh-rsa BBBB b"]}}]}}"#
        );
        Document::parse(json.as_bytes()).unwrap()
    }

    fn read(root: &Path, path: &str) -> (String, u32) {
        let path = root.join(path);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        (if path.is_dir() { String::new() } else { std::fs::read_to_string(&path).unwrap() }, mode)
    }

    #[test]
    fn both_logins() {
        let plan = plan(Some(&document()), Path::new("/bin/bash"));
        assert_eq!(
            plan.to_string(),
            "accounts: root (no password, 2 keys) admin (password, 0 keys), shell /bin/bash"
        );
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        plan.apply(root).unwrap();
        plan.apply(root).unwrap();
        assert_eq!(
            read(root, "etc/passwd"),
            (
                "root:x:0:0:Rescue:/root:/bin/bash\n\
                 admin:x:0:0:Rescue:/home/admin:/bin/bash\n\
                 daemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
                 bin:x:2:2::/bin:/usr/sbin/nologin\n\
                 sys:x:3:3::/dev:/usr/sbin/nologin\n\
                 mail:x:8:8::/var/mail:/usr/sbin/nologin\n\
                 sshd:x:74:74::/run/sshd:/usr/sbin/nologin\n\
                 nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"
                    .into(),
                0o644
            )
        );
        assert_eq!(
            read(root, "etc/shadow"),
            (
                format!(
                    "root:*:::::::\nadmin:{HASH}:::::::\ndaemon:!:::::::\nbin:!:::::::\nsys:!:::::::\n\
                     mail:!:::::::\nsshd:!:::::::\nnobody:!:::::::\n"
                ),
                0o600
            )
        );
        assert_eq!(read(root, "etc/shells").0, "/bin/sh\n/bin/bash\n");
        assert_eq!(read(root, "root").1, 0o700);
        assert_eq!(read(root, "home").1, 0o755);
        assert_eq!(read(root, "home/admin").1, 0o700);
        assert_eq!(read(root, "root/.ssh").1, 0o700);
        assert_eq!(
            read(root, "root/.ssh/authorized_keys"),
            ("ssh-ed25519 AAAA a\nssh-rsa BBBB b\n".into(), 0o600)
        );
    }

    #[test]
    fn without_credentials_root_is_locked_and_keys_of_the_image_go() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("root/.ssh")).unwrap();
        std::fs::write(root.join("root/.ssh/authorized_keys"), "ssh-ed25519 AAAA x\n").unwrap();
        let plan = plan(None, Path::new("/bin/sh"));
        assert_eq!(plan.to_string(), "accounts: root (locked, 0 keys), shell /bin/sh");
        plan.apply(root).unwrap();
        assert!(read(root, "etc/shadow").0.starts_with("root:!:::::::\n"));
        assert!(!read(root, "etc/passwd").0.contains("admin"));
        assert!(!root.join("root/.ssh/authorized_keys").exists());
    }

    #[test]
    fn no_secret_is_printed() {
        let plan = plan(Some(&document()), Path::new("/bin/sh"));
        assert!(!format!("{plan:?} {plan}").contains("HEtZB"));
    }

    #[test]
    fn one_failure_leaves_the_rest_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("home"), "in the way").unwrap();
        let error = plan(Some(&document()), Path::new("/bin/sh")).apply(dir.path()).unwrap_err();
        assert!(format!("{error:#}").contains("/home"), "{error:#}");
        assert!(dir.path().join("etc/shadow").exists());
        assert!(dir.path().join("root/.ssh/authorized_keys").exists());
    }
}
