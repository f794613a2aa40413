//! ZFS pools that are imported: what zpool(8) and zfs(8) say of them ([`said`](mod@said)), and their place in the tree
//! of devices.
//!
//! The kernel shows nothing of them in /sys. A pool stands below each device that it is on, as an array does, and its
//! datasets below it: a dataset's path is its name, which is what it is mounted by.

mod said;

use std::path::Path;

use rescue_schema::report::{BlockReport, MountPoint, ProbeReport, ProbeResult, SignatureReport};

use super::fstab;
use super::mount::{MOST, Plan, shown, step};
use super::mountinfo::Mount;
use super::resolve::flat;
use crate::sys::spawn::has_program;
use said::{Dataset, Pool, datasets, pools};
pub use said::{is_pool, said, state};

/// What the kernel shows of imported pools: a folder each.
const POOLS: &str = "/proc/spl/kstat/zfs";
/// Most datasets of a pool.
const DATASETS: usize = 256;

/// Whether a pool of this name is imported.
pub fn is_imported(name: &str) -> bool {
    is_pool(name) && Path::new(POOLS).join(name).is_dir()
}

/// Puts the pools that are imported in their place below `disks`; `mounts` is asked where there are any.
pub fn fill(disks: &mut [BlockReport], mounts: impl FnOnce() -> Vec<Mount>) {
    let any = std::fs::read_dir(POOLS).into_iter().flatten().flatten().any(|e| e.path().is_dir());
    let member = |b: &&BlockReport| b.probe.kind.as_deref() == Some("zfs_member");
    if !any || !flat(disks).iter().any(member) || !has_program("zpool") {
        return;
    }
    let list = ["list", "-Hp", "-o", "name,guid,size,health,readonly,bootfs,altroot"];
    let pools = said("zpool", &list).unwrap_or_default();
    let list = ["list", "-Hp", "-t", "filesystem", "-o"];
    let list = [&list[..], &["name,used,canmount,keystatus,encryptionroot,mountpoint"]].concat();
    attach(disks, &pools, &said("zfs", &list).unwrap_or_default(), &mounts());
}

/// The same, of what `zpool list` and `zfs list` say.
pub fn attach(disks: &mut [BlockReport], zpool: &str, zfs: &str, mounts: &[Mount]) {
    let (pools, datasets) = (pools(zpool), datasets(zfs));
    let built: Vec<(&str, BlockReport)> =
        pools.iter().map(|p| (p.guid.as_str(), block(p, &datasets, mounts))).collect();
    fn each(block: &mut BlockReport, built: &[(&str, BlockReport)]) {
        block.children.iter_mut().for_each(|child| each(child, built));
        let on = |(guid, _): &&(&str, BlockReport)| {
            block.probe.kind.as_deref() == Some("zfs_member") && block.probe.uuid.as_deref() == Some(guid)
        };
        // A member that is no device of its own, as the whole disk behind a partition, is none here.
        if let Some((_, pool)) = built.iter().find(on)
            && !block.children.iter().any(|c| c.probe.kind.as_deref() == Some("zfs_member"))
        {
            block.children.push(pool.clone());
        }
    }
    disks.iter_mut().for_each(|disk| each(disk, &built));
}

/// A pool with those of its datasets that can be mounted.
fn block(pool: &Pool, datasets: &[Dataset], mounts: &[Mount]) -> BlockReport {
    let inside = |d: &&Dataset| {
        d.name == pool.name || d.name.strip_prefix(&pool.name).is_some_and(|r| r.starts_with('/'))
    };
    let shown = |d: &&Dataset| d.name == pool.bootfs || d.canmount != "off" && d.mountpoint != "none";
    let all = datasets.iter().filter(inside).filter(shown).take(DATASETS);
    BlockReport {
        name: pool.name.clone(),
        // The dataset that it is called by is another thing.
        path: format!("{}/", pool.name),
        kind: "zpool".into(),
        size: pool.size,
        serial: Some(pool.guid.clone()),
        read_only: pool.read_only,
        state: (pool.health != "ONLINE").then(|| pool.health.to_lowercase()),
        children: all.map(|d| dataset(d, pool, mounts)).collect(),
        ..BlockReport::default()
    }
}

