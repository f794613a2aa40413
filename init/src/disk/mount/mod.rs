//! Mounting a system by its own fstab: what is mounted where and how is decided by [`plan`], which
//! touches nothing, and done by [`apply`].
//!
//! Without leave to write nothing is written: the journal is not replayed, and the device itself is
//! set to refuse writes, because ext4 clears its list of orphans and records errors even on a
//! read-only mount. To add a file system: a row in [`super::drivers`].

mod apply;
mod plan;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use rescue_schema::report::BlockReport;

use super::drivers::{DRIVERS, driver};
use super::{pool, resolve};

pub use apply::{apply, below, meaning};
pub use plan::{Tables, plan};

/// Most mounts of one system.
pub(super) const MOST: usize = 128;

/// What the engineer allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leave {
    /// Whether it may be written to.
    pub write: bool,
    /// Whether what lacks members may be used without them.
    pub degraded: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The device; empty for a bind mount.
    pub device: String,
    /// For a bind mount: the folder of the system that is seen there too.
    pub bind: Option<String>,
    /// Where, as the system itself names it: `/`, `/boot/efi`.
    pub target: String,
    /// The kernel's driver.
    pub driver: &'static str,
    /// Options for the driver.
    pub options: Vec<String>,
    /// Whether nothing may be written.
    pub read_only: bool,
    /// What mounting it will write, to be said before.
    pub writes: Option<&'static str>,
}

/// How a system is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The folder.
    pub folder: PathBuf,
    /// The mounts, in order; the first is the root.
    pub steps: Vec<Step>,
    /// What of its fstab is left out and need not be here, a sentence each.
    pub left_out: Vec<String>,
    /// What should be here and is not, a sentence each.
    pub trouble: Vec<String>,
    /// Why its root cannot be mounted as it was asked for.
    pub refused: Option<String>,
}

impl Plan {
    /// Takes a step with all devices of its file system.
    fn add(&mut self, step: Option<Step>, block: &BlockReport, disks: &[BlockReport], degraded: bool) {
        let Some(mut step) = step else { return };
        match pool::gather(block, disks) {
            Ok(pool) => {
                step.options.extend(pool.options(block));
                match pool.lacking {
                    Some(why) if degraded => {
                        if !step.read_only {
                            step.writes = Some("without what is missing, which is stale then");
                        }
                        self.trouble.push(format!("{why}: used without the others"));
                    }
                    Some(why) => {
                        let why = format!("{why}: attach the others, or use it without them: --degraded");
                        return self.refuse(step, why);
                    }
                    None => {}
                }
            }
            Err(why) => return self.refuse(step, why),
        }
        match log(block, disks) {
            Some(Ok(device)) => step.options.push(format!("{LOG}{device}")),
            Some(Err(why)) => return self.refuse(step, why),
            None => {}
        }
        match journal(block, disks) {
            Some(Ok(device)) if !step.read_only => step.options.push(format!("journal_path={device}")),
            Some(Err(why)) if !step.read_only => return self.refuse(step, why),
            _ => {}
        }
        if step.read_only && block.probe.state.as_deref() == Some("needs journal recovery") {
            self.trouble.push(format!(
                "{}: its last changes are in its journal alone, and not seen until --rw replays it",
                block.path
            ));
        }
        self.steps.push(step);
    }

    /// Without its root nothing is mounted; of the rest each can be missing.
    fn refuse(&mut self, step: Step, why: String) {
        if step.target == "/" {
            self.refused = Some(why);
            self.steps.push(step);
        } else {
            self.trouble.push(format!("{}: {why}", shown(&step.target)));
        }
    }

    /// Leaves a device read-only that cannot be written to; whether all the same something of the plan can be.
    pub fn spare(&mut self, device: &str, disks: &[BlockReport]) -> bool {
        let block = resolve::flat(disks).into_iter().find(|b| b.path == device);
        for own in self.steps.iter_mut().filter(|s| s.device == device && !s.read_only) {
            if let Some(step) = block.and_then(|b| step(b, &own.target, false, &own.options)) {
                *own = step;
                self.trouble.push(format!("{device}: parts of it are missing: it stays read-only"));
            }
        }
        self.steps.first().is_some_and(|root| !root.read_only)
    }

    /// Where a step's mount is seen.
    pub fn place(&self, step: &Step) -> PathBuf {
        let inner = step.target.trim_matches('/');
        if inner.is_empty() { self.folder.clone() } else { self.folder.join(inner) }
    }
}

