//! What stands behind a cache of bcache: pure.
//!
//! Where all writes have reached the backing device a mapping of its data is enough, and the cache is not asked. What
//! is in the cache alone only the kernel's bcache can read; it writes journals and superblocks by being there, and
//! without leave to write it does so to [`super::overlay`]s. A device that is written to behind the back of its cache
//! would be read wrong by it later: to write, the kernel has both.

use std::fmt;

use super::facts::{Facts, Member, copies, row};
use super::lvm::Device;
use super::{Plan, Step, Wish, Write};

/// A backing device whose data is mapped, its cache left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The backing device.
    pub device: Device,
    /// What its mapping is called.
    pub mapped: String,
    /// Its own UUID.
    pub uuid: String,
    /// First sector of its data.
    pub start: u64,
    /// Whether it may be written to.
    pub write: bool,
}

/// Backing devices with their cache, which the kernel puts together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// UUID of the set.
    pub set: String,
    /// The caches.
    pub caches: Vec<Device>,
    /// The backing devices.
    pub backing: Vec<Device>,
    /// Whether they may be written to; on overlays else.
    pub write: bool,
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.write { "READ-WRITE" } else { "read-only" };
        write!(
            f,
            "map /dev/mapper/{}, {how}: the data of {}, without its cache",
            self.mapped, self.device.path
        )
    }
}

impl fmt::Display for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = |of: &[Device]| row(&of.iter().map(|d| d.path.clone()).collect::<Vec<_>>());
        write!(f, "start {} with the cache {}, ", paths(&self.backing), paths(&self.caches))?;
        f.write_str(if self.write {
            "READ-WRITE: being started, they write superblocks and journals"
        } else {
            "read-only (what bcache writes itself goes to overlays in RAM)"
        })
    }
}

fn device(member: &Member<'_>) -> Device {
    Device {
        path: member.path().into(),
        name: member.block.name.clone(),
        size: member.block.size,
        used: member.in_use(),
    }
}

pub(super) fn plan(facts: &Facts<'_>, wish: &Wish, plan: &mut Plan) {
    let mut members = facts.members("bcache");
    // An overlay shows what the device below it does.
    members.retain(|m| m.block.kind != "overlay" && !m.in_use());
    let twins = copies(&members, |m| Some(m.uuid().to_string()));
    if !twins.is_empty() {
        plan.refuse(format!(
            "{} are copies of one another (bcache): not started; name the devices that belong together: \
             rescue assemble DEVICE…",
            row(&twins)
        ));
    }
    members.retain(|m| !twins.iter().any(|t| t == m.path()));
    let write = wish.write != Write::Nothing;
    let mut sets: Vec<Cached> = Vec::new();
    for member in members.iter().filter(|m| m.text("BCACHE_ROLE") == Some("backing")) {
        let path = member.path();
        let state = member.text("BCACHE_STATE").unwrap_or_default();
        let start = member.number("BCACHE_OFFSET").filter(|start| *start < member.block.size / 512);
        let Some(start) = start.filter(|_| !state.is_empty()) else {
            plan.refuse(format!("{path}: its bcache superblock is damaged: `bcache-super-show -f {path}`"));
            continue;
        };
        let set = member.text("BCACHE_SET").unwrap_or_default();
        let caches = members
            .iter()
            .filter(|m| m.text("BCACHE_ROLE") == Some("cache") && m.text("BCACHE_SET") == Some(set));
        let caches: Vec<Device> = caches.map(device).collect();
        let whole = state == "none" || state == "clean" && !write;
        if !whole && state != "stale" && !caches.is_empty() {
            match sets.iter_mut().find(|s| s.set == set) {
                Some(known) => known.backing.push(device(member)),
                None => sets.push(Cached { set: set.into(), caches, backing: vec![device(member)], write }),
            }
            continue;
        }
        if !whole {
            let lacks = match state {
                "stale" => "its cache was lost with writes in it",
                "clean" => "its cache is not here, and would not know what is written without it",
                _ => "its last writes are in its cache alone, which is not here",
            };
            if write || !wish.degraded {
                let then = if write {
                    "attach the cache, or copy from it read-only: rescue assemble --degraded"
                } else {
                    "to look at what is older: rescue assemble --degraded"
                };
                plan.refuse(format!("{path}: {lacks} (bcache set {set}): not started; {then}"));
                continue;
            }
            plan.remark(format!("{path}: {lacks}: what it shows is older, and may not fit together"));
        }
        plan.steps.push(Step::Behind(Behind {
            device: device(member),
            mapped: format!("bcache-{}", member.block.name.replace(['/', '!'], "-")),
            uuid: member.uuid().into(),
            start,
            write,
        }));
    }
    plan.steps.extend(sets.into_iter().map(Step::Cached));
}
