//! Which volume groups can be activated, told by their UUID: pure.
//!
//! Volumes that a mapping alone makes are mapped here, read-only or not; LVM2 makes the same mappings, and knows
//! them by their UUIDs. Of the others (RAID, thin, cached ones, snapshots) the kernel keeps records on the disks:
//! LVM2 activates them, and without leave to write it does so on an overlay ([`super::overlay`]).

use std::fmt;

use rescue_schema::report::{BlockReport, SignatureReport};

use super::facts::{Facts, Member, copies, groups, row, shown};
use super::volume::{self, Volume};
use super::{Plan, Step, Wish, Write};
use crate::disk::resolve::flat;

/// A volume group whose volumes are to be activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// Its physical volumes that are here; LVM is shown no others.
    pub devices: Vec<Device>,
    /// `major:minor` of each physical volume, in the order of the group; `None` where it is missing.
    pub numbers: Vec<Option<String>>,
    /// Those volumes.
    pub volumes: Vec<Volume>,
}

/// A physical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its node.
    pub path: String,
    /// Its kernel name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether something is mapped on it already, which may be written to.
    pub used: bool,
}

impl Group {
    /// Those of which the kernel keeps records, to be written to or not.
    pub fn kept(&self, write: bool) -> Vec<&Volume> {
        self.volumes.iter().filter(|v| v.write == write && v.is_kept()).collect()
    }

    /// Those that a mapping alone makes.
    pub fn plain(&self) -> Vec<&Volume> {
        self.volumes.iter().filter(|v| !v.is_kept()).collect()
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |of: &[&Volume]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let paths: Vec<String> = self.devices.iter().map(|d| d.path.clone()).collect();
        write!(f, "activate volume group {:?} on {}", self.name, row(&paths))?;
        let written: Vec<&Volume> = self.volumes.iter().filter(|v| v.write).collect();
        let read: Vec<&Volume> = self.volumes.iter().filter(|v| !v.write).collect();
        if !written.is_empty() {
            write!(f, ", READ-WRITE: {}", names(&written))?;
        }
        if !read.is_empty() {
            write!(f, ", read-only: {}", names(&read))?;
        }
        let overlaid = self.kept(false);
        if !overlaid.is_empty() {
            write!(f, " (of {} the kernel keeps records: on an overlay in RAM)", names(&overlaid))?;
        }
        let kept = self.kept(true);
        if !kept.is_empty() {
            write!(f, " (being active, {} write their own records)", names(&kept))?;
        }
        let here = |device: usize| self.numbers.get(device).is_some_and(Option::is_some);
        if !self.volumes.iter().all(|v| v.lies_on().into_iter().all(here)) {
            write!(f, ", with holes where physical volumes are missing")?;
        }
        Ok(())
    }
}

pub(super) fn plan(facts: &Facts<'_>, wish: &Wish, plan: &mut Plan) {
    let mut members = facts.members("LVM2_member");
    // It shows what the volume below it does.
    members.retain(|m| m.block.kind != "overlay");
    let known: Vec<Member<'_>> = members.iter().filter(|m| m.text("VG_UUID").is_some()).copied().collect();
    let named = groups(&known, |m| m.text("VG_UUID").unwrap_or_default().to_string());
    let same = |uuid: &str, name: &str| {
        named.iter().any(|(other, m)| other != uuid && m.iter().any(|m| m.text("VG_NAME") == Some(name)))
    };
    for (uuid, own) in &named {
        let Some(newest) = own.iter().max_by_key(|m| m.number("VG_SEQNO")) else { continue };
        let name = newest.text("VG_NAME").unwrap_or_default();
        let what = format!("volume group {:?} ({uuid})", shown(name));
        let ids: Vec<&str> = newest.text("VG_PV_UUIDS").unwrap_or_default().split(' ').collect();
        // One without metadata of its own is known by the others.
        let own: Vec<Member<'_>> = members.iter().filter(|m| ids.contains(&m.uuid())).copied().collect();
        let active = |mapped: &str| {
            let path = format!("/dev/mapper/{mapped}");
            facts.has_path(&path)
        };
        let volumes = newest.text("VG_VOLUMES").and_then(|line| volume::parse(line, name, uuid));
        if volumes.as_ref().is_some_and(|v| v.iter().all(|v| active(&v.mapped)))
            || volumes.is_none() && own.iter().any(Member::in_use)
        {
            continue;
        }
        let twins = copies(&own, |m| Some(m.uuid().to_string()));
        let missing = ids.len().saturating_sub(own.len());
        // What LVM2 allows in a name (lvm(8)); anything else is no name to hand to a program.
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+_.-".contains(&b);
        let refused = match () {
            () if !twins.is_empty() => format!(
                "{} are copies of one another: not activated; name the devices that belong together: \
                 rescue assemble DEVICE…",
                row(&twins)
            ),
            () if same(uuid, name) => {
                "another volume group has the same name: not activated; name the disks of the one that is meant: \
                 rescue assemble DEVICE…"
                    .into()
            }
            () if name.starts_with(['-', '.']) || !name.bytes().all(allowed) => "its name is none that LVM takes".into(),
            () if newest.text("VG_EXPORTED").is_some() => format!("exported: `vgimport {name}` first"),
            () if newest.text("VG_SYSTEM_ID").is_some() => {
                "it belongs to one machine by its system ID: see lvmsystemid(7)".into()
            }
            () => String::new(),
        };
        if !refused.is_empty() {
            plan.refuse(format!("{what}: {refused}"));
            continue;
        }
        let Some(mut volumes) = volumes else {
            let none = newest.text("VG_LVS").is_none() && newest.text("VG_TYPES").is_none();
            let why = if none {
                "it has no volumes"
            } else {
                "its volumes are too many, or none that can be mapped"
            };
            plan.remark(format!("{what}: {why}: `vgchange -ay {name}` is LVM's own way"));
            continue;
        };
        let kept_active = volumes.iter().any(|v| v.is_kept() && active(&v.mapped));
        volumes.retain(|v| !active(&v.mapped));
        // They share pools and snapshots: all of them are on the disks, or all on the overlay.
        let kept_written = volumes.iter().any(|v| v.is_kept() && wish.write.takes(&v.mapped));
        volumes.iter_mut().for_each(|v| {
            v.write = if v.is_kept() { kept_written } else { v.write && wish.write.takes(&v.mapped) };
        });
        if kept_active && volumes.iter().any(Volume::is_kept) {
            let names: Vec<&str> = volumes.iter().filter(|v| v.is_kept()).map(|v| v.name.as_str()).collect();
            plan.remark(format!(
                "{what}: {} stay as they are, others like them being active",
                names.join(", ")
            ));
            volumes.retain(|v| !v.is_kept());
        }
        let numbers: Vec<Option<String>> = ids
            .iter()
            .map(|id| own.iter().find(|m| m.uuid() == *id).map(|m| m.block.number.clone()))
            .collect();
        if missing > 0 {
            lacking(
                &format!("{what}: {missing} of {} physical volumes are missing", ids.len()),
                &numbers,
                &mut volumes,
                wish,
                plan,
            );
        }
        if volumes.is_empty() {
            continue;
        }
        let device = |m: &Member<'_>| Device {
            path: m.path().to_string(),
            name: m.block.name.clone(),
            size: m.block.size,
            used: m.in_use(),
        };
        plan.steps.push(Step::Group(Group {
            name: name.into(),
            uuid: uuid.clone(),
            devices: own.iter().map(device).collect(),
            numbers,
            volumes,
        }));
    }
}

