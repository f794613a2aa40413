//! Pools of ZFS: which can be imported, by their number and from the devices that are named, is decided by [`plan`];
//! [`import`] and [`export`] have zpool(8) do it.
//!
//! Imported read-only nothing is written, also not by exporting it: no label, no uberblock, and the intent log is not
//! replayed. What a pool lacks is known to itself alone (a removed device leaves a hole), so that is asked of zpool
//! before it is imported.

use std::fmt;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::facts::{Facts, Member, copies, groups, row, shown};
use super::record::{hold, note, release};
use super::{Plan, Step, Wish, Write};
use crate::disk::{mountinfo, system, zfs};
use crate::sys::files::read_capped;

use super::apply::{program, run};

/// Bytes of a raw key (`WRAPPING_KEY_LEN`).
const RAW: usize = 32;

/// A pool that can be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its number.
    pub guid: String,
    /// Its name.
    pub name: String,
    /// The devices that it is on.
    pub devices: Vec<String>,
    /// Whether it was not exported, and by whom it was used last.
    pub in_use: Option<String>,
    /// Whether it may lack members.
    pub degraded: bool,
    /// Whether it may be written to.
    pub write: bool,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "import ZFS pool {:?} ({}) on {}, ", self.name, self.guid, row(&self.devices))?;
        if !self.write {
            return f.write_str("read-only, its intent log not replayed");
        }
        f.write_str("READ-WRITE: its labels are written, its intent log is replayed")?;
        match &self.in_use {
            Some(host) => write!(f, "; it was not exported{host}, and nothing else may use it now"),
            None => Ok(()),
        }
    }
}

pub(super) fn plan(facts: &Facts<'_>, wish: &Wish, plan: &mut Plan) {
    // Spares and caches have no pool's number, and are found by the pool.
    let mut members = facts.members("zfs_member");
    members.retain(|m| !m.uuid().is_empty() && !m.in_use());
    let destroyed = |m: &Member<'_>| m.signature.state.as_deref() == Some("destroyed");
    let pools = groups(&members, |m| m.uuid().to_string());
    let name =
        |members: &[Member<'_>]| members.iter().find_map(|m| m.signature.label.clone()).unwrap_or_default();
    let names: Vec<String> = pools.values().filter(|m| !m.iter().all(destroyed)).map(|m| name(m)).collect();
    for (guid, members) in &pools {
        let name = name(members);
        let devices: Vec<String> = members.iter().map(|m| m.path().to_string()).collect();
        let pool = format!("ZFS pool {:?} ({guid}) on {}", shown(&name), row(&devices));
        let active = members.iter().any(|m| m.text("ZFS_STATE") == Some("active"));
        if members.iter().all(destroyed) {
            plan.remark(format!("{pool} was destroyed: not imported"));
            continue;
        }
        if !wish.pools {
            // One that was not exported counts as another machine's, which this rescue is.
            let force = if active { "-f " } else { "" };
            plan.refuse(format!(
                "{pool}: not imported here; by hand, in an image with its tools and a zfs.ko \
                 for its kernel (Debian: contrib, zfs-dkms; imagebuilder build --add zfsutils-linux): \
                 zpool import {force}-o readonly=on -R /mnt {guid}",
            ));
            continue;
        }
        let twins = copies(members, |m| m.text("UUID_SUB").map(Into::into));
        if !twins.is_empty() {
            plan.refuse(format!(
                "{} are copies of one another ({pool}): not imported; name the devices that belong together: \
                 rescue assemble DEVICE…",
                row(&twins)
            ));
            continue;
        }
        if names.iter().filter(|n| **n == name).count() > 1 || facts.has_path(&format!("{name}/")) {
            plan.refuse(format!(
                "{pool}: another pool here has its name: not imported; name the devices of the one that is meant: \
                 rescue assemble DEVICE…"
            ));
            continue;
        }
        let chosen = |id: Option<&str>| members.iter().any(|m| m.text("UUID_SUB") == id);
        let everywhere = facts.everywhere("zfs_member").into_iter();
        let others: Vec<String> = everywhere
            .filter(|m| m.uuid() == guid && !chosen(m.text("UUID_SUB")))
            .map(|m| m.path().to_string())
            .collect();
        if !others.is_empty() {
            plan.refuse(format!(
                "{pool}: ZFS would use {} too, where the pool had it last: not imported; name what belongs to it as \
                 well",
                row(&others)
            ));
            continue;
        }
        if !zfs::is_pool(&name) {
            plan.refuse(format!("{pool}: that is no name of a pool: not imported"));
            continue;
        }
        let host =
            || members.iter().find_map(|m| m.text("ZFS_HOST")).map(|host| format!(" by {}", shown(host)));
        plan.steps.push(Step::Pool(Pool {
            guid: guid.clone(),
            name,
            devices,
            in_use: active.then(|| host().unwrap_or_default()),
            degraded: wish.degraded,
            write: wish.write != Write::Nothing,
        }));
    }
}

pub(super) fn import(pool: &Pool, load: &dyn Fn(&str)) -> io::Result<()> {
    load("zfs");
    let from: Vec<&str> = pool.devices.iter().flat_map(|device| ["-d", device.as_str()]).collect();
    for device in &pool.devices {
        if pool.write { release(device)? } else { hold(device)? }
    }
    whole(pool, &zfs::said("zpool", &[&["import"], &from[..]].concat())?)?;
    note(&format!("zpool {}", pool.name))?;
    let folder = Path::new(rescue_schema::paths::MOUNT_ROOT).join(system::clean(&pool.name));
    let mut command = program("zpool");
    // Nothing is mounted by it; what somebody mounts by zfs(8) is not put over the rescue's own folders.
    command.args(["import", "-N", "-o", "cachefile=none", "-R"]).arg(folder).args(&from);
    if !pool.write {
        command.args(["-o", "readonly=on"]);
    }
    if pool.in_use.is_some() {
        command.arg("-f");
    }
    if pool.degraded {
        // Without a log device that is gone.
        command.arg("-m");
    }
    run(command.arg(&pool.guid), None)?;
    zfs::settle(&pool.name);
    Ok(())
}

/// Whether a pool has all its members, by what `zpool import` says of it, or need not have.
fn whole(pool: &Pool, said: &str) -> io::Result<()> {
    let lacking = |why: String| Err(io::Error::other(why));
    match zfs::state(said, &pool.guid) {
        Some((state, _)) if state == "ONLINE" || pool.degraded => Ok(()),
        Some((state, status)) => {
            let status = status.trim_end_matches('.');
            let status = if status.is_empty() { String::new() } else { format!(": {}", shown(status)) };
            lacking(format!("it is {}{status}; to use it as it is: --degraded", state.to_lowercase()))
        }
        None => lacking("zpool finds no pool on it: `zpool import` says more".into()),
    }
}

/// What is done with the key of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Whether it fits.
    Try,
    /// It is loaded, until its pool is exported or it is unloaded.
    Load,
}

