//! What verbs tell a person, in lines that fit the terminal: a serial console is 80 columns wide, and cuts words
//! where they end. What goes to a file or a pipe stays one line a sentence.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::sys::tty;

/// Says something on stdout.
macro_rules! tell {
    ($($words:tt)*) => { crate::commands::wrapped::out(&format!($($words)*)) };
}

/// Says something on stderr.
macro_rules! complain {
    ($($words:tt)*) => { crate::commands::wrapped::err(&format!($($words)*)) };
}

/// Puts something on stdout as it stands: JSON, tables, what a script reads. Unlike `println!` it does not end a verb
/// that nobody reads any more (`rescue disks | head`) with a panic.
macro_rules! put {
    ($($words:tt)*) => { crate::commands::wrapped::raw(&format!($($words)*)) };
}

pub(super) use {complain, put, tell};

/// Lines on stdout.
pub(super) fn out(text: &str) {
    line(&mut io::stdout(), &fitted(text, tty::columns(io::stdout())));
}

/// Lines on stderr; nothing where there are none.
pub(super) fn err(text: &str) {
    if !text.is_empty() {
        line(&mut io::stderr(), &fitted(text, tty::columns(io::stderr())));
    }
}

/// Text on stdout.
pub(super) fn raw(text: &str) {
    let mut to = io::stdout();
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// Whoever has read enough (`rescue mount | head`) is no reason to stop half-way.
fn line(to: &mut dyn io::Write, text: &str) {
    let _ = writeln!(to, "{text}");
}

fn fitted(text: &str, width: Option<usize>) -> String {
    let text = text.trim_end();
    match width {
        Some(width) => text.lines().map(|line| wrapped(line, width)).collect::<Vec<_>>().join("\n"),
        None => text.into(),
    }
}

/// Breaks a line between words; what follows stands a little further in, so that it is seen to belong to it. A word
/// that is longer than a line is left whole.
fn wrapped(line: &str, width: usize) -> String {
    if columns(line) <= width {
        return line.into();
    }
    let indent = columns(line) - columns(line.trim_start()) + 2;
    let mut text = String::new();
    let mut at = 0;
    // With the spaces before it, which make columns of some lines.
    for word in line.split_inclusive(|c| c != ' ').fold(Vec::<String>::new(), words) {
        let bare = word.trim_start();
        if at > indent && at + columns(&word) > width {
            let _ = write!(text, "\n{:indent$}{bare}", "");
            at = indent + columns(bare);
        } else {
            text.push_str(&word);
            at += columns(&word);
        }
    }
    text
}

/// Columns that a terminal shows a text in (Unicode Standard Annex 11: wide characters take two).
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

fn width_of(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Labels are written by whoever made the disk; a terminal must not obey them.
pub(super) fn cut(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    if columns(text) <= width {
        return text.chars().map(clean).collect();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += width_of(*c);
        used <= width
    };
    text.chars().take_while(fits).map(clean).chain(['…']).collect()
}

/// Cut, or filled up, to this width.
pub(super) fn filled(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let blanks = width.saturating_sub(columns(&text));
    text + &" ".repeat(blanks)
}

/// Joins characters with the spaces before them to words.
fn words(mut words: Vec<String>, piece: &str) -> Vec<String> {
    match words.last_mut() {
        Some(last) if !piece.starts_with(' ') => last.push_str(piece),
        _ => words.push(piece.into()),
    }
    words
}

/// Lines of at most `width`, broken at blanks, and inside of words that are longer; at most eight.
pub(super) fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').flat_map(|word| pieces(&cut(word, usize::MAX), width)) {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(&word),
            Some(line) if columns(line) + 1 + columns(&word) <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines.truncate(8);
    lines
}

fn pieces(word: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for c in word.chars() {
        match pieces.last_mut() {
            Some(piece) if columns(piece) + columns(c.encode_utf8(&mut [0; 4])) <= width => piece.push(c),
            _ => pieces.push(c.into()),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_any_more_stops_nothing() {
        let (reads, mut writes) = io::pipe().unwrap();
        drop(reads);
        line(&mut writes, "mounted");
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(
            fitted("  - as it is, and no longer than that\n", None),
            "  - as it is, and no longer than that"
        );
        assert_eq!(wrapped("  - as it is, and no longer", 16), "  - as it is,\n    and no\n    longer");
        assert_eq!(wrapped("  a → b    ext4, read-only", 16), "  a → b    ext4,\n    read-only");
        assert_eq!(
            wrapped("see /dev/disk/by-id/ata-long for it", 12),
            "see\n  /dev/disk/by-id/ata-long\n  for it"
        );
        assert_eq!(wrapped("exactly ten", 11), "exactly ten");
        assert_eq!(wrapped("日本 日本 日本", 10), "日本 日本\n  日本", "wide characters take two columns");
    }
}
