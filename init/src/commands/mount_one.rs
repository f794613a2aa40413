//! One system that is mounted: as its plan says, or what of it is missing, or again to be written to. What can be
//! refused is refused, and a key proven, before anything that is there is taken down.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, bail};
use rescue_schema::report::{BlockReport, MountPoint, MountReport};

use super::mount_text::{hint, say};
use super::secret::Key;
use super::wrapped::{complain, tell};
use super::{disks, writable};
use crate::disk::assemble::reopen::Reopen;
use crate::disk::mount::Leave;
use crate::disk::mountinfo::Mount;
use crate::disk::{guard, mount, mountinfo, protection, unmount};
use crate::sys::mounts;

/// How it is mounted, and what is said of it.
#[derive(Debug, Clone, Default)]
pub(super) struct How {
    pub leave: Leave,
    pub key_file: Option<std::ffi::OsString>,
    pub dry_run: bool,
    pub json: bool,
    /// Says only what went wrong.
    pub quiet: bool,
    /// What is typed behind `rescue mount` to mean this system.
    pub again: String,
}

impl How {
    pub(super) fn key(&self) -> Key {
        match &self.key_file {
            // Stdin is for the command that runs in there.
            None if self.quiet => Key::typed(),
            file => Key::new(file.clone()),
        }
    }
}

/// What is mounted, as its root, and what it is called.
pub(super) struct Meant<'a> {
    pub root: &'a BlockReport,
    pub name: &'a str,
    pub pretty_name: Option<String>,
}

/// Mounts one system, or says what would be done.
pub(super) fn one(
    meant: &Meant<'_>,
    planned: &dyn Fn(Leave) -> mount::Plan,
    disks: &[BlockReport],
    how: &How,
    key: &mut Key,
) -> anyhow::Result<(MountReport, bool)> {
    let &Meant { root, name, .. } = meant;
    let mut plan = planned(how.leave);
    let write = how.leave.write && plan.steps.first().is_some_and(|s| !s.read_only);
    let mut report = report_of(&plan, meant, write);
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
            say(&report, None, how);
            let whole = planned(Leave { write: !place.read_only, ..how.leave });
            complete(&mut report, whole, disks, how, key)?;
            return Ok((report, false));
        }
        if !elsewhere.is_empty() {
            let places: Vec<&str> = root.mounts.iter().map(|m| m.target.as_str()).collect();
            bail!("{} is mounted read-only at {}: unmount it there first", root.path, places.join(", "));
        }
        read_only = Some(planned(Leave { write: false, ..how.leave }));
    }
    if let Some(why) = &plan.refused {
        bail!("{name} is not mounted: {why}");
    }
    let ours = &protection::is_ours;
    let refused = if write { guard::refusals(&plan, disks, how.leave, ours) } else { Vec::new() };
    if !refused.is_empty() {
        bail!("{name} is not mounted for writing:\n  {}", refused.join("\n  "));
    }
    let why = || format!("{name} is not mounted for writing");
    let reopened = |plan: &mount::Plan| {
        let targets = written(&plan.steps, how.leave);
        writable::plan(disks, &targets, how.leave.degraded, Some(&plan.folder)).with_context(why)
    };
    let mut again = reopened(&plan)?;
    if !again.partial.is_empty() {
        for device in &again.partial {
            if !plan.spare(device, disks) {
                bail!("{name} is not mounted for writing: parts of {device} are missing");
            }
        }
        report.steps = plan.steps.iter().map(ToString::to_string).collect();
        report.trouble.clone_from(&plan.trouble);
        again = reopened(&plan)?;
    }
    let written = written(&plan.steps, how.leave);
    if !again.is_empty() {
        complain!("{again}");
    }
    say(&report, Some(&plan), how);
    if how.dry_run {
        return Ok((report, false));
    }
    writable::keys(&again, key).with_context(|| as_it_was(name, &read_only))?;
    // The kernel asks for it itself, by /sbin/modprobe; a kernel built without that asks nobody.
    let load = |kind: &str| drop(crate::modules::load(kind));
    if let Some(before) = &read_only {
        give_way(before, &load)?;
    }
    if let Err(error) = writable::apply(&again, &again.wish(how.leave.degraded), key) {
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
    if how.quiet {
        more.iter().for_each(|line| complain!("  ! {line}"));
    } else if !how.json {
        more.iter().for_each(|line| tell!("  ! {line}"));
        tell!("{}", hint(&report, how));
    }
    report.trouble.extend(more);
    Ok((report, true))
}

fn as_it_was(name: &str, read_only: &Option<mount::Plan>) -> String {
    let left = if read_only.is_some() { "it stays read-only" } else { "nothing was done" };
    format!("{name} is not mounted for writing, {left}")
}

fn report_of(plan: &mount::Plan, meant: &Meant<'_>, write: bool) -> MountReport {
    MountReport {
        system: meant.name.into(),
        pretty_name: meant.pretty_name.clone(),
        device: meant.root.path.clone(),
        target: plan.folder.to_string_lossy().into_owned(),
        read_only: !write,
        steps: plan.steps.iter().map(ToString::to_string).collect(),
        left_out: plan.left_out.clone(),
        trouble: plan.trouble.clone(),
    }
}

/// Devices that are written to.
fn written(steps: &[mount::Step], leave: Leave) -> Vec<&str> {
    let writes = |s: &&mount::Step| leave.write && !s.read_only && s.bind.is_none();
    steps.iter().filter(writes).flat_map(mount::Step::devices).collect()
}

/// Mounts what of a mounted system is not there, as a `rescue mount` that was killed leaves it, or a fstab that
/// was mended since.
fn complete(
    report: &mut MountReport,
    mut plan: mount::Plan,
    disks: &[BlockReport],
    how: &How,
    key: &mut Key,
) -> anyhow::Result<()> {
    if Path::new(&report.target) != plan.folder || how.dry_run || plan.refused.is_some() {
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
    let refused = guard::refusals(&plan, disks, how.leave, &protection::is_ours);
    if !refused.is_empty() {
        bail!("the rest of {} is not mounted for writing:\n  {}", report.system, refused.join("\n  "));
    }
    let written = written(&missing, how.leave);
    let why = || format!("the rest of {} is not mounted for writing", report.system);
    let again = writable::plan(disks, &written, how.leave.degraded, None).with_context(why)?;
    reopen(&again, how, key).with_context(why)?;
    let stubborn = writable::stubborn(&written);
    if !stubborn.is_empty() {
        bail!("{}: {}", why(), stubborn.join("; "));
    }
    let load = |kind: &str| drop(crate::modules::load(kind));
    let trouble = mount::below(mounts::folder(&plan.folder)?.as_fd(), &missing, &load);
    report.steps = missing.iter().map(ToString::to_string).collect();
    if !how.json && !how.quiet {
        report.steps.iter().for_each(|step| tell!("  {step}"));
        trouble.iter().for_each(|line| tell!("  ! {line}"));
    }
    report.trouble = trouble;
    Ok(())
}

/// Puts together again, to be written to, what is read-only: said before it is done.
fn reopen(again: &Reopen, how: &How, key: &mut Key) -> anyhow::Result<()> {
    if again.is_empty() {
        return Ok(());
    }
    complain!("{again}");
    writable::keys(again, key)?;
    writable::apply(again, &again.wish(how.leave.degraded), key)
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
    complain!("{}", unmount::explain(&report.busy, "rescue umount --kill, then rescue mount --rw"));
    bail!("{} stays read-only", before.folder.display())
}
