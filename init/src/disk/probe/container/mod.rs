//! What holds others: RAID members, encrypted volumes, physical volumes, pool members. One file a family,
//! one row in [`FORMATS`]. What a container says of itself beyond `blkid` (its array, its group, how many
//! of its members are missing) stands in the notes for people and in `more` for programs.

mod bcache;
mod bitlocker;
mod ceph;
mod ddf;
mod drbd;
mod fakeraid;
mod isw;
mod luks;
mod luks2;
mod lvm;
mod lvm_text;
mod lvm_volumes;
mod mapper;
mod md;
mod stratis;
mod vmfs;
mod zfs;

use super::{Format, signature};

/// In the order in which they are asked. Those at the end of a disk leave the front to what they hold.
pub(super) const FORMATS: &[Format] = &[
    Format::new("md", md::probe),
    Format::new("ddf", ddf::probe).of_disks(),
    Format::new("isw", isw::probe).of_disks(),
    Format::new("adaptec", fakeraid::adaptec).of_disks(),
    Format::new("highpoint", fakeraid::highpoint).of_disks(),
    Format::new("jmicron", fakeraid::jmicron).of_disks(),
    Format::new("lsi", fakeraid::lsi).of_disks(),
    Format::new("nvidia", fakeraid::nvidia).of_disks(),
    Format::new("promise", fakeraid::promise).of_disks(),
    Format::new("silicon", fakeraid::silicon).of_disks(),
    Format::new("via", fakeraid::via).of_disks(),
    Format::new("drbd", drbd::probe),
    Format::new("lvm", lvm::probe).remains(lvm::remains),
    Format::new("luks", luks::probe).remains(luks::remains),
    Format::new("bitlocker", bitlocker::probe),
    Format::new("bcache", bcache::probe),
    Format::new("zfs", zfs::probe).remains(zfs::remains),
    Format::new("ceph", ceph::probe),
    Format::new("stratis", stratis::probe),
    Format::new("vdo", mapper::vdo),
    Format::new("verity", mapper::verity),
    Format::new("integrity", mapper::integrity),
    Format::new("vmfs", vmfs::probe),
];