/// Tries or loads the key of a dataset and of those that have it from there.
pub(super) fn key(dataset: &str, secret: &[u8], what: Key) -> io::Result<()> {
    let format = zfs::said("zfs", &["get", "-Hp", "-o", "value", "keyformat", dataset])?;
    let mut secret = Zeroizing::new(secret.to_vec());
    if format.trim() == "raw" && secret.len() == RAW - 1 {
        // On stdin, the newline at its end was taken for that of a line.
        secret.push(b'\n');
    }
    let mut command = program("zfs");
    // From here, wherever the system itself has it from.
    command.args(["load-key", "-L", "prompt"]);
    if what == Key::Try {
        command.arg("-n");
    }
    run(command.arg(dataset), Some(&secret))?;
    if what == Key::Load {
        note(&format!("key {dataset}"))?;
        // Its volumes are there from now on.
        zfs::settle(zfs::pool_name(dataset));
    }
    Ok(())
}

/// Forgets a key that was loaded, nothing of which may be mounted.
pub(super) fn unload(dataset: &str) -> io::Result<()> {
    match zfs::said("zfs", &["get", "-Hp", "-o", "value", "keystatus", dataset])?.trim() {
        "available" => run(program("zfs").args(["unload-key", dataset]), None),
        _ => Ok(()),
    }
}

/// Exports a pool, nothing of which may be mounted.
pub(super) fn export(name: &str) -> io::Result<()> {
    let mounts = mountinfo::parse(&read_capped(Path::new("/proc/self/mountinfo"), 16 << 20)?);
    let own = |source: &str| {
        source.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
    };
    if let Some(mount) = mounts.iter().find(|m| m.kind == "zfs" && own(&m.source)) {
        return Err(io::Error::other(format!("{} is mounted at {}", mount.source, mount.target.display())));
    }
    run(program("zpool").args(["export", "--", name]), None)?;
    zfs::unlink(name);
    Ok(())
}
