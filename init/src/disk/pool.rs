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

/// The devices of one file system that are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool<'a> {
    /// In the order of the disks, the one that was asked about among them.
    pub devices: Vec<&'a BlockReport>,
    /// What is to be said where others are not here.
    pub lacking: Option<String>,
}

impl Pool<'_> {
    /// Options that show the kernel the others, for a mount of `block`.
    pub fn options(&self, block: &BlockReport) -> Vec<String> {
        let others = self.devices.iter().filter(|b| b.path != block.path);
        let missing = self.lacking.as_ref().map(|_| "degraded".to_string());
        others.map(|b| format!("device={}", b.path)).chain(missing).collect()
    }
}

/// All devices here of the file system that `block` is one of. Where it is on no other: it alone.
///
/// # Errors
/// When one is here twice.
pub fn gather<'a>(block: &'a BlockReport, disks: &'a [BlockReport]) -> Result<Pool<'a>, String> {
    let Some(own) = place(block) else { return Ok(Pool { devices: vec![block], lacking: None }) };
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
    let missing = u64::try_from(here.len()).unwrap_or(u64::MAX) < own.count;
    let lacking = missing.then(|| {
        let numbers: Vec<String> = here.iter().map(|(b, p)| format!("{} is {}", b.path, p.number)).collect();
        format!("btrfs {uuid}: {} of its {} devices are here ({})", here.len(), own.count, numbers.join(", "))
    });
    Ok(Pool { devices: here.into_iter().map(|(block, _)| block).collect(), lacking })
}

/// Whether these are devices of one file system, with none here twice.
pub fn are_one(blocks: &[&BlockReport], disks: &[BlockReport]) -> bool {
    let Some(pool) = blocks.first().filter(|b| is_part(b)).and_then(|b| gather(b, disks).ok()) else {
        return false;
    };
    blocks.iter().all(|block| pool.devices.iter().any(|member| member.path == block.path))
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
        let block = &disks[0].children[0];
        let pool = gather(block, disks)?;
        pool.lacking.clone().map_or(Ok(pool.options(block)), Err)
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
        let disks = devices(&[(1, 3), (3, 3)]);
        let block = &disks[1].children[0];
        assert_eq!(gather(block, &disks).unwrap().options(block), ["device=/dev/vda1", "degraded"]);
    }
}
