//! `rescue mount`: the systems of this machine, each at `/mnt/<name>` by its own fstab.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use rescue_schema::paths::{MOUNT_ROOT, RUN};
use rescue_schema::report::{BlockReport, MountPoint, MountReport};

use super::find::{self, Found, Survey};
use super::secret::Key;
use super::{Command, Usage, disks, writable};
use crate::disk::mount::Leave;
use crate::disk::mountinfo::Mount;
use crate::disk::{assemble, guard, mount, mountinfo, protection, resolve, system, unmount};
use crate::sys::mounts;

pub(super) const COMMAND: Command = Command {
    name: "mount",
    links: &[],
    usage: "[SYSTEM|DEV] [--rw [--key-file FILE]] [--degraded] [--all] [--only DEV]… [--dry-run] [--json]",
    about: "a system at /mnt/<name> by its own fstab, read-only or --rw",
    run,
};

#[derive(Debug, Default)]
struct Wish {
    name: Option<String>,
    leave: Leave,
    key_file: Option<std::ffi::OsString>,
    all: bool,
    only: Vec<String>,
    dry_run: bool,
    json: bool,
    /// Says only what went wrong.
    quiet: bool,
}

fn parse(args: &[String]) -> anyhow::Result<Wish> {
    use lexopt::prelude::*;
    let mut wish = Wish::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Long("rw") => wish.leave.write = true,
            Long("degraded") => wish.leave.degraded = true,
            Long("key-file") => wish.key_file = Some(parser.value().map_err(usage)?),
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
    let waiting =
        || eprintln!("rescue: waiting for another rescue mount, umount or systems to end (rescue who)");
    mounts::exclusive(&lock, &waiting)
        .with_context(|| format!("waiting for another rescue mount at {}", lock.display()))
}

fn usage(error: lexopt::Error) -> anyhow::Error {
    Usage(error.to_string()).into()
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let wish = parse(args)?;
    let _alone = alone()?;
    let disks = put_together(&wish)?;
    if let Some(device) = wish.name.as_deref().filter(|n| n.starts_with("/dev/")) {
        let block = resolve::flat(&disks).into_iter().find(|b| b.path == device);
        let block = block.with_context(|| format!("{device} is not here: `rescue disks` lists what is"))?;
        let name = system::clean(device.trim_start_matches("/dev/").trim_start_matches("mapper/"));
        let planned = |leave| mount::alone(block, &disks, &Path::new(MOUNT_ROOT).join(&name), leave);
        if planned(wish.leave).steps.is_empty() {
            match block.probe.kind.as_deref() {
                Some(kind) => {
                    bail!("{device} holds {kind}, which cannot be mounted: `rescue probe {device}` says more")
                }
                None => bail!(
                    "nothing that can be mounted is known on {device}: `rescue probe {device}` says more"
                ),
            }
        }
        return finish(&[one(block, &name, None, &planned, &disks, &wish)?.0], &wish);
    }
    let survey = find::survey(&disks);
    unseen(&survey, wish.name.as_deref());
    let mut reports = Vec::new();
    for system in choose(&survey, wish.name.as_deref(), wish.all, wish.leave.write, &disks)? {
        let planned = |leave| find::plan(system, &survey, &disks, leave);
        reports.push(system_at(system, &planned, &disks, &wish)?.0);
    }
    finish(&reports, &wish)
}

/// Says what could not be looked at, unless the system that is meant was found all the same.
fn unseen(survey: &Survey<'_>, name: Option<&str>) {
    if !name.is_some_and(|name| survey.systems.iter().any(|s| is_called(s, name))) {
        survey.unseen.iter().for_each(|line| eprintln!("rescue: {line}"));
    }
}

fn is_called(system: &Found<'_>, name: &str) -> bool {
    system.name == name || system.root.path == name
}

/// What is there, once arrays and volume groups that can be put together have been: that writes nothing.
/// Devices that are named are left as they are.
fn put_together(wish: &Wish) -> anyhow::Result<Vec<BlockReport>> {
    let disks = disks::look(&wish.only)?;
    let all = assemble::Wish { degraded: wish.leave.degraded, ..assemble::Wish::default() };
    let plan = assemble::plan(&disks, &all);
    if wish.dry_run {
        // What is on it is seen when that is done, and not before.
        plan.steps.iter().for_each(|step| eprintln!("to be done first (rescue assemble): {step}"));
        return Ok(disks);
    }
    if !wish.only.is_empty() || plan.steps.is_empty() {
        return Ok(disks);
    }
    let (report, disks) = super::assemble::everything(&all, false, Some(disks))?;
    report.steps.iter().chain(&report.trouble).for_each(|line| eprintln!("{line}"));
    Ok(disks)
}

