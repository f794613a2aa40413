//! Which operating system is on a file system, and what it says of itself: looked at through a folder
//! from which no symlink leads out, with nothing written.
//!
//! [`look`] asks each family in turn and then what is there to boot. To add a family: its file, and its row
//! in `FAMILIES`. What several file systems say of one system (a separate /usr, /boot, the ESP) is put
//! together by the caller.

mod boot;
mod elf;
mod esxi;
mod freebsd;
mod linux;
mod ostree;
pub mod regf;
mod times;
mod windows;

use std::os::fd::BorrowedFd;

pub use boot::Boot;
pub use elf::architecture;
pub use linux::{facts, shell_of_root};

use crate::sys::mounts::names_inside;

/// Most bytes of a small file of a system that is read.
const LIMIT: usize = 1 << 20;
/// Most names of one folder that are looked at.
const NAMES: usize = 4096;

/// What an operating system's root file system says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `linux`, `windows`, `freebsd`, `esxi`.
    pub family: &'static str,
    /// Its host name.
    pub hostname: Option<String>,
    /// `ID` of its os-release, or the same word for what has none.
    pub id: Option<String>,
    /// What it calls itself.
    pub pretty_name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Edition (Windows): `ServerStandard`.
    pub edition: Option<String>,
    /// Build (Windows, ESXi).
    pub build: Option<String>,
    /// What its programs run on, as `uname -m` says it.
    pub architecture: Option<String>,
    /// Its own identity: /etc/machine-id, `MachineGuid`.
    pub machine_id: Option<String>,
    /// `/etc/fstab`, when it could be read.
    pub fstab: Option<Vec<u8>>,
    /// `/etc/crypttab`, when there is one.
    pub crypttab: Option<Vec<u8>>,
    /// The folder that it has for the ESP.
    pub esp: Option<&'static str>,
    /// `mdadm.conf`, when there is one.
    pub mdadm: Option<Vec<u8>>,
    /// What speaks for it, a phrase each; the best first.
    pub evidence: Vec<String>,
    /// What is to be known before it is changed, a sentence each.
    pub notes: Vec<String>,
    /// When it last booted, in seconds since 1970.
    pub last_boot: Option<i64>,
    /// When it last wrote to a log, in seconds since 1970.
    pub last_log: Option<i64>,
}

impl Facts {
    /// How sure it is that a whole system is here: `certain`, `likely`, `remains`.
    pub fn sure(&self) -> &'static str {
        match (self.pretty_name.is_some(), self.architecture.is_some(), self.evidence.len()) {
            (true, true, 2..) => "certain",
            (true, ..) | (_, true, 2..) => "likely",
            _ => "remains",
        }
    }
}

/// Asks whether a family's system is here.
type Look = fn(BorrowedFd<'_>, &[String]) -> Option<Facts>;

/// In order: the first that says yes is right. FreeBSD's root has an fstab and an os-release too.
const FAMILIES: &[Look] = &[freebsd::look, linux::look, ostree::look, windows::look, esxi::look];

/// Everything that one file system says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The system whose root it is.
    pub facts: Option<Facts>,
    /// What there is to boot.
    pub boot: Boot,
    /// What a separate /usr says: the os-release in `lib/`.
    pub usr: Option<Facts>,
    /// What it looks like where it is no root: `/boot`, `/usr`, `/var`, `/boot/efi`.
    pub role: Option<&'static str>,
}

/// Looks at a file system from its root.
pub fn content(root: BorrowedFd<'_>) -> Content {
    let top = names_inside(root, ".", NAMES).unwrap_or_default();
    let has = |name: &str| top.iter().any(|n| n == name);
    let facts = FAMILIES.iter().find_map(|look| look(root, &top));
    let boot = boot::look(root, &top);
    // A /boot has an empty folder to mount the ESP at, or one of kernels alone (XBOOTLDR).
    let efi = any_case(root, &["EFI"]).and_then(|folder| names_inside(root, &folder, NAMES).ok());
    let efi = efi.unwrap_or_default();
    let is_esp = efi.iter().any(|n| !n.eq_ignore_ascii_case("Linux") && !n.eq_ignore_ascii_case("EFI"));
    let kernels = !boot.kernels.is_empty() || efi.iter().any(|n| n.eq_ignore_ascii_case("Linux"));
    let role = match () {
        () if facts.is_some() => None,
        () if is_esp && !has("etc") => Some("/boot/efi"),
        () if kernels && !has("etc") => Some("/boot"),
        () if has("bin") && has("lib") && has("share") && !has("etc") => Some("/usr"),
        () if has("log") && has("lib") && has("spool") => Some("/var"),
        () => None,
    };
    let usr = (role == Some("/usr")).then(|| linux::usr(root)).flatten();
    Content { facts, boot, usr, role }
}

/// The system whose root this is.
pub fn look(root: BorrowedFd<'_>) -> Option<Facts> {
    content(root).facts
}

/// A name below `folder` in whatever case it is written there (NTFS and FAT keep the case and do not
/// tell it apart).
fn any_case(root: BorrowedFd<'_>, path: &[&str]) -> Option<String> {
    let mut found = String::from(".");
    for part in path {
        let names = names_inside(root, &found, NAMES).ok()?;
        let name = names.into_iter().find(|n| n.eq_ignore_ascii_case(part))?;
        found = format!("{found}/{name}");
    }
    Some(found)
}

/// Text of a disk, of one line, for a terminal that must not obey it.
fn plain(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_string())
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
pub(super) mod tests {
    use super::*;
    use std::os::fd::AsFd;

    pub(super) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    pub(super) fn facts(root: &tempfile::TempDir) -> Option<Facts> {
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
    fn a_boot_with_a_folder_for_the_esp_is_none() {
        let role = |files: &[(&str, &str)]| {
            let root = tree(files);
            content(crate::sys::mounts::folder(root.path()).unwrap().as_fd()).role
        };
        assert_eq!(role(&[("EFI/debian/shimx64.efi", "x")]), Some("/boot/efi"));
        assert_eq!(role(&[("EFI/BOOT/x.efi", "x"), ("vmlinuz-linux", "k")]), Some("/boot/efi"));
        assert_eq!(role(&[("vmlinuz-6.5", "k"), ("efi/EFI/fedora/shim.efi", "x")]), Some("/boot"));
        assert_eq!(role(&[("EFI/Linux/arch.efi", "x"), ("loader/entries/a.conf", "x")]), Some("/boot"));
        assert_eq!(role(&[("photos/x", "")]), None);
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
