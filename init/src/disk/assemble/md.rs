//! Which members an array is started with: pure.
//!
//! The freshest superblock decides (`super_1_validate` of drivers/md/md.c): a member whose events are more than
//! one behind, or which the freshest does not count among those in sync, is stale and left out.

use std::collections::BTreeMap;
use std::fmt;

use super::facts::{Facts, Member, copies, groups, row, shown};
use super::{Plan, Step, Wish, Write};

/// `MD_FEATURE_RECOVERY_OFFSET`: the member is being rebuilt.
const REBUILDING: u64 = 2;
/// `MD_FEATURE_RESHAPE_ACTIVE`.
const RESHAPING: u64 = 4;
/// `MD_FEATURE_BAD_BLOCKS`: places of the member whose content is not to be believed.
const BAD_BLOCKS: u64 = 8;
/// `MD_FEATURE_JOURNAL`.
const JOURNAL: u64 = 512;

/// An array to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// The kernel's name that it gets: `md127`.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// What its makers called it: `db7:root`.
    pub label: Option<String>,
    /// `raid1`, `linear`…
    pub level: String,
    /// Version of the superblocks: `1.2`, `0.90`.
    pub version: String,
    /// Number of the arrangement, of which each level has its own.
    pub layout: u32,
    /// Bytes of a chunk; zero where the level has none.
    pub chunk: u64,
    /// Sectors of each member that are used; zero where each has its own.
    pub size: u64,
    /// Devices of the whole array.
    pub wanted: u32,
    /// Those that it is started with, by their place in it.
    pub members: Vec<Disk>,
    /// Its spares, which are given to it where it is written to.
    pub spares: Vec<(String, String)>,
    /// Whether it is started by its own superblocks, which are then written.
    pub write: bool,
    /// Whether it was not in sync, so that a RAID of parity that lacks a member may have a torn stripe.
    pub dirty: bool,
}

/// A member of an array that is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its node.
    pub device: String,
    /// `major:minor`.
    pub number: String,
    /// Its place in the array.
    pub slot: u32,
    /// First sector of its data, and how many there are.
    pub offset: u64,
    /// Sectors of data.
    pub size: u64,
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = self.label.as_ref().map(|l| format!(" {l:?}")).unwrap_or_default();
        let devices: Vec<String> = self.members.iter().map(|d| d.device.clone()).collect();
        write!(
            f,
            "start /dev/{} ({}{label}, {} of {} members: {}), ",
            self.name,
            self.level,
            self.members.len(),
            self.wanted,
            row(&devices)
        )?;
        if !self.write {
            return f.write_str("read-only, no resync");
        }
        f.write_str("READ-WRITE: the first write marks its superblocks as in use, stopping it as clean")?;
        if self.dirty {
            f.write_str("; it was not stopped cleanly, and is resynced then")?;
        }
        if self.members.len() < usize::try_from(self.wanted).unwrap_or(usize::MAX) {
            f.write_str("; members that are not here are stale from then on")?;
        }
        Ok(())
    }
}

/// Members that a level can do without. For RAID 10, which copies are where decides, and two neighbours of
/// two-copy layouts hold the same: one is what is sure.
fn without(level: &str, wanted: u32, missing: &[u32], layout: u32) -> bool {
    let gone = u32::try_from(missing.len()).unwrap_or(u32::MAX);
    match level {
        "raid1" => gone < wanted,
        "raid4" | "raid5" => gone <= 1,
        "raid6" => gone <= 2,
        "raid10" => {
            let near = layout & 0xff;
            let far = layout >> 8 & 0xff;
            let copies = near.max(1).saturating_mul(far.max(1));
            if far <= 1 && near > 1 && wanted.is_multiple_of(near) {
                // Groups of `near` neighbours hold the same chunks.
                let groups: std::collections::BTreeMap<u32, u32> =
                    missing.iter().fold(BTreeMap::new(), |mut map, slot| {
                        *map.entry(slot / near).or_default() += 1;
                        map
                    });
                groups.values().all(|n| *n < near)
            } else {
                gone < copies
            }
        }
        _ => gone == 0,
    }
}

pub(super) fn plan(facts: &Facts<'_>, wish: &Wish, plan: &mut Plan) {
    let mut names: Vec<String> = Vec::new();
    for (uuid, members) in groups(&facts.members("linux_raid_member"), |m| m.uuid().to_string()) {
        // Started already, by whomever; or a member that was left out then.
        if members.iter().any(Member::in_use) {
            continue;
        }
        if let Some(array) = array(facts, &uuid, &members, wish, &mut names, plan) {
            plan.steps.push(Step::Array(array));
        }
    }
}

