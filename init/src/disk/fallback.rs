//! Where the parts of a system belong when its fstab does not say: by the type of the partition, then by what
//! is on it. Only parts of the disk that its root is on are taken.

use rescue_schema::report::BlockReport;

use super::mount::{Plan, step};
use super::resolve::flat;

/// Types of the Discoverable Partitions Specification and UEFI, and where they belong.
#[rustfmt::skip]
const TYPES: &[(&str, &str)] = &[
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "/boot"),
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "/boot/efi"),
    ("8484680c-9521-48c6-9c11-b0720656f69e", "/usr"),
    ("4d21b016-b534-45c2-a9fb-5c16e091fd2d", "/var"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "/home"),
    ("3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "/srv"),
];

/// Adds to a plan that has the root alone. `roles` says what a look at each device came to.
pub fn add(
    plan: &mut Plan,
    root: &BlockReport,
    disks: &[BlockReport],
    roles: &[(String, &str)],
    write: bool,
) {
    let home = disks.iter().filter(|d| flat(std::slice::from_ref(*d)).iter().any(|b| b.path == root.path));
    let parts: Vec<&BlockReport> = home.flat_map(|d| flat(std::slice::from_ref(d))).collect();
    let kind = |b: &BlockReport| b.partition.as_ref().map(|p| p.kind.to_ascii_lowercase());
    let by_type = |b: &BlockReport| {
        let kind = kind(b)?;
        TYPES.iter().find(|(guid, _)| *guid == kind).map(|(_, place)| *place)
    };
    // A /boot has a folder `efi` too, to mount the ESP at; that is FAT.
    let fat = |b: &BlockReport| b.probe.kind.as_deref() == Some("vfat");
    let by_content = |b: &BlockReport| match roles.iter().find(|(path, _)| *path == b.path)?.1 {
        "/boot/efi" if !fat(b) => Some("/boot"),
        role => Some(role),
    };
    let mut found: Vec<(&str, &BlockReport, &str)> = Vec::new();
    let others = || parts.iter().filter(|b| b.path != root.path);
    found.extend(others().filter_map(|b| Some((by_type(b)?, *b, "the type of its partition"))));
    found.extend(others().filter_map(|b| Some((by_content(b)?, *b, "what is on it"))));
    found.sort_by_key(|(place, ..)| place.split('/').count());
    for (place, block, how) in found {
        if plan.steps.iter().any(|s| s.target == place || s.device == block.path) {
            continue;
        }
        if let Some(step) = step(block, place, write, &[]) {
            plan.trouble.push(format!("{} is taken for {place} by {how}", block.path));
            plan.steps.push(step);
        }
    }
}
