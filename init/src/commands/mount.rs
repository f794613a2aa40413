//! `rescue mount`: the systems of this machine, each at `/mnt/<name>` by its own fstab.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use rescue_schema::paths::{MOUNT_ROOT, RUN};
use rescue_schema::report::{BlockReport, MountReport};

use super::find::{self, Found, Survey};
use super::mount_choose::{choose, is_called, unseen};
use super::mount_one::{How, Meant, one};
use super::secret::Key;
use super::wrapped::{complain, put};
use super::{Command, Usage, assemble as together, disks, disks_worker, mount_key, mount_not, writable};
use crate::disk::mount::Leave;
use crate::disk::resolve::{self, Missing};
use crate::disk::{assemble, mount, pool, system, zfs};
use crate::sys::mounts;

pub(super) const COMMAND: Command = Command {
    name: "mount",
    links: &[],
    usage: "[SYSTEM|DEV] [--rw] [--key-file FILE] [--degraded] [--all] [--only DEV]… [--dry-run] [--json]",
    about: "a system at /mnt/<name> by its own fstab, read-only or --rw",
    run,
};

#[derive(Debug, Default)]
struct Wish {
    name: Option<String>,
    all: bool,
    only: Vec<String>,
    how: How,
}

impl Wish {
    /// What is typed to mean the system that is called so.
    fn again(&self, name: &str) -> String {
        let which = self.name.as_deref().or(self.all.then_some(name));
        which.map(|w| format!(" {w}")).unwrap_or_default()
    }

    /// The device that is named.
    fn device(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| resolve::is_name(name))
    }

    /// Whether a person can be asked for a passphrase.
    fn asks(&self, key: &Key) -> bool {
        key.asks() && !self.how.json && !self.how.dry_run
    }
}

fn parse(args: &[String]) -> anyhow::Result<Wish> {
    use lexopt::prelude::*;
    let mut wish = Wish::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Long("rw") => wish.how.leave.write = true,
            Long("degraded") => wish.how.leave.degraded = true,
            Long("key-file") => wish.how.key_file = Some(parser.value().map_err(usage)?),
            Long("all") => wish.all = true,
            Long("dry-run") => wish.how.dry_run = true,
            Long("json") => wish.how.json = true,
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
        || complain!("rescue: waiting for another rescue mount, umount or systems to end (rescue who)");
    mounts::exclusive(&lock, &waiting)
        .with_context(|| format!("waiting for another rescue mount at {}", lock.display()))
}

fn usage(error: lexopt::Error) -> anyhow::Error {
    Usage(error.to_string()).into()
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let wish = parse(args)?;
    let _alone = alone()?;
    let mut key = wish.how.key();
    if let Some(device) = wish.device() {
        return finish(&[alone_at(device, &wish, &mut key)?], &wish);
    }
    let reports = seen(&wish, &mut key, |disks, survey, key| {
        unseen(survey, wish.name.as_deref());
        let mut reports = Vec::new();
        for system in choose(survey, wish.name.as_deref(), wish.all, wish.how.leave.write, disks)? {
            reports.push(system_at(system, survey, disks, &wish, key)?.0);
        }
        Ok(reports)
    })?;
    finish(&reports, &wish)
}

/// Mounts what is on a device, by itself.
fn alone_at(device: &str, wish: &Wish, key: &mut Key) -> anyhow::Result<MountReport> {
    let mut disks = put_together_for(device, wish)?;
    let stays = writable_pool(device, &mut disks, wish)?;
    let device = stays.as_deref().unwrap_or(device);
    let own = resolve::named(device, &disks).ok().map(|b| b.path.clone());
    let is_locked = assemble::locked(&disks).iter().any(|b| Some(&b.path) == own.as_ref());
    if wish.how.key_file.is_some() || is_locked && wish.asks(key) {
        // Itself, or whatever may hold it.
        disks = mount_key::open(key, own.as_deref(), &together_as(wish), disks, wish.how.dry_run)?;
    }
    let block = resolve::named(device, &disks)
        .map_err(|missing| anyhow!(mount_not::nowhere(device, &missing, &disks, &together_as(wish))))?;
    let block = resolve::opened(block).unwrap_or(block);
    let device = &block.path;
    let how = How { again: format!(" {device}"), ..wish.how.clone() };
    let name = system::clean(device.trim_start_matches("/dev/").trim_start_matches("mapper/"));
    let planned = |leave| mount::alone(block, &disks, &Path::new(MOUNT_ROOT).join(&name), leave);
    if planned(wish.how.leave).steps.is_empty() {
        bail!(mount_not::no_file_system(block, &disks));
    }
    let meant = Meant { root: block, name: &name, pretty_name: None };
    Ok(one(&meant, &planned, &disks, &how, key)?.0)
}

