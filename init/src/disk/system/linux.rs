//! Linux: by os-release, and by what is left where that is gone.

use std::os::fd::BorrowedFd;

use super::{Facts, LIMIT, NAMES, architecture, plain, times};
use crate::sys::inside;
use crate::sys::mounts::{folder_inside, names_inside, read_inside};

/// Files of distributions that came before os-release or are left without it: path, `ID`, its name, and
/// whether the first line is the whole name rather than the version.
#[rustfmt::skip]
const OLDER: &[(&str, &str, &str, bool)] = &[
    ("etc/oracle-release",     "ol",        "Oracle Linux",        true),
    ("etc/rocky-release",      "rocky",     "Rocky Linux",         true),
    ("etc/almalinux-release",  "almalinux", "AlmaLinux",           true),
    ("etc/centos-release",     "centos",    "CentOS",              true),
    ("etc/fedora-release",     "fedora",    "Fedora",              true),
    ("etc/redhat-release",     "rhel",      "Red Hat",             true),
    ("etc/SuSE-release",       "suse",      "SUSE",                true),
    ("etc/gentoo-release",     "gentoo",    "Gentoo",              true),
    ("etc/slackware-version",  "slackware", "Slackware",           true),
    ("etc/alpine-release",     "alpine",    "Alpine Linux",        false),
    ("etc/arch-release",       "arch",      "Arch Linux",          false),
    ("etc/debian_version",     "debian",    "Debian GNU/Linux",    false),
];

/// Databases of packages: path, `ID` that they speak for, what they are called.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("var/lib/dpkg/status", "debian", "dpkg"),
    ("var/lib/rpm", "rpm", "rpm"),
    ("usr/lib/sysimage/rpm", "rpm", "rpm"),
    ("var/lib/pacman/local", "arch", "pacman"),
    ("lib/apk/db/installed", "alpine", "apk"),
    ("var/db/pkg", "gentoo", "portage"),
    ("nix/var/nix/db", "nixos", "nix"),
];

/// Programs that every system has, the first found of which says what it runs on.
const PROGRAMS: &[&str] = &["bin/sh", "usr/bin/sh", "bin/bash", "bin/busybox", "sbin/init", "usr/bin/env"];

