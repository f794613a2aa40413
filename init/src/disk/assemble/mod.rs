//! Putting together what disks are members of: software RAID, volume groups, file systems on several
//! devices, caches, pools. Without leave to write not a byte of a disk changes, a superblock's event count
//! and a bitmap included.
//!
//! [`plan`] makes [`Step`]s of the tree of devices with what is on them, [`apply`] does one, [`open`] opens what
//! needs a secret, [`teardown`] takes down what was made. What is built on what appears by looking again:
//! the caller does so until a plan is empty. To write to what is read-only, [`reopen`] says what of it has to be
//! taken down and put together again.
//!
//! An array is started without its superblocks: the kernel is told level, layout and members, and so has no
//! superblock or bitmap that it could write, nor a resync to do. Volumes of LVM that a mapping alone makes are
//! mapped read-only; those of which the kernel keeps records (RAID, thin, cache, snapshots) write by being there,
//! and do so to an [`overlay`] in RAM, as [`bcache`] does. Every device that is used is write-protected against
//! programs as well.
//!
//! To write, an array is started by its own superblocks, and a volume where it lies.
//!
//! Two copies of a disk have the same names. Which one is meant is never guessed: nothing of them is put
//! together until the user names devices, and the plan says so.

mod apply;
mod array;
pub mod bcache;
mod cached;
mod crypt;
mod facts;
pub mod lvm;
pub mod md;
pub mod overlay;
mod record;
pub mod reopen;
#[cfg(test)]
mod tests;
pub mod volume;
pub mod zfs;

use std::collections::BTreeSet;
use std::fmt;

use rescue_schema::report::BlockReport;

pub use apply::apply;
pub use crypt::{Format, Opening, VolumeKey, With, locked, locked_here, open, opened_name, prove};
pub use record::{is_protected, take_down, teardown};

/// What the user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Whether what lacks members may be used without them.
    pub degraded: bool,
    /// What may be written to.
    pub write: Write,
    /// Where any are named, members are looked for on these devices alone (and on what is built on them).
    pub only: Vec<String>,
    /// Whether this image can import pools of ZFS.
    pub pools: bool,
}

/// What may be written to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Write {
    /// Not a byte of any disk.
    #[default]
    Nothing,
    /// What is put together.
    All,
    /// Arrays, and of the volumes those that are mapped by these names.
    Volumes(Vec<String>),
}

/// One thing that can be put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start an array.
    Array(md::Array),
    /// Activate a volume group.
    Group(lvm::Group),
    /// Map what is behind a cache.
    Behind(bcache::Behind),
    /// Start devices with their cache.
    Cached(bcache::Cached),
    /// Import a pool of ZFS.
    Pool(zfs::Pool),
}

impl Step {
    /// The devices that it is on.
    fn devices(&self) -> Vec<String> {
        let paths = |of: &[lvm::Device]| of.iter().map(|d| d.path.clone()).collect::<Vec<_>>();
        match self {
            Self::Array(array) => array.members.iter().map(|m| m.device.clone()).collect(),
            Self::Group(group) => paths(&group.devices),
            Self::Behind(behind) => vec![behind.device.path.clone()],
            Self::Cached(cached) => [paths(&cached.caches), paths(&cached.backing)].concat(),
            Self::Pool(pool) => pool.devices.clone(),
        }
    }

