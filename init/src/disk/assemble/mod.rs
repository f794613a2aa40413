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
//! and do so to an [`overlay`] in RAM. Every device that is used is write-protected against programs as well.
//!
//! To write, an array is started by its own superblocks, and a volume where it lies.
//!
//! Two copies of a disk have the same names. Which one is meant is never guessed: nothing of them is put
//! together until the user names devices, and the plan says so.

mod apply;
mod array;
mod facts;
pub mod lvm;
pub mod md;
pub mod overlay;
mod record;
pub mod reopen;
#[cfg(test)]
mod tests;
pub mod volume;

use std::fmt;

use rescue_schema::report::BlockReport;

pub use apply::{Opening, apply, locked, open, opened_name};
pub use record::{take_down, teardown};

/// What the user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Whether what lacks members may be used without them.
    pub degraded: bool,
    /// What may be written to.
    pub write: Write,
    /// Where any are named, members are looked for on these devices alone (and on what is built on them).
    pub only: Vec<String>,
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
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(array) => array.fmt(f),
            Self::Group(group) => group.fmt(f),
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
        self.incomplete = true;
        self.remark(text);
    }
}

/// What can be put together of `disks` now.
pub fn plan(disks: &[BlockReport], wish: &Wish) -> Plan {
    let mut plan = Plan::default();
    let facts = facts::Facts::new(disks, &wish.only);
    md::plan(&facts, wish, &mut plan);
    lvm::plan(&facts, wish, &mut plan);
    facts.others(&mut plan);
    plan
}
