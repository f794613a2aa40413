//! The first look at the disks can come before their drivers are there: SSH does not wait for them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rescue_schema::paths;
use rescue_schema::report::BootReport;

use crate::sys::files::read_capped;
use crate::sys::watch::Watch;

/// How long a look at the disks waits for a driver that probes: a shelf of disks takes seconds to spin
/// up, and what comes later is seen by the next look.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits until the drivers of the devices that were there at the start have settled. Does nothing where
/// no rescue runs, with `root` in the place of `/`.
pub(super) fn settle(root: &Path) {
    if settled(root) {
        return;
    }
    let until = Instant::now() + LIMIT;
    let Ok(mut watch) = Watch::open(&at(root, paths::RUN)) else { return };
    while !settled(root) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || watch.wait_for(left).is_err() {
            break;
        }
    }
}

fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Whether they have.
pub(super) fn settled(root: &Path) -> bool {
    let report = read_capped(&at(root, paths::BOOT_REPORT), 1 << 20);
    let report = report.ok().and_then(|json| serde_json::from_slice::<BootReport>(&json).ok());
    match report {
        Some(boot) => boot.stages.iter().any(|stage| stage.name == "modules"),
        // The boot has only begun: its first report is yet to come.
        None => !at(root, paths::NOTIFY).exists(),
    }
}
