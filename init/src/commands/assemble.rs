//! `rescue assemble`: arrays, volume groups and pools, layer by layer; without `--rw` without a byte written.

use std::process::ExitCode;

use rescue_schema::report::{AssembleReport, BlockReport};

use super::secret::Key;
use super::wrapped::{put, tell};
use super::{Command, Usage, disks, writable};
use crate::disk::assemble::{self, Wish, Write};
use crate::disk::resolve;
use crate::sys::spawn::has_program;

pub(super) const COMMAND: Command = Command {
    name: "assemble",
    links: &[],
    usage: "[DEVICE…] [--rw] [--degraded] [--stop] [--dry-run] [--json]",
    about: "RAID, LVM and ZFS, read-only and without a resync, or --rw; --stop takes them down",
    run,
};

/// Layers that are built on one another at most.
pub(super) const LAYERS: usize = 8;

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
            // A volume of a pool has that name here alone.
            device if device.starts_with("/dev/zvol/") => wish.only.push(disks::device(device)),
            device => wish.only.push(device.into()),
        }
    }
    wish.pools = imports_pools();
    let _alone = super::mount::alone()?;
    // What is put together again was told before that was done.
    let mut said = false;
    let report = if stop {
        let (steps, trouble) = assemble::teardown(dry_run)?;
        AssembleReport { steps, trouble, ..AssembleReport::default() }
    } else {
        let mut report = if wish.write == Write::Nothing {
            AssembleReport::default()
        } else {
            let (report, told) = again(&wish, dry_run, json)?;
            said = told;
            report
        };
        let (more, _) = everything(&wish, dry_run, None)?;
        report.steps.extend(more.steps);
        report.remarks.extend(more.remarks);
        report.trouble.extend(more.trouble);
        AssembleReport { incomplete: report.incomplete || more.incomplete, locked: more.locked, ..report }
    };
    if !said || report != (AssembleReport { incomplete: report.incomplete, ..AssembleReport::default() }) {
        say(&report, json)?;
    }
    Ok(if report.trouble.is_empty() && !report.incomplete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether this image can import pools of ZFS.
pub(super) fn imports_pools() -> bool {
    has_program("zpool") && crate::modules::is_there("zfs")
}

/// What is there read-only, put together again to be written to: said before it is done.
fn again(wish: &Wish, dry_run: bool, json: bool) -> anyhow::Result<(AssembleReport, bool)> {
    let disks = disks::look(&[])?;
    let (targets, remarks) = writable::closed(&disks, &wish.only);
    let plan = writable::plan(&disks, &targets, wish.degraded, None)?;
    let told = !plan.is_empty() && !json;
    if told {
        tell!("{plan}");
    }
    if !dry_run {
        writable::apply(&plan, &plan.wish(wish.degraded), &mut Key::typed())?;
    }
    let steps = if json { plan.to_string().lines().map(Into::into).collect() } else { Vec::new() };
    let incomplete = !remarks.is_empty();
    Ok((AssembleReport { steps, incomplete, remarks, ..AssembleReport::default() }, told))
}

/// Puts together whatever can be, until nothing new appears; gives the tree that was seen last. `seen` is one that
/// was seen just now.
pub(super) fn everything(
    wish: &Wish,
    dry_run: bool,
    seen: Option<Vec<BlockReport>>,
) -> anyhow::Result<(AssembleReport, Vec<BlockReport>)> {
    let mut report = AssembleReport::default();
    let load = |module: &str| drop(crate::modules::load(module));
    let mut disks = match seen {
        Some(seen) => seen,
        None => disks::look(&[])?,
    };
    for layer in 0..LAYERS {
        if layer > 0 {
            // A device that is written to may hold something else by now.
            disks = if wish.write == Write::Nothing { disks::again(&disks)? } else { disks::look(&[])? };
        }
        let known = |path: &str| resolve::flat(&disks).iter().any(|b| b.path == path);
        if let Some(missing) = wish.only.iter().find(|path| !known(path)) {
            anyhow::bail!(resolve::Missing::Nowhere.said(missing));
        }
        let plan = assemble::plan(&disks, wish);
        report.incomplete |= plan.incomplete;
        for line in plan.remarks {
            if !report.remarks.contains(&line) {
                report.remarks.push(line);
            }
        }
        report.locked = assemble::locked_here(&disks).iter().map(|b| b.path.clone()).collect();
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
        put!("{}\n", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    report.steps.iter().for_each(|line| tell!("{line}"));
    report.remarks.iter().for_each(|line| tell!("  - {line}"));
    report.trouble.iter().for_each(|line| tell!("  ! {line}"));
    report.locked.iter().for_each(|device| tell!("{device} is encrypted: rescue unlock {device}"));
    let silent = report.steps.is_empty() && report.locked.is_empty() && report.remarks.is_empty();
    if silent && report.trouble.is_empty() {
        tell!("nothing is there to be put together");
    }
    Ok(())
}
