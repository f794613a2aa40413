//! The rescued system's own configuration, whichever of its programs reads it. [`gather`] takes the
//! files from a mounted root, and never follows a link out of it; [`translate`] finds whose they are.

use std::os::fd::BorrowedFd;

use super::{
    Error, File, MAX_BYTES, MAX_FILES, Remark, Result, brings_address, ifcfg, ifcfg_suse, ifupdown, keyfile,
    netplan, rc_conf, systemd, text, wicked,
};
use crate::sys::mounts::{names_inside, read_inside};

/// Most bytes of one file.
const MAX_FILE: usize = 256 << 10;
/// Most entries of a folder.
const MAX_NAMES: usize = 512;

/// Files that are read, and folders of files whose names begin and end so.
const FILES: &[&str] = &[
    "etc/network/interfaces",
    "etc/sysconfig/network",
    "etc/rc.conf",
    "etc/rc.conf.local",
    "etc/resolv.conf",
];
#[rustfmt::skip]
const FOLDERS: &[(&str, &str, &str)] = &[
    ("etc/netplan", "", ".yaml"),
    ("usr/lib/netplan", "", ".yaml"),
    ("etc/network/interfaces.d", "", ""),
    ("etc/NetworkManager/system-connections", "", ""),
    ("etc/sysconfig/network-scripts", "ifcfg-", ""),
    ("etc/sysconfig/network-scripts", "route", ""),
    ("etc/sysconfig/network-scripts", "rule", ""),
    ("etc/sysconfig/network", "ifcfg-", ""),
    ("etc/sysconfig/network", "ifroute-", ""),
    ("etc/sysconfig/network", "routes", ""),
    ("etc/sysconfig/network", "config", ""),
    ("etc/wicked/ifconfig", "", ".xml"),
    ("etc/systemd/network", "", ".network"),
    ("etc/systemd/network", "", ".netdev"),
    ("etc/systemd/network", "", ".link"),
    ("etc/udev/rules.d", "", ".rules"),
    ("etc/rc.conf.d", "", ""),
];

