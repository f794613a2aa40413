//! Which volume groups can be activated, told by their UUID: pure.

use std::fmt;

use super::facts::{Facts, Member, copies, groups, row, shown};
use super::{Plan, Step, Wish};

/// Segments that a mapping alone makes; for all others the kernel keeps records on the disks.
const PLAIN: &[&str] = &["striped", "linear", "error", "zero"];

/// A volume group to be activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// Its physical volumes that are here; LVM is shown no others.
    pub devices: Vec<String>,
    /// Whether volumes that lack a physical volume are activated with holes.
    pub partial: bool,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partial = if self.partial { ", with holes where physical volumes are missing" } else { "" };
        write!(f, "activate volume group {:?} on {}, read-only{partial}", self.name, row(&self.devices))
    }
}

pub(super) fn plan(facts: &Facts<'_>, wish: &Wish, plan: &mut Plan) {
    let members = facts.members("LVM2_member");
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
        if own.iter().any(Member::in_use) {
            continue;
        }
        let twins = copies(&own, |m| Some(m.uuid().to_string()));
        let types: Vec<&str> = newest.text("VG_TYPES").unwrap_or_default().split(' ').collect();
        let kept: Vec<&str> = types.into_iter().filter(|t| !t.is_empty() && !PLAIN.contains(t)).collect();
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
            () if name.starts_with('-') || !name.bytes().all(allowed) => "its name is none that LVM takes".into(),
            () if newest.text("VG_EXPORTED").is_some() => format!("exported: `vgimport {name}` first"),
            () if newest.text("VG_SYSTEM_ID").is_some() => {
                "it belongs to one machine by its system ID: see lvmsystemid(7)".into()
            }
            () if !kept.is_empty() => format!(
                "it has volumes that write to their disks by being active ({}): not activated; \
                 on a copy, or to write: vgchange -ay {name}",
                shown(&kept.join(", "))
            ),
            () => String::new(),
        };
        if !refused.is_empty() {
            plan.refuse(format!("{what}: {refused}"));
            continue;
        }
        if missing > 0 {
            let all = format!("{what}: {missing} of {} physical volumes are missing", ids.len());
            if wish.degraded {
                plan.remark(format!("{all}: their places read as errors"));
            } else {
                let hint = "only whole volumes are activated; for the others: rescue assemble --degraded";
                plan.refuse(format!("{all}: {hint}"));
            }
        }
        plan.steps.push(Step::Group(Group {
            name: name.into(),
            uuid: uuid.clone(),
            devices: own.iter().map(|m| m.path().to_string()).collect(),
            partial: wish.degraded && missing > 0,
        }));
    }
}
