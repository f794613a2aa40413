//! ZFS pools that are imported: what zpool(8) and zfs(8) say of them ([`said`](mod@said)), and their place in the tree
//! of devices.
//!
//! The kernel shows nothing of them in /sys. A pool stands below each device that it is on, as an array does, and its
//! datasets below it: a dataset's path is its name, which is what it is mounted by.

mod keys;
mod roots;
mod said;
#[cfg(test)]
mod tests;
mod volume;

use std::path::Path;

use rescue_schema::report::{BlockReport, MountPoint, ProbeReport, ProbeResult, SignatureReport};

use super::mountinfo::Mount;
use super::resolve::flat;
use crate::sys::spawn::has_program;
pub use keys::{keys, locked, locked_keys, locked_of, pool_named};
pub use roots::{add, is_boot, is_kept, may_be_root};
use said::{Dataset, Pool, datasets, pools};
pub use said::{is_pool, said, state};
pub use volume::{guest, link_of, pool_of, settle, unlink};

/// What the kernel shows of imported pools: a folder each.
const POOLS: &str = "/proc/spl/kstat/zfs";
/// The property in which Ubuntu says which roots the folders of people belong to.
const BELONGS: &str = "com.ubuntu.zsys:bootfs-datasets";
/// Most datasets of a pool.
const DATASETS: usize = 256;

/// Whether a pool of this name is imported.
pub fn is_imported(name: &str) -> bool {
    is_pool(name) && Path::new(POOLS).join(name).is_dir()
}

/// Puts the pools that are imported in their place below `disks`; `mounts` is asked where there are any.
pub fn fill(disks: &mut [BlockReport], mounts: impl FnOnce() -> Vec<Mount>) {
    volume::name(disks);
    let any = std::fs::read_dir(POOLS).into_iter().flatten().flatten().any(|e| e.path().is_dir());
    let member = |b: &&BlockReport| b.probe.kind.as_deref() == Some("zfs_member");
    if !any || !flat(disks).iter().any(member) || !has_program("zpool") {
        return;
    }
    let list = ["list", "-Hp", "-o", "name,guid,size,health,readonly,bootfs,altroot"];
    let pools = said("zpool", &list).unwrap_or_default();
    let list = ["list", "-Hp", "-t", "filesystem", "-o"];
    let columns = format!("name,used,canmount,keystatus,encryptionroot,{BELONGS},mountpoint");
    let list = [&list[..], &[columns.as_str()]].concat();
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
        ("ZFS_ROOTS", dataset.roots.clone()),
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

/// The pool of a dataset or volume.
pub fn pool_name(dataset: &str) -> &str {
    dataset.split('/').next().unwrap_or(dataset)
}

fn more<'a>(block: &'a BlockReport, key: &str) -> &'a str {
    let signature = block.probe.signatures.first().filter(|_| is_dataset(block));
    signature.and_then(|s| s.more.get(key)).map(String::as_str).unwrap_or_default()
}

/// Whether it is a file system of a pool.
pub fn is_dataset(block: &BlockReport) -> bool {
    block.kind == "dataset"
}
