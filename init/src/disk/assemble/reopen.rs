//! What of that which is put together read-only has to be taken down, and put together again, to write to a device:
//! pure.
//!
//! A volume is mapped again by itself. An array or an encrypted volume takes all that is built on it along; of that,
//! what is not to be written to comes back read-only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rescue_schema::report::BlockReport;

use super::{Format, Step, Wish, Write, opened_name};
use crate::disk::resolve::flat;
use crate::disk::zfs;

/// Layers that are taken down, by kernel or mapped name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reopen {
    /// Arrays that are started again.
    pub arrays: Vec<String>,
    /// Encrypted volumes that are opened again, those below first.
    pub opened: Vec<Opened>,
    /// Logical volumes that are mapped again, to be written to.
    pub volumes: Vec<String>,
    /// Those that are mapped again as they are.
    pub others: Vec<String>,
    /// What stands behind caches and is put together again.
    pub cached: Vec<String>,
    /// Pools of ZFS that are imported again.
    pub pools: Vec<String>,
    /// Datasets whose keys are loaded, and loaded again.
    pub keys: Vec<String>,
    /// What LVM2 builds volumes of.
    pub parts: Vec<String>,
    /// Overlays that are discarded.
    pub overlays: Vec<String>,
    /// What all of it is on: members are looked for there alone.
    pub only: Vec<String>,
    /// Nodes of those of the volumes that cannot be written to, lacking what they lie on.
    pub partial: Vec<String>,
    /// Why it cannot be, a sentence each.
    pub refused: Vec<String>,
}

/// An encrypted volume that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What it is on.
    pub device: String,
    /// Its mapping's name.
    pub mapped: String,
    /// What it is.
    pub format: Format,
}

/// What is to be written to, and who may be in the way.
pub struct Aim<'a> {
    /// Nodes of devices.
    pub targets: &'a [&'a str],
    /// Whether arrays that lack members may be written to.
    pub degraded: bool,
    /// Whether a mount is one that is taken down before.
    pub gives_way: &'a dyn Fn(&str) -> bool,
    /// Whether a device refuses writes only because it is mounted read-only.
    pub held: &'a dyn Fn(&str) -> bool,
    /// Whether it does so because of what is put together on it.
    pub protected: &'a dyn Fn(&str) -> bool,
}

impl Reopen {
    /// Whether all can be written to as it is.
    pub fn is_empty(&self) -> bool {
        self.names().is_empty()
    }

    /// All that is taken down.
    pub fn names(&self) -> BTreeSet<String> {
        let opened = self.opened.iter().map(|o| &o.mapped);
        let rest = self
            .arrays
            .iter()
            .chain(&self.volumes)
            .chain(&self.others)
            .chain(&self.cached)
            .chain(&self.pools)
            .chain(&self.parts)
            .chain(&self.overlays);
        rest.chain(opened).cloned().collect()
    }

    /// How it is put together again.
    pub fn wish(&self, degraded: bool) -> Wish {
        let pools = !self.pools.is_empty();
        Wish { degraded, write: Write::Volumes(self.volumes.clone()), only: self.only.clone(), pools }
    }
}

impl fmt::Display for Reopen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        for name in &self.arrays {
            lines.push(format!(
                "start /dev/{name} again, READ-WRITE, by its own superblocks: the first write marks them as in use \
                 (a resync that is due begins then), stopping it as clean"
            ));
        }
        for name in &self.cached {
            lines.push(format!(
                "start {name} again, READ-WRITE: with a cache that is attached both write superblocks and journals"
            ));
        }
        for name in &self.pools {
            lines.push(format!(
                "import ZFS pool {name:?} again, READ-WRITE: its labels are written, its intent log is replayed; \
                 nothing else may use it now"
            ));
        }
        for name in &self.keys {
            lines.push(format!("load the key of {name} again, which is wanted once more"));
        }
        for one in &self.opened {
            lines.push(format!("open {} again, READ-WRITE, with its passphrase once more", one.device));
        }
        if !self.volumes.is_empty() {
            lines.push(format!("map {} again, READ-WRITE", self.volumes.join(", ")));
        }
        if !self.others.is_empty() {
            let how = if self.overlays.is_empty() { "read-only as before" } else { "where they lie" };
            lines.push(format!("map {} again, {how}", self.others.join(", ")));
        }
        for name in &self.overlays {
            lines.push(format!("discard {name}: the kernel's own records are written to the disk"));
        }
        f.write_str(&lines.join("\n"))
    }
}

fn is_array(block: &BlockReport) -> bool {
    block.kind.starts_with("raid") || block.kind == "linear" || block.kind == "md"
}

fn is_layer(block: &BlockReport) -> bool {
    is_array(block) || matches!(block.kind.as_str(), "crypt" | "lvm" | "overlay" | "bcache" | "zpool")
}

/// Whether it is a volume that something is built on, other than a volume that it is a part of.
fn carries(block: &BlockReport) -> bool {
    block.kind == "lvm" && block.children.iter().any(|c| c.kind != "lvm" && is_layer(c))
}

