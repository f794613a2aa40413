//! What must not be written to, and why: asked before anything is mounted for writing.

use rescue_schema::report::BlockReport;

use super::mount::{Leave, Plan};
use super::resolve::flat;
use super::zfs;

/// Reasons not to mount this for writing, a sentence each with what to do instead. With leave to, what is left of an
/// array is written to. `ours` says of a device that
/// refuses writes whether that is our doing.
pub fn refusals(
    plan: &Plan,
    disks: &[BlockReport],
    leave: Leave,
    ours: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let mut reasons = Vec::new();
    let writes = |path: &str| plan.steps.iter().any(|s| !s.read_only && s.device == path);
    let all = flat(disks);
    for block in all.iter().filter(|b| writes(&b.path)) {
        // What we put together is read-only because we made it so.
        let own = matches!(block.kind.as_str(), "disk" | "part") && zfs::guest(&block.path, disks).is_none();
        if block.read_only && own && !ours(&block.path) {
            reasons.push(format!(
                "{0}: the device itself refuses writes; where that can be changed: blockdev --setrw {0}",
                block.path
            ));
        }
        let (kind, state) = (block.probe.kind.as_deref(), block.probe.state.as_deref());
        if state == Some("hibernated") {
            reasons.push(format!(
                "{}: Windows is hibernated or was shut down with Fast Startup: what is written is lost or harms it \
                 when it resumes; shut it down whole (`shutdown /s /f /t 0`)",
                block.path
            ));
        }
        if state == Some("damaged") {
            reasons.push(format!("{}: damaged: check it first, `rescue probe {}`", block.path, block.path));
        }
        if kind == Some("ntfs") && state.is_some_and(|s| s != "clean" && s != "hibernated" && s != "damaged")
        {
            reasons.push(format!("{}: its volume is dirty: let Windows check it (chkdsk /f)", block.path));
        }
        if block.probe.signatures.len() > 1
            && block.probe.result == rescue_schema::report::ProbeResult::Ambivalent
        {
            reasons.push(format!("{}: two file systems claim it: `rescue probe {}`", block.path, block.path));
        }
    }
    for disk in disks.iter().filter(|_| !leave.degraded) {
        degraded(disk, &writes, &mut reasons);
    }
    // An image of a Linux that sleeps holds what it has in memory of the file systems that it uses: those on the
    // same disk, or on one that shares a volume group with it.
    let homes = |path: &str| -> Vec<&BlockReport> {
        disks.iter().filter(|d| flat(std::slice::from_ref(*d)).iter().any(|b| b.path == path)).collect()
    };
    let together = |one: &BlockReport, other: &BlockReport| {
        one.path == other.path || groups(one).iter().any(|g| groups(other).contains(g))
    };
    let ours: Vec<&BlockReport> =
        plan.steps.iter().filter(|s| !s.read_only).flat_map(|s| homes(&s.device)).collect();
    for swap in all.iter().filter(|b| b.probe.state.as_deref() == Some("hibernated")) {
        let kind = swap.probe.kind.as_deref().unwrap_or_default();
        let near = || homes(&swap.path).iter().any(|home| ours.iter().any(|own| together(home, own)));
        if (kind == "swap" || kind == "swsuspend") && near() {
            let first = if swap.read_only && swap.kind == "lvm" { "rescue assemble --rw, then " } else { "" };
            reasons.push(format!(
                "{}: a hibernated Linux is in this swap and would resume over what is written; boot it, or give \
                 its memory up: {first}mkswap -U {} {}",
                swap.path,
                swap.probe.uuid.as_deref().unwrap_or("random"),
                swap.path
            ));
        }
    }
    reasons.sort();
    reasons.dedup();
    reasons
}

/// The volume groups that a disk is a part of.
fn groups(disk: &BlockReport) -> Vec<&str> {
    let all = flat(std::slice::from_ref(disk));
    let members = all.into_iter().filter_map(|b| b.probe.signatures.first());
    let members = members.filter(|s| s.kind == "LVM2_member");
    members.filter_map(|s| s.more.get("VG_UUID")).map(String::as_str).collect()
}

