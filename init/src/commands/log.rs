//! `rescue log`: what has happened since this boot began.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rescue_schema::paths;
use rescue_schema::report::LogLine;

use super::{Command, Usage};
use crate::sys::files::read_capped;
use crate::sys::kmsg::{Kmsg, Record};
use crate::sys::watch::Watch;

pub(super) const COMMAND: Command = Command {
    name: "log",
    links: &[],
    usage: "[-n LINES] [-f] [--auth | --kernel] [--json]",
    about: "what happened since this boot began; -f goes on as it happens",
    run,
};

/// Longest half of the log that is read, in bytes. It is rotated far below that.
const MAX: usize = 8 << 20;

struct Wish {
    lines: usize,
    follow: bool,
    kernel: bool,
    /// Logins and what they did alone.
    auth: bool,
    json: bool,
}

fn parse(args: &[String]) -> Result<Wish, Usage> {
    use lexopt::prelude::{Long, Short, ValueExt};
    let usage = |error: lexopt::Error| Usage(error.to_string());
    let mut wish = Wish { lines: usize::MAX, follow: false, kernel: false, auth: false, json: false };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Short('n') | Long("lines") => {
                wish.lines = parser.value().and_then(|v| v.parse()).map_err(usage)?
            }
            Short('f') | Long("follow") => wish.follow = true,
            Short('k') | Long("kernel") => wish.kernel = true,
            Long("auth") => wish.auth = true,
            Long("json") => wish.json = true,
            other => return Err(usage(other.unexpected())),
        }
    }
    if wish.auth && wish.kernel {
        return Err(Usage("--auth and --kernel do not go together".into()));
    }
    Ok(wish)
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let wish = parse(args)?;
    if wish.kernel {
        return kernel(&wish);
    }
    // Watched before it is read, so that no line falls between the two.
    let mut watch =
        wish.follow.then(|| Watch::open(Path::new(paths::RUN))).transpose().context("watching the log")?;
    let mut bytes = read_capped(Path::new(paths::LOG_OLD), MAX).unwrap_or_default();
    let mut file = File::open(paths::LOG).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("no {}: this machine does not run a rescue", paths::LOG),
        _ => anyhow::anyhow!("opening {}: {error}", paths::LOG),
    })?;
    let newest = read_on(&mut file)?;
    bytes.extend_from_slice(&newest);
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !wish.auth || is_of_a_login(line)).collect();
    let from = lines.len().saturating_sub(wish.lines);
    let mut out = std::io::stdout().lock();
    for line in lines.get(from..).unwrap_or_default() {
        show(&mut out, line, wish.json)?;
    }
    while let Some(watch) = &mut watch {
        watch.wait()?;
        let mut added = read_on(&mut file)?;
        if rotated(&file) {
            file = File::open(paths::LOG).with_context(|| format!("opening {}", paths::LOG))?;
            added.extend(read_on(&mut file)?);
        }
        let added = String::from_utf8_lossy(&added);
        for line in added.lines().filter(|line| !wish.auth || is_of_a_login(line)) {
            show(&mut out, line, wish.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a line is of those that let people in.
fn is_of_a_login(line: &str) -> bool {
    let source = LogLine::parse(line).source.unwrap_or_default();
    source == "sshd" || source == "accounts" || source.starts_with("console")
}

/// The kernel's own log, as dmesg(1) shows it.
fn kernel(wish: &Wish) -> anyhow::Result<ExitCode> {
    let reading = "reading /dev/kmsg";
    let mut log = Kmsg::open().context(reading)?;
    let mut held = VecDeque::new();
    while let Some(record) = log.pending().context(reading)? {
        if held.len() >= wish.lines {
            held.pop_front();
        }
        held.push_back(record);
    }
    held.truncate(wish.lines);
    let mut out = std::io::stdout().lock();
    for record in held {
        show_record(&mut out, record, wish.json)?;
    }
    if !wish.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        match poll(&mut [PollFd::new(log.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context(reading),
        }
        while let Some(record) = log.pending().context(reading)? {
            show_record(&mut out, record, wish.json)?;
        }
    }
}

fn show_record(out: &mut impl Write, record: Record, json: bool) -> anyhow::Result<()> {
    // What a device calls itself is in there; a terminal must not obey it.
    let text: String = record.text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let seconds = record.time.as_secs_f64();
    if !json {
        return written(writeln!(out, "[{seconds:12.6}] {text}"));
    }
    let source = if record.kernel { "kernel" } else { "user" };
    let line = LogLine { seconds: Some(seconds), source: Some(source.into()), text };
    written(writeln!(out, "{}", serde_json::to_string(&line)?))
}

/// What was added since the last read, whole lines only: a writer's line is one write, but the read may
/// fall between two.
fn read_on(file: &mut File) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX as u64).read_to_end(&mut bytes).with_context(|| format!("reading {}", paths::LOG))?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let back = i64::try_from(bytes.len() - whole)?;
    file.seek(SeekFrom::Current(-back))?;
    bytes.truncate(whole);
    Ok(bytes)
}

/// Whether the log has begun a new file.
fn rotated(file: &File) -> bool {
    let inode = |metadata: std::io::Result<std::fs::Metadata>| metadata.map(|m| m.ino()).ok();
    inode(std::fs::metadata(paths::LOG)).is_some_and(|now| inode(file.metadata()) != Some(now))
}

fn show(out: &mut impl Write, line: &str, json: bool) -> anyhow::Result<()> {
    written(match json {
        true => writeln!(out, "{}", serde_json::to_string(&LogLine::parse(line))?),
        false => writeln!(out, "{line}"),
    })
}

fn written(result: std::io::Result<()>) -> anyhow::Result<()> {
    match result {
        // The reader (`head`, say) has enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn kernel_lines_look_as_dmesg_shows_them() {
        let record =
            Record { level: 4, kernel: true, time: Duration::from_millis(1500), text: "usb: \x1b[2J".into() };
        let said = |json| {
            let mut out = Vec::new();
            show_record(&mut out, record.clone(), json).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(false), "[    1.500000] usb: ?[2J\n");
        let line: LogLine = serde_json::from_str(&said(true)).unwrap();
        assert_eq!(
            (line.seconds, line.source.as_deref(), &line.text[..]),
            (Some(1.5), Some("kernel"), "usb: ?[2J")
        );
    }

    #[test]
    fn lines_of_logins_are_told_from_others() {
        assert!(is_of_a_login("[   12.345] sshd: login of root from 192.0.2.1:5 by password"));
        assert!(is_of_a_login("[   12.345] console-ttyS0: root logged in"));
        assert!(!is_of_a_login("[   12.345] netd: sshd: no"));
        assert!(!is_of_a_login("sshd: no"));
    }

    #[test]
    fn arguments() {
        let parse = |args: &[&str]| parse(&args.iter().map(|a| a.to_string()).collect::<Vec<_>>()).ok();
        let wish = parse(&["-fn20", "--kernel"]).unwrap();
        assert_eq!((wish.lines, wish.follow, wish.kernel, wish.json), (20, true, true, false));
        assert!(parse(&["--auth", "-f"]).unwrap().auth);
        for wrong in [&["-n"][..], &["--auth", "-k"], &["-n", "x"], &["-n", "-1"], &["x"], &["--frob"]] {
            assert!(parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
