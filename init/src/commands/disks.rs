use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rescue_schema::report::{BlockReport, DisksReport, ProbeReport, ProbeResult};

use super::{Command, Usage, disks_text, drivers};
use crate::disk::{mountinfo, tree};
use crate::sys::files::read_capped;

/// What a disk may take to answer. A healthy one takes milliseconds, a dying one minutes.
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) const COMMAND: Command = Command {
    name: "disks",
    links: &[],
    usage: "[DEV…] [--json]",
    about: "the disks, and what is on them",
    run,
};

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let (options, only): (Vec<String>, Vec<String>) = args.iter().cloned().partition(|a| a.starts_with('-'));
    if let Some(other) = options.iter().find(|a| *a != "--json") {
        return Err(Usage(format!("{other:?} is not an option")).into());
    }
    let disks = look(&only)?;
    if let Some(missing) = only.iter().find(|o| !disks.iter().any(|d| paths(d).iter().any(|(p, _)| p == *o)))
    {
        anyhow::bail!("{missing} is not here: `rescue disks` lists what is");
    }
    let report = DisksReport { disks };
    if options.is_empty() {
        print!("{}", disks_text::tree(&report, disks_text::colours()));
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
    drivers::settled();
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
