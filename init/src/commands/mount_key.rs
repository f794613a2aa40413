//! What `rescue mount` opens before it looks for systems: every encrypted volume that a key file fits, or the one that
//! is meant, whose passphrase is asked for. It is opened read-only, and what is built on it is put together. What is to
//! be written to is opened again later, once it is known that nothing stands against it.

use rescue_schema::report::BlockReport;

use super::secret::Key;
use super::wrapped::complain;
use super::{assemble as together, disks};
use crate::disk::assemble::{self, Format, Opening, Wish};
use crate::disk::zfs;

/// Opens what `key` opens, on one device or on all; the disks as they are then.
pub(super) fn open(
    key: &mut Key,
    device: Option<&str>,
    all: &Wish,
    mut disks: Vec<BlockReport>,
    dry_run: bool,
) -> anyhow::Result<Vec<BlockReport>> {
    key.read_file()?;
    let load = |module: &str| drop(crate::modules::load(module));
    let mut tried: Vec<String> = Vec::new();
    for _ in 0..together::LAYERS {
        let devices = if device.is_some() { assemble::locked(&disks) } else { assemble::locked_here(&disks) };
        let devices = devices.iter().map(|b| (b.path.clone(), Format::of(b)));
        let datasets = zfs::locked_keys(&disks, false).into_iter().map(|name| (name, Format::Dataset));
        let mut locked: Vec<(String, Format)> = devices.chain(datasets).collect();
        locked.retain(|(name, _)| device.is_none_or(|d| d == name) && !tried.contains(name));
        let mut opened = false;
        for (name, format) in locked {
            tried.push(name.clone());
            if dry_run {
                complain!("to be done first (rescue unlock): open {name}, read-only");
                continue;
            }
            let opening = Opening { device: &name, format, header: None, write: false };
            match key.open(opening, &load) {
                Ok(node) => {
                    let at = if node == name { String::new() } else { format!(": {node}") };
                    complain!("{name} is open, read-only{at}");
                    opened = true;
                }
                Err(error) => complain!("{name} stays closed: {error:#}"),
            }
        }
        if !opened {
            break;
        }
        // With devices named, only what is on them is looked at.
        let seen = disks::again(&disks)?;
        let (report, now) = together::everything(all, false, Some(seen))?;
        report.steps.iter().chain(&report.trouble).for_each(|line| complain!("{line}"));
        disks = now;
    }
    Ok(disks)
}
