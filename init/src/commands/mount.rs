//! `rescue mount`: the systems of this machine, each at `/mnt/<name>` by its own fstab.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use rescue_schema::paths::MOUNT_ROOT;
use rescue_schema::report::{BlockReport, MountReport};

use super::{Command, Usage, disks};
use crate::disk::{mount, mountinfo, protection, resolve, system};
use crate::sys::mounts::{self, Wanted};

pub(super) const COMMAND: Command = Command {
    name: "mount",
    links: &[],
    usage: "[SYSTEM|DEV] [--rw] [--all] [--only DEV]… [--dry-run] [--json]",
    about: "a system at /mnt/<name> by its own fstab, read-only",
    run,
};

#[derive(Debug, Default)]
struct Wish {
    name: Option<String>,
    write: bool,
    all: bool,
    only: Vec<String>,
    dry_run: bool,
    json: bool,
}

/// A system that was found.
struct Found<'a> {
    root: &'a BlockReport,
    name: String,
    facts: system::Facts,
}

fn parse(args: &[String]) -> anyhow::Result<Wish> {
    use lexopt::prelude::*;
    let mut wish = Wish::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Long("rw") => wish.write = true,
            Long("all") => wish.all = true,
            Long("dry-run") => wish.dry_run = true,
            Long("json") => wish.json = true,
            Long("only") => wish.only.push(parser.value().map_err(usage)?.to_string_lossy().into_owned()),
            Value(name) if wish.name.is_none() => wish.name = Some(name.to_string_lossy().into_owned()),
            other => return Err(usage(other.unexpected())),
        }
    }
    if wish.all && wish.name.is_some() {
        return Err(Usage("--all and a name do not go together".into()).into());
    }
    Ok(wish)
}

fn usage(error: lexopt::Error) -> anyhow::Error {
    Usage(error.to_string()).into()
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let wish = parse(args)?;
    let disks = disks::look(&wish.only)?;
    if let Some(device) = wish.name.as_deref().filter(|n| n.starts_with("/dev/")) {
        let block = resolve::flat(&disks).into_iter().find(|b| b.path == device);
        let block = block.with_context(|| format!("{device} is not here: `rescue disks` lists what is"))?;
        let name = system::clean(device.trim_start_matches("/dev/").trim_start_matches("mapper/"));
        let plan = mount::Plan {
            folder: Path::new(MOUNT_ROOT).join(&name),
            steps: mount::step(block, "/", wish.write, &[]).into_iter().collect(),
            ..mount::Plan::default()
        };
        if plan.steps.is_empty() {
            let kind = block.probe.kind.as_deref().unwrap_or("nothing that is known");
            bail!("{device} holds {kind}, which cannot be mounted: `rescue probe {device}` says more");
        }
        let report = one(block, &name, None, &plan, &wish)?;
        return print(&[report], &wish);
    }
    let systems = find(&disks);
    let chosen: Vec<&Found<'_>> = match &wish.name {
        Some(name) => systems.iter().filter(|s| s.name == *name).collect(),
        None => systems.iter().collect(),
    };
    let list = || systems.iter().map(|s| format!("\n  {:<16} {}", s.name, describe(s))).collect::<String>();
    match (chosen.len(), &wish.name) {
        (0, Some(name)) => {
            return Err(Usage(format!("no system {name:?}; there are:{}", list())).into());
        }
        (0, None) => bail!("no Linux system found: `rescue disks` shows what is on the disks"),
        (2.., None) if !wish.all => {
            return Err(Usage(format!("several systems: name one, or --all:{}", list())).into());
        }
        _ => {}
    }
    let mut reports = Vec::new();
    for system in chosen {
        let folder = Path::new(MOUNT_ROOT).join(&system.name);
        let plan = mount::plan(system.root, system.facts.fstab.as_deref(), &disks, &folder, wish.write);
        reports.push(one(system.root, &system.name, system.facts.pretty_name.clone(), &plan, &wish)?);
    }
    print(&reports, &wish)
}

fn describe(system: &Found<'_>) -> String {
    let pretty = system.facts.pretty_name.as_deref().unwrap_or("Linux");
    format!("{pretty} on {}", system.root.path)
}