/// The root file system of a Linux system: it has an os-release or one of its older kin, or an fstab, a
/// database of packages or modules of a kernel beside a place for programs (/usr may be a file system of
/// its own, with the os-release on it).
pub(super) fn look(root: BorrowedFd<'_>, top: &[String]) -> Option<Facts> {
    let read = |path| read_inside(root, path, LIMIT).ok();
    let first = |path| inside::head(root, path, 4096).ok().and_then(|b| first_word(&b));
    let mut evidence = Vec::new();
    let own = ["etc/os-release", "usr/lib/os-release"].into_iter().find_map(|p| Some((p, read(p)?)));
    let fstab = read("etc/fstab");
    let hostname = ["etc/hostname", "etc/HOSTNAME"].into_iter().find_map(read);
    let mut found = Facts::default();
    if let Some((path, release)) = &own {
        found = facts(release, None, None);
        if found.id.is_some() || found.pretty_name.is_some() {
            evidence.push(format!("/{path}"));
        } else {
            found.notes.push(format!("/{path} is empty, or names no system"));
        }
    }
    if found.pretty_name.is_none() {
        let older = OLDER.iter().find_map(|row| Some((row, first(row.0).or(known(root, row.0))?)));
        if let Some((&(path, id, name, whole), line)) = older {
            found.id = found.id.or(Some(id.into()));
            found.version = found.version.or(plain(&line).filter(|_| !whole && line != "-"));
            let version = found.version.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
            found.pretty_name = if whole { plain(&line) } else { Some(format!("{name}{version}")) };
            evidence.push(format!("/{path}"));
        }
    }
    if let Some((path, id, name)) = PACKAGES.iter().find(|row| inside::known(root, row.0).is_ok()) {
        evidence.push(format!("its {name} database /{path}"));
        if found.id.is_none() && *id != "rpm" {
            found.id = Some((*id).into());
        }
    }
    let modules = ["lib/modules", "usr/lib/modules"];
    let modules: Vec<String> = modules
        .iter()
        .find_map(|p| names_inside(root, p, NAMES).ok().filter(|n| !n.is_empty()))
        .unwrap_or_default();
    if let Some(newest) = modules.iter().max_by(|a, b| super::boot::by_version(a, b)) {
        evidence.extend(plain(&format!("modules of kernel {newest}")));
    }
    if fstab.is_some() {
        evidence.push("/etc/fstab".into());
    }
    // Whatever has users; with /usr a file system of its own there may be no program here.
    let users =
        || ["etc/passwd", "etc/shadow", "etc/hostname"].iter().find(|p| inside::known(root, p).is_ok());
    if evidence.is_empty() {
        evidence.extend(users().map(|path| format!("/{path}")));
    }
    let places = || ["usr", "bin", "sbin"].iter().any(|p| folder_inside(root, p).is_ok());
    let has_etc = top.iter().any(|n| n == "etc");
    if own.is_none() && (evidence.is_empty() || !has_etc || !places()) {
        return None;
    }
    found.architecture = PROGRAMS.iter().find_map(|p| architecture(&inside::head(root, p, 64).ok()?));
    if found.architecture.is_some() {
        evidence.push("its programs".into());
    }
    found.hostname = hostname.as_deref().and_then(first_word);
    found.machine_id =
        first("etc/machine-id").filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    (found.last_boot, found.last_log) = times::of(root, "var/log");
    if selinux(read("etc/selinux/config").as_deref()) {
        found
            .notes
            .push("SELinux is on: what is changed from here needs new labels, `touch /.autorelabel`".into());
    }
    let esp = ["/boot/efi", "/efi"].into_iter().find(|p| folder_inside(root, p).is_ok());
    let mdadm = ["etc/mdadm/mdadm.conf", "etc/mdadm.conf"].into_iter().find_map(read);
    Some(Facts { family: "linux", fstab, crypttab: read("etc/crypttab"), esp, mdadm, evidence, ..found })
}

fn known(root: BorrowedFd<'_>, path: &str) -> Option<String> {
    // Arch's is an empty file.
    inside::known(root, path).ok().filter(|k| k.regular).map(|_| "-".into())
}

/// What a separate /usr says.
pub(super) fn usr(root: BorrowedFd<'_>) -> Option<Facts> {
    let release = read_inside(root, "lib/os-release", LIMIT).ok()?;
    let mut found = facts(&release, None, None);
    found.architecture =
        ["bin/sh", "bin/bash", "bin/env"].iter().find_map(|p| architecture(&inside::head(root, p, 64).ok()?));
    found.evidence = vec!["/usr/lib/os-release".into()];
    Some(found)
}

/// What these files say.
pub fn facts(release: &[u8], hostname: Option<&[u8]>, fstab: Option<Vec<u8>>) -> Facts {
    let name =
        || Some(format!("{} {}", value(release, "NAME")?, value(release, "VERSION").unwrap_or_default()));
    Facts {
        family: "linux",
        hostname: hostname.and_then(first_word),
        id: value(release, "ID"),
        pretty_name: value(release, "PRETTY_NAME").or_else(|| plain(&name()?)),
        version: value(release, "VERSION_ID").or_else(|| value(release, "BUILD_ID")),
        fstab,
        ..Facts::default()
    }
}

/// The login shell of root and its home, as this passwd(5) says.
pub fn shell_of_root(passwd: &[u8]) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(passwd);
    let fields = text
        .lines()
        .take(65536)
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| matches!(f.as_slice(), ["root", _, uid, ..] if *uid == "0"))?;
    let (home, shell) = (fields.get(5)?.trim(), fields.get(6).map_or("", |s| s.trim()));
    let sound = |p: &&str| p.starts_with('/') && !p.chars().any(char::is_control);
    let or = |p, other: &str| Some(p).filter(sound).unwrap_or(other).to_string();
    Some((or(shell, "/bin/sh"), or(home, "/root")))
}

