//! What a rescued machine answers: kmsg lines that tools read, and the `--json` of each verb.
//! One file a verb or line; consumers ignore fields that they do not know.

mod boot;
mod disks;
mod log;
mod mounts;
mod net;
mod power;
mod probe;
mod status;
mod who;

pub use boot::{BootReport, Ready, StageLine, StageReport, StageResult};
pub use disks::{BlockReport, DisksReport, MountPoint};
pub use log::LogLine;
pub use mounts::{BusyMount, Holder, MountReport, UnmountReport};
pub use net::{LinkReport, NetReport};
pub use power::PowerReport;
pub use probe::{PartitionReport, ProbeReport, ProbeResult, SignatureReport};
pub use status::StatusReport;
pub use who::WhoReport;
