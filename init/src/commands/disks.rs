use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rescue_schema::report::{BlockReport, DisksReport, ProbeReport, ProbeResult};

use super::{Command, Usage};
use crate::disk::{mountinfo, tree};
use crate::sys::files::read_capped;

/// What a disk may take to answer. A healthy one takes milliseconds, a dying one minutes.
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) const COMMAND: Command =
    Command { name: "disks", links: &[], usage: "[--json]", about: "the disks, and what is on them", run };

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    if let Some(other) = args.iter().find(|a| *a != "--json") {
        return Err(Usage(format!("{other:?} is not an option")).into());
    }
    let disks = look(&[])?;
    let report = DisksReport { disks };
    if args.is_empty() {
        print!("{}", human(&report));
    } else {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// The kernel's list of mounts.
pub(super) fn mountinfo() -> anyhow::Result<Vec<u8>> {
    read_capped(Path::new("/proc/self/mountinfo"), 16 << 20).context("reading the mounts")
}

/// The disks with what is on them; where `only` names any, those alone.
pub(super) fn look(only: &[String]) -> anyhow::Result<Vec<BlockReport>> {
    let mut disks = tree::observe(Path::new("/"), &mountinfo::parse(&mountinfo()?));
    if !only.is_empty() {
        disks.retain(|d| paths(d).iter().any(|(path, _)| only.contains(path)));
    }
    let found = probe_all(&disks)?;
    for disk in &mut disks {
        tree::fill(disk, &found);
    }
    Ok(disks)
}

/// Has a child look at every disk. A read that a dying disk never answers cannot be interrupted, not
/// even by SIGKILL, so it must not be a thread of ours: this process could then not exit either.
fn probe_all(disks: &[BlockReport]) -> anyhow::Result<HashMap<String, ProbeReport>> {
    let groups: Vec<Vec<(String, u64)>> = disks.iter().map(paths).collect();
    let mut child = std::process::Command::new("/proc/self/exe")
        .arg0("rescue")
        .args(["probe", "--each"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the probe")?;
    if let Some(mut stdin) = child.stdin.take() {
        serde_json::to_writer(&stdin, &groups).context("handing the disks to the probe")?;
        stdin.flush()?;
    }
    let (sender, answers) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(answer) = serde_json::from_str::<(String, ProbeReport)>(&line) {
                    let _ = sender.send(answer);
                }
            }
        });
    }
    let mut found = HashMap::new();
    let end = Instant::now() + DEADLINE;
    while let Ok((path, report)) = answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
        found.insert(path, report);
    }
    let _ = child.kill();
    for (path, _) in groups.into_iter().flatten() {
        found.entry(path).or_insert_with(|| ProbeReport {
            result: ProbeResult::Unreadable,
            notes: vec![format!("no answer within {} s", DEADLINE.as_secs())],
            ..ProbeReport::default()
        });
    }
    Ok(found)
}

fn paths(block: &BlockReport) -> Vec<(String, u64)> {
    let own = [(block.path.clone(), block.sector_size)];
    own.into_iter().chain(block.children.iter().flat_map(paths)).collect()
}

fn human(report: &DisksReport) -> String {
    if report.disks.is_empty() {
        return "no disks: `rescue log` shows which drivers were loaded\n".into();
    }
    let mut text = format!("{:<13} {:>6} {:<20} UUID or MODEL\n", "NAME", "SIZE", "WHAT");
    for disk in &report.disks {
        show(disk, "", "", &mut text);
    }
    text
}

fn show(block: &BlockReport, own: &str, below: &str, text: &mut String) {
    let probe = &block.probe;
    let mut what = match (&probe.kind, &block.bus) {
        (Some(kind), Some(bus)) => format!("{bus} {kind}"),
        (Some(kind), None) => kind.clone(),
        (None, bus) => bus.clone().unwrap_or_else(|| block.kind.clone()),
    };
    if let Some(label) = &probe.label {
        what.push_str(&format!(" {label:?}"));
    }
    let id = if block.partition.is_some() { probe.uuid.as_ref() } else { block.model.as_ref() };
    let id = id.or(block.serial.as_ref()).or(probe.uuid.as_ref());
    let line = format!(
        "{:<13} {:>6} {:<20} {}",
        format!("{own}{}", block.name),
        size(block.size),
        cut(&what, 20),
        cut(id.map_or("", |i| i), 36)
    );
    text.push_str(line.trim_end());
    text.push('\n');
    let mut facts: Vec<String> = probe.state.iter().cloned().collect();
    if probe.result == ProbeResult::Unreadable {
        facts.push("unreadable".into());
    }
    for m in &block.mounts {
        facts.push(format!("mounted at {}{}", m.target, if m.read_only { " (read-only)" } else { "" }));
    }
    let extra = (!facts.is_empty()).then(|| facts.join(", "));
    for line in extra.iter().chain(&probe.notes) {
        text.push_str(&format!("{below:<13}        {}\n", cut(line, 58)));
    }
    let last = block.children.len().saturating_sub(1);
    for (index, child) in block.children.iter().enumerate() {
        let (tee, bar) = if index == last { ("└─", "  ") } else { ("├─", "│ ") };
        show(child, &format!("{below}{tee}"), &format!("{below}{bar}"), text);
    }
}

fn size(bytes: u64) -> String {
    let mut unit = "B";
    let (mut whole, mut tenth) = (bytes, 0);
    for next in ["K", "M", "G", "T", "P", "E"] {
        if whole < 1024 {
            break;
        }
        tenth = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit = next;
    }
    if whole < 10 && unit != "B" { format!("{whole}.{tenth}{unit}") } else { format!("{whole}{unit}") }
}

/// Labels are written by whoever made the disk; a terminal must not obey them.
fn cut(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(clean).collect();
    }
    text.chars().take(width - 1).map(clean).chain(['…']).collect()
}
