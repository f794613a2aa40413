//! FreeBSD: by bin/freebsd-version, which is a script that names its own release.

use std::os::fd::BorrowedFd;

use super::{Facts, architecture, plain, times};
use crate::sys::inside;
use crate::sys::mounts::read_inside;

pub(super) fn look(root: BorrowedFd<'_>, _: &[String]) -> Option<Facts> {
    let script = read_inside(root, "bin/freebsd-version", super::LIMIT).ok();
    let kernel = inside::head(root, "boot/kernel/kernel", 64).ok();
    let config = read_inside(root, "etc/rc.conf", super::LIMIT).ok();
    if script.is_none() && !(kernel.is_some() && config.is_some()) {
        return None;
    }
    let release = script.as_deref().and_then(|s| assigned(s, "USERLAND_VERSION"));
    let mut evidence = Vec::new();
    for (there, what) in [
        (script.is_some(), "/bin/freebsd-version"),
        (kernel.is_some(), "/boot/kernel/kernel"),
        (config.is_some(), "/etc/rc.conf"),
    ] {
        evidence.extend(there.then(|| what.to_string()));
    }
    let (last_boot, last_log) = times::of(root, "var/log");
    Some(Facts {
        family: "freebsd",
        id: Some("freebsd".into()),
        pretty_name: release.as_ref().map(|r| format!("FreeBSD {r}")),
        version: release,
        hostname: config.as_deref().and_then(|c| assigned(c, "hostname")),
        architecture: inside::head(root, "bin/sh", 64).ok().or(kernel).and_then(|h| architecture(&h)),
        machine_id: inside::head(root, "etc/hostid", 128)
            .ok()
            .and_then(|h| plain(&String::from_utf8_lossy(&h))),
        fstab: read_inside(root, "etc/fstab", super::LIMIT).ok(),
        evidence,
        // Its wtmp is no utmp(5) of glibc; only the newest log counts.
        last_boot: last_boot.filter(|_| false),
        last_log,
        ..Facts::default()
    })
}

/// The value of the last plain assignment to a name in a shell script.
fn assigned(script: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(script);
    let mut lines = text.lines().filter_map(|l| l.trim().strip_prefix(name)?.strip_prefix('='));
    plain(lines.next_back()?.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, tree};

    #[test]
    fn the_release_is_in_the_script() {
        let found = facts(&tree(&[
            ("bin/freebsd-version", "#!/bin/sh\nUSERLAND_VERSION=\"14.1-RELEASE-p5\"\n"),
            ("etc/rc.conf", "hostname=\"bsd1.example.org\"\nsshd_enable=YES\n"),
            ("etc/fstab", "/dev/ada0p2 / ufs rw 1 1\n"),
            ("etc/os-release", "ID=freebsd\nPRETTY_NAME=\"FreeBSD 14.1-RELEASE\"\n"),
        ]))
        .unwrap();
        assert_eq!(found.pretty_name.as_deref(), Some("FreeBSD 14.1-RELEASE-p5"));
        assert_eq!((super::super::name(&found).as_str(), found.family), ("bsd1", "freebsd"));
    }
}
