//! Systems that ostree(1) deploys (Fedora CoreOS, Silverblue, Endless): their roots are folders below the file system's
//! own, which has neither programs nor an /etc.

use std::os::fd::BorrowedFd;

use super::{Facts, LIMIT, NAMES, linux, plain};
use crate::sys::mounts::{names_inside, read_inside};

const DEPLOY: &str = "ostree/deploy";

/// Systems and deployments of each that are looked at.
const MOST: usize = 32;

pub(super) fn look(root: BorrowedFd<'_>, top: &[String]) -> Option<Facts> {
    if !top.iter().any(|name| name == "ostree") {
        return None;
    }
    let names = |path: &str| {
        let mut names = names_inside(root, path, NAMES).unwrap_or_default();
        names.retain(|name| !name.ends_with(".origin"));
        names.sort();
        names.truncate(MOST);
        names
    };
    let mut found: Vec<(String, Facts)> = Vec::new();
    for system in names(DEPLOY) {
        for deployment in names(&format!("{DEPLOY}/{system}/deploy")) {
            let folder = format!("{DEPLOY}/{system}/deploy/{deployment}");
            let read = |path: &str| read_inside(root, &format!("{folder}/{path}"), LIMIT).ok();
            let release = ["usr/lib/os-release", "etc/os-release"].into_iter().find_map(read);
            if let Some(release) = release {
                let facts = linux::facts(&release, read("etc/hostname").as_deref(), read("etc/fstab"));
                found.push((folder, facts));
            }
        }
    }
    let several = found.len();
    let (folder, mut facts) = found.into_iter().next()?;
    facts.evidence.extend(plain(&format!("its deployment /{folder}")));
    let others = if several > 1 { format!(", one of {several}") } else { String::new() };
    facts.notes.extend(plain(&format!("deployed by ostree: its root is the folder /{folder} of it{others}")));
    Some(facts)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, tree};

    #[test]
    fn a_deployment_is_a_system() {
        let root = tree(&[
            ("ostree/deploy/fedora/deploy/aa.0/usr/lib/os-release", "ID=fedora\nPRETTY_NAME=\"CoreOS 39\"\n"),
            ("ostree/deploy/fedora/deploy/aa.0/etc/hostname", "core\n"),
            ("ostree/deploy/fedora/deploy/aa.0.origin", "x"),
            ("ostree/deploy/fedora/deploy/bb.0/usr/lib/os-release", "ID=fedora\n"),
            ("boot/x", ""),
        ]);
        let found = facts(&root).unwrap();
        assert_eq!(
            (found.pretty_name.as_deref(), found.hostname.as_deref()),
            (Some("CoreOS 39"), Some("core"))
        );
        assert_eq!(
            found.notes,
            ["deployed by ostree: its root is the folder /ostree/deploy/fedora/deploy/aa.0 of it, one of 2"]
        );
        assert!(facts(&tree(&[("ostree/repo/config", "x"), ("boot/x", "")])).is_none());
    }
}
