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
    /// Its device node: `/dev/vda1`, `/dev/mapper/root`.
    pub path: String,
    /// `disk`, `part`, `rom`, `loop`, `crypt`, `lvm`, `dm`, or the level of a RAID (`raid1`).
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
    /// How it is attached: `virtio`, `nvme`, `sata`, `usb`, `scsi`, `xen`, `mmc`.
    pub bus: Option<String>,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// Whether the kernel lets nobody write to it.
    pub read_only: bool,
    /// What the partition table says of it, when it is a partition. `content` stays empty.
    pub partition: Option<super::PartitionReport>,
    /// What is on it.
    pub probe: ProbeReport,
    /// Where it is mounted, `[SWAP]` included.
    pub mounts: Vec<MountPoint>,
    /// Partitions and what is built on this device.
    pub children: Vec<BlockReport>,
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