/// The systems that are meant: snapshots only where they are named.
fn choose<'a>(
    survey: &'a Survey<'a>,
    name: Option<&str>,
    all: bool,
    write: bool,
    disks: &[BlockReport],
) -> anyhow::Result<Vec<&'a Found<'a>>> {
    let systems = &survey.systems;
    let list = |shown: &[&Found<'_>]| {
        shown.iter().map(|s| format!("\n  {:<16} {}", s.name, describe(s))).collect::<String>()
    };
    let live: Vec<&Found<'_>> = systems.iter().filter(|s| !s.snapshot).collect();
    match name {
        Some(name) => match systems.iter().find(|s| is_called(s, name)) {
            Some(one) => Ok(vec![one]),
            None => Err(Usage(format!("no system {name:?}; there are:{}", list(&live))).into()),
        },
        None if live.is_empty() => match assemble::locked(disks).first() {
            Some(block) => {
                let rw = if write { "--rw " } else { "" };
                bail!("no system found; {0} is encrypted: rescue unlock {rw}{0}", block.path)
            }
            None => bail!("no Linux system found, nor another: `rescue disks` shows what is on the disks"),
        },
        None if live.len() > 1 && !all => {
            Err(Usage(format!("several systems: name one, or --all:{}", list(&live))).into())
        }
        None => Ok(live),
    }
}

/// Mounts a system where it is not, for a verb that goes on in it: what it came to, whether it was mounted
/// just now, and what it runs.
pub(super) fn ensure(
    name: Option<&str>,
    leave: Leave,
    only: &[String],
) -> anyhow::Result<(MountReport, bool, system::Facts)> {
    let _alone = alone()?;
    let wish = Wish { name: name.map(Into::into), leave, only: only.into(), quiet: true, ..Wish::default() };
    let disks = put_together(&wish)?;
    let survey = find::survey(&disks);
    unseen(&survey, name);
    let chosen = choose(&survey, name, false, leave.write, &disks)?;
    let system = chosen.first().context("no system")?;
    let planned = |leave| find::plan(system, &survey, &disks, leave);
    let (report, fresh) = system_at(system, &planned, &disks, &wish)?;
    Ok((report, fresh, system.facts.clone()))
}

fn system_at(
    system: &Found<'_>,
    planned: &dyn Fn(Leave) -> mount::Plan,
    disks: &[BlockReport],
    wish: &Wish,
) -> anyhow::Result<(MountReport, bool)> {
    one(system.root, &system.name, system.facts.pretty_name.clone(), planned, disks, wish)
}