/// Imports the pool of a volume again that is to be written to; what the device is called whatever its number is then.
fn writable_pool(device: &str, disks: &mut Vec<BlockReport>, wish: &Wish) -> anyhow::Result<Option<String>> {
    let Some(block) = resolve::named(device, disks).ok().filter(|_| wish.how.leave.write) else {
        return Ok(None);
    };
    let Some(volume) = zfs::guest(&block.path, disks) else { return Ok(None) };
    let Some(pool) = zfs::pool_of(volume, disks).filter(|pool| pool.read_only) else { return Ok(None) };
    let (stays, degraded) = (zfs::link_of(block, volume), wish.how.leave.degraded);
    let again = writable::plan(disks, &[&pool.path], degraded, None)?;
    complain!("{again}");
    if !wish.how.dry_run {
        writable::apply(&again, &again.wish(degraded), &mut Key::typed())?;
        *disks = disks::look(&wish.only)?;
    }
    Ok(stays)
}

/// What is there, once arrays and volume groups that can be put together have been: that writes nothing.
/// Devices that are named are left as they are.
fn put_together(wish: &Wish, key: &mut Key) -> anyhow::Result<Vec<BlockReport>> {
    let disks = disks::look(&wish.only)?;
    let all = together_as(wish);
    let disks = if wish.only.is_empty() || wish.how.dry_run { make(&all, disks, wish)? } else { disks };
    if wish.how.key_file.is_none() {
        return Ok(disks);
    }
    let all = assemble::Wish { only: wish.only.clone(), ..all };
    mount_key::open(key, None, &all, disks, wish.how.dry_run)
}