fn dataset(dataset: &Dataset, pool: &Pool, mounts: &[Mount]) -> BlockReport {
    let own = dataset.mountpoint.strip_prefix(pool.altroot.trim_end_matches('/'));
    let folder = match own {
        Some("") => "/",
        Some(own) if own.starts_with('/') => own,
        _ => &dataset.mountpoint,
    };
    let mut more = vec![
        ("ZFS_MOUNTPOINT", folder.to_string()),
        ("ZFS_CANMOUNT", dataset.canmount.clone()),
        ("ZFS_BOOTFS", if dataset.name == pool.bootfs { "yes" } else { "" }.to_string()),
    ];
    if dataset.key == "available" || dataset.key == "unavailable" {
        more.push(("ZFS_KEY", dataset.key.clone()));
        more.push(("ZFS_KEY_OF", dataset.key_of.clone()));
    }
    let more =
        more.into_iter().filter(|(_, value)| !value.is_empty()).map(|(k, v)| (k.to_string(), v)).collect();
    let signature = SignatureReport {
        kind: "zfs".into(),
        usage: "filesystem".into(),
        more,
        ..SignatureReport::default()
    };
    let mounted = mounts.iter().filter(|m| m.kind == "zfs" && m.source == dataset.name);
    let point =
        |m: &Mount| MountPoint { target: m.target.to_string_lossy().into_owned(), read_only: m.read_only };
    BlockReport {
        name: dataset.name.clone(),
        path: dataset.name.clone(),
        kind: "dataset".into(),
        size: dataset.used,
        read_only: pool.read_only,
        probe: ProbeReport {
            result: ProbeResult::Found,
            kind: Some("zfs".into()),
            signatures: vec![signature],
            ..ProbeReport::default()
        },
        mounts: mounted.map(point).collect(),
        ..BlockReport::default()
    }
}

fn more<'a>(block: &'a BlockReport, key: &str) -> &'a str {
    let signature = block.probe.signatures.first().filter(|_| is_dataset(block));
    signature.and_then(|s| s.more.get(key)).map(String::as_str).unwrap_or_default()
}

/// Whether it is a file system of a pool.
pub fn is_dataset(block: &BlockReport) -> bool {
    block.kind == "dataset"
}

/// Why a dataset cannot be looked into: it is encrypted, and what opens it is not loaded.
pub fn locked(block: &BlockReport) -> Option<String> {
    let locked = more(block, "ZFS_KEY") == "unavailable";
    locked.then(|| {
        let key = more(block, "ZFS_KEY_OF");
        let key = if key.contains(' ') { format!("{key:?}") } else { key.to_string() };
        format!("{} is encrypted: zfs load-key {key}", block.path)
    })
}

/// Whether a pool holds what was encrypted and is open: exporting it forgets the keys.
pub fn holds_keys(pool: &BlockReport) -> bool {
    pool.children.iter().any(|d| more(d, "ZFS_KEY") == "available")
}

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
    let says = |d: &BlockReport| more(d, "ZFS_MOUNTPOINT") == "/" || is_booted(d);
    let legacy = more(dataset, "ZFS_MOUNTPOINT") == "legacy";
    says(dataset) || legacy && !siblings(dataset, disks).iter().any(says)
}

/// Whether what is booted is on a dataset of its own.
pub fn is_boot(dataset: &BlockReport) -> bool {
    more(dataset, "ZFS_MOUNTPOINT") == "/boot"
}

/// Whether another root of its pool is what is booted.
pub fn is_kept(dataset: &BlockReport, disks: &[BlockReport]) -> bool {
    !is_booted(dataset) && siblings(dataset, disks).iter().any(is_booted)
}

