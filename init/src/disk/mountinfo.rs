//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)), and the order in which mounts can go.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// File systems that the kernel makes up: nothing of theirs is on a disk.
const API: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    id: u32,
    parent: u32,
    /// `major:minor` of what is mounted.
    pub number: String,
    /// The folder.
    pub target: PathBuf,
    /// Whether nothing can be written through it.
    pub read_only: bool,
    /// File-system type.
    pub kind: String,
    /// What was named as its source.
    pub source: String,
}

/// Every mount, in the kernel's order. A line that cannot be read is left out.
pub fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|b| *b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let separator = fields.iter().position(|f| *f == b"-")?;
    let text = |at: usize| fields.get(at).map(|f| String::from_utf8_lossy(f).into_owned());
    Some(Mount {
        id: text(0)?.parse().ok()?,
        parent: text(1)?.parse().ok()?,
        number: text(2)?,
        target: OsString::from_vec(unescape(fields.get(4)?)).into(),
        read_only: text(5)?.split(',').any(|o| o == "ro"),
        kind: text(separator + 1)?,
        source: String::from_utf8_lossy(&unescape(fields.get(separator + 2)?)).into_owned(),
    })
}

/// `\040` and its kin.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => out.push(*first),
        }
    }
    out
}

/// What is to be unmounted before the machine goes down, in that order: whatever is not an API file
/// system, and whatever lies on such a one (a prepared chroot has a /proc of its own), children first.
pub fn planned_unmounts(mountinfo: &[u8]) -> Vec<PathBuf> {
    let mounts = parse(mountinfo);
    let on_disk = |m: &Mount| m.target != Path::new("/") && !API.contains(&m.kind.as_str());
    let wanted = |m: &Mount| m.target != Path::new("/") && (on_disk(m) || ancestors(&mounts, m).any(on_disk));
    in_order(&mounts, wanted)
}

/// The mounts at and below `folder`, children first.
pub fn below(mountinfo: &[u8], folder: &Path) -> Vec<PathBuf> {
    in_order(&parse(mountinfo), |m| m.target.starts_with(folder))
}

fn in_order(mounts: &[Mount], wanted: impl Fn(&Mount) -> bool) -> Vec<PathBuf> {
    let mut chosen: Vec<(usize, &Mount)> =
        mounts.iter().rev().filter(|m| wanted(m)).map(|m| (ancestors(mounts, m).count(), m)).collect();
    chosen.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    chosen.into_iter().map(|(_, m)| m.target.clone()).collect()
}

/// The mounts that `mount` lies on, nearest first. No longer than the list, whatever the ids say.
fn ancestors<'a>(mounts: &'a [Mount], mount: &'a Mount) -> impl Iterator<Item = &'a Mount> {
    let up = |m: &&'a Mount| {
        let parent = m.parent;
        mounts.iter().find(|p| p.id == parent && p.id != m.id)
    };
    std::iter::successors(Some(mount), up).skip(1).take(mounts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"1 1 0:2 / / rw - rootfs rootfs rw\n\
        20 1 0:20 / /proc rw shared:1 - proc proc rw\n\
        21 1 0:21 / /run rw - tmpfs tmpfs rw\n\
        30 1 254:1 / /mnt/db\\0407 ro,noatime - ext4 /dev/vda1 ro,norecovery\n\
        31 30 254:2 / /mnt/db\\0407/boot ro - vfat /dev/vda2 ro\n\
        32 30 0:20 / /mnt/db\\0407/proc rw - proc proc rw\n\
        junk\n";

    #[test]
    fn children_go_first_and_api_mounts_stay() {
        let paths: Vec<String> =
            planned_unmounts(INFO).iter().map(|p| p.to_string_lossy().into_owned()).collect();
        assert_eq!(paths, ["/mnt/db 7/proc", "/mnt/db 7/boot", "/mnt/db 7"]);
        assert!(parse(INFO).iter().any(|m| m.number == "254:1" && m.read_only));
        assert_eq!(below(INFO, Path::new("/mnt/db 7/boot")).len(), 1);
    }

    #[test]
    fn loops_of_parents_end() {
        assert!(planned_unmounts(b"5 6 0:1 / /a rw - x x rw\n6 5 0:1 / /b rw - x x rw\n").len() == 2);
    }
}
