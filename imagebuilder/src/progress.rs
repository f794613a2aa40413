//! Progress bars for what is long: on stderr, and only when that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` bytes.
pub(crate) fn bytes(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{msg:>30} {wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar.with_message(what.to_string())
}
