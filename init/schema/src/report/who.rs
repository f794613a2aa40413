use serde::{Deserialize, Serialize};

/// `rescue who --json`: one of these a connection of somebody who is in over SSH.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WhoReport {
    /// What `rescue who --kick` takes: the process id of the connection's monitor.
    pub id: u32,
    /// When that process started, in clock ticks after the kernel (proc(5), `starttime`): an id that is
    /// used again is another's.
    pub started: u64,
    /// Login name.
    pub user: String,
    /// Address and port of the client.
    pub from: String,
    /// By what the login was made: `password`, or `publickey` and a fingerprint.
    pub method: String,
    /// When, in seconds after the kernel started.
    pub since_seconds: u64,
    /// What runs: `shell`, `command`, or the name of a subsystem; each once for each.
    pub running: Vec<String>,
    /// What is listened at for the client: `address:port` and paths.
    pub listening: Vec<String>,
}