impl Step {
    /// All devices that it is on.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        let of = |option: &'_ String| ["device=", "journal_path=", LOG].iter().any(|o| option.starts_with(o));
        let others = self.options.iter().filter(move |o| of(o)).filter_map(|o| Some(o.split_once('=')?.1));
        std::iter::once(self.device.as_str()).chain(others)
    }

    /// Those of them that are told to refuse writes where nothing may be written. XFS opens its log to be written to
    /// (before Linux 6.5), and writes nothing to it without recovery.
    pub fn protected(&self) -> impl Iterator<Item = &str> {
        let log = self.options.iter().find_map(|o| o.strip_prefix(LOG));
        self.devices().filter(move |device| Some(*device) != log)
    }

    /// In a word or two.
    pub fn how(&self) -> String {
        if self.bind.is_some() {
            return "the same folder again".into();
        }
        let mut how = String::from(self.driver);
        how.push_str(if self.read_only { ", read-only" } else { ", READ-WRITE" });
        if self.read_only && self.options.iter().any(|o| driver_skips(o)) {
            how.push_str(", journal not replayed");
        }
        if let Some(writes) = self.writes {
            how.push_str(", ");
            how.push_str(writes);
        }
        how
    }
}

fn driver_skips(option: &str) -> bool {
    DRIVERS.iter().any(|d| d.no_replay.contains(&option))
}

/// As it is written to reports.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.bind.as_ref().unwrap_or(&self.device);
        write!(f, "mount {} on {} ({})", shown(source), shown(&self.target), self.how())
    }
}

/// The option of XFS that names the device of its log.
pub const LOG: &str = "logdev=";

/// The device that an XFS has its log on, where that is another: it is mounted with it or not at all.
pub fn log(block: &BlockReport, disks: &[BlockReport]) -> Option<Result<String, String>> {
    block.probe.signatures.first()?.more.get("XFS_LOG")?;
    let uuid = block.probe.uuid.as_deref().filter(|uuid| !uuid.is_empty())?;
    let has = |b: &&BlockReport| {
        let own = b.probe.signatures.first().filter(|s| s.kind == "xfs_external_log");
        own.and_then(|s| s.more.get("LOGUUID")).is_some_and(|log| log == uuid)
    };
    Some(only(block, "log", uuid, resolve::flat(disks).into_iter().filter(has).collect()))
}

/// The device that an ext4 has its journal on, where that is another: the kernel knows it by a number alone, which is
/// another's by now.
fn journal(block: &BlockReport, disks: &[BlockReport]) -> Option<Result<String, String>> {
    let uuid = block.probe.signatures.first()?.more.get("EXT_JOURNAL")?;
    let is = |b: &&BlockReport| b.probe.kind.as_deref() == Some("jbd") && b.probe.uuid.as_ref() == Some(uuid);
    let found = resolve::flat(disks).into_iter().filter(is).collect();
    Some(only(block, "journal", uuid, found).map_err(|why| format!("{why}: read-only it can be mounted")))
}

/// The one device of those found that a file system has something on.
fn only(block: &BlockReport, what: &str, uuid: &str, found: Vec<&BlockReport>) -> Result<String, String> {
    let own = format!("{}: its {what}, on a device with the UUID {uuid},", block.path);
    match found.as_slice() {
        [one] => Ok(one.path.clone()),
        [] => Err(format!("{own} is not here")),
        several => {
            let paths: Vec<&str> = several.iter().map(|b| b.path.as_str()).collect();
            Err(format!("{own} is here several times: {}", paths.join(", ")))
        }
    }
}

/// One file system, at `target`; `None` when no driver of ours takes it.
pub fn step(block: &BlockReport, target: &str, write: bool, options: &[String]) -> Option<Step> {
    let driver = driver(block.probe.kind.as_deref()?)?;
    let read_only = !write || !driver.writes || options.iter().any(|o| o == "ro");
    let mut own: Vec<String> =
        options.iter().filter(|o| o.starts_with("subvol=") || o.starts_with("subvolid=")).cloned().collect();
    own.extend(driver.always.iter().map(|o| (*o).to_string()));
    if read_only {
        own.extend(driver.no_replay.iter().map(|o| (*o).to_string()));
    }
    if driver.kind == "ufs" {
        let second = block.probe.version.as_deref().is_none_or(|v| v != "1");
        own.push(if second { "ufstype=ufs2" } else { "ufstype=44bsd" }.into());
    }
    let writes = match block.probe.state.as_deref() {
        Some("needs journal recovery") if !read_only => Some("replays its journal"),
        Some("errors seen") if !read_only => Some("has recorded errors: check it first"),
        _ => None,
    };
    Some(Step {
        device: block.path.clone(),
        bind: None,
        target: target.into(),
        driver: driver.driver,
        options: own,
        read_only,
        writes,
    })
}

/// A file system by itself, at `folder`.
pub fn alone(block: &BlockReport, disks: &[BlockReport], folder: &Path, leave: Leave) -> Plan {
    let mut plan = Plan { folder: folder.into(), ..Plan::default() };
    plan.add(step(block, "/", leave.write, &[]), block, disks, leave.degraded);
    plan
}

/// Text of a disk, for a terminal that must not obey it.
pub fn shown(text: &str) -> String {
    // Some characters are no control characters and turn what follows them around.
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).take(128).collect()
}
