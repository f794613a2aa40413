//! What `rescue mount` opens before it looks for systems: every encrypted volume that a key file fits, or the one that
//! is meant, whose passphrase is asked for. It is opened read-only, and what is built on it is put together. What is to
//! be written to is opened again later, once it is known that nothing stands against it.

use rescue_schema::report::BlockReport;

use super::secret::Key;
use super::wrapped::complain;
use super::{assemble as together, disks};
use crate::disk::assemble::{self, Opening, Wish};

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
        let is_meant = |b: &&&BlockReport| device.is_none_or(|d| d == b.path) && !tried.contains(&b.path);
        let locked: Vec<BlockReport> =
            assemble::locked(&disks).iter().filter(is_meant).map(|b| (**b).clone()).collect();
        let mut opened = false;
        for block in locked {
            tried.push(block.path.clone());
            if dry_run {
                complain!("to be done first (rescue unlock): open {}, read-only", block.path);
                continue;
            }
            let bitlocker = block.probe.kind.as_deref() == Some("BitLocker");
            let opening = Opening { device: &block.path, bitlocker, header: None, write: false };
            match key.open(opening, &load) {
                Ok(node) => {
                    complain!("{} is open, read-only: {node}", block.path);
                    opened = true;
                }
                Err(error) => complain!("{} stays closed: {error:#}", block.path),
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
