use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rescue_schema::report::{BlockReport, DisksReport, PartitionReport, ProbeReport};

use super::disks_worker::{self, Job, Place};
use super::wrapped::put;
use super::{Command, Usage, disks_text, drivers};
use crate::disk::{mountinfo, resolve, tree, zfs};
use crate::sys::files::read_capped;

/// What a device may take to answer. A healthy one takes milliseconds, a dying one minutes.
const DEADLINE: Duration = Duration::from_secs(2);
/// The same where a disk that is left out is a system that is not found: one that sleeps takes ten seconds to turn.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest time that may be asked for instead, in seconds.
const LONGEST: u64 = 3600;

pub(super) const COMMAND: Command = Command {
    name: "disks",
    links: &[],
    usage: "[DEV…] [--json] [--wait SECONDS]",
    about: "the disks, and what is on them",
    run,
};

struct Wish {
    only: Vec<String>,
    json: bool,
    limit: Duration,
}

fn parse(args: &[String]) -> Result<Wish, Usage> {
    let mut wish = Wish { only: Vec::new(), json: false, limit: DEADLINE };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => wish.json = true,
            "--wait" => {
                let seconds = args.next().and_then(|s| s.parse().ok()).filter(|s| (1..=LONGEST).contains(s));
                let seconds = seconds.ok_or_else(|| Usage("--wait wants seconds, 1 to 3600".into()))?;
                wish.limit = Duration::from_secs(seconds);
            }
            option if option.starts_with('-') => return Err(Usage(format!("{option:?} is not an option"))),
            device => wish.only.push(device.into()),
        }
    }
    Ok(wish)
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    if args == ["--worker"] {
        return disks_worker::work();
    }
    let mut wish = parse(args)?;
    wish.only = wish.only.iter().map(|name| device(name)).collect();
    let mut disks = survey(&wish.only, true, wish.limit)?;
    if let Some(missing) = wish.only.iter().find(|o| !disks.iter().any(|d| has(d, o))) {
        anyhow::bail!(resolve::Missing::Nowhere.said(missing));
    }
    look_into(&mut disks, wish.limit)?;
    let report = DisksReport { disks };
    if wish.json {
        put!("{}\n", serde_json::to_string_pretty(&report)?);
    } else {
        put!("{}", disks_text::tree(&report, disks_text::colours()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a device is called in the tree, by any name that leads to it.
pub(super) fn device(name: &str) -> String {
    let path = if name.starts_with('/') { name.into() } else { format!("/dev/{name}") };
    match std::fs::canonicalize(&path) {
        Ok(real) if real.starts_with("/dev") => real.to_string_lossy().into_owned(),
        _ => path,
    }
}

/// Looks into the partitions that the kernel does not show, because their table is damaged or none that it
/// reads.
fn look_into(disks: &mut [BlockReport], limit: Duration) -> anyhow::Result<()> {
    fn each(block: &mut BlockReport, act: &mut dyn FnMut(&mut BlockReport)) {
        act(block);
        block.children.iter_mut().for_each(|child| each(child, act));
    }
    let mut jobs = Vec::new();
    for disk in &mut *disks {
        each(disk, &mut |block| {
            if !unseen(block).is_empty()
                && !jobs.iter().any(|job: &Job| job.paths().contains(&block.path.as_str()))
            {
                jobs.push(Job::Image(place(block, false)));
            }
        });
    }
    let mut found = disks_worker::run(&jobs, limit)?.probes;
    // What hangs now has told its table before.
    found.retain(|_, probe| !probe.partitions.is_empty());
    for disk in disks {
        each(disk, &mut |block| {
            if let Some(probe) = found.get(&block.path) {
                block.probe = probe.clone();
            }
        });
    }
    Ok(())
}

/// The partitions of its table that the kernel does not show.
pub(super) fn unseen(block: &BlockReport) -> Vec<&PartitionReport> {
    let shown =
        |number| block.children.iter().any(|c| c.partition.as_ref().is_some_and(|p| p.number == number));
    let is_extended = |p: &PartitionReport| matches!(p.kind.as_str(), "0x5" | "0xf" | "0x85");
    let listed = block.probe.partitions.iter();
    listed.filter(|p| p.size > 0 && !is_extended(p) && !shown(p.number)).collect()
}

/// The kernel's list of mounts.
pub(super) fn mountinfo() -> anyhow::Result<Vec<u8>> {
    read_capped(Path::new("/proc/self/mountinfo"), 16 << 20).context("reading the mounts")
}

/// The disks with what is on them; where `only` names any, those alone. Their health is not asked for.
pub(super) fn look(only: &[String]) -> anyhow::Result<Vec<BlockReport>> {
    survey(only, false, PATIENCE)
}

/// What there is now: what was looked at in `before` and is there still has not been written to, and is not looked at
/// again.
pub(super) fn again(before: &[BlockReport]) -> anyhow::Result<Vec<BlockReport>> {
    let known: HashMap<&str, &BlockReport> =
        resolve::flat(before).into_iter().map(|b| (b.path.as_str(), b)).collect();
    let mut disks = observe()?;
    let is_known = |b: &BlockReport| {
        known.get(b.path.as_str()).is_some_and(|k| k.number == b.number && k.size == b.size)
    };
    let mut jobs = jobs(&disks, false);
    let now: HashMap<&str, &BlockReport> =
        resolve::flat(&disks).into_iter().map(|b| (b.path.as_str(), b)).collect();
    jobs.retain(|job| !job.paths().iter().all(|path| now.get(path).is_some_and(|b| is_known(b))));
    let mut found: HashMap<String, ProbeReport> =
        known.iter().map(|(path, block)| ((*path).to_string(), block.probe.clone())).collect();
    found.extend(disks_worker::run(&jobs, PATIENCE)?.probes);
    filled(&mut disks, found);
    Ok(disks)
}

fn observe() -> anyhow::Result<Vec<BlockReport>> {
    Ok(tree::observe(Path::new("/"), &mountinfo::parse(&mountinfo()?)))
}

fn survey(only: &[String], health: bool, limit: Duration) -> anyhow::Result<Vec<BlockReport>> {
    drivers::settle(Path::new("/"));
    let mut disks = observe()?;
    if !only.is_empty() {
        disks.retain(|d| only.iter().any(|path| has(d, path)));
    }
    let answers = disks_worker::run(&jobs(&disks, health), limit)?;
    filled(&mut disks, answers.probes);
    if health {
        tree::fill_health(&mut disks, &answers.health);
    }
    Ok(disks)
}

/// Puts what was found on the devices in its place.
fn filled(disks: &mut [BlockReport], mut found: HashMap<String, ProbeReport>) {
    suspended(disks, &mut |path| {
        let why = format!("suspended: reads wait until `dmsetup resume {path}`");
        found.insert(path.into(), disks_worker::unreadable(why));
    });
    for disk in &mut *disks {
        tree::fill(disk, &found);
    }
    zfs::fill(disks, || mountinfo().map(|info| mountinfo::parse(&info)).unwrap_or_default());
}

/// Whether a path is that of a device or of what is on it.
fn has(block: &BlockReport, path: &str) -> bool {
    block.path == path
        || path.strip_prefix("/dev/") == Some(&block.name)
        || block.paths.iter().any(|p| path.strip_prefix("/dev/") == Some(&p.name))
        || block.children.iter().any(|c| has(c, path))
}

fn place(block: &BlockReport, built: bool) -> Place {
    Place { path: block.path.clone(), sector: block.sector_size, built }
}

/// A job for each device with its partitions, so that one which hangs takes nothing else along: what is
/// built on several disks is read once, whichever of them are dying.
fn jobs(disks: &[BlockReport], health: bool) -> Vec<Job> {
    fn add(block: &BlockReport, built: bool, seen: &mut HashSet<String>, jobs: &mut Vec<Job>) {
        if !seen.insert(block.path.clone()) {
            return;
        }
        let mut devices = Vec::new();
        let readable = |b: &BlockReport| b.size > 0 && b.state.as_deref() != Some("suspended");
        if readable(block) {
            devices.push(place(block, built));
        }
        let mut above = Vec::new();
        for child in &block.children {
            if child.partition.is_some() && readable(child) && seen.insert(child.path.clone()) {
                devices.push(place(child, true));
                above.extend(&child.children);
            } else {
                above.push(child);
            }
        }
        match devices.as_slice() {
            [] => {}
            // The kernel shows no partitions; if it has a table all the same, they are looked into at once.
            [alone] if block.children.is_empty() && block.partition.is_none() => {
                jobs.push(Job::Image(alone.clone()));
            }
            _ => jobs.push(Job::Probe(devices)),
        }
        for child in above {
            add(child, true, seen, jobs);
        }
    }
    let (mut seen, mut jobs) = (HashSet::new(), Vec::new());
    for disk in disks {
        add(disk, false, &mut seen, &mut jobs);
    }
    if health {
        let asked = disks.iter().filter_map(|d| tree::protocol(d).map(|p| Job::Health(d.path.clone(), p)));
        jobs.extend(asked);
    }
    jobs
}

fn suspended(blocks: &[BlockReport], each: &mut dyn FnMut(&str)) {
    for block in blocks {
        if block.state.as_deref() == Some("suspended") {
            each(&block.path);
        }
        suspended(&block.children, each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rescue_schema::report::PartitionReport;

    #[test]
    fn what_is_built_on_several_disks_is_read_once_and_alone() {
        let device = |path: &str, children: Vec<BlockReport>| BlockReport {
            path: path.into(),
            size: 1,
            children,
            ..BlockReport::default()
        };
        let part = |path: &str, children| BlockReport {
            partition: Some(PartitionReport::default()),
            ..device(path, children)
        };
        let volume = BlockReport { state: Some("suspended".into()), ..device("/dev/mapper/root", vec![]) };
        let array = device("/dev/md0", vec![volume]);
        let disks = [
            device("/dev/sda", vec![part("/dev/sda1", vec![array.clone()])]),
            device("/dev/sdb", vec![part("/dev/sdb1", vec![array])]),
        ];
        let jobs: Vec<String> = jobs(&disks, true).iter().map(|job| format!("{job:?}")).collect();
        assert_eq!(jobs.len(), 3, "{jobs:?}");
        assert!(jobs[0].contains("sda1") && !jobs[0].contains("md0"));
        assert!(jobs[1].contains("md0") && jobs[2].contains("sdb1"));
        let mut held = Vec::new();
        suspended(&disks[..1], &mut |path| held.push(path.to_string()));
        assert_eq!(held, ["/dev/mapper/root"]);
    }

    #[test]
    fn wishes_are_checked() {
        let parse = |args: &[&str]| parse(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(parse(&["--wait"]).is_err() && parse(&["--wait", "0"]).is_err() && parse(&["-x"]).is_err());
        let wish = parse(&["/dev/sda", "--wait", "30", "--json"]).ok().unwrap();
        assert!(wish.json && wish.limit.as_secs() == 30 && wish.only == ["/dev/sda"]);
    }
}
