//! What the kernel builds on other devices or on files: device mapper, md, bcache, loop, DRBD, zvols.

use rescue_schema::report::BlockReport;

use super::Folder;

/// The beginning of a mapped device's UUID says who made it.
const MAKERS: &[(&str, &str)] = &[
    ("LVM-", "lvm"),
    ("CRYPT-", "crypt"),
    ("mpath-", "mpath"),
    ("DMRAID-", "dmraid"),
    ("stratis-", "stratis"),
    ("VDO-", "vdo"),
    ("LDM-", "ldm"),
    ("RESCUE-OVERLAY-", "overlay"),
    ("RESCUE-BCACHE-", "bcache"),
];

pub(super) fn is_multipath(folder: &Folder) -> bool {
    folder.text("dm/uuid").is_some_and(|id| id.starts_with("mpath-"))
}

/// Whether it holds what is written to an overlay of ours: no disk, and shown as the overlay is.
pub(super) fn is_store(folder: &Folder) -> bool {
    folder.text("loop/backing_file").is_some_and(|file| file.starts_with("/run/rescue/overlay/"))
}

/// Describes what is one of these; whether it is.
pub(super) fn describe(folder: &Folder, block: &mut BlockReport) -> bool {
    let name = folder.name.as_str();
    if let Some(mapped) = folder.text("dm/name") {
        block.path = format!("/dev/mapper/{mapped}");
        let id = folder.text("dm/uuid").unwrap_or_default();
        let maker = MAKERS.iter().find(|(start, _)| id.starts_with(start)).map(|(_, kind)| *kind);
        // kpartx names a partition after what it lies on: part1-mpath-…
        let kpartx = id
            .strip_prefix("part")
            .and_then(|rest| rest.split_once('-'))
            .is_some_and(|(n, _)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        block.kind = maker.unwrap_or(if kpartx { "part" } else { "dm" }).into();
        if folder.number("dm/suspended") == Some(1) {
            block.state = Some("suspended".into());
        }
        return true;
    }
    if folder.has("md") {
        block.kind = folder.text("md/level").unwrap_or_else(|| "md".into());
        block.state = array(folder);
        return true;
    }
    if name.starts_with("bcache") {
        block.kind = "bcache".into();
        block.state = folder.text("bcache/state").filter(|state| state == "inconsistent" || state == "dirty");
        return true;
    }
    if name.starts_with("loop") {
        block.kind = "loop".into();
        block.backing = folder.text("loop/backing_file");
        return true;
    }
    let kind = ["drbd", "nbd", "zd", "rbd", "pmem"].into_iter().find(|kind| {
        name.strip_prefix(kind).is_some_and(|n| n.bytes().next().is_some_and(|b| b.is_ascii_digit()))
    });
    if let Some(kind) = kind {
        block.kind = if kind == "zd" { "zvol" } else { kind }.into();
        return true;
    }
    false
}

/// What is to be said of an array that is not simply running (Documentation/admin-guide/md.rst).
fn array(folder: &Folder) -> Option<String> {
    let state =
        folder.text("md/array_state").filter(|s| matches!(s.as_str(), "inactive" | "broken" | "clear"));
    let missing = folder.number("md/degraded").filter(|n| *n > 0).map(|n| {
        let wanted = folder.number("md/raid_disks").map(|of| format!(" of {of}")).unwrap_or_default();
        format!("degraded, {n}{wanted} missing")
    });
    let action = folder.text("md/sync_action").filter(|a| a != "idle" && a != "frozen");
    let words: Vec<String> = [state, missing, action].into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(", "))
}