fn finish(reports: &[MountReport], wish: &Wish) -> anyhow::Result<ExitCode> {
    if wish.json {
        println!("{}", serde_json::to_string_pretty(reports)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(system: &Found<'_>) -> String {
    let pretty = system.facts.pretty_name.as_deref().unwrap_or(system.facts.family);
    let subvolume = system.subvolume.as_ref().filter(|s| !s.path.is_empty());
    let subvolume = subvolume.map(|s| format!(", {}", s.path)).unwrap_or_default();
    format!("{pretty} on {}{subvolume}", system.root.path)
}

/// Mounts one system, or says what would be done.
fn one(
    root: &BlockReport,
    name: &str,
    pretty_name: Option<String>,
    planned: &dyn Fn(Leave) -> mount::Plan,
    disks: &[BlockReport],
    wish: &Wish,
) -> anyhow::Result<(MountReport, bool)> {
    let plan = planned(wish.leave);
    let write = wish.leave.write && plan.steps.first().is_some_and(|s| !s.read_only);
    let mut report = MountReport {
        system: name.into(),
        pretty_name,
        device: root.path.clone(),
        target: plan.folder.to_string_lossy().into_owned(),
        read_only: !write,
        steps: plan.steps.iter().map(ToString::to_string).collect(),
        left_out: plan.left_out.clone(),
        trouble: plan.trouble.clone(),
    };
    let mut read_only = None;
    let at = |m: &&MountPoint| Path::new(&m.target) == plan.folder;
    let whole = !plan.steps.first().is_some_and(|s| s.options.iter().any(|o| o.starts_with("subvolid=")));
    let elsewhere: Vec<&MountPoint> =
        root.mounts.iter().filter(|m| whole && !Path::new(&m.target).starts_with(&plan.folder)).collect();
    if let Some(place) = root.mounts.iter().find(at).or(elsewhere.first().copied()) {
        if !(place.read_only && write) {
            report.target = place.target.clone();
            report.read_only = place.read_only;
            report.steps.clear();
            (report.left_out, report.trouble) = (Vec::new(), Vec::new());
            say(&report, None, wish);
            let whole = planned(Leave { write: !place.read_only, ..wish.leave });
            complete(&mut report, whole, disks, wish)?;
            return Ok((report, false));
        }
        if !elsewhere.is_empty() {
            let places: Vec<&str> = root.mounts.iter().map(|m| m.target.as_str()).collect();
            bail!("{} is mounted read-only at {}: unmount it there first", root.path, places.join(", "));
        }
        read_only = Some(planned(Leave { write: false, ..wish.leave }));
    }
    if let Some(why) = &plan.refused {
        bail!("{name} is not mounted: {why}");
    }
    let ours = &protection::is_ours;
    let refused = if write { guard::refusals(&plan, disks, wish.leave, ours) } else { Vec::new() };
    if !refused.is_empty() {
        bail!("{name} is not mounted for writing:\n  {}", refused.join("\n  "));
    }
    let written: Vec<&str> = plan
        .steps
        .iter()
        .filter(|s| wish.leave.write && !s.read_only && s.bind.is_none())
        .flat_map(mount::Step::devices)
        .collect();
    let again = writable::plan(disks, &written, wish.leave.degraded, Some(&plan.folder))
        .with_context(|| format!("{name} is not mounted for writing"))?;
    if !again.is_empty() {
        eprintln!("{again}");
    }
    say(&report, Some(&plan), wish);
    if wish.dry_run {
        return Ok((report, false));
    }
    let mut key = if wish.quiet { Key::typed() } else { Key::new(wish.key_file.clone()) };
    writable::keys(&again, &mut key)?;
    // The kernel asks for it itself, by /sbin/modprobe; a kernel built without that asks nobody.
    let load = |kind: &str| drop(crate::modules::load(kind));
    if let Some(before) = &read_only {
        give_way(before, &load)?;
    }
    if let Err(error) = writable::apply(&again, &again.wish(wish.leave.degraded), &mut key) {
        // As much of it as there is.
        let back = read_only.filter(|p| p.steps.iter().all(|s| s.devices().all(|d| Path::new(d).exists())));
        let what = match back.map(|before| mount::apply(&before, &load)) {
            Some(Ok(_)) => "; it is mounted read-only again",
            _ => "; it is mounted no more",
        };
        bail!("{error:#}{what}");
    }
    let stubborn = writable::stubborn(&written);
    if !stubborn.is_empty() {
        bail!("{name} is not mounted for writing: {}", stubborn.join("; "));
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
    if wish.quiet {
        more.iter().for_each(|line| eprintln!("  ! {line}"));
    } else if !wish.json {
        more.iter().for_each(|line| println!("  ! {line}"));
        println!("{}", hint(&report, wish));
    }
    report.trouble.extend(more);
    Ok((report, true))
}

/// Mounts what of a mounted system is not there, as a `rescue mount` that was killed leaves it, or a fstab that
/// was mended since.
fn complete(
    report: &mut MountReport,
    mut plan: mount::Plan,
    disks: &[BlockReport],
    wish: &Wish,
) -> anyhow::Result<()> {
    if Path::new(&report.target) != plan.folder || wish.dry_run || plan.refused.is_some() {
        return Ok(());
    }
    let info = disks::mountinfo()?;
    let there = mountinfo::parse(&info);
    // By device, because a mount point may have been a symlink.
    let is_there = |step: &mount::Step| match &step.bind {
        Some(_) => there.iter().any(|m| m.target == plan.place(step)),
        None => there.iter().any(|m| m.source == step.device && m.target.starts_with(&plan.folder)),
    };
    let missing: Vec<mount::Step> = plan.steps.iter().skip(1).filter(|s| !is_there(s)).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    plan.steps.clone_from(&missing);
    let refused = guard::refusals(&plan, disks, wish.leave, &protection::is_ours);
    if !refused.is_empty() {
        bail!("the rest of {} is not mounted for writing:\n  {}", report.system, refused.join("\n  "));
    }
    let load = |kind: &str| drop(crate::modules::load(kind));
    let trouble = mount::below(mounts::folder(&plan.folder)?.as_fd(), &missing, &load);
    report.steps = missing.iter().map(ToString::to_string).collect();
    if !wish.json && !wish.quiet {
        report.steps.iter().for_each(|step| println!("  {step}"));
        trouble.iter().for_each(|line| println!("  ! {line}"));
    }
    report.trouble = trouble;
    Ok(())
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
        .filter(|s| mounts.iter().filter(went).any(|m| m.target == before.place(s)))
        .cloned()
        .collect();
    mount::below(mounts::folder(&before.folder)?.as_fd(), &gone, load);
    eprint!("{}", unmount::explain(&report.busy, "rescue umount --kill, then rescue mount --rw"));
    bail!("{} stays read-only", before.folder.display())
}

/// What is there, or what is about to be done: said before it is done.
fn say(report: &MountReport, plan: Option<&mount::Plan>, wish: &Wish) {
    if wish.json || wish.quiet {
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
        .map(|s| {
            (
                mount::shown(s.bind.as_ref().unwrap_or(&s.device)),
                mount::shown(&plan.place(s).to_string_lossy()),
                s.how(),
            )
        })
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
    if wish.leave.write {
        return format!("look around in {}; this file system is only read here", report.target);
    }
    let which = wish.name.as_deref().or(wish.all.then_some(report.system.as_str()));
    let which = which.map(|w| format!(" {w}")).unwrap_or_default();
    format!("look around in {}; to change it: rescue mount --rw{which}", report.target)
}
