//! `rescue unlock` of what is encrypted in a pool: the key of a dataset, which those below it have from there.

use std::process::ExitCode;

use anyhow::bail;
use rescue_schema::report::{AssembleReport, BlockReport};

use super::secret::Key;
use super::wrapped::tell;
use super::{assemble as together, writable};
use crate::disk::assemble::{self, Format, Opening, Wish};
use crate::disk::resolve::flat;
use crate::disk::zfs;

/// How it is unlocked.
pub(super) struct How {
    pub write: bool,
    pub degraded: bool,
    pub dry_run: bool,
    pub json: bool,
}

/// Unlocks what `named` means, where that is of a pool; the disks, where it is not.
pub(super) fn unlock(
    named: &str,
    tree: Vec<BlockReport>,
    how: &How,
    key: &mut Key,
) -> anyhow::Result<Result<ExitCode, Vec<BlockReport>>> {
    let mut steps: Vec<String> = Vec::new();
    let tree = imported(named, tree, how, &mut steps)?;
    let Some(pool) = zfs::pool_named(named, &tree) else { return Ok(Err(tree)) };
    let again = if how.write && pool.read_only {
        writable::plan(&tree, &[&pool.path], how.degraded, None)?
    } else {
        Default::default()
    };
    let locked = zfs::locked_of(named, &tree);
    let one = match locked.as_slice() {
        [one] => Some(one),
        [] if !again.keys.is_empty() => None,
        [] => bail!(
            "{named} holds nothing that is locked{}",
            if how.write { ", or is to be written to" } else { "" }
        ),
        several => bail!("{named} is locked with several keys, name one: {}", several.join(", ")),
    };
    let words = if how.write { "READ-WRITE" } else { "read-only" };
    steps.extend(again.to_string().lines().map(Into::into));
    steps.extend(one.map(|one| format!("load the key of {one}, {words}")));
    if !how.json {
        steps.iter().for_each(|line| tell!("{line}"));
    }
    if !how.dry_run {
        writable::keys(&again, key)?;
        let opening = |device| Opening { device, format: Format::Dataset, header: None, write: how.write };
        if let Some(one) = one.filter(|_| !again.is_empty()) {
            // Its pool is exported for it.
            key.prove(opening(one))?;
        }
        writable::apply(&again, &again.wish(how.degraded), key)?;
        if let Some(one) = one {
            key.open(opening(one), &|module: &str| drop(crate::modules::load(module)))?;
        }
    }
    if how.json {
        together::say(&AssembleReport { steps, ..AssembleReport::default() }, true)?;
    }
    Ok(Ok(ExitCode::SUCCESS))
}

/// The disks once the pool of that name, or on that device, is imported.
fn imported(
    named: &str,
    tree: Vec<BlockReport>,
    how: &How,
    steps: &mut Vec<String>,
) -> anyhow::Result<Vec<BlockReport>> {
    let wish = Wish { degraded: how.degraded, pools: together::imports_pools(), ..Wish::default() };
    let is_member = |b: &&BlockReport| b.path == named && b.probe.kind.as_deref() == Some("zfs_member");
    let only = match flat(&tree).into_iter().find(is_member) {
        Some(member) if member.children.is_empty() => Some(vec![member.path.clone()]),
        Some(_) => None,
        None if named.starts_with("/dev/") => None,
        None => assemble::made_of(&assemble::plan(&tree, &wish), named),
    };
    let Some(only) = only else { return Ok(tree) };
    let (report, tree) = together::everything(&Wish { only, ..wish }, how.dry_run, Some(tree))?;
    if !report.trouble.is_empty() {
        bail!("{}", report.trouble.join("; "));
    }
    if report.steps.is_empty() && !report.remarks.is_empty() {
        bail!("{}", report.remarks.join("; "));
    }
    steps.extend(report.steps);
    Ok(tree)
}