/// Whether physical volumes are missing of the group that a device is a volume of: what cannot be read of it lay there.
pub fn lacks(disks: &[BlockReport], path: &str) -> bool {
    let all = flat(disks);
    let members =
        || all.iter().filter_map(|b| b.probe.signatures.first()).filter(|s| s.kind == "LVM2_member");
    // By name: what lies on what is missing alone is built on nothing.
    let holds = |s: &&SignatureReport| {
        let text = |key: &str| s.more.get(key).map(String::as_str).unwrap_or_default();
        let volumes = volume::parse(text("VG_VOLUMES"), text("VG_NAME"), text("VG_UUID"));
        volumes.is_some_and(|v| v.iter().any(|v| path.strip_prefix("/dev/mapper/") == Some(&v.mapped)))
    };
    let own = members().find(holds).and_then(|s| s.more.get("VG_PV_UUIDS"));
    let ids = own.map(String::as_str).unwrap_or_default();
    let mut ids = ids.split(' ').filter(|id| !id.is_empty());
    ids.any(|id| !members().any(|s| s.uuid.as_deref() == Some(id)))
}

/// Whether a device is a snapshot of another volume, which stands on what was written since (`-cow`).
pub fn is_snapshot(block: &BlockReport, disks: &[BlockReport]) -> bool {
    let own = format!("{}-cow", block.path);
    block.kind == "lvm" && flat(disks).iter().any(|b| b.path == own)
}

/// Volumes of a group that lacks physical volumes: only whole ones, or read-only with holes where that is asked for.
fn lacking(all: &str, numbers: &[Option<String>], volumes: &mut Vec<Volume>, wish: &Wish, plan: &mut Plan) {
    let here = |device: usize| numbers.get(device).is_some_and(Option::is_some);
    let (kept, plain): (Vec<Volume>, Vec<Volume>) = volumes.drain(..).partition(Volume::is_kept);
    *volumes = plain;
    let whole = |v: &Volume| v.lies_on().into_iter().all(here);
    if !kept.is_empty() {
        let names: Vec<&str> = kept.iter().map(|v| v.name.as_str()).collect();
        let text = format!(
            "{all}: not activated: {}; LVM's own way: vgchange -ay --activationmode degraded",
            names.join(", ")
        );
        plan.refuse_volumes(text, kept.into_iter().map(|v| v.mapped).collect());
    }
    if wish.degraded {
        plan.remark(format!("{all}: their places read as errors, and what lies on them is read-only"));
        // What is written where half is missing cannot be put right later.
        volumes.iter_mut().filter(|v| !whole(v)).for_each(|v| v.write = false);
    } else if !volumes.is_empty() {
        plan.refuse(format!(
            "{all}: only whole volumes are activated; for the others: rescue assemble --degraded"
        ));
        volumes.retain(whole);
    }
}

impl Write {
    /// Whether a mapped device is to be written to.
    pub fn takes(&self, mapped: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Volumes(names) => names.iter().any(|n| n == mapped),
        }
    }
}
