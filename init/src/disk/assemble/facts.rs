//! The devices of a tree that are members of something, and how they are told apart.

use std::collections::BTreeMap;

use rescue_schema::report::{BlockReport, ProbeResult, SignatureReport};

use super::Plan;
use crate::disk::resolve::flat;
use crate::disk::zfs;

/// A device that holds a signature.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) block: &'a BlockReport,
    pub(super) signature: &'a SignatureReport,
}

impl<'a> Member<'a> {
    fn of(block: &'a BlockReport, kind: &str) -> Option<Self> {
        let found = block.probe.result == ProbeResult::Found;
        let signature = block.probe.signatures.first().filter(|s| found && s.kind == kind)?;
        Some(Self { block, signature })
    }

    pub(super) fn path(&self) -> &str {
        &self.block.path
    }

    pub(super) fn uuid(&self) -> &str {
        self.signature.uuid.as_deref().unwrap_or_default()
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.signature.more.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    /// Whether something is built on it already. Partitions that the kernel sees in a member are no use of it.
    pub(super) fn in_use(&self) -> bool {
        self.block.children.iter().any(|c| c.partition.is_none())
    }
}

/// The tree, as the plans look at it.
pub(super) struct Facts<'a> {
    all: Vec<&'a BlockReport>,
    chosen: Vec<&'a BlockReport>,
}

impl<'a> Facts<'a> {
    /// Of `disks`, members are those on or below one of `only`, or all but those on the disks of guests.
    pub(super) fn new(disks: &'a [BlockReport], only: &[String]) -> Self {
        let all = flat(disks);
        let named = |b: &&&BlockReport| only.iter().any(|o| *o == b.path || *o == format!("/dev/{}", b.name));
        let chosen = if only.is_empty() {
            all.iter().copied().filter(|b| zfs::guest(&b.path, disks).is_none()).collect()
        } else {
            let roots: Vec<&BlockReport> = all.iter().filter(named).copied().collect();
            let mut below: Vec<&BlockReport> = Vec::new();
            for block in roots.iter().flat_map(|r| flat(std::slice::from_ref(*r))) {
                if !below.iter().any(|b| b.path == block.path) {
                    below.push(block);
                }
            }
            below
        };
        Self { all, chosen }
    }

    /// Members of a kind: those whose deciding signature it is. What could be two things is none.
    pub(super) fn members(&self, kind: &str) -> Vec<Member<'a>> {
        self.chosen.iter().filter_map(|block| Member::of(block, kind)).collect()
    }

    /// The same of all devices, chosen or not.
    pub(super) fn everywhere(&self, kind: &str) -> Vec<Member<'a>> {
        self.all.iter().filter_map(|block| Member::of(block, kind)).collect()
    }

    /// Whether a device of this kernel name is there, chosen or not.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.all.iter().any(|b| b.name == name)
    }

    /// Whether a device has this node, chosen or not.
    pub(super) fn has_path(&self, path: &str) -> bool {
        self.all.iter().any(|b| b.path == path)
    }

    /// What is seen and cannot be put together here, said so that nobody takes it for empty.
    pub(super) fn others(&self, plan: &mut Plan) {
        for block in &self.chosen {
            let kind = block.probe.kind.as_deref().unwrap_or_default();
            let used = block.children.iter().any(|c| c.partition.is_none());
            if used {
                continue;
            }
            if block.probe.result == ProbeResult::Ambivalent
                && block.probe.signatures.iter().any(|s| s.usage == "raid" || s.usage == "crypto")
            {
                plan.refuse(format!(
                    "{}: its signatures contradict one another, and it is used for nothing: `rescue probe {0}`",
                    block.path
                ));
            }
            if matches!(kind, "isw_raid_member" | "ddf_raid_member") {
                plan.refuse(format!(
                    "{}: a RAID of the firmware ({kind}) is not started here: `mdadm --examine {0}` shows it",
                    block.path
                ));
            }
        }
    }
}

/// Members by what they belong to, in a fixed order.
pub(super) fn groups<'a>(
    members: &[Member<'a>],
    of: impl Fn(&Member<'a>) -> String,
) -> BTreeMap<String, Vec<Member<'a>>> {
    let mut groups: BTreeMap<String, Vec<Member<'a>>> = BTreeMap::new();
    for member in members {
        groups.entry(of(member)).or_default().push(*member);
    }
    groups
}

/// Those of which there are several with one name: copies of one another.
pub(super) fn copies<'a>(
    members: &[Member<'a>],
    name: impl Fn(&Member<'a>) -> Option<String>,
) -> Vec<String> {
    let mut by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in members {
        if let Some(name) = name(member) {
            by.entry(name).or_default().push(member.path().to_string());
        }
    }
    by.into_values().filter(|paths| paths.len() > 1).flatten().collect()
}

/// Device nodes in a row.
pub(super) fn row(paths: &[String]) -> String {
    paths.join(" ")
}

/// What a disk says, fit for a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(128).collect()
}