/// Adds to the plan of a system whose root is a dataset the others, at their own mount points: those that are mounted
/// by themselves and belong to no other root.
pub fn add(plan: &mut Plan, root: &BlockReport, disks: &[BlockReport], write: bool) {
    let all: Vec<&BlockReport> =
        flat(disks).into_iter().filter(|b| is_dataset(b) && b.path != root.path).collect();
    let below =
        |d: &BlockReport, of: &BlockReport| d.path.strip_prefix(&of.path).is_some_and(|r| r.starts_with('/'));
    let roots: Vec<&BlockReport> = all.iter().copied().filter(|d| more(d, "ZFS_MOUNTPOINT") == "/").collect();
    let wanted = |d: &&BlockReport| {
        more(d, "ZFS_CANMOUNT") == "on"
            && !roots.iter().any(|r| below(d, r))
            && more(d, "ZFS_MOUNTPOINT").len() > 1
    };
    for dataset in all.iter().copied().filter(wanted) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const POOLS: &str = "rpool\t17\t218103808\tDEGRADED\ton\trpool/ROOT/pve-1\t/mnt/rpool\n\
        evil\u{1b}[2J\t18\t1\tONLINE\ton\t-\t-\nshort\t19\n-f\t20\t1\tONLINE\ton\t-\t-\n";
    const DATASETS: &str = "rpool\t9\ton\t-\t-\t/mnt/rpool/rpool\nrpool/ROOT\t9\toff\t-\t-\t/mnt/rpool/rpool/ROOT\n\
        rpool/ROOT/pve-1\t9\ton\t-\t-\t/mnt/rpool\nrpool/ROOT/pve-0\t9\tnoauto\t-\t-\t/mnt/rpool\n\
        rpool/ROOT/pve-0/var\t9\ton\t-\t-\t/mnt/rpool/var\n\
        rpool/home\t9\ton\tunavailable\trpool/home\t/mnt/rpool/home\n\
        rpool/srv\t9\ton\t-\t-\t/mnt/rpool/srv/da\tta\nrpool/swap\t9\ton\t-\t-\tlegacy\n\
        rpool/../x\t9\ton\t-\t-\t/\nrpool/up\t9\ton\t-\t-\t/mnt/rpool/../etc\nrpoolx/y\t9\ton\t-\t-\t/y\n\trpool/z\t\n";

    /// A mirror whose pool is imported, and a disk beside it.
    fn disks() -> Vec<BlockReport> {
        let member = |name: &str, uuid: &str| {
            let (kind, uuid) = (Some("zfs_member".into()), Some(uuid.into()));
            let probe = ProbeReport { result: ProbeResult::Found, kind, uuid, ..ProbeReport::default() };
            BlockReport { name: name.into(), path: format!("/dev/{name}"), probe, ..BlockReport::default() }
        };
        let mounts = b"31 24 0:44 / /mnt/proxmox ro - zfs rpool/ROOT/pve-1 ro\n\
            32 24 0:45 / /x rw - tmpfs rpool/ROOT/pve-1 rw\n";
        let mut disks = vec![member("vda", "17"), member("vdb", "17"), member("vdc", "18")];
        attach(&mut disks, POOLS, DATASETS, &crate::disk::mountinfo::parse(mounts));
        disks
    }

    fn of<'a>(disks: &'a [BlockReport], name: &str) -> &'a BlockReport {
        flat(disks).into_iter().find(|b| b.path == name).unwrap()
    }

    #[test]
    fn a_pool_stands_below_its_devices_and_its_datasets_below_it() {
        let disks = disks();
        for disk in &disks[..2] {
            let [pool] = disk.children.as_slice() else { panic!("{disk:?}") };
            assert_eq!((pool.kind.as_str(), pool.state.as_deref()), ("zpool", Some("degraded")));
            assert!(pool.read_only && pool.path == "rpool/");
        }
        assert!(disks[2].children.is_empty());
        let names: Vec<&str> = disks[0].children[0].children.iter().map(|d| d.path.as_str()).collect();
        let there = ["rpool", "rpool/ROOT/pve-1", "rpool/ROOT/pve-0", "rpool/ROOT/pve-0/var"];
        assert_eq!(names, [&there[..], &["rpool/home", "rpool/srv", "rpool/swap", "rpool/up"]].concat());
        let root = of(&disks, "rpool/ROOT/pve-1");
        assert_eq!(root.mounts.len(), 1, "{:?}", root.mounts);
        assert!(root.mounts[0].read_only && more(root, "ZFS_MOUNTPOINT") == "/");
        assert_eq!(more(of(&disks, "rpool/srv"), "ZFS_MOUNTPOINT"), "/srv/da\tta");
    }

    #[test]
    fn the_root_is_what_is_booted_and_the_rest_is_mounted_by_itself() {
        let disks = disks();
        let root = of(&disks, "rpool/ROOT/pve-1");
        let other = of(&disks, "rpool/ROOT/pve-0");
        assert!(may_be_root(root, &disks) && !is_kept(root, &disks));
        assert!(may_be_root(other, &disks) && is_kept(other, &disks));
        assert!(
            !may_be_root(of(&disks, "rpool/swap"), &disks) && !may_be_root(of(&disks, "rpool/home"), &disks)
        );
        let mut plan = Plan { steps: step(root, "/", false, &[]).into_iter().collect(), ..Plan::default() };
        add(&mut plan, root, &disks, false);
        let steps: Vec<(&str, &str)> =
            plan.steps.iter().map(|s| (s.device.as_str(), s.target.as_str())).collect();
        let srv = ("rpool/srv", "/srv/da\tta");
        assert_eq!(steps, [("rpool/ROOT/pve-1", "/"), ("rpool", "/rpool"), srv]);
        assert_eq!(plan.trouble, ["/home: rpool/home is encrypted: zfs load-key rpool/home"]);
        assert!(plan.steps.iter().all(|s| s.read_only && s.driver == "zfs"));
        // Of the other, what is below it is its own.
        let mut plan = Plan { steps: step(other, "/", true, &[]).into_iter().collect(), ..Plan::default() };
        add(&mut plan, other, &disks, true);
        assert!(plan.steps.iter().any(|s| s.target == "/var" && !s.read_only), "{:?}", plan.steps);
    }

    #[test]
    fn what_is_mounted_by_hand_may_be_a_root_where_nothing_says_that_it_is() {
        let mut disks = disks();
        for disk in &mut disks {
            let pool = disk.children.first_mut();
            pool.into_iter().for_each(|pool| pool.children.retain(|d| !d.path.contains("ROOT")));
        }
        assert!(
            may_be_root(of(&disks, "rpool/swap"), &disks) && !may_be_root(of(&disks, "rpool/srv"), &disks)
        );
    }
}
