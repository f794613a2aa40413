//! `rescue unlock`: an encrypted volume, or the datasets of a pool, opened, read-only or not, and what is on it put together.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use rescue_schema::report::BlockReport;

use super::secret::Key;
use super::unlock_dataset::How;
use super::wrapped::tell;
use super::{Command, Usage, disks, unlock_dataset, writable};
use crate::disk::assemble::{self, Format, Opening, Wish, Write};
use crate::disk::resolve;

pub(super) const COMMAND: Command = Command {
    name: "unlock",
    links: &[],
    usage: "DEVICE|DATASET [--rw] [--degraded] [--key-file FILE] [--header FILE|DEVICE] [--dry-run] [--json]",
    about: "LUKS, BitLocker or ZFS, read-only or --rw: asks, or reads the passphrase on stdin",
    run,
};

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    use lexopt::prelude::*;
    let (mut device, mut key, mut header, mut json) = (None, None, None, false);
    let (mut write, mut degraded, mut dry_run) = (false, false, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("key-file") => key = Some(parser.value()?),
            Long("header") => header = Some(parser.value()?.to_string_lossy().into_owned()),
            Long("rw") => write = true,
            Long("degraded") => degraded = true,
            Long("dry-run") => dry_run = true,
            Long("json") => json = true,
            Value(value) if device.is_none() => device = Some(value.to_string_lossy().into_owned()),
            other => return Err(Usage(other.unexpected().to_string()).into()),
        }
    }
    let Some(named) = device else { return Err(Usage("it wants a device".into()).into()) };
    let _alone = super::mount::alone()?;
    let mut key = Key::new(key);
    let mut tree = disks::look(&[])?;
    if header.is_none() {
        let how = How { write, degraded, dry_run, json };
        tree = match unlock_dataset::unlock(&named, tree, &how, &mut key)? {
            Ok(status) => return Ok(status),
            Err(tree) => tree,
        };
    }
    let block = found(&named, &tree)?;
    let device = block.path.clone();
    let open = resolve::opened(block);
    let locked =
        header.is_some() && open.is_none() || assemble::locked(&tree).iter().any(|b| b.path == device);
    if !(locked || write && open.is_some()) {
        bail!("{device} holds nothing that is locked: `rescue probe {device}` says what it holds");
    }
    // What it is on must be writable too; what is open is opened again.
    let target = open.map_or(device.as_str(), |c| c.path.as_str());
    let again = if write { writable::plan(&tree, &[target], degraded, None)? } else { Default::default() };
    if write && open.is_some() && again.is_empty() {
        bail!("{target} is open for writing already");
    }
    if !json && !again.is_empty() {
        tell!("{again}");
    }
    let how = if write { "READ-WRITE" } else { "read-only" };
    if dry_run {
        if locked && !json {
            tell!("open {device}, {how}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let format = Format::of(block);
    let opening = Opening { device: &device, format, header: header.as_deref(), write };
    writable::keys(&again, &mut key)?;
    if locked && !again.is_empty() {
        // What it is on is taken down for it.
        key.prove(opening)?;
    }
    let write_to = if write { Write::All } else { Write::Nothing };
    let pools = super::assemble::imports_pools();
    let wish = Wish { degraded, write: write_to, only: Vec::new(), pools };
    writable::apply(&again, &Wish { only: again.only.clone(), ..wish.clone() }, &mut key)?;
    let node = if locked {
        key.open(opening, &|module: &str| drop(crate::modules::load(module)))?
    } else {
        target.to_string()
    };
    if !json {
        tell!("{device} is open, {how}: {node}");
    }
    let seen = if write { None } else { Some(disks::again(&tree)?) };
    let (report, _) = super::assemble::everything(&Wish { only: vec![node], ..wish }, false, seen)?;
    if json || !report.steps.is_empty() || !report.remarks.is_empty() || locked {
        super::assemble::say(&report, json)?;
    }
    Ok(if report.trouble.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The device that is meant: by its node, or by any name that a crypttab may have for it.
fn found<'a>(named: &str, disks: &'a [BlockReport]) -> anyhow::Result<&'a BlockReport> {
    if let Some(block) = resolve::flat(disks).into_iter().find(|b| b.path == named) {
        return Ok(block);
    }
    resolve::encrypted(named, disks, "").map_err(|missing| anyhow!(missing.said(named)))
}