    /// Whether it says to make `device`.
    fn makes(&self, device: &str) -> bool {
        let mapped = device.strip_prefix("/dev/mapper/");
        match self {
            Self::Array(array) => {
                let own = array.label.as_deref().map(|l| l.rsplit(':').next().unwrap_or(l));
                let node = device.strip_prefix("/dev/");
                let rest = node.and_then(|node| node.strip_prefix(array.name.as_str()));
                // Itself, or a partition of it.
                rest.is_some_and(|r| r.is_empty() || r.starts_with('p'))
                    || device.strip_prefix("/dev/md/").is_some_and(|name| Some(name) == own)
            }
            Self::Group(group) => group.volumes.iter().any(|v| {
                device == format!("/dev/{}/{}", group.name, v.name) || mapped == Some(v.mapped.as_str())
            }),
            Self::Behind(behind) => mapped == Some(behind.mapped.as_str()),
            // By which number the kernel calls them is not known before.
            Self::Cached(_) => device.starts_with("/dev/bcache"),
            Self::Pool(pool) => {
                let name = device.strip_prefix("/dev/zvol/").unwrap_or(device);
                crate::disk::zfs::pool_name(name) == pool.name
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(array) => array.fmt(f),
            Self::Group(group) => group.fmt(f),
            Self::Behind(behind) => behind.fmt(f),
            Self::Cached(cached) => cached.fmt(f),
            Self::Pool(pool) => pool.fmt(f),
        }
    }
}

/// What can be done, and what is to be said about the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What can be done now, in order.
    pub steps: Vec<Step>,
    /// What is left out or lacks something, a sentence each.
    pub remarks: Vec<String>,
    /// Whether something is left out that the user may want: members missing without leave, copies.
    pub incomplete: bool,
    /// What that is.
    refused: Vec<Refused>,
}

/// Something is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    /// A sentence.
    text: String,
    /// The volumes that it is said of, by their mappings' names; none where it is said of all.
    volumes: Vec<String>,
}

impl Refused {
    /// Whether it is said of one of those that are mapped by these names.
    fn concerns(&self, mapped: &BTreeSet<String>) -> bool {
        self.volumes.is_empty() || self.volumes.iter().any(|v| mapped.contains(v))
    }
}

impl Plan {
    /// Something is as it is, and need not be otherwise.
    fn remark(&mut self, text: String) {
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
    }

    /// Something is left out.
    fn refuse(&mut self, text: String) {
        self.refuse_volumes(text, Vec::new());
    }

    /// Of a group, volumes are left out; the rest of it is as it would be.
    fn refuse_volumes(&mut self, text: String, volumes: Vec<String>) {
        self.incomplete = true;
        self.refused.push(Refused { text: text.clone(), volumes });
        self.remark(text);
    }
}

/// The devices that `device`, which is not there, is made of by a step; `None` where no step says to make it.
pub fn made_of(plan: &Plan, device: &str) -> Option<Vec<String>> {
    plan.steps.iter().find(|step| step.makes(device)).map(Step::devices)
}

/// What all that can be put together is on: what is on it is not known before. A volume group, which says what it holds,
/// is left out where `by_node` says that what is looked for is called by its node.
pub fn members(plan: &Plan, by_node: bool) -> Vec<String> {
    let steps = plan.steps.iter().filter(|step| !(by_node && matches!(step, Step::Group(_))));
    steps.flat_map(Step::devices).collect()
}

/// What can be put together of `disks` now.
pub fn plan(disks: &[BlockReport], wish: &Wish) -> Plan {
    let facts = facts::Facts::new(disks, &wish.only);
    let mut plan = layers(&facts, wish);
    zfs::plan(&facts, wish, &mut plan);
    facts.others(&mut plan);
    plan
}

fn layers(facts: &facts::Facts<'_>, wish: &Wish) -> Plan {
    let mut plan = Plan::default();
    md::plan(facts, wish, &mut plan);
    bcache::plan(facts, wish, &mut plan);
    lvm::plan(facts, wish, &mut plan);
    plan
}

/// What is not put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// The devices of what can be put together as it is.
    pub members: Vec<String>,
    /// Why arrays, volume groups and caches cannot, a sentence each.
    pub why: Vec<String>,
}

/// What of `disks` is not put together; `pools` says whether this image imports pools of ZFS.
pub fn left(disks: &[BlockReport], pools: bool) -> Left {
    let facts = facts::Facts::new(disks, &[]);
    let wish = Wish { pools, ..Wish::default() };
    let mut plan = layers(&facts, &wish);
    let why = std::mem::take(&mut plan.refused).into_iter().map(|refused| refused.text).collect();
    if pools {
        zfs::plan(&facts, &wish, &mut plan);
    }
    Left { members: members(&plan, false), why }
}
