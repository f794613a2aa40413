//! What zpool(8) and zfs(8) say, parsed: tab-separated where they offer it (`-Hp`), a name that can be none left out.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::sys::lines::hear;
use crate::sys::spawn;

/// Most bytes that are read of what a program says.
const SAID: usize = 4 << 20;
/// What a program may take to answer. One that asks of a pool whose disks are gone never does.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest name of a pool or dataset (`ZFS_MAX_DATASET_NAME_LEN`).
const NAME: usize = 255;

/// A pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pool {
    /// Its name.
    pub(super) name: String,
    /// Its number, which copies of it share.
    pub(super) guid: String,
    pub(super) size: u64,
    /// `ONLINE`, `DEGRADED`…
    pub(super) health: String,
    /// Whether it was imported read-only.
    pub(super) read_only: bool,
    /// The dataset that is booted, where one is.
    pub(super) bootfs: String,
    /// What stands before its mount points.
    pub(super) altroot: String,
}

/// A file system of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dataset {
    pub(super) name: String,
    pub(super) used: u64,
    /// `on`, `off`, `noauto`.
    pub(super) canmount: String,
    /// `available`, `unavailable`; `-` where it is not encrypted.
    pub(super) key: String,
    /// The dataset whose key it is.
    pub(super) key_of: String,
    /// The roots that it says it belongs to, with commas between them.
    pub(super) roots: String,
    /// `legacy`, `none`, or a folder.
    pub(super) mountpoint: String,
}

/// Whether a text can be the name of a pool or dataset: what else is said to be one plays with a terminal.
pub(super) fn is_name(text: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | ' ');
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(usual);
    text.len() <= NAME && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.split('/').all(part)
}

/// Whether a text can be the name of a pool.
pub fn is_pool(text: &str) -> bool {
    is_name(text) && !text.contains('/')
}

/// What `zpool list -Hp -o name,guid,size,health,readonly,bootfs,altroot` says.
pub(super) fn pools(text: &str) -> Vec<Pool> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.splitn(7, '\t').collect();
        let [name, guid, size, health, read_only, bootfs, altroot] = fields.as_slice() else { return None };
        let known = is_pool(name) && guid.parse::<u64>().is_ok();
        let none = |text: &str| if text == "-" { String::new() } else { text.to_string() };
        known.then(|| Pool {
            name: (*name).into(),
            guid: (*guid).into(),
            size: size.parse().unwrap_or(0),
            health: (*health).into(),
            read_only: *read_only == "on",
            bootfs: none(bootfs),
            altroot: none(altroot),
        })
    };
    text.lines().filter_map(line).collect()
}

/// What `zfs list -Hp -t filesystem -o name,used,canmount,keystatus,encryptionroot,BELONGS,mountpoint` says.
pub(super) fn datasets(text: &str) -> Vec<Dataset> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.splitn(7, '\t').collect();
        let [name, used, canmount, key, key_of, roots, mountpoint] = fields.as_slice() else { return None };
        is_name(name).then(|| Dataset {
            name: (*name).into(),
            used: used.parse().unwrap_or(0),
            canmount: (*canmount).into(),
            key: (*key).into(),
            key_of: (*key_of).into(),
            roots: if *roots == "-" { String::new() } else { (*roots).into() },
            mountpoint: (*mountpoint).into(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// What a pool that is not imported is like, by `zpool import`: its `state`, and its `status` where that says why.
pub fn state(text: &str, guid: &str) -> Option<(String, String)> {
    let field = |line: &str| {
        let (key, value) = line.trim_start().split_once(": ")?;
        Some((key.to_string(), value.trim().to_string()))
    };
    let mut lines =
        text.lines().skip_while(|l| field(l) != Some(("id".into(), guid.into()))).skip(1).peekable();
    let (mut state, mut status) = (None, String::new());
    while let Some(line) = lines.next() {
        match field(line) {
            Some((key, _)) if key == "pool" => break,
            Some((key, value)) if key == "state" => state = Some(value),
            Some((key, value)) if key == "status" => {
                status = value;
                // It goes on, indented, in the lines below.
                while let Some(more) = lines.next_if(|l| l.starts_with('\t') || l.starts_with("        ")) {
                    status = format!("{status} {}", more.trim());
                }
            }
            _ => {}
        }
    }
    Some((state?, status))
}

/// What a program says, as far as it is bounded and comes in time.
///
/// # Errors
/// When it does not end well, or not in time.
pub fn said(program: &str, words: &[&str]) -> io::Result<String> {
    let mut command = Command::new(program);
    command.args(words).env("PATH", spawn::PATH).env("LC_ALL", "C");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let Some(output) = child.stdout.take() else {
        return Err(io::Error::other(format!("{program}: no pipe")));
    };
    match hear(File::from(OwnedFd::from(output)), PATIENCE, SAID) {
        Ok(text) => {
            let status = child.wait()?;
            let text = String::from_utf8_lossy(&text).into_owned();
            if status.success() { Ok(text) } else { Err(io::Error::other(format!("{program}: {status}"))) }
        }
        Err(error) => {
            // Not waited for: it may hang in the kernel.
            let _ = child.kill();
            Err(io::Error::new(error.kind(), format!("{program}: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_pool_that_is_not_imported_is_read() {
        let said = "   pool: tank\n     id: 16\n  state: ONLINE\n action: The pool can be imported.\n config:\n\n\
            \ttank  ONLINE\n\n\
               pool: tank\n     id: 17\n  state: DEGRADED\n\
            status: One or more devices are missing\n\
            \tfrom the system.\n action: The pool can be imported\n";
        assert_eq!(state(said, "16"), Some(("ONLINE".into(), String::new())));
        let (word, why) = state(said, "17").unwrap();
        assert_eq!(
            (word.as_str(), why.as_str()),
            ("DEGRADED", "One or more devices are missing from the system.")
        );
        assert_eq!(state(said, "1"), None);
        assert_eq!(state("     id: 17\n   pool: x\n  state: ONLINE\n", "17"), None, "that is another's");
        assert_eq!(state("", ""), None);
    }

    #[test]
    fn what_a_program_says_is_bounded_and_its_end_counts() {
        assert_eq!(said("echo", &["-n", "x"]).unwrap(), "x");
        assert!(said("false", &[]).is_err() && said("no-such-program", &[]).is_err());
    }
}
