//! What may hold a system and is not looked into: what is encrypted or not put together, and formats that the
//! kernel has no driver of. Said with the command that opens it. To add a format: a row in `FORMATS`.

use rescue_schema::report::{BlockReport, ProbeResult};

use super::assemble;
use super::resolve::flat;

/// A format that other programs open: type as a probe says it, what it is, the program, its package.
type Format = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const FORMATS: &[Format] = &[
    ("zfs_member", "part of a ZFS pool",      "zpool",          "zfsutils-linux, and zfs.ko for its kernel"),
    ("bcachefs",   "a bcachefs",              "bcachefs",       "bcachefs-tools, and a kernel that has it"),
    ("apfs",       "Apple's APFS",            "apfs-fuse",      "apfs-fuse"),
    ("ReFS",       "Windows' ReFS",           "refsutil",       "none for Linux"),
    ("VMFS_volume_member", "a datastore of ESXi", "vmfs6-fuse", "vmfs6-tools"),
];

/// What is not seen, a sentence each. `pools` says whether this image imports pools of ZFS, `has` whether a program is
/// in it.
pub fn words(disks: &[BlockReport], pools: bool, has: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut said: Vec<String> = assemble::locked_here(disks)
        .iter()
        .map(|b| format!("{} is encrypted, and what is in it is not seen: rescue unlock {0}", b.path))
        .collect();
    let left = assemble::left(disks, pools);
    if !left.members.is_empty() {
        said.push(
            "arrays, volume groups, caches or pools are not put together, and not seen: rescue assemble"
                .into(),
        );
    }
    said.extend(left.why);
    said.extend(divided(disks));
    for block in flat(disks) {
        let whole = matches!(block.probe.result, ProbeResult::Found | ProbeResult::Ambivalent);
        let used = block.children.iter().any(|c| c.partition.is_none());
        let kind = block.probe.kind.as_deref().filter(|_| whole && !used);
        // A pool that can be imported was said.
        if kind == Some("zfs_member") && left.members.contains(&block.path) {
            continue;
        }
        let Some((_, what, program, package)) = FORMATS.iter().find(|f| Some(f.0) == kind) else { continue };
        // The probe knows the very command, and what stands against it.
        let note = block.probe.signatures.first().and_then(|s| s.notes.first());
        let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
        let lacks = if has(program) {
            String::new()
        } else {
            format!("; this image has no {program} (package {package}: imagebuilder build --add)")
        };
        said.push(format!("{} is {what}{note}, and not looked into{lacks}", block.path));
    }
    said
}

/// Volumes that have a partition table, as a guest's disk on its host has: the kernel looks for none on them.
fn divided(disks: &[BlockReport]) -> Option<String> {
    let all = flat(disks);
    // A loop device on it shows them.
    let shown = |b: &BlockReport| {
        all.iter().any(|l| l.kind == "loop" && !l.children.is_empty() && l.probe.uuid == b.probe.uuid)
    };
    let is = |b: &&&BlockReport| is_divided(b) && !shown(b);
    let paths: Vec<&str> = all.iter().filter(is).map(|b| b.path.as_str()).collect();
    let (first, are) = (paths.first()?, if paths.len() > 1 { "are" } else { "is" });
    let names = paths.join(", ");
    Some(format!(
        "{names} {are} divided into partitions, as a guest's disk, and not looked into: losetup -rfP {first} shows them \
         (losetup -D before rescue umount)"
    ))
}

/// Whether a volume has partitions that the kernel does not show.
pub fn is_divided(block: &BlockReport) -> bool {
    let volume = matches!(block.kind.as_str(), "lvm" | "crypt" | "loop");
    volume && block.children.is_empty() && !block.probe.partitions.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::resolve::tests::disk;
    use rescue_schema::report::SignatureReport;

    #[test]
    fn what_is_closed_is_named_with_what_opens_it() {
        let mut disks = [disk("vda", &[("ext4", "aa"), ("zfs_member", "bb"), ("crypto_LUKS", "cc")])];
        let note = "pool tank was exported: `zpool import -o readonly=on -R /mnt tank`";
        disks[0].children[1].probe.signatures =
            vec![SignatureReport { notes: vec![note.into()], ..SignatureReport::default() }];
        let said = words(&disks, false, &|_| false);
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0], "/dev/vda3 is encrypted, and what is in it is not seen: rescue unlock /dev/vda3");
        assert!(
            said[1].contains("`zpool import") && said[1].contains("no zpool (package zfsutils"),
            "{said:?}"
        );
        assert!(!words(&disks, false, &|_| true)[1].contains("no zpool"));
        assert!(words(&disks[..0], false, &|_| true).is_empty());
        // A guest's disk on its host, until a loop device shows what is on it.
        let mut guest =
            BlockReport { kind: "lvm".into(), path: "/dev/mapper/vg-guest".into(), ..disk("dm-0", &[]) };
        guest.probe.partitions.push(Default::default());
        guest.probe.uuid = Some("aa".into());
        let said = words(std::slice::from_ref(&guest), false, &|_| true);
        assert!(said.len() == 1 && said[0].contains("losetup -rfP /dev/mapper/vg-guest"), "{said:?}");
        let mut shown = BlockReport { kind: "loop".into(), ..disk("loop0", &[("ext4", "bb")]) };
        shown.probe.uuid.clone_from(&guest.probe.uuid);
        assert!(words(&[guest, shown], false, &|_| true).is_empty());
    }
}
