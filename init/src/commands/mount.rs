//! `rescue mount`: the systems of this machine, each at `/mnt/<name>` by its own fstab.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use rescue_schema::paths::{MOUNT_ROOT, RUN};
use rescue_schema::report::{BlockReport, MountReport, ProbeResult};

use super::{Command, Usage, disks};
use crate::disk::mountinfo::Mount;
use crate::disk::{mount, protection, resolve, system, unmount};
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

/// Waits until no other mounts or unmounts: each would undo what the other finds. Ends with the file.
pub(super) fn alone() -> anyhow::Result<File> {
    let lock = Path::new(RUN).join("mount.lock");
    mounts::exclusive(&lock)
        .with_context(|| format!("waiting for another rescue mount at {}", lock.display()))
}

fn usage(error: lexopt::Error) -> anyhow::Error {
    Usage(error.to_string()).into()
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let wish = parse(args)?;
    let _alone = alone()?;
    let disks = disks::look(&wish.only)?;
    if let Some(device) = wish.name.as_deref().filter(|n| n.starts_with("/dev/")) {
        let block = resolve::flat(&disks).into_iter().find(|b| b.path == device);
        let block = block.with_context(|| format!("{device} is not here: `rescue disks` lists what is"))?;
        let name = system::clean(device.trim_start_matches("/dev/").trim_start_matches("mapper/"));
        let planned = |write| mount::Plan {
            folder: Path::new(MOUNT_ROOT).join(&name),
            steps: mount::step(block, "/", write, &[]).into_iter().collect(),
            ..mount::Plan::default()
        };
        if planned(false).steps.is_empty() {
            let kind = block.probe.kind.as_deref().unwrap_or("nothing that is known");
            bail!("{device} holds {kind}, which cannot be mounted: `rescue probe {device}` says more");
        }
        return finish(&[one(block, &name, None, &planned, &wish)?], &wish);
    }
    let (systems, unseen) = find(&disks);
    unseen.iter().for_each(|line| eprintln!("rescue mount: {line}"));
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
        let fstab = system.facts.fstab.as_deref();
        let planned = |write| mount::plan(system.root, fstab, &disks, &folder, write);
        reports.push(one(system.root, &system.name, system.facts.pretty_name.clone(), &planned, &wish)?);
    }
    finish(&reports, &wish)
}

