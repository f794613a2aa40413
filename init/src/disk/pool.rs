//! Btrfs on several devices: which of those that are here make one file system. The kernel knows only of those
//! that it was shown, and takes the last of two copies for the one that it is to use.

use rescue_schema::report::{BlockReport, ProbeResult};

use super::resolve::flat;

/// What a superblock says of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Which device it is, and of how many.
    number: u64,
    count: u64,
}

fn place(block: &BlockReport) -> Option<Place> {
    let more = &block.probe.signatures.first().filter(|s| s.kind == "btrfs")?.more;
    let number = |name: &str| more.get(name)?.parse().ok();
    Some(Place { number: number("BTRFS_DEVICE")?, count: number("BTRFS_DEVICES")? })
}

/// Whether a device is one of several of its file system.
pub fn is_part(block: &BlockReport) -> bool {
    place(block).is_some()
}

/// All devices here of the file system that `block` is one of, `block` among them and in the order of the disks.
/// Where it is on no other: it alone.
///
/// # Errors
/// When one is not here, or here twice.
pub fn members<'a>(block: &'a BlockReport, disks: &'a [BlockReport]) -> Result<Vec<&'a BlockReport>, String> {
    let Some(own) = place(block) else { return Ok(vec![block]) };
    let built_on = |b: &BlockReport| b.children.iter().any(|c| c.partition.is_none());
    // A device of which only a mirror of the superblock is left is none to the kernel.
    let whole =
        |b: &BlockReport| b.probe.result == ProbeResult::Found && b.probe.state.as_deref() != Some("damaged");
    let here: Vec<(&BlockReport, Place)> = flat(disks)
        .into_iter()
        .filter(|b| whole(b) && b.probe.uuid == block.probe.uuid && !built_on(b))
        .filter_map(|b| Some((b, place(b)?)))
        .collect();
    let uuid = block.probe.uuid.as_deref().unwrap_or("without a UUID");
    for (at, (one, theirs)) in here.iter().enumerate() {
        if let Some((other, _)) = here.iter().skip(at + 1).find(|(_, other)| other.number == theirs.number) {
            return Err(format!(
                "btrfs {uuid}: {} and {} are copies, both are its device {}: take one of them away",
                one.path, other.path, theirs.number
            ));
        }
    }
    if u64::try_from(here.len()).unwrap_or(u64::MAX) < own.count {
        let numbers: Vec<String> = here.iter().map(|(b, p)| format!("{} is {}", b.path, p.number)).collect();
        return Err(format!(
            "btrfs {uuid}: {} of its {} devices are here ({}): attach the others, or look at what is left: \
             mount -o ro,degraded,rescue=nologreplay {} DIR",
            here.len(),
            own.count,
            numbers.join(", "),
            block.path
        ));
    }
    Ok(here.into_iter().map(|(block, _)| block).collect())
}

/// Whether these are all devices of one file system, with none missing and none here twice.
pub fn are_one(blocks: &[&BlockReport], disks: &[BlockReport]) -> bool {
    let Some(members) = blocks.first().filter(|b| is_part(b)).and_then(|b| members(b, disks).ok()) else {
        return false;
    };
    blocks.iter().all(|block| members.iter().any(|member| member.path == block.path))
}

/// Options that show the kernel the others.
///
/// # Errors
/// As [`members`].
pub fn options(block: &BlockReport, disks: &[BlockReport]) -> Result<Vec<String>, String> {
    let members = members(block, disks)?;
    Ok(members.iter().filter(|b| b.path != block.path).map(|b| format!("device={}", b.path)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::resolve::{self, tests::disk};

    fn devices(numbers: &[(u64, u64)]) -> Vec<BlockReport> {
        let names = ["vda", "vdb", "vdc"];
        let all = names.iter().zip(numbers).map(|(name, (number, count))| {
            let mut disk = disk(name, &[("btrfs", "aa")]);
            let signature = &mut disk.children[0].probe.signatures;
            signature.resize_with(1, Default::default);
            signature[0].kind = "btrfs".into();
            if *count > 1 {
                signature[0].more.insert("BTRFS_DEVICE".into(), number.to_string());
                signature[0].more.insert("BTRFS_DEVICES".into(), count.to_string());
            }
            disk
        });
        all.collect()
    }

    fn of(disks: &[BlockReport]) -> Result<Vec<String>, String> {
        options(&disks[0].children[0], disks)
    }

    #[test]
    fn the_others_are_named() {
        assert_eq!(of(&devices(&[(2, 2), (1, 2)])).unwrap(), ["device=/dev/vdb1"]);
        assert_eq!(of(&devices(&[(1, 3), (2, 3), (7, 3)])).unwrap().len(), 2, "3 to 6 were removed");
        let mut other = devices(&[(1, 2), (2, 2)]);
        other[1].children[0].probe.uuid = Some("bb".into());
        assert!(of(&other).is_err());
        // Any of them stands for the whole.
        let pool = devices(&[(1, 2), (2, 2)]);
        assert_eq!(resolve::device("UUID=aa", &pool, "/dev/vdb1").unwrap().path, "/dev/vdb1");
        assert_eq!(resolve::device("UUID=aa", &pool, "/dev/vdc1").unwrap().path, "/dev/vda1");
        let copies = devices(&[(1, 1), (1, 1)]);
        assert!(resolve::device("UUID=aa", &copies, "/dev/vdc1").is_err());
    }

    #[test]
    fn copies_of_one_device_are_no_others() {
        assert_eq!(of(&devices(&[(1, 1), (1, 1)])).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_missing_or_there_twice_is_said() {
        let why = of(&devices(&[(1, 3), (3, 3)])).unwrap_err();
        assert!(why.contains("2 of its 3 devices are here (/dev/vda1 is 1, /dev/vdb1 is 3)"), "{why}");
        let why = of(&devices(&[(1, 2), (2, 2), (2, 2)])).unwrap_err();
        assert!(why.contains("/dev/vdb1 and /dev/vdc1 are copies"), "{why}");
    }
}