/// The same with the systems on it, for what is done then; a volume or dataset is opened with what is typed where it is
/// named, or alone is locked and no system but those of guests is seen without it. The pool of a guest that is written
/// to is imported to be written to.
fn seen<T>(
    wish: &Wish,
    key: &mut Key,
    then: impl FnOnce(&[BlockReport], &Survey<'_>, &mut Key) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut disks = put_together(wish, key)?;
    let all = assemble::Wish { only: wish.only.clone(), ..together_as(wish) };
    let asks = wish.asks(key);
    if let Some(name) = wish.device() {
        let own = resolve::named(name, &disks).ok().map(|b| b.path.clone());
        let own = own.filter(|own| assemble::locked(&disks).iter().any(|b| b.path == *own));
        if let Some(own) = own.filter(|_| asks) {
            disks = mount_key::open(key, Some(&own), &all, disks, false)?;
        }
    } else {
        let mut locked: Vec<String> = assemble::locked_here(&disks).iter().map(|b| b.path.clone()).collect();
        locked.extend(zfs::locked_keys(&disks, true));
        let survey = find::survey(&disks);
        match locked.as_slice() {
            [one] if asks && survey.systems.iter().all(|s| s.guest.is_some()) => {
                drop(survey);
                disks = mount_key::open(key, Some(one), &all, disks, false)?;
            }
            _ if guest_to_write(&survey, wish).is_some() => {}
            _ => return then(&disks, &survey, key),
        }
    }
    let survey = find::survey(&disks);
    let Some(guest) = guest_to_write(&survey, wish) else { return then(&disks, &survey, key) };
    drop(survey);
    writable_pool(&guest, &mut disks, wish)?;
    then(&disks, &find::survey(&disks), key)
}

/// The root of the guest that is meant, where it is to be written to.
fn guest_to_write(survey: &Survey<'_>, wish: &Wish) -> Option<String> {
    let name = wish.name.as_deref().filter(|_| wish.how.leave.write)?;
    let meant = survey.systems.iter().find(|s| is_called(s, name) && s.guest.is_some())?;
    Some(meant.root.path.clone())
}

/// As it is put together to be looked at: what is written to is put together again.
fn together_as(wish: &Wish) -> assemble::Wish {
    let pools = together::imports_pools();
    assemble::Wish { degraded: wish.how.leave.degraded, pools, ..assemble::Wish::default() }
}

/// The same for one device alone: nothing where it is there, or else what makes it.
fn put_together_for(device: &str, wish: &Wish) -> anyhow::Result<Vec<BlockReport>> {
    let mut disks = disks::look(&wish.only)?;
    for _ in 0..together::LAYERS {
        let known = resolve::named(device, &disks) != Err(Missing::Nowhere);
        if known || !wish.only.is_empty() {
            break;
        }
        let mut all = together_as(wish);
        let plan = assemble::plan(&disks, &all);
        let by_node = device.starts_with("/dev/") && !device.starts_with("/dev/disk/");
        let only = assemble::made_of(&plan, device).unwrap_or_else(|| assemble::members(&plan, by_node));
        if only.is_empty() {
            break;
        }
        all.only = only;
        disks = make(&all, disks, wish)?;
        if wish.how.dry_run {
            break;
        }
    }
    Ok(disks)
}

/// Puts together what can be, or says so; the disks as they are then.
fn make(all: &assemble::Wish, disks: Vec<BlockReport>, wish: &Wish) -> anyhow::Result<Vec<BlockReport>> {
    let plan = assemble::plan(&disks, all);
    if wish.how.dry_run {
        // What is on it is seen when that is done, and not before.
        plan.steps.iter().for_each(|step| complain!("to be done first (rescue assemble): {step}"));
        return Ok(disks);
    }
    if plan.steps.is_empty() {
        return Ok(disks);
    }
    let (report, disks) = together::everything(all, false, Some(disks))?;
    report.steps.iter().chain(&report.trouble).for_each(|line| complain!("{line}"));
    Ok(disks)
}

/// Mounts a system where it is not, for a verb that goes on in it: what it came to, whether it was mounted
/// just now, and what it runs.
pub(super) fn ensure(
    name: Option<&str>,
    leave: Leave,
    only: &[String],
    key_file: Option<&std::ffi::OsStr>,
) -> anyhow::Result<(MountReport, bool, system::Facts)> {
    let _alone = alone()?;
    let how = How { leave, key_file: key_file.map(Into::into), quiet: true, ..How::default() };
    let wish = Wish { name: name.map(Into::into), only: only.into(), how, ..Wish::default() };
    let mut key = wish.how.key();
    seen(&wish, &mut key, |disks, survey, key| {
        let system = match wish.device() {
            Some(device) => at_device(device, survey, disks, &wish)?,
            None => {
                unseen(survey, name);
                let chosen = choose(survey, name, false, leave.write, disks)?;
                chosen.first().copied().context("no system")?
            }
        };
        let (report, fresh) = system_at(system, survey, disks, &wish, key)?;
        disks_worker::dismiss();
        Ok((report, fresh, system.facts.clone()))
    })
}

/// The system whose root is on the device that is named.
fn at_device<'a>(
    device: &str,
    survey: &'a Survey<'a>,
    disks: &[BlockReport],
    wish: &Wish,
) -> anyhow::Result<&'a Found<'a>> {
    let block = resolve::named(device, disks)
        .map_err(|missing| anyhow!(mount_not::nowhere(device, &missing, disks, &together_as(wish))))?;
    let block = resolve::opened(block).unwrap_or(block);
    // Any device of a file system on several stands for it.
    let pool = pool::gather(block, disks).map(|pool| pool.devices).unwrap_or_default();
    let on = |s: &&Found<'_>| s.root.path == block.path || pool.iter().any(|b| b.path == s.root.path);
    let there: Vec<&Found<'_>> = survey.systems.iter().filter(on).collect();
    let live: Vec<&Found<'_>> = there.iter().copied().filter(|s| !s.snapshot).collect();
    match (live.as_slice(), there.as_slice()) {
        ([one], _) | ([], [one]) => Ok(one),
        (_, []) => bail!(mount_not::no_system(block, survey, disks)),
        ([], several) | (several, _) => {
            let names: Vec<&str> = several.iter().map(|s| s.name.as_str()).collect();
            bail!("several systems are on {}: name one: {}", block.path, names.join(", "))
        }
    }
}

fn system_at(
    system: &Found<'_>,
    survey: &Survey<'_>,
    disks: &[BlockReport],
    wish: &Wish,
    key: &mut Key,
) -> anyhow::Result<(MountReport, bool)> {
    if wish.how.leave.write {
        survey.kept.let_go();
    }
    let pretty_name = system.facts.pretty_name.clone();
    let meant = Meant { root: system.root, name: &system.name, pretty_name };
    let how = How { again: wish.again(&system.name), ..wish.how.clone() };
    let planned = |leave| find::plan(system, survey, disks, leave);
    one(&meant, &planned, disks, &how, key)
}

fn finish(reports: &[MountReport], wish: &Wish) -> anyhow::Result<ExitCode> {
    if wish.how.json {
        put!("{}\n", serde_json::to_string_pretty(reports)?);
    }
    Ok(ExitCode::SUCCESS)
}