fn mapped(block: &BlockReport) -> String {
    block.path.strip_prefix("/dev/mapper/").unwrap_or(&block.name).to_string()
}

/// What its members belong together by: a volume group, a set of a cache.
fn group(block: &BlockReport) -> &str {
    let own = more(block, "VG_UUID");
    if own.is_empty() { more(block, "BCACHE_SET") } else { own }
}

fn more<'a>(block: &'a BlockReport, key: &str) -> &'a str {
    block.probe.signatures.first().and_then(|s| s.more.get(key)).map(String::as_str).unwrap_or_default()
}

/// The tree with what lies on what.
struct Tree<'a> {
    blocks: BTreeMap<&'a str, &'a BlockReport>,
    below: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Tree<'a> {
    fn new(disks: &'a [BlockReport]) -> Self {
        let (mut blocks, mut below) = (BTreeMap::new(), BTreeMap::<&str, BTreeSet<&str>>::new());
        for block in flat(disks) {
            blocks.insert(block.path.as_str(), block);
            for child in &block.children {
                below.entry(child.path.as_str()).or_default().insert(block.path.as_str());
            }
        }
        Self { blocks, below }
    }

    /// A device and all that it is on.
    fn down(&self, path: &'a str) -> BTreeSet<&'a str> {
        let (mut seen, mut left) = (BTreeSet::new(), vec![path]);
        while let Some(path) = left.pop() {
            if seen.insert(path) {
                left.extend(self.below.get(path).into_iter().flatten());
            }
        }
        seen
    }

    /// The group of the physical volume that an overlay is on.
    fn group(&self, path: &str) -> &'a str {
        let mut below = self.below.get(path).into_iter().flatten().filter_map(|p| self.blocks.get(p));
        below.find_map(|b| Some(group(b)).filter(|uuid| !uuid.is_empty())).unwrap_or_default()
    }

    /// Layers that are on a device, itself among them.
    fn up(&self, path: &str) -> BTreeSet<&'a str> {
        let all = self.blocks.get(path).map(|b| flat(std::slice::from_ref(*b))).unwrap_or_default();
        all.into_iter().filter(|b| is_layer(b) || b.path == path).map(|b| b.path.as_str()).collect()
    }
}

