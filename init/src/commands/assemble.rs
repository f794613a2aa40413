//! `rescue assemble`: arrays and volume groups, layer by layer; without `--rw` without a byte written.

use std::process::ExitCode;

use rescue_schema::report::{AssembleReport, BlockReport};

use super::secret::Key;
use super::{Command, Usage, disks, writable};
use crate::disk::assemble::{self, Wish, Write};

pub(super) const COMMAND: Command = Command {
    name: "assemble",
    links: &[],
    usage: "[DEVICE…] [--rw] [--degraded] [--stop] [--dry-run] [--json]",
    about: "RAID and LVM, read-only and without a resync, or --rw; --stop takes them down",
    run,
};

/// Layers that are built on one another at most.
const LAYERS: usize = 8;

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let (mut wish, mut stop, mut dry_run, mut json) = (Wish::default(), false, false, false);
    for arg in args {
        match arg.as_str() {
            "--rw" => wish.write = Write::All,
            "--degraded" => wish.degraded = true,
            "--stop" => stop = true,
            "--dry-run" => dry_run = true,
            "--json" => json = true,
            option if option.starts_with('-') => {
                return Err(Usage(format!("{option:?} is not an option")).into());
            }
            device => wish.only.push(device.into()),
        }
    }
    let _alone = super::mount::alone()?;
    let report = if stop {
        let (steps, trouble) = assemble::teardown(dry_run)?;
        AssembleReport { steps, trouble, ..AssembleReport::default() }
    } else {
        let mut report = if wish.write == Write::Nothing {
            AssembleReport::default()
        } else {
            again(&wish, dry_run, json)?
        };
        let (more, _) = everything(&wish, dry_run, None)?;
        report.steps.extend(more.steps);
        report.remarks.extend(more.remarks);
        report.trouble.extend(more.trouble);
        AssembleReport { incomplete: report.incomplete || more.incomplete, locked: more.locked, ..report }
    };
    say(&report, json)?;
    Ok(if report.trouble.is_empty() && !report.incomplete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is there read-only, put together again to be written to: said before it is done.
fn again(wish: &Wish, dry_run: bool, json: bool) -> anyhow::Result<AssembleReport> {
    let disks = disks::look(&[])?;
    let (targets, remarks) = writable::closed(&disks, &wish.only);
    let plan = writable::plan(&disks, &targets, wish.degraded, None)?;
    if !plan.is_empty() && !json {
        println!("{plan}");
    }
    if !dry_run {
        writable::apply(&plan, &plan.wish(wish.degraded), &mut Key::typed())?;
    }
    let steps = if json { plan.to_string().lines().map(Into::into).collect() } else { Vec::new() };
    Ok(AssembleReport { steps, incomplete: !remarks.is_empty(), remarks, ..AssembleReport::default() })
}

/// Puts together whatever can be, until nothing new appears; gives the tree that was seen last. `seen` is one that
/// was seen just now.
pub(super) fn everything(
    wish: &Wish,
    dry_run: bool,
    mut seen: Option<Vec<BlockReport>>,
) -> anyhow::Result<(AssembleReport, Vec<BlockReport>)> {
    let mut report = AssembleReport::default();
    let load = |module: &str| drop(crate::modules::load(module));
    let mut disks = Vec::new();
    for _ in 0..LAYERS {
        disks = match seen.take() {
            Some(seen) => seen,
            None => disks::look(&[])?,
        };
        let known = |path: &str| crate::disk::resolve::flat(&disks).iter().any(|b| b.path == path);
        if let Some(missing) = wish.only.iter().find(|path| !known(path)) {
            anyhow::bail!("{missing} is not here: `rescue disks` lists what is");
        }
        let plan = assemble::plan(&disks, wish);
        report.incomplete |= plan.incomplete;
        for line in plan.remarks {
            if !report.remarks.contains(&line) {
                report.remarks.push(line);
            }
        }
        report.locked = assemble::locked(&disks).iter().map(|b| b.path.clone()).collect();
        let before = report.steps.len();
        for step in &plan.steps {
            let line = step.to_string();
            if !report.steps.contains(&line) {
                if !dry_run && let Err(error) = assemble::apply(step, &load) {
                    report.trouble.push(format!("{line}: {error}"));
                }
                report.steps.push(line);
            }
        }
        if dry_run || report.steps.len() == before {
            break;
        }
    }
    Ok((report, disks))
}

/// Prints a report.
pub(super) fn say(report: &AssembleReport, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    report.steps.iter().for_each(|line| println!("{line}"));
    report.remarks.iter().for_each(|line| println!("  - {line}"));
    report.trouble.iter().for_each(|line| println!("  ! {line}"));
    report.locked.iter().for_each(|device| println!("{device} is encrypted: rescue unlock {device}"));
    if report.steps.is_empty() && report.locked.is_empty() && report.remarks.is_empty() {
        println!("nothing is there to be put together");
    }
    Ok(())
}
