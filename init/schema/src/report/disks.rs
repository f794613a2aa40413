use serde::{Deserialize, Serialize};

use super::ProbeReport;

/// `rescue disks --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DisksReport {
    /// The whole disks, in natural order of their names.
    pub disks: Vec<BlockReport>,
}

/// A block device and what is built on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockReport {
    /// The kernel's name: `vda1`.
    pub name: String,
    /// Its device node: `/dev/vda1`, `/dev/mapper/root`. Of a dataset of ZFS its name: `rpool/ROOT/debian`.
    pub path: String,
    /// `disk`, `part`, `rom`, `loop`, `mpath`, `crypt`, `lvm`, `bcache`, `dm`, `zpool`, `dataset`, or the
    /// level of a RAID (`raid1`).
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// `major:minor`.
    pub number: String,
    /// Bytes of a logical sector.
    pub sector_size: u64,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// How it is attached: `virtio`, `nvme`, `sata`, `sas`, `usb`, `scsi`, `xen`, `mmc`.
    pub bus: Option<String>,
    /// World-wide name: `naa.…`, `eui.…`, `nvme.…`, `t10.…`.
    pub wwn: Option<String>,
    /// Where it is plugged in: `enclosure slot`, `ata3 0:0:0:0`, a PCI address.
    pub slot: Option<String>,
    /// Version of its firmware.
    pub firmware: Option<String>,
    /// Whether it has moving parts, where the kernel knows.
    pub rotational: Option<bool>,
    /// The NVMe namespace.
    pub namespace: Option<u32>,
    /// Other names under which the same disk was found: the paths of a multipath device.
    pub paths: Vec<PathReport>,
    /// What the kernel says of it when it is not simply there: `offline`, `suspended`, `inactive`,
    /// `degraded`…
    pub state: Option<String>,
    /// Whether all that it was on was pulled out: what is read of it is what the kernel still remembers.
    pub gone: bool,
    /// The file behind a loop device.
    pub backing: Option<String>,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// Whether the kernel lets nobody write to it.
    pub read_only: bool,
    /// What it says of its own health; absent where it was not asked or has none.
    pub health: Option<HealthReport>,
    /// What the partition table says of it, when it is a partition. `content` stays empty.
    pub partition: Option<super::PartitionReport>,
    /// What is on it.
    pub probe: ProbeReport,
    /// Where it is mounted, `[SWAP]` included.
    pub mounts: Vec<MountPoint>,
    /// Partitions and what is built on this device.
    pub children: Vec<BlockReport>,
}

/// One of several ways to a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathReport {
    /// The kernel's name: `sdc`, `nvme0c1n1`.
    pub name: String,
    /// Where it goes: `2:0:0:1`, a PCI address.
    pub slot: Option<String>,
    /// What the kernel says of it: `running`, `offline`, `live`…
    pub state: Option<String>,
}

/// What a disk says of itself (SMART, NVMe health log, SCSI informational exceptions).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthReport {
    /// `good`, `worn`, `suspect`, `failing` or `unknown`.
    pub word: String,
    /// Why, a phrase each.
    pub why: Vec<String>,
    /// Degrees Celsius.
    pub temperature: Option<i32>,
    /// Hours that it was powered.
    pub hours: Option<u64>,
    /// Per cent of its rated life that are used, which may be over 100.
    pub used: Option<u32>,
}

/// A place that a device is mounted at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountPoint {
    /// The folder.
    pub target: String,
    /// Whether nothing can be written there.
    pub read_only: bool,
}
