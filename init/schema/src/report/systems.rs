use serde::{Deserialize, Serialize};

/// `rescue systems --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemsReport {
    /// Every system that was found, in the order of the disks.
    pub systems: Vec<SystemReport>,
    /// What could not be looked at, a sentence each.
    pub unseen: Vec<String>,
}

/// One installed system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemReport {
    /// What `rescue mount` and `enter` call it.
    pub name: String,
    /// `linux`, `windows`, `freebsd`, `esxi`, or `unknown` for something that only looks bootable.
    pub family: String,
    /// `ID` of its os-release, or such a word for what has none.
    pub id: Option<String>,
    /// What it calls itself.
    pub pretty_name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Edition (Windows).
    pub edition: Option<String>,
    /// Build (Windows, ESXi).
    pub build: Option<String>,
    /// What its programs run on, as `uname -m` says it.
    pub architecture: Option<String>,
    /// /etc/machine-id, `MachineGuid`.
    pub machine_id: Option<String>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Device of its root.
    pub device: String,
    /// Type of that file system, as `blkid` says it.
    pub filesystem: Option<String>,
    /// UUID of that file system.
    pub uuid: Option<String>,
    /// The btrfs subvolume that its root is.
    pub subvolume: Option<SubvolumeReport>,
    /// Whether it is a copy that was kept of another system of this list.
    pub snapshot: bool,
    /// The volume of a pool that it is on, as a guest's system is on its host.
    pub guest: Option<String>,
    /// Kernels, the newest first, as paths on the device or on that of its /boot.
    pub kernels: Vec<String>,
    /// Initial RAM disks, the newest first.
    pub initrds: Vec<String>,
    /// Boot loaders that are set up on it, on its /boot and on its ESP.
    pub loaders: Vec<String>,
    /// Device of its EFI system partition.
    pub esp: Option<String>,
    /// What firmware can start there, and entries of loaders.
    pub entries: Vec<String>,
    /// When it last booted, in seconds since 1970.
    pub last_boot: Option<i64>,
    /// When it last wrote to a log, in seconds since 1970.
    pub last_log: Option<i64>,
    /// Where it is mounted.
    pub mounted: Option<String>,
    /// `certain`, `likely` or `remains` (little of it is left).
    pub sure: String,
    /// What speaks for it, a phrase each.
    pub evidence: Vec<String>,
    /// What is to be known before it is changed, a sentence each.
    pub notes: Vec<String>,
}

/// A subvolume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubvolumeReport {
    /// Its id; 5 is the top level.
    pub id: u64,
    /// Its path from the top level.
    pub path: String,
}
