use serde::{Deserialize, Serialize};

/// `rescue reboot --json` and its kin: what is about to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerReport {
    /// `reboot`, `poweroff` or `halt`.
    pub action: String,
    /// At once, with nothing but a sync before.
    pub force: bool,
    /// What will be unmounted, in this order.
    pub unmounts: Vec<String>,
}
