//! `rescue umount`: everything that `rescue mount` mounted, children first; then what was put together and
//! unlocked for it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rescue_schema::paths::MOUNT_ROOT;
use rescue_schema::report::UnmountReport;

use super::wrapped::{complain, tell};
use super::{Command, Usage, disks};
use crate::disk::{assemble, mountinfo, unmount};

pub(super) const COMMAND: Command = Command {
    name: "umount",
    links: &[],
    usage: "[SYSTEM|PATH|--all] [--kill] [--dry-run] [--json]",
    about: "everything back, in order; tells who holds what",
    run,
};

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    use lexopt::prelude::*;
    let (mut name, mut all, mut kill, mut dry_run, mut json) = (None, false, false, false, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("all") => all = true,
            Long("kill") => kill = true,
            Long("dry-run") => dry_run = true,
            Long("json") => json = true,
            Value(value) if name.is_none() => name = Some(value.to_string_lossy().into_owned()),
            other => return Err(Usage(other.unexpected().to_string()).into()),
        }
    }
    if all && name.is_some() {
        return Err(Usage("--all and a name do not go together".into()).into());
    }
    let _alone = if dry_run { None } else { Some(super::mount::alone()?) };
    let info = disks::mountinfo()?;
    let folder = folder(name.as_deref(), &info);
    let plan = unmount::plan(&info, &folder);
    let mut report = if dry_run {
        let unmounted = plan.iter().map(|m| m.target.display().to_string()).collect();
        UnmountReport { unmounted, ..UnmountReport::default() }
    } else {
        unmount::apply(&plan, kill)?
    };
    // What is mounted elsewhere keeps what it is on.
    if name.is_none() && report.busy.is_empty() {
        (report.closed, report.stuck) = assemble::teardown(dry_run)?;
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        if plan.is_empty() && report.closed.is_empty() {
            tell!("nothing is mounted below {}", folder.display());
        }
        let verb = if dry_run { "unmount" } else { "unmounted" };
        report.unmounted.iter().for_each(|t| tell!("{verb} {t}"));
        report.closed.iter().for_each(|line| tell!("{line}"));
        report.stuck.iter().for_each(|line| complain!("rescue umount: {line}"));
        complain!("{}", unmount::explain(&report.busy, "rescue umount --kill"));
    }
    Ok(if report.busy.is_empty() && report.stuck.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folder that a name, a path or a device stands for.
fn folder(name: Option<&str>, info: &[u8]) -> PathBuf {
    let root = Path::new(MOUNT_ROOT);
    match name {
        None => root.into(),
        Some(device) if device.starts_with("/dev/") => {
            let mounts = mountinfo::parse(info).into_iter();
            let mut places =
                mounts.filter(|m| m.source == device && m.target.starts_with(root)).map(|m| m.target);
            places.next().unwrap_or_else(|| device.into())
        }
        Some(path) if path.starts_with('/') => path.into(),
        Some(name) => root.join(name),
    }
}
