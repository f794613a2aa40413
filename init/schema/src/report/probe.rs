use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a look at a device or an image came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeResult {
    /// Something that we know is on it.
    Found,
    /// It was read, and nothing that we know is on it.
    #[default]
    Nothing,
    /// Several signatures contradict one another; all are listed, the likelier first.
    Ambivalent,
    /// It could not be read: this is not to say that it is empty.
    Unreadable,
}

/// How much speaks for a signature, the weakest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// A magic number, and little else that could be checked.
    #[default]
    Magic,
    /// A magic number, and fields that agree with one another.
    Fields,
    /// The checksum of its superblock holds.
    Checksum,
    /// What the superblock points to is where it says.
    Structure,
}

/// `rescue probe --json`: what is on one device or image. Type names are those of `blkid`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeReport {
    /// What the look came to.
    pub result: ProbeResult,
    /// Type of the file system, container or, where it has neither, partition table.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Label.
    pub label: Option<String>,
    /// UUID as `blkid` prints it.
    pub uuid: Option<String>,
    /// Version of the format.
    pub version: Option<String>,
    /// `clean`, `needs journal recovery`, `not cleanly unmounted`, `errors seen`, `hibernated`, `damaged`.
    pub state: Option<String>,
    /// Size in bytes of the device or image.
    pub size: u64,
    /// Block size in bytes of the file system.
    pub block_size: Option<u64>,
    /// What else is to say, a sentence each: damage, what is left, why it was unreadable.
    pub notes: Vec<String>,
    /// Every signature on it, the deciding one first.
    pub signatures: Vec<SignatureReport>,
    /// The partitions, when it has a partition table.
    pub partitions: Vec<PartitionReport>,
}

/// One signature.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SignatureReport {
    /// Type as `blkid` says it.
    #[serde(rename = "type")]
    pub kind: String,
    /// `filesystem`, `raid`, `crypto`, `other` (swap) or `partition-table`.
    pub usage: String,
    /// Where its magic number was found, in bytes from the start.
    pub offset: u64,
    /// Label.
    pub label: Option<String>,
    /// UUID as `blkid` prints it.
    pub uuid: Option<String>,
    /// Version of the format.
    pub version: Option<String>,
    /// As [`ProbeReport::state`].
    pub state: Option<String>,
    /// Size in bytes that it says to have.
    pub size: Option<u64>,
    /// Block size in bytes.
    pub block_size: Option<u64>,
    /// How much speaks for it.
    pub proof: Proof,
    /// Bytes from the start at which whole copies of its superblock were looked for and found.
    pub backups: Vec<u64>,
    /// When it is damaged: the command that would use what is left, with `DEV` for the device.
    pub repair: Option<String>,
    /// Whatever else `blkid` says, under its names: `UUID_SUB`, `LABEL_FATBOOT`, `SYSTEM_ID`…
    pub more: BTreeMap<String, String>,
    /// What else is to say, a sentence each.
    pub notes: Vec<String>,
}

/// One entry of a partition table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionReport {
    /// Its number, as the kernel counts.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Type: a GUID for GPT, `0x83` for MBR.
    #[serde(rename = "type")]
    pub kind: String,
    /// What that type is for, where we know it.
    pub purpose: Option<String>,
    /// Name (GPT).
    pub name: Option<String>,
    /// PARTUUID.
    pub uuid: Option<String>,
    /// Whether it is marked as one to boot from.
    pub bootable: bool,
    /// What else it is marked as: `active`, `hidden`, `required`, `legacy-boot`, `read-only`, `no-auto`…
    pub flags: Vec<String>,
    /// Number of the partition that it lies in: of the MBR partition around a BSD disklabel.
    pub parent: Option<u32>,
    /// What is on it, when an image or whole disk was probed.
    pub content: Option<Box<ProbeReport>>,
}
