//! Keys of encrypted datasets, which those below one have from there.

use rescue_schema::report::BlockReport;

use super::said::is_name;
use super::{is_dataset, may_be_root, more, pool_name};
use crate::disk::resolve::flat;

/// Why a dataset cannot be looked into: it is encrypted, and what opens it is not loaded.
pub fn locked(block: &BlockReport) -> Option<String> {
    let key = more(block, "ZFS_KEY_OF");
    let key = if key.contains(' ') { format!("{key:?}") } else { key.to_string() };
    (more(block, "ZFS_KEY") == "unavailable")
        .then(|| format!("{} is encrypted: rescue unlock {key}", block.path))
}

/// The datasets of a pool that others have their keys from: those whose key is loaded, or those whose is not.
pub fn keys(pool: &BlockReport, loaded: bool) -> Vec<String> {
    let word = if loaded { "available" } else { "unavailable" };
    let own = pool.children.iter().filter(|d| more(d, "ZFS_KEY") == word).map(|d| more(d, "ZFS_KEY_OF"));
    let mut own: Vec<String> = own.filter(|of| is_name(of)).map(Into::into).collect();
    own.sort();
    own.dedup();
    own
}

/// Those whose key is not loaded, of all pools; `roots` says to leave out those that no system's root has its key from.
pub fn locked_keys(disks: &[BlockReport], roots: bool) -> Vec<String> {
    let all = flat(disks);
    let wanted = |of: &String| {
        let root = |b: &&BlockReport| more(b, "ZFS_KEY_OF") == of && may_be_root(b, disks);
        !roots || all.iter().copied().any(|b| root(&b))
    };
    all.iter().filter(|b| b.kind == "zpool").flat_map(|pool| keys(pool, false)).filter(wanted).collect()
}

/// The pool that `name` means: by its own name, by that of one of its datasets or of one of its devices.
pub fn pool_named<'a>(name: &str, disks: &'a [BlockReport]) -> Option<&'a BlockReport> {
    let all = flat(disks);
    let pool = |b: &&BlockReport| b.kind == "zpool";
    let of = |b: &&&BlockReport| b.path == name && b.children.iter().any(|c| pool(&c));
    if let Some(member) = all.iter().find(of) {
        return member.children.iter().find(pool);
    }
    all.into_iter().filter(pool).find(|pool| pool.name == pool_name(name))
}

/// The keys that are not loaded which `name` means: that of a dataset, or those of a pool.
pub fn locked_of(name: &str, disks: &[BlockReport]) -> Vec<String> {
    let keys = pool_named(name, disks).map(|pool| keys(pool, false)).unwrap_or_default();
    let locked = |b: &&BlockReport| is_dataset(b) && more(b, "ZFS_KEY") == "unavailable" && b.path == name;
    if keys.iter().any(|key| key == name) {
        return vec![name.into()];
    }
    match flat(disks).into_iter().find(locked) {
        Some(dataset) => vec![more(dataset, "ZFS_KEY_OF").into()],
        None => keys,
    }
}
