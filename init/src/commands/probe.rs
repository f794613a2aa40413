use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rescue_schema::report::{ProbeReport, ProbeResult, SignatureReport};

use super::disks_words::size;
use super::disks_worker::{self, Job, Place};
use super::{Command, Usage, apart};
use crate::disk::{probe, source::Reader};
use crate::sys::block;
use crate::sys::files::read_trimmed;

/// What a device may take to answer: longer than among others, for somebody asks for this one alone.
const DEADLINE: Duration = Duration::from_secs(15);
/// Longest report, in bytes.
const MAX_REPORT: usize = 64 << 20;

pub(super) const COMMAND: Command = Command {
    name: "probe",
    links: &[],
    usage: "[--json] FILE|DEV…",
    about: "what is on a device or an image",
    run,
};

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let json = args.iter().any(|a| a == "--json");
    let names: Vec<&String> = args.iter().filter(|a| *a != "--json").collect();
    let mut reports: Vec<(&str, ProbeReport)> = Vec::new();
    match names.as_slice() {
        [] => return Err(Usage("a device or an image is wanted".into()).into()),
        [name] => reports.push((name, one(name)?)),
        // One process reads all of them, each with its own deadline.
        names => {
            let awake = names.iter().filter(|name| !is_suspended(name));
            let jobs: Vec<Job> = awake.map(|name| Job::Image(Place::of(name))).collect();
            let found = disks_worker::run(&jobs, DEADLINE)?.probes;
            for name in names {
                // A name that was given twice is looked at once.
                reports.push((name, found.get(*name).cloned().unwrap_or_else(|| suspended(name))));
            }
        }
    }
    let text = match (json, reports.as_slice()) {
        (false, reports) => reports.iter().map(|(name, report)| describe(name, report, 0)).collect(),
        (true, [(_, report)]) => serde_json::to_string_pretty(report)? + "\n",
        (true, reports) => {
            let by_name: BTreeMap<&str, &ProbeReport> = reports.iter().map(|(name, r)| (*name, r)).collect();
            serde_json::to_string_pretty(&by_name)? + "\n"
        }
    };
    // Who reads it may have read enough: `rescue probe … | head`.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let unreadable = reports.iter().any(|(_, report)| report.result == ProbeResult::Unreadable);
    Ok(if unreadable { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn one(name: &str) -> anyhow::Result<ProbeReport> {
    if is_suspended(name) {
        return Ok(suspended(name));
    }
    std::fs::metadata(name).with_context(|| format!("opening {name}"))?;
    let look = || serde_json::to_vec(&disks_worker::look(Path::new(name), image)).unwrap_or_default();
    match apart::run(DEADLINE, MAX_REPORT, look) {
        Ok(json) => serde_json::from_slice(&json).context("the process that reads it has failed"),
        Err(error) => Ok(disks_worker::unreadable(error.to_string())),
    }
}

fn suspended(name: &str) -> ProbeReport {
    disks_worker::unreadable(format!("suspended: reads wait until `dmsetup resume {name}`"))
}

fn image(source: &(File, u64)) -> ProbeReport {
    probe::image(&Reader::new(source, block::sector_size(&source.0).unwrap_or(512)))
}

/// Whether it is a mapped device that answers nothing for now.
fn is_suspended(name: &str) -> bool {
    let Ok(file) = std::fs::metadata(name) else { return false };
    let (major, minor) = (rustix::fs::major(file.rdev()), rustix::fs::minor(file.rdev()));
    let path = format!("/sys/dev/block/{major}:{minor}/dm/suspended");
    file.file_type().is_block_device() && read_trimmed(Path::new(&path)).as_deref() == Some("1")
}

fn describe(name: &str, report: &ProbeReport, depth: usize) -> String {
    let mut words =
        vec![report.kind.clone().unwrap_or_else(|| format!("{:?}", report.result).to_lowercase())];
    words.extend(report.label.as_ref().map(|l| format!("{l:?}")));
    words.extend([&report.uuid, &report.version, &report.state].into_iter().flatten().cloned());
    let indent = "  ".repeat(depth);
    let mut text = format!("{indent}{name}: {}\n", clean(&words.join(" · ")));
    let mut line = |mark: &str, words: &str| text.push_str(&format!("{indent}  {mark} {}\n", clean(words)));
    if report.result == ProbeResult::Ambivalent {
        line("!", "several formats are on it that contradict one another, the likeliest first");
    }
    for note in &report.notes {
        line("!", note);
    }
    for signature in &report.signatures {
        if report.signatures.len() > 1 {
            line("-", &signature_words(signature));
        }
        if let Some(repair) = &signature.repair {
            line("→", &repair.replace("DEV", name));
        }
    }
    for p in &report.partitions {
        let mut about = vec![p.purpose.clone().unwrap_or_else(|| p.kind.clone())];
        about.extend(p.name.as_ref().map(|name| format!("{name:?}")));
        about.push(format!("{} at {}", size(p.size), size(p.start)));
        let name = format!("partition {} ({})", p.number, about.join(", "));
        match &p.content {
            Some(content) => text.push_str(&describe(&clean(&name), content, depth + 1)),
            None => text.push_str(&format!("{indent}  {}\n", clean(&name))),
        }
    }
    text
}

fn signature_words(signature: &SignatureReport) -> String {
    let mut words = vec![signature.kind.clone()];
    words.extend(signature.label.as_ref().map(|label| format!("{label:?}")));
    words.extend([&signature.uuid, &signature.version, &signature.state].into_iter().flatten().cloned());
    words.push(format!("at byte {}", signature.offset));
    words.join(" · ")
}

/// Labels are written by whoever made the disk; a terminal must not obey them.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
