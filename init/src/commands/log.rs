//! `rescue log`: what has happened since this boot began.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use rescue_schema::paths;
use rescue_schema::report::LogLine;

use super::{Command, Usage};
use crate::sys::files::read_capped;
use crate::sys::watch::Watch;

pub(super) const COMMAND: Command = Command {
    name: "log",
    links: &[],
    usage: "[-n LINES] [-f] [--json]",
    about: "what happened since this boot began; -f goes on as it happens",
    run,
};

/// Longest half of the log that is read, in bytes. It is rotated far below that.
const MAX: usize = 8 << 20;

struct Wish {
    lines: usize,
    follow: bool,
    json: bool,
}

fn parse(args: &[String]) -> Result<Wish, Usage> {
    use lexopt::prelude::{Long, Short, ValueExt};
    let usage = |error: lexopt::Error| Usage(error.to_string());
    let mut wish = Wish { lines: usize::MAX, follow: false, json: false };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Short('n') | Long("lines") => {
                wish.lines = parser.value().and_then(|v| v.parse()).map_err(usage)?
            }
            Short('f') | Long("follow") => wish.follow = true,
            Long("json") => wish.json = true,
            other => return Err(usage(other.unexpected())),
        }
    }
    Ok(wish)
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let wish = parse(args)?;
    // Watched before it is read, so that no line falls between the two.
    let mut watch =
        wish.follow.then(|| Watch::open(Path::new(paths::RUN))).transpose().context("watching the log")?;
    let mut bytes = read_capped(Path::new(paths::LOG_OLD), MAX).unwrap_or_default();
    let mut file = File::open(paths::LOG).with_context(|| format!("opening {}", paths::LOG))?;
    let newest = read_on(&mut file)?;
    bytes.extend_from_slice(&newest);
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
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
        for line in String::from_utf8_lossy(&added).lines() {
            show(&mut out, line, wish.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
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
    let written = match json {
        true => writeln!(out, "{}", serde_json::to_string(&LogLine::parse(line))?),
        false => writeln!(out, "{line}"),
    };
    match written {
        // The reader (`head`, say) has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
