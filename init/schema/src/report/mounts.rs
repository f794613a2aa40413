use serde::{Deserialize, Serialize};

/// `rescue mount --json`: one of these a system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountReport {
    /// Name of the system, also the last part of [`Self::target`].
    pub system: String,
    /// What it calls itself: `PRETTY_NAME` of its os-release.
    pub pretty_name: Option<String>,
    /// Device that its root file system is on.
    pub device: String,
    /// Where it is mounted.
    pub target: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// The plan, a line a step. Nothing else happened with `--dry-run`.
    pub steps: Vec<String>,
    /// What of its fstab was left out, a sentence each.
    pub left_out: Vec<String>,
    /// What went wrong without stopping the rest, a sentence each.
    pub trouble: Vec<String>,
}

/// `rescue umount --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnmountReport {
    /// What was unmounted, in that order.
    pub unmounted: Vec<String>,
    /// What is still busy.
    pub busy: Vec<BusyMount>,
    /// Arrays, volume groups and encrypted volumes that were closed, a line each.
    pub closed: Vec<String>,
    /// Those that would not, and why.
    pub stuck: Vec<String>,
}

/// A mount that would not go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BusyMount {
    /// The folder.
    pub target: String,
    /// Who holds it.
    pub holders: Vec<Holder>,
}

/// A process that holds a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// Process id.
    pub pid: i32,
    /// Its command.
    pub command: String,
    /// By what: `working directory`, `root`, `open file …`, `mapped file …`.
    pub by: String,
}