/// Whether SELinux labels matter there.
fn selinux(config: Option<&[u8]>) -> bool {
    let mode = config.and_then(|c| value(c, "SELINUX"));
    mode.is_some_and(|m| m == "enforcing" || m == "permissive")
}

/// The first line that is no comment (hostname(5)).
fn first_word(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    plain(text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'))?)
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

#[cfg(test)]
mod tests {
    use super::super::tests::{facts as found, tree};
    use super::*;

    #[test]
    fn what_is_left_without_an_os_release_still_tells() {
        let centos5 = found(&tree(&[
            ("etc/redhat-release", "CentOS release 5.11 (Final)\n"),
            ("etc/fstab", "LABEL=/ / ext3 defaults 1 1\n"),
            ("bin/x", ""),
            ("etc/selinux/config", "# c\nSELINUX=enforcing\n"),
        ]))
        .unwrap();
        assert_eq!(centos5.pretty_name.as_deref(), Some("CentOS release 5.11 (Final)"));
        assert_eq!((centos5.id.as_deref(), centos5.notes.len()), (Some("rhel"), 1));
        let debian = found(&tree(&[("etc/debian_version", "7.11\n"), ("bin/x", "")])).unwrap();
        assert_eq!(debian.pretty_name.as_deref(), Some("Debian GNU/Linux 7.11"));
        let arch = found(&tree(&[("etc/arch-release", ""), ("usr/x", "")])).unwrap();
        assert_eq!(arch.pretty_name.as_deref(), Some("Arch Linux"));
        let bare =
            found(&tree(&[("etc/x", ""), ("usr/x", ""), ("lib/modules/6.1.0-9-amd64/x", "")])).unwrap();
        assert_eq!(bare.evidence, ["modules of kernel 6.1.0-9-amd64"]);
        assert_eq!(bare.sure(), "remains");
        assert!(found(&tree(&[("home/x", ""), ("lost+found/x", "")])).is_none());
    }

    #[test]
    fn a_root_beside_its_usr_is_one() {
        let root =
            found(&tree(&[("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), ("usr/x", ""), ("var/x", "")]));
        assert_eq!(root.map(|r| r.evidence), Some(vec!["/etc/passwd".to_string()]));
    }

    #[test]
    fn an_os_release_that_says_nothing_is_no_evidence() {
        let root = found(&tree(&[("etc/os-release", ""), ("etc/fstab", ""), ("bin/x", "")])).unwrap();
        assert_eq!(root.evidence, ["/etc/fstab"]);
        assert_eq!(root.notes, ["/etc/os-release is empty, or names no system"]);
    }

    #[test]
    fn a_host_name_is_for_a_terminal_that_must_not_obey_it() {
        let root =
            found(&tree(&[("etc/os-release", "ID=x\n"), ("etc/hostname", "\x1b[2J\x07db7\u{9b}2J\n")]));
        assert_eq!(root.and_then(|r| r.hostname).as_deref(), Some("[2Jdb72J"));
    }

    #[test]
    fn a_login_shell_is_a_path_or_the_usual_one() {
        let shell = |text: &str| shell_of_root(text.as_bytes()).map(|(shell, _)| shell);
        assert_eq!(shell("x\nroot:x:0:0:root:/root:/usr/bin/fish\n").as_deref(), Some("/usr/bin/fish"));
        assert_eq!(shell("root:x:0:0:root:/root:\n").as_deref(), Some("/bin/sh"));
        assert_eq!(shell("root:x:0:0:root:/root:-c evil\n").as_deref(), Some("/bin/sh"));
        assert_eq!(shell("toor:x:0:0::/:/bin/sh\n"), None);
    }
}