/// Every Linux system, each with a name of its own.
fn find(disks: &[BlockReport]) -> Vec<Found<'_>> {
    let mut found: Vec<Found<'_>> = Vec::new();
    for root in resolve::flat(disks) {
        let Some(driver) = root.probe.kind.as_deref().and_then(mount::driver).filter(|d| d.root) else {
            continue;
        };
        let Some(facts) = look(root, driver) else { continue };
        let mut name = system::name(&facts);
        if found.iter().any(|f| f.name == name) {
            name = format!("{name}-{}", system::clean(&root.name));
        }
        found.push(Found { root, name, facts });
    }
    found
}

fn look(root: &BlockReport, driver: &mount::Driver) -> Option<system::Facts> {
    // What is mounted already is looked at where it is: a second, read-only mount would be refused.
    if let Some(place) = root.mounts.first() {
        return system::look(mounts::folder(Path::new(&place.target)).ok()?.as_fd());
    }
    let options: Vec<String> = driver.no_replay.iter().map(|o| (*o).to_string()).collect();
    let wanted =
        Wanted { driver: driver.driver, device: &root.path, options: &options, read_only: true, inert: true };
    protection::hold(&root.path).ok()?;
    let facts = mounts::detached(wanted).ok().and_then(|m| system::look(m.as_fd()));
    let _ = protection::release(&root.path);
    facts
}

/// Mounts one system, or says what would be done.
fn one(
    root: &BlockReport,
    name: &str,
    pretty_name: Option<String>,
    plan: &mount::Plan,
    wish: &Wish,
) -> anyhow::Result<MountReport> {
    let mut report = MountReport {
        system: name.into(),
        pretty_name,
        device: root.path.clone(),
        target: plan.folder.to_string_lossy().into_owned(),
        read_only: !wish.write,
        steps: plan.steps.iter().map(ToString::to_string).collect(),
        left_out: plan.left_out.clone(),
        trouble: plan.trouble.clone(),
    };
    if let Some(place) = root.mounts.first() {
        let again = place.read_only && wish.write && Path::new(&place.target) == plan.folder;
        if !again {
            report.target = place.target.clone();
            report.read_only = place.read_only;
            report.steps.clear();
            return Ok(report);
        }
        if !wish.dry_run {
            unmount_all(&plan.folder)?;
        }
    }
    if !wish.dry_run {
        // The kernel asks for the module itself, by /sbin/modprobe.
        let load = |_: &str| {};
        let more = mount::apply(plan, &load)
            .with_context(|| format!("mounting {} on {}", root.path, plan.folder.display()))?;
        report.trouble.extend(more);
    }
    Ok(report)
}

fn unmount_all(folder: &Path) -> anyhow::Result<()> {
    let info = disks::mountinfo()?;
    for target in mountinfo::below(&info, folder) {
        mounts::unmount(&target).with_context(|| format!("unmounting {}", target.display()))?;
    }
    Ok(())
}

fn print(reports: &[MountReport], wish: &Wish) -> anyhow::Result<ExitCode> {
    if wish.json {
        println!("{}", serde_json::to_string_pretty(reports)?);
        return Ok(ExitCode::SUCCESS);
    }
    for report in reports {
        let pretty = report.pretty_name.as_deref().map(|p| format!(" ({p})")).unwrap_or_default();
        if report.steps.is_empty() {
            let how = if report.read_only { "read-only" } else { "read-write" };
            println!("{}{pretty}: already mounted at {}, {how}", report.system, report.target);
            continue;
        }
        println!("{}{pretty} at {}", report.system, report.target);
        for line in report.steps.iter().chain(&report.left_out).chain(&report.trouble) {
            println!("  {line}");
        }
        if wish.dry_run {
            println!("nothing was done");
        } else if report.read_only {
            println!("look around in {0}; to repair it: rescue mount --rw", report.target);
        } else {
            println!("repair it in {}, then: rescue umount, reboot", report.target);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of a system, by its name or path.
pub(super) fn folder_of(name: &str) -> PathBuf {
    if name.starts_with('/') { name.into() } else { Path::new(MOUNT_ROOT).join(name) }
}
