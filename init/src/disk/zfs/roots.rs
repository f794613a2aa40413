//! Which datasets are roots of systems, which of several is booted, and what else belongs to one.

use rescue_schema::report::BlockReport;

use super::{is_dataset, locked, more, pool_name};
use crate::disk::fstab;
use crate::disk::mount::{MOST, Plan, shown, step};
use crate::disk::resolve::flat;

/// The datasets of the pool that a dataset is of.
fn siblings<'a>(dataset: &BlockReport, disks: &'a [BlockReport]) -> &'a [BlockReport] {
    let own = |b: &&BlockReport| b.kind == "zpool" && b.children.iter().any(|c| c.path == dataset.path);
    flat(disks).into_iter().find(own).map(|pool| pool.children.as_slice()).unwrap_or_default()
}

fn is_booted(dataset: &BlockReport) -> bool {
    !more(dataset, "ZFS_BOOTFS").is_empty()
}

/// Whether a dataset may be a system's root: it is to be mounted there, or is what is booted. Where none of its pool
/// says so of itself, whatever is mounted by hand or by a fstab may be.
pub fn may_be_root(dataset: &BlockReport, disks: &[BlockReport]) -> bool {
    let says = |d: &BlockReport| is_root(d) || is_booted(d);
    let legacy = more(dataset, "ZFS_MOUNTPOINT") == "legacy";
    says(dataset) || legacy && !siblings(dataset, disks).iter().any(says)
}

/// Whether what is booted is on a dataset of its own.
pub fn is_boot(dataset: &BlockReport) -> bool {
    more(dataset, "ZFS_MOUNTPOINT") == "/boot"
}

/// Whether another root of its pool is what is booted. Where the pool does not say which is, of several roots those are
/// not that are not mounted by themselves while another is.
pub fn is_kept(dataset: &BlockReport, disks: &[BlockReport]) -> bool {
    let all = siblings(dataset, disks);
    if all.iter().any(is_booted) {
        return !is_booted(dataset);
    }
    let by_itself = |d: &BlockReport| more(d, "ZFS_CANMOUNT") == "on";
    !by_itself(dataset) && all.iter().any(|d| is_root(d) && by_itself(d))
}

fn is_root(dataset: &BlockReport) -> bool {
    more(dataset, "ZFS_MOUNTPOINT") == "/"
}

/// Whether a dataset is below another.
fn below(dataset: &BlockReport, of: &BlockReport) -> bool {
    dataset.path.strip_prefix(&of.path).is_some_and(|rest| rest.starts_with('/'))
}

/// The last part of a name, which a root and its /boot in another pool share.
fn last(dataset: &BlockReport) -> &str {
    dataset.path.rsplit('/').next().unwrap_or_default()
}

/// The datasets that belong to a root: those that are mounted by themselves, but not what is below another root, in the
/// pool of another system, another root's /boot or said to be another's.
fn belonging<'a>(root: &BlockReport, disks: &'a [BlockReport]) -> Vec<&'a BlockReport> {
    let all: Vec<&BlockReport> =
        flat(disks).into_iter().filter(|b| is_dataset(b) && b.path != root.path).collect();
    let own = pool_name(&root.path);
    let roots = all.iter().filter(|d| is_root(d)).map(|d| pool_name(&d.path));
    let foreign: Vec<&str> = roots.filter(|pool| *pool != own).collect();
    let boot = all.iter().any(|d| is_boot(d) && last(d) == last(root));
    let is = |d: &BlockReport| {
        let by_itself = more(d, "ZFS_CANMOUNT") == "on";
        let other = all.iter().any(|r| is_root(r) && below(d, r) && !below(root, r));
        let roots = more(d, "ZFS_ROOTS");
        if is_root(d) || other || foreign.contains(&pool_name(&d.path)) {
            false
        } else if below(d, root) {
            by_itself || more(root, "ZFS_CANMOUNT") == "noauto"
        } else if is_boot(d) && (boot || all.iter().any(|r| is_root(r) && last(r) == last(d))) {
            last(d) == last(root)
        } else if roots.is_empty() {
            by_itself
        } else {
            roots.split(',').any(|of| of == root.path)
        }
    };
    all.iter().copied().filter(|d| is(d)).collect()
}

/// Adds to the plan of a system whose root is a dataset the others that belong to it, at their own mount points.
pub fn add(plan: &mut Plan, root: &BlockReport, disks: &[BlockReport], write: bool) {
    for dataset in belonging(root, disks) {
        let named = Some(more(dataset, "ZFS_MOUNTPOINT")).filter(|named| named.starts_with('/'));
        let Some(target) = named.and_then(fstab::plainly) else { continue };
        let place = shown(&target);
        if let Some(why) = locked(dataset) {
            plan.trouble.push(format!("{place}: {why}"));
        } else if plan.steps.iter().any(|s| s.target == target) {
            plan.trouble.push(format!("{place} is named twice, {} left out", dataset.path));
        } else if plan.steps.len() >= MOST {
            plan.trouble.push(format!("{place}: more than {MOST} mounts, left out"));
        } else {
            plan.steps.extend(step(dataset, &target, write, &[]));
        }
    }
    // A mount below another comes after it, whichever of the two its fstab names.
    let depth = |path: &str| path.split('/').filter(|part| !part.is_empty()).count();
    plan.steps.sort_by_key(|s| depth(&s.target).max(s.bind.as_ref().map_or(0, |from| depth(from) + 1)));
}
