use serde::{Deserialize, Serialize};

use super::{BootReport, NetReport};
use crate::manifest::ImageInfo;

/// `rescue status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Host name.
    pub hostname: String,
    /// Seconds since the kernel started.
    pub uptime_seconds: u64,
    /// Memory in MiB: all, and what is available.
    pub memory_mib: (u64, u64),
    /// The image that runs, when it says so.
    pub image: Option<ImageInfo>,
    /// The boot.
    pub boot: BootReport,
    /// The network.
    pub network: NetReport,
}
