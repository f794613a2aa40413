//! `rescue who`: who is in over SSH, from where, by what, and what of theirs runs.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use rescue_schema::paths;
use rescue_schema::report::WhoReport;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::wrapped::put;
use super::{Command, Usage};
use crate::sys::{files, process, time};

pub(super) const COMMAND: Command = Command {
    name: "who",
    links: &[],
    usage: "[--json | --kick ID]",
    about: "who is in over SSH; --kick ends a connection and what it started",
    run,
};

/// Longest record in bytes, and most of them.
const MAX_RECORD: usize = 64 << 10;
const MAX_RECORDS: usize = 1000;

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    use lexopt::prelude::{Long, ValueExt};
    let usage = |error: lexopt::Error| Usage(error.to_string());
    let (mut json, mut kick) = (false, None);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Long("json") => json = true,
            Long("kick") => kick = Some(parser.value().and_then(|v| v.parse::<u32>()).map_err(usage)?),
            other => return Err(usage(other.unexpected()).into()),
        }
    }
    let list = observe(Path::new(paths::CONNECTIONS));
    if let Some(id) = kick {
        let Some(it) = list.iter().find(|it| it.id == id) else {
            bail!("no connection has the id {id}; `rescue who` lists them");
        };
        end(it).with_context(|| format!("ending the connection of {} from {}", it.user, it.from))?;
        put!("ended the connection of {} from {}\n", it.user, it.from);
    } else if json {
        put!("{}\n", serde_json::to_string_pretty(&list)?);
    } else {
        put!("{}", render(&list, time::since_boot().as_secs()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The records of monitors that live, oldest first.
fn observe(folder: &Path) -> Vec<WhoReport> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut list: Vec<WhoReport> = entries
        .flatten()
        .take(MAX_RECORDS)
        .filter_map(|entry| files::read_capped(&entry.path(), MAX_RECORD).ok())
        .filter_map(|json| serde_json::from_slice(&json).ok())
        .filter(|it: &WhoReport| process::start_time(it.id) == Some(it.started))
        .collect();
    list.sort_by_key(|it| (it.since_seconds, it.id));
    list
}

/// Tells the connection's monitor. By a descriptor, and looked at once more: an id may be another's by now.
fn end(it: &WhoReport) -> anyhow::Result<()> {
    let pid = i32::try_from(it.id).ok().and_then(Pid::from_raw).context("no process id")?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    if process::start_time(it.id) != Some(it.started) {
        bail!("it has ended already");
    }
    Ok(pidfd_send_signal(&process, Signal::HUP)?)
}

fn render(list: &[WhoReport], now: u64) -> String {
    if list.is_empty() {
        return "nobody is in over SSH\n".into();
    }
    let mut rows = vec![["ID", "LOGIN", "SINCE", "FROM", "RUNS", "BY"].map(str::to_string)];
    for it in list {
        let runs = [&it.running[..], &it.listening[..]].concat().join(", ");
        let since = now.saturating_sub(it.since_seconds);
        let since = match since {
            0..60 => format!("{since} s"),
            60..3600 => format!("{} min", since / 60),
            _ => format!("{} h {} min", since / 3600, since / 60 % 60),
        };
        let runs = if runs.is_empty() { "-".to_string() } else { runs };
        rows.push([it.id.to_string(), it.user.clone(), since, it.from.clone(), runs, it.method.clone()]);
    }
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            // What a client names a path may hold escape sequences.
            .map(|(cell, width)| format!("{:width$}", cell.replace(char::is_control, "?")))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_are_there_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let id = std::process::id();
        let it = WhoReport {
            id,
            started: process::start_time(id).unwrap(),
            user: "root".into(),
            from: "192.0.2.1:22".into(),
            method: "publickey SHA256:x".into(),
            running: vec!["shell".into(), "sftp".into()],
            listening: vec!["\x1b[2J".into()],
            ..WhoReport::default()
        };
        let write = |name: &str, it: &WhoReport| {
            std::fs::write(folder.path().join(name), serde_json::to_vec(it).unwrap()).unwrap();
        };
        write("1.json", &it);
        write("2.json", &WhoReport { started: it.started + 1, ..it.clone() });
        std::fs::write(folder.path().join("3.json"), b"{\xff").unwrap();
        assert_eq!(observe(folder.path()), std::slice::from_ref(&it));
        let text = render(&[it], 125);
        assert!(
            text.contains(" root   2 min  192.0.2.1:22  shell, sftp, ?[2J  publickey SHA256:x\n"),
            "{text}"
        );
        assert_eq!(render(&observe(Path::new("/no/such")), 0), "nobody is in over SSH\n");
    }
}