fn finish(reports: &[MountReport], wish: &Wish) -> anyhow::Result<ExitCode> {
    if wish.json {
        println!("{}", serde_json::to_string_pretty(reports)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(system: &Found<'_>) -> String {
    let pretty = system.facts.pretty_name.as_deref().unwrap_or("Linux");
    format!("{pretty} on {}", system.root.path)
}

/// Every Linux system, each with a name of its own; and what could not be looked at, a sentence each.
fn find(disks: &[BlockReport]) -> (Vec<Found<'_>>, Vec<String>) {
    let mut unseen = Vec::new();
    let mut found: Vec<Found<'_>> = Vec::new();
    for root in resolve::flat(disks) {
        let Some(driver) = root.probe.kind.as_deref().and_then(mount::driver).filter(|d| d.root) else {
            continue;
        };
        if root.probe.result != ProbeResult::Found || root.children.iter().any(|c| c.partition.is_none()) {
            continue;
        }
        match look(root, driver) {
            Ok(Some(facts)) => found.push(Found { root, name: system::name(&facts), facts }),
            Ok(None) => {}
            Err(error) => unseen.push(format!("looking at {} ({}): {error}", root.path, driver.kind)),
        }
    }
    // Of two with one name, as copies of a disk are, neither is the first: both get their device's.
    let names: Vec<String> = found.iter().map(|f| f.name.clone()).collect();
    for system in &mut found {
        if names.iter().filter(|n| **n == system.name).count() > 1 {
            system.name = format!("{}-{}", system.name, system::clean(&system.root.name));
        }
    }
    (found, unseen)
}

fn look(root: &BlockReport, driver: &mount::Driver) -> std::io::Result<Option<system::Facts>> {
    inside(root, driver, system::look)
}

/// Looks into a file system, which is mounted read-only and out of sight for as long as that takes.
pub(super) fn inside<T>(
    root: &BlockReport,
    driver: &mount::Driver,
    look: impl FnOnce(BorrowedFd<'_>) -> T,
) -> std::io::Result<T> {
    // What is mounted already is looked at where it is: a second, read-only mount would be refused.
    if let Some(place) = root.mounts.first() {
        return Ok(look(mounts::folder(Path::new(&place.target))?.as_fd()));
    }
    let options: Vec<String> = driver.no_replay.iter().map(|o| (*o).to_string()).collect();
    let wanted =
        Wanted { driver: driver.driver, device: &root.path, options: &options, read_only: true, inert: true };
    let held = protection::hold(&root.path)?;
    let found = mounts::detached(wanted).map(|m| look(m.as_fd()));
    if held {
        let _ = protection::release(&root.path);
    }
    found
}

/// Mounts one system, or says what would be done.
fn one(
    root: &BlockReport,
    name: &str,
    pretty_name: Option<String>,
    planned: &dyn Fn(bool) -> mount::Plan,
    wish: &Wish,
) -> anyhow::Result<MountReport> {
    let plan = planned(wish.write);
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
    let mut read_only = None;
    if let Some(place) =
        root.mounts.iter().find(|m| Path::new(&m.target) == plan.folder).or(root.mounts.first())
    {
        if !(place.read_only && wish.write) {
            report.target = place.target.clone();
            report.read_only = place.read_only;
            report.steps.clear();
            (report.left_out, report.trouble) = (Vec::new(), Vec::new());
            say(&report, None, wish);
            return Ok(report);
        }
        if root.mounts.len() > 1 || Path::new(&place.target) != plan.folder {
            let places: Vec<&str> = root.mounts.iter().map(|m| m.target.as_str()).collect();
            bail!("{} is mounted read-only at {}: unmount it there first", root.path, places.join(", "));
        }
        read_only = Some(planned(false));
    }
    say(&report, Some(&plan), wish);
    if wish.dry_run {
        return Ok(report);
    }
    // The kernel asks for it itself, by /sbin/modprobe; a kernel built without that asks nobody.
    let load = |kind: &str| drop(crate::modules::load(kind));
    if let Some(before) = &read_only {
        give_way(before, &load)?;
    }
    let more = match mount::apply(&plan, &load) {
        Ok(more) => more,
        Err(error) => {
            let again = read_only.map(|before| mount::apply(&before, &load));
            let what = match again {
                Some(Ok(_)) => "; it is mounted read-only again",
                Some(Err(_)) => "; nor can it be mounted read-only again",
                None => "",
            };
            bail!("mounting {} on {}: {error}{what}", root.path, plan.folder.display());
        }
    };
    if !wish.json {
        more.iter().for_each(|line| println!("  ! {line}"));
        println!("{}", hint(&report, wish));
    }
    report.trouble.extend(more);
    Ok(report)
}

/// Unmounts a system that is to be mounted for writing: ext4 refuses to make a mount that skipped its
/// journal writable, and the journal is to be replayed by a mount that starts afresh. Either all of it
/// goes, or it is as before.
fn give_way(before: &mount::Plan, load: &dyn Fn(&str)) -> anyhow::Result<()> {
    let mounts = unmount::plan(&disks::mountinfo()?, &before.folder);
    // By device, because a mount point may have been a symlink.
    let ours = |source: &str| before.steps.iter().any(|s| s.device == source);
    if let Some(foreign) = mounts.iter().find(|m| !ours(&m.source)) {
        bail!("{} is mounted in it too: unmount that first, or all: rescue umount", foreign.target.display());
    }
    let report = unmount::apply(&mounts, false)?;
    if report.busy.is_empty() {
        return Ok(());
    }
    let went = |m: &&Mount| report.unmounted.iter().any(|u| Path::new(u) == m.target);
    let gone: Vec<mount::Step> = before
        .steps
        .iter()
        .filter(|s| mounts.iter().filter(went).any(|m| m.source == s.device))
        .cloned()
        .collect();
    mount::below(mounts::folder(&before.folder)?.as_fd(), &gone, load);
    eprint!("{}", unmount::explain(&report.busy, "rescue umount --kill, then rescue mount --rw"));
    bail!("{} stays read-only", before.folder.display())
}

/// What is there, or what is about to be done: said before it is done.
fn say(report: &MountReport, plan: Option<&mount::Plan>, wish: &Wish) {
    if wish.json {
        return;
    }
    let pretty = report.pretty_name.as_deref().map(|p| format!(": {p}")).unwrap_or_default();
    let Some(plan) = plan else {
        let how = if report.read_only { "read-only" } else { "read-write" };
        println!("{}{pretty}\n  already mounted at {}, {how}", report.system, report.target);
        return;
    };
    println!("{}{pretty}", report.system);
    let rows: Vec<(String, String, String)> = plan
        .steps
        .iter()
        .map(|s| (s.device.clone(), plan.place(s).to_string_lossy().into_owned(), s.how()))
        .collect();
    let width = |column: fn(&(String, String, String)) -> &String| {
        rows.iter().map(|r| column(r).chars().count()).max().unwrap_or(0)
    };
    let (device, place) = (width(|r| &r.0), width(|r| &r.1));
    for row in &rows {
        println!("  {:<device$} → {:<place$}  {}", row.0, row.1, row.2);
    }
    report.left_out.iter().for_each(|line| println!("  - {line}"));
    report.trouble.iter().for_each(|line| println!("  ! {line}"));
    if wish.dry_run {
        println!("nothing was done");
    }
}

fn hint(report: &MountReport, wish: &Wish) -> String {
    if !report.read_only {
        return format!("repair it in {}, then: rescue umount, reboot", report.target);
    }
    let which = wish.name.as_deref().or(wish.all.then_some(report.system.as_str()));
    let which = which.map(|w| format!(" {w}")).unwrap_or_default();
    format!("look around in {}; to change it: rescue mount --rw{which}", report.target)
}
