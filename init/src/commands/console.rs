//! `rescue console`: the login on one console, put together from accounts, throttle and terminal.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rescue_schema::account::Account;
use rescue_schema::paths;

use super::{Command, Usage};
use crate::accounts::{Directory, Throttle};
use crate::console::{self, Console, Gate};
use crate::sys::files;

pub(super) const COMMAND: Command =
    Command { name: "console", links: &[], usage: "TTY [--root DIR]", about: "", run };

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let (terminal, root) = arguments(args)?;
    // tty0 is whichever virtual terminal is in front; people log in on the first.
    let name = match terminal.trim_start_matches("/dev/") {
        "tty0" => "tty1",
        name => name,
    };
    let command_line = files::read_trimmed(&root.join("proc/cmdline")).unwrap_or_default();
    let console = Console {
        device: Path::new("/dev").join(name),
        name: name.to_string(),
        term: term(name, &command_line),
        root: root.clone(),
    };
    let gate = Accounts {
        directory: Directory::from_files(&root),
        throttle: Throttle::open(&root.join(paths::THROTTLE.trim_start_matches('/'))),
        source: name.to_string(),
    };
    match console::serve(&console, &gate).with_context(|| format!("serving {}", console.device.display()))? {}
}

fn arguments(args: &[String]) -> anyhow::Result<(String, PathBuf)> {
    let mut parser = lexopt::Parser::from_args(args);
    let (mut terminal, mut root) = (None, PathBuf::from("/"));
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            lexopt::Arg::Value(value) if terminal.is_none() => terminal = Some(value),
            lexopt::Arg::Long("root") => root = parser.value().map_err(usage)?.into(),
            other => return Err(usage(other.unexpected())),
        }
    }
    let terminal = terminal.and_then(|value| value.into_string().ok());
    let terminal = terminal.ok_or_else(|| Usage("names no TTY, such as ttyS0".into()))?;
    let path = terminal.trim_start_matches("/dev/");
    if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Usage(format!("{terminal:?} is not a terminal in /dev")).into());
    }
    Ok((terminal, root))
}

fn usage(error: lexopt::Error) -> anyhow::Error {
    Usage(error.to_string()).into()
}

/// `TERM`: `rescue.term=` of the kernel command line, else what the kernel itself emulates on a virtual
/// terminal, else the least that any terminal on a serial line understands and programs draw on.
fn term(terminal: &str, command_line: &str) -> String {
    let wished =
        command_line.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("rescue.term="));
    let is_name = |name: &&str| {
        (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
    };
    let is_virtual =
        terminal.strip_prefix("tty").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    wished.filter(is_name).unwrap_or(if is_virtual { "linux" } else { "vt220" }).to_string()
}

/// The accounts of this rescue, and its one table of failures.
struct Accounts {
    directory: Directory,
    throttle: Throttle,
    source: String,
}

impl Gate for Accounts {
    fn wait(&self) -> Option<Duration> {
        self.throttle.delay(&self.source)
    }

    fn enter(&self, name: &str, password: &[u8]) -> anyhow::Result<Option<Account>> {
        let account = self.directory.authenticate(name, password)?;
        match account {
            Some(_) => self.throttle.succeeded(&self.source),
            None => self.throttle.failed(&self.source),
        }
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn term_follows_terminal_and_command_line() {
        for (terminal, command_line, expected) in [
            ("tty1", "", "linux"),
            ("ttyS0", "console=ttyS0", "vt220"),
            ("ttyAMA0", "", "vt220"),
            ("tty", "", "vt220"),
            ("hvc0", "quiet rescue.term=xterm-256color", "xterm-256color"),
            ("tty1", "rescue.term=", "linux"),
            ("tty1", "rescue.term=a/../b", "linux"),
        ] {
            assert_eq!(term(terminal, command_line), expected, "{terminal} {command_line}");
        }
    }

    #[test]
    fn what_is_no_terminal_name_is_wrong_usage() {
        for args in [&[][..], &["../etc/passwd"], &["/dev/"], &["a", "b"], &["a", "--root"], &["a", "--x"]] {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            assert!(arguments(&args).unwrap_err().is::<Usage>(), "{args:?}");
        }
    }
}
