//! The first look at the disks can come before their drivers are there: SSH does not wait for them.

use std::path::Path;
use std::time::{Duration, Instant};

use rescue_schema::paths;
use rescue_schema::report::BootReport;

use crate::sys::files::read_capped;
use crate::sys::watch::Watch;

/// How long a look at the disks waits for a driver that probes: a shelf of disks takes seconds to spin
/// up, and what comes later is seen by the next look.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits until the drivers of the devices that were there at the start have settled. Does nothing where
/// no rescue runs.
pub(super) fn settled() {
    let until = Instant::now() + LIMIT;
    let Ok(mut watch) = Watch::open(Path::new(paths::RUN)) else { return };
    while under_way() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || watch.wait_for(left).is_err() {
            break;
        }
    }
}

fn under_way() -> bool {
    let report = read_capped(Path::new(paths::BOOT_REPORT), 1 << 20);
    let report = report.ok().and_then(|json| serde_json::from_slice::<BootReport>(&json).ok());
    match report {
        Some(boot) => !boot.stages.iter().any(|stage| stage.name == "modules"),
        // The boot has only begun: its first report is yet to come.
        None => Path::new(paths::NOTIFY).exists(),
    }
}
