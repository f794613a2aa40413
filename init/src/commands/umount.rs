//! `rescue umount`: everything that `rescue mount` mounted, children first.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use rescue_schema::paths::MOUNT_ROOT;
use rescue_schema::report::UnmountReport;

use super::mount::folder_of;
use super::{Command, Usage, disks};
use crate::disk::{mountinfo, protection};
use crate::sys::mounts;

pub(super) const COMMAND: Command = Command {
    name: "umount",
    links: &[],
    usage: "[SYSTEM|PATH|--all] [--dry-run] [--json]",
    about: "everything back, in the right order",
    run,
};

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let has = |option: &str| args.iter().any(|a| a == option);
    let mut names = args.iter().filter(|a| !matches!(a.as_str(), "--all" | "--dry-run" | "--json"));
    let name = names.next();
    if let Some(other) = names.next().or(name.filter(|n| n.starts_with('-'))) {
        return Err(Usage(format!("{other:?} is not understood")).into());
    }
    let folder = name.map_or_else(|| Path::new(MOUNT_ROOT).to_path_buf(), |n| folder_of(n));
    let info = disks::mountinfo()?;
    let mounts = mountinfo::parse(&info);
    let mut report = UnmountReport::default();
    for target in ours(&info, &folder) {
        if !has("--dry-run") {
            mounts::unmount(&target).with_context(|| format!("unmounting {}", target.display()))?;
            if let Some(mount) = mounts.iter().find(|m| m.target == target) {
                let _ = protection::release(&mount.source);
            }
            if target.parent() == Some(Path::new(MOUNT_ROOT)) {
                let _ = std::fs::remove_dir(&target);
            }
        }
        report.unmounted.push(target.display().to_string());
    }
    if has("--json") {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if report.unmounted.is_empty() {
        println!("nothing is mounted at {}", folder.display());
    }
    if !has("--json") {
        report.unmounted.iter().for_each(|t| println!("unmounted {t}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// What lies at or below `folder` and is in a system: below a folder of [`MOUNT_ROOT`] that a device is
/// mounted at. Children first.
fn ours(info: &[u8], folder: &Path) -> Vec<PathBuf> {
    let systems: Vec<PathBuf> = mountinfo::parse(info)
        .into_iter()
        .filter(|m| m.target.parent() == Some(Path::new(MOUNT_ROOT)) && m.source.starts_with("/dev/"))
        .map(|m| m.target)
        .collect();
    let below = mountinfo::below(info, folder);
    below.into_iter().filter(|t| systems.iter().any(|s| t.starts_with(s))).collect()
}
