//! The boot log: one line a message, appended by every process of ours, and kmsg for what tools
//! and consoles must see.
//!
//! The log is a file in RAM that is rotated once, so it is bounded and survives any process.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rescue_schema::paths;

use super::time::since_boot;

/// Size at which the log is rotated, in bytes; twice this is kept at the most.
const ROTATE_AT: u64 = 256 << 10;
/// Longest message in bytes; kmsg's own limit is 1024 less its prefix.
const MAX_MESSAGE: usize = 900;
/// Its first number is the level below which the consoles show what the kernel says
/// (Documentation/admin-guide/sysctl/kernel.rst, printk).
const PRINTK: &str = "/proc/sys/kernel/printk";
/// That number where they show `info`.
const SHOWS_INFO: u32 = 7;

/// Appends `text` to the log, from `source` (`pid1`, `netd`, …). Never fails: a log that cannot be
/// written must not stop a rescue.
pub fn note(source: &str, text: &str) {
    let now = since_boot();
    let line = format!("[{:5}.{:03}] {source}: {}\n", now.as_secs(), now.subsec_millis(), clean(text));
    let _ = append(Path::new(paths::LOG), Path::new(paths::LOG_OLD), ROTATE_AT, &line);
}

/// Appends a line to `path`, which becomes `old` first where it is longer than `limit`.
fn append(path: &Path, old: &Path, limit: u64, line: &str) -> io::Result<()> {
    // The folder is root's alone to write in, and one write of a short line is atomic with O_APPEND.
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let mut file = open()?;
    // Of all that find it too long one renames it: a second would put the log that has just begun in the
    // place of the one that was. Nobody waits for it: what is appended meanwhile is in the old one.
    if file.metadata()?.len() > limit && file.try_lock().is_ok() {
        let is_same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        if std::fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|own| is_same(&now, &own))) {
            std::fs::rename(path, old)?;
        }
        file = open()?;
    }
    file.write_all(line.as_bytes())
}

/// Says `line` in kmsg at level `info`, so on every console of a kernel that is not quiet, and in
/// the log.
pub fn kmsg(line: &str) {
    kmsg_at(6, line);
}

/// Has the kernel show on its consoles what is said at level `info` and above, if it does not.
pub fn show_on_consoles() {
    let shown = std::fs::read_to_string(PRINTK).ok();
    let shown = shown.and_then(|text| text.split_whitespace().next()?.parse::<u32>().ok());
    if shown.is_some_and(|shown| shown < SHOWS_INFO) {
        let _ = std::fs::write(PRINTK, format!("{SHOWS_INFO}\n"));
    }
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
    use super::{append, clean};

    #[test]
    fn many_writers_rotate_it_once_and_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.old"));
        for round in 0..50 {
            let _ = (std::fs::remove_file(&path), std::fs::remove_file(&old));
            std::fs::write(&path, vec![b'\n'; 4097]).unwrap();
            std::thread::scope(|scope| {
                for writer in 0..8 {
                    let (path, old) = (&path, &old);
                    scope.spawn(move || append(path, old, 4096, &format!("writer {writer}\n")).unwrap());
                }
            });
            let (first, second) = (std::fs::read(&old).unwrap(), std::fs::read_to_string(&path).unwrap());
            assert!(first.len() >= 4097, "round {round}: the log that was is gone");
            let lines = second.lines().count() + first.iter().filter(|b| **b == b'w').count();
            assert_eq!(lines, 8, "round {round}");
        }
    }

    #[test]
    fn control_characters_and_length_are_tamed() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a?[2Jb?c");
        assert!(clean(&"é".repeat(2000)).len() < 1000);
    }
}
