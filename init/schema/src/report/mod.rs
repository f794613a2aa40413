//! What a rescued machine answers: kmsg lines that tools read, and the `--json` of each verb.
//! One file a verb or line; consumers ignore fields that they do not know.

mod assemble;
mod boot;
mod disks;
mod log;
mod mounts;
mod net;
mod power;
mod probe;
mod sources;
mod status;
mod systems;
mod who;

pub use assemble::AssembleReport;
pub use boot::{BootReport, Ready, StageLine, StageReport, StageResult};
pub use disks::{BlockReport, DisksReport, HealthReport, MountPoint, PathReport};
pub use log::LogLine;
pub use mounts::{BusyMount, Holder, MountReport, UnmountReport};
pub use net::{DuplicateReport, LinkReport, NeighbourReport, NetReport, OriginReport, SourceReport};
pub use power::PowerReport;
pub use probe::{PartitionReport, ProbeReport, ProbeResult, Proof, SignatureReport};
pub use sources::{CredentialSource, CredentialState};
pub use status::StatusReport;
pub use systems::{SubvolumeReport, SystemReport, SystemsReport};
pub use who::WhoReport;