/// What has to be taken down of `disks`.
pub fn plan(disks: &[BlockReport], aim: &Aim<'_>) -> Reopen {
    let tree = Tree::new(disks);
    let closed = |b: &BlockReport| is_layer(b) && b.read_only && !(aim.held)(&b.path);
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    let mut plan = Reopen::default();
    for target in aim.targets {
        let Some((target, _)) = tree.blocks.get_key_value(target) else { continue };
        if let Some(volume) = zfs::guest(target, disks)
            && let Some(pool) = zfs::pool_of(volume, disks).filter(|pool| closed(pool))
        {
            plan.refused.push(format!(
                "{target} is on a volume of {0}, which is imported read-only, and is called otherwise once that is \
                 imported again: rescue umount, rescue assemble --rw, and then what was asked for",
                pool.name
            ));
            continue;
        }
        let on: BTreeSet<&str> = tree.down(target);
        let overlaid = on.iter().any(|p| tree.blocks.get(p).is_some_and(|b| b.kind == "overlay"));
        for path in &on {
            let Some(block) = tree.blocks.get(path) else { continue };
            let bottom = matches!(block.kind.as_str(), "disk" | "part") && path != target;
            if bottom && block.read_only && !(aim.held)(path) && !(aim.protected)(path) {
                plan.refused.push(format!(
                    "{path}: the device itself refuses writes; where that can be changed: blockdev --setrw {path}"
                ));
            }
            if block.kind == "overlay" {
                // The volumes on all overlays of a group hang together.
                let own = tree.group(path);
                let all = tree.blocks.values().filter(|b| b.kind == "overlay" && tree.group(&b.path) == own);
                gone.extend(all.flat_map(|b| tree.up(&b.path)));
            } else if closed(block) && block.kind == "lvm" {
                gone.insert(path);
                if carries(block) {
                    gone.extend(tree.up(path));
                }
            } else if closed(block) {
                gone.extend(tree.up(path));
            }
        }
        if overlaid || on.iter().any(|p| gone.contains(p)) {
            wanted.insert(target);
            // A volume is written to by what is on it, as one that is encrypted.
            let below =
                on.iter().filter(|p| gone.contains(*p) && tree.blocks.get(*p).is_some_and(|b| carries(b)));
            wanted.extend(below);
        }
    }
    // Physical volumes of a group that is taken down go with their overlays.
    let groups: BTreeSet<&str> = gone
        .iter()
        .flat_map(|path| tree.below.get(path).into_iter().flatten())
        .filter_map(|path| tree.blocks.get(path))
        .map(|block| group(block))
        .filter(|uuid| !uuid.is_empty())
        .collect();
    for path in &gone {
        let Some(block) = tree.blocks.get(path) else { continue };
        // What is mounted of a pool are its datasets.
        let own = block.children.iter().filter(|_| block.kind == "zpool");
        let volumes: Vec<&BlockReport> = disks
            .iter()
            .filter(|d| block.kind == "zpool" && zfs::pool_of(d, disks).is_some_and(|p| p.path == block.path))
            .flat_map(|d| flat(std::slice::from_ref(d)))
            .collect();
        for volume in volumes.iter().filter(|b| is_layer(b)) {
            plan.refused
                .push(format!("{path} is in use, {} is on a volume of it: rescue umount first", volume.path));
        }
        let own = own.chain(volumes);
        let mounts = block.mounts.iter().chain(own.flat_map(|dataset| &dataset.mounts));
        for mount in mounts.filter(|m| !(aim.gives_way)(&m.target)) {
            let how = if mount.target == "[SWAP]" {
                format!("in use as swap: swapoff {path}")
            } else if block.kind == "zpool" {
                format!("in use, something of it is mounted at {0}: umount {0}", mount.target)
            } else {
                format!("mounted at {0}: rescue umount {0}", mount.target)
            };
            plan.refused.push(format!("{path} is {how} first: it is taken down to be written to"));
        }
        let parents = || tree.below.get(path).into_iter().flatten().filter_map(|p| tree.blocks.get(p));
        match block.kind.as_str() {
            "lvm" if block.children.iter().any(|c| c.kind == "lvm") => plan.parts.push(mapped(block)),
            "lvm" if wanted.contains(path) => plan.volumes.push(mapped(block)),
            "lvm" => plan.others.push(mapped(block)),
            "bcache" => plan.cached.push(mapped(block)),
            "overlay" => plan.overlays.push(mapped(block)),
            "zpool" => {
                plan.keys.extend(zfs::keys(block, true));
                plan.pools.push(block.name.clone());
            }
            "crypt" => {
                for parent in parents() {
                    plan.opened.push(Opened {
                        device: parent.path.clone(),
                        mapped: mapped(block),
                        format: Format::of(parent),
                    });
                    if mapped(block) != opened_name(&parent.path) {
                        plan.refused.push(format!(
                            "{path} was not opened by rescue unlock: close it, then rescue unlock --rw {}",
                            parent.path
                        ));
                    }
                }
            }
            _ if is_array(block) => plan.arrays.push(block.name.clone()),
            _ => continue,
        }
        plan.only.extend(parents().filter(|b| b.kind != "overlay").map(|b| b.path.clone()));
        let uuid = |b: &BlockReport| {
            b.probe.uuid.clone().filter(|_| b.probe.kind.as_deref() == Some("linux_raid_member"))
        };
        let array = parents().find_map(|b| uuid(b)).filter(|_| is_array(block));
        let spare = |b: &&&BlockReport| array.is_some() && uuid(b) == array && more(b, "MD_ROLE") == "spare";
        plan.only.extend(tree.blocks.values().filter(spare).map(|b| b.path.clone()));
    }
    let known = |b: &&&BlockReport| b.kind != "overlay" && groups.contains(group(b));
    plan.only.extend(tree.blocks.values().filter(known).map(|b| b.path.clone()));
    // What is taken down is not there to be named.
    plan.only.retain(|path| !gone.contains(path.as_str()));
    plan.only.sort();
    plan.only.dedup();
    // One that lies on another is opened after it.
    plan.opened
        .sort_by_key(|o| tree.blocks.get_key_value(o.device.as_str()).map_or(0, |(p, _)| tree.down(p).len()));
    plan.opened.dedup();
    if !gone.is_empty() {
        again(disks, &gone, aim, &mut plan);
    }
    plan
}

/// Whether what is taken down can be put together again, asked before.
fn again(disks: &[BlockReport], gone: &BTreeSet<&str>, aim: &Aim<'_>, plan: &mut Reopen) {
    fn bare(block: &BlockReport, gone: &BTreeSet<&str>) -> BlockReport {
        let kept = block.children.iter().filter(|c| !gone.contains(c.path.as_str()));
        BlockReport { children: kept.map(|c| bare(c, gone)).collect(), ..block.clone() }
    }
    let disks: Vec<BlockReport> = disks.iter().map(|d| bare(d, gone)).collect();
    let next = super::plan(&disks, &plan.wish(aim.degraded));
    let volumes = next.steps.iter().filter_map(|step| match step {
        Step::Group(group) => Some(&group.volumes),
        _ => None,
    });
    let partial = volumes.flatten().filter(|v| !v.write && plan.volumes.contains(&v.mapped));
    plan.partial = partial.map(|v| format!("/dev/mapper/{}", v.mapped)).collect();
    // Others of the same group, which were not active before, are not missed.
    let names = plan.names();
    plan.refused.extend(next.refused.into_iter().filter(|r| r.concerns(&names)).map(|r| r.text));
    plan.refused.sort();
    plan.refused.dedup();
}
