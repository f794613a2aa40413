//! Whether a file system is the root of a Linux system, and what that system calls itself.

use std::os::fd::BorrowedFd;

use crate::sys::mounts::{folder_inside, read_inside};

/// Most bytes of a small file of a system that is read.
const LIMIT: usize = 1 << 20;

/// What the root file system of a Linux system says of that system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `/etc/hostname`.
    pub hostname: Option<String>,
    /// `ID` of its os-release.
    pub id: Option<String>,
    /// `PRETTY_NAME` of its os-release.
    pub pretty_name: Option<String>,
    /// `/etc/fstab`, when it could be read.
    pub fstab: Option<Vec<u8>>,
}

/// Looks at a root file system without following a symlink out of it. `None` when it is none: there is
/// neither an os-release nor an fstab with a place for programs beside it (/usr may be a file system of
/// its own, with the os-release on it).
pub fn look(root: BorrowedFd<'_>) -> Option<Facts> {
    let read = |path| read_inside(root, path, LIMIT).ok();
    let release = read("etc/os-release").or_else(|| read("usr/lib/os-release"));
    let fstab = read("etc/fstab");
    let programs = || ["usr", "bin", "sbin"].iter().any(|p| folder_inside(root, p).is_ok());
    if release.is_none() && !(fstab.is_some() && programs()) {
        return None;
    }
    let hostname = read("etc/hostname").or_else(|| read("etc/HOSTNAME"));
    Some(facts(&release.unwrap_or_default(), hostname.as_deref(), fstab))
}

/// What these files say.
pub fn facts(release: &[u8], hostname: Option<&[u8]>, fstab: Option<Vec<u8>>) -> Facts {
    Facts {
        hostname: hostname.and_then(first_word),
        id: value(release, "ID"),
        pretty_name: value(release, "PRETTY_NAME"),
        fstab,
    }
}

/// The first line that is no comment (hostname(5)).
fn first_word(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'))?;
    Some(line.to_string())
}

/// A value of os-release(5), its quotes and backslashes taken off.
fn value(release: &[u8], key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(release);
    let line = text.lines().filter_map(|l| l.trim().split_once('=')).rfind(|(k, _)| *k == key)?.1;
    let mut out = String::new();
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' | '\'' => {}
            // A terminal must not obey what a disk says, escaped or not.
            '\\' => out.extend(characters.next().filter(|c| !c.is_control())),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    Some(out).filter(|o| !o.is_empty())
}

/// A folder's name made of what the system calls itself: its host name, else what it is, else `linux`.
pub fn name(facts: &Facts) -> String {
    let host = facts.hostname.as_deref().and_then(|h| h.split('.').next());
    let tried = [host.filter(|h| *h != "localhost"), facts.id.as_deref()];
    tried.into_iter().flatten().map(clean).find(|n| !n.is_empty()).unwrap_or_else(|| "linux".into())
}

/// Letters, digits, `-`, `_` and inner dots; at most 64.
pub fn clean(name: &str) -> String {
    let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name.chars().filter(fit).take(64).collect();
    name.trim_matches(['.', '-']).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn facts(root: &tempfile::TempDir) -> Option<Facts> {
        look(crate::sys::mounts::folder(root.path()).unwrap().as_fd())
    }

    #[test]
    fn systems_are_told_from_data() {
        let debian = tree(&[
            ("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n"),
            ("etc/hostname", "# name\ndb7.example.org\n"),
        ]);
        let found = facts(&debian).unwrap();
        assert_eq!(found.pretty_name.as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
        assert_eq!(name(&found), "db7");
        assert_eq!(facts(&tree(&[("etc/fstab", "x")])), None);
        assert_eq!(name(&facts(&tree(&[("etc/fstab", "x"), ("usr/bin/x", "")])).unwrap()), "linux");
    }

    #[test]
    fn hostile_roots_lead_nowhere() {
        let outside = tree(&[("os-release", "ID=host\n"), ("hostname", "host\n")]);
        let root = tree(&[("etc/fstab", "x"), ("bin/x", "")]);
        for file in ["os-release", "hostname"] {
            std::os::unix::fs::symlink(outside.path().join(file), root.path().join("etc").join(file))
                .unwrap();
        }
        assert_eq!(name(&facts(&root).unwrap()), "linux");
        let names = ["../../etc", "..", ".", "/", "a b\n\x1b[2J", "", "-rf"];
        let cleaned: Vec<String> = names.into_iter().map(clean).collect();
        assert_eq!(cleaned, ["etc", "", "", "", "ab2J", "", "rf"]);
    }
}