/// A program, where its files are, and how they are read.
type System = (&'static str, &'static [&'static str], fn(&[File]) -> Result);

/// Whose files they are, the one that is asked first. Where one describes nothing, the next is asked.
#[rustfmt::skip]
const SYSTEMS: &[System] = &[
    ("netplan", &["etc/netplan/", "usr/lib/netplan/"], netplan::translate),
    ("systemd-networkd", &["etc/systemd/network/"], systemd::translate),
    ("NetworkManager", &["etc/NetworkManager/"], keyfile::translate),
    ("SUSE's ifcfg", &["etc/sysconfig/network/"], ifcfg_suse::translate),
    ("wicked", &["etc/wicked/ifconfig/"], wicked::translate),
    ("Red Hat's ifcfg", &["etc/sysconfig/network-scripts/", "etc/sysconfig/network"], ifcfg::translate),
    ("ifupdown", &["etc/network/"], ifupdown::translate),
    ("rc.conf", &["etc/rc.conf"], rc_conf::translate),
];

/// Reads what may describe the network below a root; bounded, and without what cannot be read.
#[must_use]
pub fn gather(root: BorrowedFd<'_>) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    let mut left = MAX_BYTES;
    let mut take = |path: String, files: &mut Vec<File>| {
        if files.len() < MAX_FILES
            && let Ok(bytes) = read_inside(root, &path, MAX_FILE.min(left))
        {
            left -= bytes.len();
            files.push(File { path, bytes });
        }
    };
    for path in FILES {
        take((*path).into(), &mut files);
    }
    for (folder, begin, end) in FOLDERS {
        let mut names = names_inside(root, folder, MAX_NAMES).unwrap_or_default();
        names.sort();
        for name in names {
            let hidden = name.starts_with('.') || name.ends_with('~');
            if !hidden && name.starts_with(begin) && name.ends_with(end) {
                take(format!("{folder}/{name}"), &mut files);
            }
        }
    }
    // Drop-ins of units.
    let units: Vec<String> =
        files.iter().filter(|f| f.path.starts_with("etc/systemd/network/")).map(|f| f.path.clone()).collect();
    for unit in units {
        let folder = format!("{unit}.d");
        for name in names_inside(root, &folder, MAX_NAMES).unwrap_or_default() {
            if name.ends_with(".conf") {
                take(format!("{folder}/{name}"), &mut files);
            }
        }
    }
    files
}

/// Whose configuration it is, and what it says.
pub(super) fn translate(files: &[File]) -> Result {
    let mut refused: Vec<Remark> = Vec::new();
    let mut chosen = None;
    for (name, folders, read) in SYSTEMS {
        let is_its = |f: &&File| folders.iter().any(|folder| f.path.starts_with(folder));
        // A folder that is also a file's name is meant as a whole.
        let own: Vec<File> = files.iter().filter(is_its).cloned().collect();
        // Names alone are no configuration.
        if own.iter().all(|f| f.path.ends_with(".link")) {
            continue;
        }
        if chosen.is_some() {
            refused.push(Remark { at: (*name).into(), why: "not looked at: another was there".into() });
            continue;
        }
        let names = files.iter().filter(|f| f.path.ends_with(".rules") || f.path.ends_with(".link"));
        let mut given = own.clone();
        given.extend(names.filter(|f| !own.contains(f)).cloned());
        match read(&given) {
            Ok(found) if !found.network.links.is_empty() && brings_address(&found.network) => {
                chosen = Some((name, found));
            }
            Ok(found) => {
                refused.push(Remark { at: (*name).into(), why: "describes no address".into() });
                refused.extend(found.remarks);
            }
            Err(error) => refused.push(Remark { at: (*name).into(), why: error.to_string() }),
        }
    }
    let Some((name, mut found)) = chosen else {
        let why = refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let why = if why.is_empty() { "no configuration of a network is there".into() } else { why };
        return Err(Error::new("from-disk", why));
    };
    found.remarks.insert(0, Remark { at: "from-disk".into(), why: format!("the configuration of {name}") });
    found.remarks.extend(refused);
    if found.network.dns.servers.is_empty()
        && let Some(resolv) = files.iter().find(|f| f.path == "etc/resolv.conf")
    {
        resolv_conf(&mut found.network.dns, &resolv.bytes);
    }
    Ok(found)
}

/// resolv.conf(5), for systems that say it nowhere else.
fn resolv_conf(dns: &mut rescue_schema::network::Dns, bytes: &[u8]) {
    let mut draft = super::draft::Draft::default();
    for (_, line) in text::lines(bytes).iter().take(256) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => words.take(1).for_each(|server| draft.server("", server)),
            Some("search" | "domain") => words.take(8).for_each(|domain| draft.search("", domain)),
            _ => {}
        }
    }
    dns.servers = draft.dns.servers;
    if dns.search.is_empty() {
        dns.search = draft.dns.search;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn nothing_outside_of_the_root_is_read() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("interfaces"), "iface eth0 inet dhcp\n").unwrap();
        std::fs::write(outside.path().join("a.yaml"), "network: {ethernets: {eth0: {dhcp4: true}}}\n")
            .unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/network")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("etc/netplan")).unwrap();
        std::os::unix::fs::symlink(
            outside.path().join("interfaces"),
            root.path().join("etc/network/interfaces"),
        )
        .unwrap();
        std::os::unix::fs::symlink("rc.conf", root.path().join("etc/rc.conf")).unwrap();
        let folder = crate::sys::mounts::folder(root.path()).unwrap();
        assert_eq!(gather(folder.as_fd()), []);
        // Within the root a link is followed, as the system itself would.
        std::fs::create_dir_all(root.path().join("data")).unwrap();
        std::fs::write(root.path().join("data/interfaces"), "auto eth0\niface eth0 inet dhcp\n").unwrap();
        std::fs::remove_file(root.path().join("etc/network/interfaces")).unwrap();
        std::os::unix::fs::symlink("/data/interfaces", root.path().join("etc/network/interfaces")).unwrap();
        let files = gather(folder.as_fd());
        assert_eq!(files.len(), 1);
        assert!(translate(&files).unwrap().network.links[0].dhcp4);
    }
}
