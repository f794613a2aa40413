//! Progress bars for what is long: on stderr, and only when that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` bytes.
pub(crate) fn bytes(what: &str, total: u64) -> ProgressBar {
    bar(what, total, "{msg:>30} {wide_bar} {bytes}/{total_bytes} {eta}")
}

/// A bar over `total` files.
pub(crate) fn files(what: &str, total: u64) -> ProgressBar {
    bar(what, total, "{msg:>30} {wide_bar} {pos}/{len} files {eta}")
}

fn bar(what: &str, total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what.to_string())
}
