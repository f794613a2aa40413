//! The boot log: one line a message, appended by every process of ours, and kmsg for what tools
//! and consoles must see.
//!
//! The log is a file in RAM that is rotated once, so it is bounded and survives any process.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rescue_schema::paths;

use super::time::since_boot;

/// Size at which the log is rotated, in bytes; twice this is kept at the most.
const ROTATE_AT: u64 = 256 << 10;
/// Longest message in bytes; kmsg's own limit is 1024 less its prefix.
const MAX_MESSAGE: usize = 900;

/// Appends `text` to the log, from `source` (`pid1`, `netd`, …). Never fails: a log that cannot be
/// written must not stop a rescue.
pub fn note(source: &str, text: &str) {
    let now = since_boot();
    let line = format!("[{:5}.{:03}] {source}: {}\n", now.as_secs(), now.subsec_millis(), clean(text));
    let path = Path::new(paths::LOG);
    if std::fs::metadata(path).is_ok_and(|m| m.len() > ROTATE_AT) {
        let _ = std::fs::rename(path, paths::LOG_OLD);
    }
    // The folder is root's alone to write in, and one write of a short line is atomic with O_APPEND.
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).mode(0o600).open(path) {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Says `line` in kmsg at level `info`, so on every console of a kernel that is not quiet, and in
/// the log.
pub fn kmsg(line: &str) {
    kmsg_at(6, line);
}

/// As [`kmsg`], at level `err`: shown even by a quiet kernel.
pub fn kmsg_error(line: &str) {
    kmsg_at(3, line);
}

/// As [`note`], and in kmsg at level `info`: for what those at a console should see happen.
pub fn tell(source: &str, text: &str) {
    note(source, text);
    if let Ok(mut file) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = file.write_all(format!("<6>rescue: {}\n", clean(text)).as_bytes());
    }
}

fn kmsg_at(level: u8, line: &str) {
    let line = clean(line);
    if let Ok(mut file) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = file.write_all(format!("<{level}>{line}\n").as_bytes());
    }
    note("kmsg", &line);
}

/// Text that came from outside may hold escape sequences; a log and a console must not obey them.
fn clean(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if out.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn control_characters_and_length_are_tamed() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a?[2Jb?c");
        assert!(clean(&"é".repeat(2000)).len() < 1000);
    }
}
