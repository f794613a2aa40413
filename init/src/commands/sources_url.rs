//! The document at `rescue.device_url=`, fetched beside everything else as soon as the network is there.

use std::path::Path;
use std::time::{Duration, Instant};

use rescue_schema::paths;
use rescue_schema::report::NetReport;
use zeroize::Zeroizing;

use super::https;
use super::sources_asking::Asking;
use crate::creds::device_url::{self, Wish};
use crate::creds::{DEVICE_URL, Said};
use crate::sys::cmdline::Cmdline;
use crate::sys::files::read_capped;
use crate::sys::log;
use crate::sys::watch::Watch;
use crate::web::url::Url;

/// How long it is tried.
const PATIENCE: Duration = Duration::from_secs(300);
/// Waits between attempts: doubled each time, up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(16);
/// Longest report of the network, in bytes.
const MAX_REPORT: usize = 1 << 20;

/// Begins to fetch it, if there is one; else, what there is to say.
pub(super) fn begin(root: &Path, line: &Cmdline, ours: bool) -> Result<Asking, Box<Said>> {
    let wish = device_url::wish(line)?;
    let so_far = Said::waiting(DEVICE_URL, &format!("fetching {}", wish.place()));
    let root = root.to_path_buf();
    Asking::begin(so_far, move || fetch(&wish, &root, ours))
}

fn fetch(wish: &Wish, root: &Path, ours: bool) -> Said {
    let place = wish.place();
    match patiently(&wish.url, &place, (root, ours), Instant::now() + PATIENCE) {
        Ok((200, body)) => wish.read(&body),
        Ok((status, _)) => Said::refused(DEVICE_URL, &format!("{place}: HTTP {status}")),
        Err(why) => Said::refused(DEVICE_URL, &format!("{place}: {why}; given up")),
    }
}

/// Asks until there is an answer that asking again would not change; its status and body. `place` is what the log
/// calls it.
///
/// # Errors
/// Why there was none in time.
pub(super) fn patiently(
    url: &Url,
    place: &str,
    (root, ours): (&Path, bool),
    until: Instant,
) -> Result<(u16, Zeroizing<Vec<u8>>), String> {
    let report = root.join(paths::NET_REPORT.trim_start_matches('/'));
    // The watch first: a change behind the look is then seen.
    let mut watch = report.parent().and_then(|folder| Watch::open(folder).ok());
    let mut wait = FIRST_WAIT;
    let mut why = "no network to fetch it by".to_string();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(why);
        }
        if !connected(&report) {
            match &mut watch {
                Some(watch) => drop(watch.wait_for(left)),
                None => std::thread::sleep(FIRST_WAIT),
            }
            continue;
        }
        let failed = match https::get(url, root, ours) {
            Ok((status @ (408 | 425 | 429 | 500..), _)) => format!("HTTP {status}"),
            Ok(answer) => return Ok(answer),
            Err(error) => format!("{error:#}"),
        };
        if failed != why {
            log::note("sources", &format!("{place}: {failed}; it is tried again"));
            why = failed;
        }
        // There is no event to wait for: the other side comes back unsaid.
        std::thread::sleep(wait.min(left));
        wait = (wait * 2).min(LAST_WAIT);
    }
}

/// Whether a link has an address beyond itself.
fn connected(report: &Path) -> bool {
    let report = read_capped(report, MAX_REPORT).unwrap_or_default();
    let report: NetReport = serde_json::from_slice(&report).unwrap_or_default();
    let mut links = report.links.iter().filter(|link| link.carrier);
    links.any(|link| link.addresses.iter().any(|address| !address.starts_with("fe80:")))
}
