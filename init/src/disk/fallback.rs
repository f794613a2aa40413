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

/// What is known of places.
#[derive(Debug, Clone, Copy, Default)]
pub struct Places<'a> {
    /// What a look at each device came to.
    pub roles: &'a [(String, &'a str)],
    /// The folder that the root has for the ESP.
    pub esp: Option<&'a str>,
}

/// Adds to a plan that has the root alone.
pub fn add(plan: &mut Plan, root: &BlockReport, disks: &[BlockReport], places: &Places<'_>, write: bool) {
    let home = disks.iter().filter(|d| flat(std::slice::from_ref(*d)).iter().any(|b| b.path == root.path));
    let parts: Vec<&BlockReport> = home.flat_map(|d| flat(std::slice::from_ref(d))).collect();
    let kind = |b: &BlockReport| b.partition.as_ref().map(|p| p.kind.to_ascii_lowercase());
    let by_type = |b: &BlockReport| {
        let kind = kind(b)?;
        TYPES.iter().find(|(guid, _)| *guid == kind).map(|(_, place)| *place)
    };
    // A /boot has a folder `efi` too, to mount the ESP at; that is FAT.
    let fat = |b: &BlockReport| b.probe.kind.as_deref() == Some("vfat");
    let by_content = |b: &BlockReport| match places.roles.iter().find(|(path, _)| *path == b.path)?.1 {
        "/boot/efi" if !fat(b) => Some("/boot"),
        role => Some(role),
    };
    let mut found: Vec<(&str, &BlockReport, &str)> = Vec::new();
    let others = || parts.iter().filter(|b| b.path != root.path);
    found.extend(others().filter_map(|b| Some((by_type(b)?, *b, "the type of its partition"))));
    found.extend(others().filter_map(|b| Some((by_content(b)?, *b, "what is on it"))));
    found.sort_by_key(|(place, ..)| place.split('/').count());
    for (place, block, how) in found {
        let place = places.esp.filter(|_| place == "/boot/efi").unwrap_or(place);
        if plan.steps.iter().any(|s| s.target == place || s.device == block.path) {
            continue;
        }
        if let Some(step) = step(block, place, write, &[]) {
            plan.trouble.push(format!("{} is taken for {place} by {how}", block.path));
            plan.steps.push(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::resolve::tests::disk;

    #[test]
    fn the_esp_goes_where_the_root_has_a_folder_for_it() {
        let mut disks = [disk("vda", &[("ext4", "aa"), ("vfat", "bb"), ("vfat", "cc")])];
        let types = ["", "BC13C2FF-59E6-4262-A352-B275FD6F7172", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"];
        for (child, kind) in disks[0].children.iter_mut().zip(types) {
            child.partition.as_mut().unwrap().kind = kind.into();
        }
        let targets = |esp| {
            let mut plan = Plan::default();
            let places = Places { roles: &[("/dev/vda3".into(), "/boot/efi")], esp };
            add(&mut plan, &disks[0].children[0], &disks, &places, false);
            plan.steps.iter().map(|s| format!("{} {}", s.device, s.target)).collect::<Vec<_>>()
        };
        assert_eq!(targets(None), ["/dev/vda2 /boot", "/dev/vda3 /boot/efi"]);
        assert_eq!(targets(Some("/efi")), ["/dev/vda2 /boot", "/dev/vda3 /efi"]);
    }
}