/// Arrays with members missing, below which something is to be written.
fn degraded(block: &BlockReport, writes: &dyn Fn(&str) -> bool, reasons: &mut Vec<String>) {
    let pool = block.kind == "zpool";
    let array = block.kind.starts_with("raid") || block.kind == "linear";
    if (array || pool)
        && block.state.as_deref().is_some_and(|s| s.contains("degraded"))
        && flat(std::slice::from_ref(block)).iter().any(|b| writes(&b.path))
    {
        let add = if pool {
            format!("zpool status {}", block.name)
        } else {
            format!("mdadm {} --add DEV", block.path)
        };
        reasons.push(format!(
            "{}: degraded: what is written is on what is left of it alone, and a member that comes back is stale; \
             add it first ({add})",
            block.path
        ));
    }
    block.children.iter().for_each(|c| degraded(c, writes, reasons));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{mount, resolve::tests::disk};
    use std::path::Path;

    fn reasons(disks: &[BlockReport], write: bool) -> Vec<String> {
        let fstab = b"UUID=aa / ext4 defaults 0 1\n";
        let leave = mount::Leave { write, degraded: false };
        let tables = mount::Tables { fstab: Some(fstab), crypttab: None, mdadm: None };
        refusals(
            &mount::plan(&disks[0].children[0], tables, disks, Path::new("/mnt/x"), leave),
            disks,
            leave,
            &|device| device == "/dev/vdb1",
        )
    }

    #[test]
    fn what_sleeps_is_not_written_to() {
        let mut disks =
            [disk("vda", &[("ext4", "aa"), ("swsuspend", "bb")]), disk("vdb", &[("swsuspend", "cc")])];
        assert!(reasons(&disks, true).is_empty());
        disks[1].children[0].probe.state = Some("hibernated".into());
        assert!(reasons(&disks, true).is_empty(), "of another disk");
        disks[0].children[0].read_only = true;
        disks[0].children[0].kind = "part".into();
        assert!(reasons(&disks, true)[0].contains("refuses writes"));
        disks[0].children[0].read_only = false;
        disks[0].children[1].probe.state = Some("hibernated".into());
        let said = reasons(&disks, true);
        assert!(
            said.len() == 1 && said[0].starts_with("/dev/vda2") && said[0].contains("mkswap -U bb"),
            "{said:?}"
        );
        assert!(reasons(&disks, false).is_empty());
        let swap = &mut disks[0].children[1];
        (swap.kind, swap.read_only) = ("lvm".into(), true);
        assert!(reasons(&disks, true)[0].contains("give its memory up: rescue assemble --rw, then mkswap"));
    }

    #[test]
    fn what_sleeps_on_another_disk_of_the_volume_group_is_not_written_under() {
        let mut disks = [disk("vda", &[("ext4", "aa")]), disk("vdb", &[("swsuspend", "cc")])];
        disks[1].children[0].probe.state = Some("hibernated".into());
        assert!(reasons(&disks, true).is_empty());
        for disk in &mut disks {
            let more = [("VG_UUID".to_string(), "g".to_string())].into();
            let kind = "LVM2_member".into();
            disk.probe.signatures =
                vec![rescue_schema::report::SignatureReport { kind, more, ..Default::default() }];
        }
        assert!(reasons(&disks, true)[0].starts_with("/dev/vdb1: a hibernated Linux"));
    }

    #[test]
    fn a_degraded_array_is_not_written_to() {
        let mut array = disk("md0", &[("ext4", "aa")]);
        array.kind = "raid1".into();
        array.state = Some("degraded".into());
        assert!(reasons(&[array.clone()], true)[0].contains("degraded"));
        array.state = None;
        assert!(reasons(&[array], true).is_empty());
    }
}
