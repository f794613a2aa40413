use serde::{Deserialize, Serialize};

/// `rescue assemble --json`, and what `rescue unlock` found on what it opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AssembleReport {
    /// The plan, a line a step. Nothing else happened with `--dry-run`.
    pub steps: Vec<String>,
    /// What was left out or lacks something, a sentence each.
    pub remarks: Vec<String>,
    /// Whether something was left out that may be wanted: members missing, copies of a disk.
    pub incomplete: bool,
    /// Encrypted volumes that are not open.
    pub locked: Vec<String>,
    /// What failed, a sentence each.
    pub trouble: Vec<String>,
}
