//! What a rescued machine answers: kmsg lines that tools read, and the `--json` of each verb.
//! One file a verb or line; consumers ignore fields that they do not know.

mod boot;
mod net;
mod power;
mod status;

pub use boot::{BootReport, Ready, StageLine, StageReport, StageResult};
pub use net::{LinkReport, NetReport};
pub use power::PowerReport;
pub use status::StatusReport;