fn array(
    facts: &Facts<'_>,
    uuid: &str,
    members: &[Member<'_>],
    wish: &Wish,
    names: &mut Vec<String>,
    plan: &mut Plan,
) -> Option<Array> {
    let freshest = members
        .iter()
        .filter(|m| m.signature.state.as_deref() != Some("damaged"))
        .max_by_key(|m| (m.number("MD_EVENTS"), m.number("MD_UPDATED"), std::cmp::Reverse(m.path())));
    let title = |m: &Member<'_>| {
        let level = m.text("MD_LEVEL").unwrap_or("array");
        let label = m.signature.label.as_deref().map(|l| format!(" {:?}", shown(l))).unwrap_or_default();
        format!("{level}{label} ({uuid})")
    };
    let Some(best) = freshest else {
        for member in members {
            plan.refuse(format!("{}: its RAID superblock is damaged", member.path()));
        }
        return None;
    };
    let what = title(best);
    let names_of = |of: &[&Member<'_>]| of.iter().map(|m| m.path()).collect::<Vec<_>>().join(" ");
    let wanted = u32::try_from(best.number("MD_DEVICES")?).ok()?;
    let events = best.number("MD_EVENTS")?;
    let features = best.number("MD_FEATURES").unwrap_or(0);
    // Two devices that claim to be the same one.
    let own = |m: &Member<'_>| m.text("UUID_SUB").map(Into::into);
    let mut twins = copies(members, own);
    if twins.is_empty() && best.text("UUID_SUB").is_none() {
        let role = |m: &Member<'_>| m.number("MD_ROLE").filter(|_| fresh(m, events)).map(|r| r.to_string());
        twins = copies(members, role);
    }
    if !twins.is_empty() {
        plan.refuse(format!(
            "{what}: {} are copies of one another: not started; name the devices that belong together: \
             rescue assemble DEVICE…",
            row(&twins)
        ));
        return None;
    }
    if features & RESHAPING != 0 {
        plan.refuse(format!(
            "{what}: a reshape is under way, and it must not be started without its backup file: see mdadm(8), \
             --backup-file"
        ));
        return None;
    }
    let present: Vec<u64> =
        best.text("MD_PRESENT").unwrap_or_default().split(' ').filter_map(|n| n.parse().ok()).collect();
    let mut chosen: BTreeMap<u32, &Member<'_>> = BTreeMap::new();
    let mut rivals: Vec<&Member<'_>> = Vec::new();
    let write = wish.write != Write::Nothing;
    let mut spares: Vec<(String, String)> = Vec::new();
    for member in members {
        if write && member.text("MD_ROLE") == Some("spare") {
            spares.push((member.path().to_string(), member.block.number.clone()));
            continue;
        }
        let Some(role) = member.number("MD_ROLE") else {
            plan.remark(format!(
                "{what}: {} is {}, left out",
                member.path(),
                match member.text("MD_ROLE") {
                    Some("spare") => "a spare",
                    Some("journal") => "its journal, which is not replayed: the last writes may be missing",
                    _ => "no longer a part of it",
                }
            ));
            continue;
        };
        let behind = events.saturating_sub(member.number("MD_EVENTS").unwrap_or(0));
        if member.signature.state.as_deref() == Some("damaged") {
            plan.remark(format!("{what}: {}: its superblock is damaged, left out", member.path()));
        } else if !fresh(member, events) || !present.contains(&role) {
            let newer = member.number("MD_EVENTS").unwrap_or(0);
            plan.remark(format!(
                "{what}: {} is stale ({newer} events, {behind} behind {}), left out",
                member.path(),
                best.path()
            ));
            // It was written to after it had been parted from the others, as these were.
            let theirs = member.text("MD_PRESENT").unwrap_or_default();
            let parted =
                best.number("MD_ROLE").is_some_and(|r| !theirs.split(' ').any(|t| t == r.to_string()));
            if parted {
                rivals.push(member);
            }
        } else if member.number("MD_FEATURES").unwrap_or(0) & REBUILDING != 0 {
            plan.remark(format!("{what}: {} was being rebuilt and is not whole, left out", member.path()));
        } else if member.number("MD_FEATURES").unwrap_or(0) & BAD_BLOCKS != 0 && wanted > 1 {
            plan.remark(format!("{what}: {} has blocks that it lost, left out", member.path()));
        } else if let Ok(slot) = u32::try_from(role)
            && let Some(other) = chosen.insert(slot, member)
        {
            plan.refuse(format!(
                "{what}: {} and {} both say to be device {slot}: not started; name the right ones: \
                 rescue assemble DEVICE…",
                other.path(),
                member.path()
            ));
            return None;
        }
    }
    if !rivals.is_empty() {
        plan.refuse(format!(
            "{what}: {} and {} were each written to without the other: not started; name the one that is \
             right: rescue assemble --degraded DEVICE…",
            best.path(),
            names_of(&rivals)
        ));
        return None;
    }
    let level = best.text("MD_LEVEL")?.to_string();
    let layout = u32::try_from(best.number("MD_LAYOUT")?).ok()?;
    let missing: Vec<u32> = (0..wanted.min(4096)).filter(|slot| !chosen.contains_key(slot)).collect();
    let dirty = best.signature.state.as_deref() == Some("needs resync");
    if !missing.is_empty() {
        let lacks = format!("{what}: {} of {wanted} members are here", chosen.len());
        if chosen.is_empty() || !without(&level, wanted, &missing, layout) {
            plan.refuse(format!("{lacks}, which are too few for its data"));
            return None;
        }
        let rw = if write { " --rw" } else { "" };
        if !wish.degraded {
            plan.refuse(format!("{lacks}: not started; to use it so: rescue assemble --degraded{rw}"));
            return None;
        }
        plan.remark(format!("{lacks}: started without the others"));
        if dirty && matches!(level.as_str(), "raid4" | "raid5" | "raid6") {
            plan.remark(format!(
                "{what}: it was not in sync: what the missing member held may be wrong in places"
            ));
        }
    } else if dirty {
        let then = if write { "its members are made equal again" } else { "nothing is resynced here" };
        plan.remark(format!("{what}: it was not stopped cleanly; {then}"));
    }
    if features & JOURNAL != 0 && !members.iter().any(|m| m.text("MD_ROLE") == Some("journal")) {
        plan.remark(format!("{what}: its journal is not here: the last writes may be missing"));
    }
    let disk = |(slot, m): (&u32, &&Member<'_>)| {
        Some(Disk {
            device: m.path().to_string(),
            number: m.block.number.clone(),
            slot: *slot,
            offset: m.number("MD_DATA_OFFSET")?,
            size: m.number("MD_DATA_SIZE")?,
        })
    };
    if write && features & JOURNAL != 0 {
        plan.refuse(format!(
            "{what}: it has a write journal: not started for writing here: `mdadm --assemble` does"
        ));
        return None;
    }
    if write && !missing.is_empty() && dirty && matches!(level.as_str(), "raid4" | "raid5" | "raid6") {
        plan.refuse(format!(
            "{what}: it lacks members and was not in sync, and the kernel does not write to such: look at it \
             read-only, copy what matters, then mdadm --assemble --force"
        ));
        return None;
    }
    if write && !missing.is_empty() && !spares.is_empty() {
        let names: Vec<String> = spares.drain(..).map(|(path, _)| path).collect();
        plan.remark(format!("{what}: its spares are left out, that nothing is rebuilt: {}", row(&names)));
    }
    let disks: Option<Vec<Disk>> = chosen.iter().map(disk).collect();
    let name = free_name(facts, best, names)?;
    names.push(name.clone());
    Some(Array {
        name,
        uuid: uuid.into(),
        label: best.signature.label.as_deref().map(shown),
        level,
        version: best.signature.version.clone()?,
        layout,
        chunk: best.number("MD_CHUNK")?,
        size: best.number("MD_SIZE")?,
        wanted,
        members: disks?,
        spares,
        write,
        dirty,
    })
}

/// The kernel takes a member that is one event behind, as it is when the machine went down between two.
fn fresh(member: &Member<'_>, events: u64) -> bool {
    member.number("MD_EVENTS").is_some_and(|own| own.saturating_add(1) >= events)
}

/// The name that its own system knows it by, where it is a number and free; else the highest that is.
fn free_name(facts: &Facts<'_>, best: &Member<'_>, taken: &[String]) -> Option<String> {
    let free = |name: &String| !facts.has_name(name) && !taken.contains(name);
    let own = best.number("MD_MINOR").map(|n| n.to_string()).or_else(|| {
        let label = best.signature.label.as_deref()?;
        Some(label.rsplit(':').next().unwrap_or(label).trim_start_matches("md").to_string())
    });
    let own = own.and_then(|n| n.parse::<u32>().ok()).filter(|n| *n < 512).map(|n| format!("md{n}"));
    own.filter(free).or_else(|| (0..=127).rev().map(|n| format!("md{n}")).find(free))
}
