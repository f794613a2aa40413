//! `rescue umount`: everything that `rescue mount` mounted, children first; then what was put together and
//! unlocked for it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use rescue_schema::paths::MOUNT_ROOT;
use rescue_schema::report::{BlockReport, UnmountReport};

use super::wrapped::{complain, put, tell};
use super::{Command, Usage, disks};
use crate::disk::resolve::{self, Missing};
use crate::disk::{assemble, mountinfo, pool, unmount};

pub(super) const COMMAND: Command = Command {
    name: "umount",
    links: &[],
    usage: "[SYSTEM|DEV|PATH|--all] [--kill] [--dry-run] [--json]",
    about: "everything back, in order; tells who holds what",
    run,
};

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    use lexopt::prelude::*;
    let (mut name, mut all, mut kill, mut dry_run, mut json) = (None, false, false, false, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("all") => all = true,
            Long("kill") => kill = true,
            Long("dry-run") => dry_run = true,
            Long("json") => json = true,
            Value(value) if name.is_none() => name = Some(value.to_string_lossy().into_owned()),
            other => return Err(Usage(other.unexpected().to_string()).into()),
        }
    }
    if all && name.is_some() {
        return Err(Usage("--all and a name do not go together".into()).into());
    }
    let _alone = if dry_run { None } else { Some(super::mount::alone()?) };
    let info = disks::mountinfo()?;
    let folder = folder(name.as_deref(), &info)?;
    let plan = unmount::plan(&info, &folder);
    let mut report = if dry_run {
        let unmounted = plan.iter().map(|m| m.target.display().to_string()).collect();
        UnmountReport { unmounted, ..UnmountReport::default() }
    } else {
        unmount::apply(&plan, kill)?
    };
    // What is mounted elsewhere keeps what it is on.
    if name.is_none() && report.busy.is_empty() {
        (report.closed, report.stuck) = assemble::teardown(dry_run)?;
    }
    if json {
        put!("{}\n", serde_json::to_string_pretty(&report)?);
    } else {
        if plan.is_empty() && report.closed.is_empty() {
            let of = if folder.starts_with("/dev") || folder.is_relative() { "of " } else { "at or below " };
            tell!("nothing {of}{} is mounted by this rescue", folder.display());
        }
        let verb = if dry_run { "unmount" } else { "unmounted" };
        report.unmounted.iter().for_each(|t| tell!("{verb} {t}"));
        report.closed.iter().for_each(|line| tell!("{line}"));
        report.stuck.iter().for_each(|line| complain!("rescue umount: {line}"));
        complain!("{}", unmount::explain(&report.busy, "rescue umount --kill"));
    }
    Ok(if report.busy.is_empty() && report.stuck.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folder that a name, a path or a device stands for.
fn folder(name: Option<&str>, info: &[u8]) -> anyhow::Result<PathBuf> {
    let root = Path::new(MOUNT_ROOT);
    let Some(name) = name else { return Ok(root.into()) };
    if !resolve::is_name(name) {
        return Ok(root.join(name));
    }
    // Without a look at the disks, one of which may not answer.
    let by_node = mountinfo::parse(info).into_iter().find(|m| m.source == name && m.target.starts_with(root));
    if let Some(mount) = by_node {
        return Ok(mount.target);
    }
    let place = place(name, &disks::look(&[])?).map_err(|missing| anyhow!(missing.said(name)))?;
    Ok(place.unwrap_or_else(|| name.into()))
}

/// Where the device that `name` stands for is mounted below `/mnt`: itself, what it shows where it is open, or another
/// of its file system. Of several with one name the one that is mounted is meant.
fn place(name: &str, disks: &[BlockReport]) -> Result<Option<PathBuf>, Missing> {
    let at = |block: &BlockReport| {
        let block = resolve::opened(block).unwrap_or(block);
        let pool = pool::gather(block, disks).map(|pool| pool.devices).unwrap_or_default();
        let mut mounts = [block].into_iter().chain(pool).flat_map(|b| &b.mounts);
        mounts.find(|m| Path::new(&m.target).starts_with(MOUNT_ROOT)).map(|m| PathBuf::from(&m.target))
    };
    match resolve::named(name, disks) {
        Ok(block) => Ok(at(block)),
        Err(Missing::Several(all)) => {
            let blocks = resolve::flat(disks).into_iter().filter(|b| all.contains(&b.path));
            let mut places: Vec<PathBuf> = blocks.filter_map(at).collect();
            if places.len() == 1 { Ok(places.pop()) } else { Err(Missing::Several(all)) }
        }
        Err(missing) => Err(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rescue_schema::report::{MountPoint, PartitionReport, ProbeReport, ProbeResult, SignatureReport};

    fn part(name: &str, kind: &str, uuid: &str, targets: &[&str]) -> BlockReport {
        let usage = if kind == "crypto_LUKS" { "crypto" } else { "filesystem" };
        let signature = SignatureReport {
            kind: kind.into(),
            usage: usage.into(),
            uuid: Some(uuid.into()),
            ..SignatureReport::default()
        };
        BlockReport {
            name: name.into(),
            path: format!("/dev/{name}"),
            partition: Some(PartitionReport {
                uuid: Some(format!("{name}-id")),
                ..PartitionReport::default()
            }),
            probe: ProbeReport {
                result: ProbeResult::Found,
                kind: Some(kind.into()),
                uuid: Some(uuid.into()),
                signatures: vec![signature],
                ..ProbeReport::default()
            },
            mounts: targets.iter().map(|t| MountPoint { target: (*t).into(), read_only: true }).collect(),
            ..BlockReport::default()
        }
    }

    fn disk(name: &str, children: Vec<BlockReport>) -> BlockReport {
        BlockReport { name: name.into(), path: format!("/dev/{name}"), children, ..BlockReport::default() }
    }

    #[test]
    fn every_name_that_mounts_a_device_unmounts_it() {
        let open = BlockReport { kind: "crypt".into(), ..part("dm-0", "ext4", "ff", &["/mnt/safe"]) };
        let safe = BlockReport { children: vec![open], ..part("vda2", "crypto_LUKS", "ee", &[]) };
        let mut disks = [
            disk("vda", vec![part("vda1", "ext4", "aa", &["/srv", "/mnt/a"]), safe]),
            disk("vdb", vec![part("vdb1", "ext4", "aa", &[]), part("vdb2", "xfs", "bb", &["/srv"])]),
        ];
        let at = |name: &str, disks: &[BlockReport]| {
            place(name, disks).map(|place| place.map(|p| p.to_string_lossy().into_owned()))
        };
        for name in ["UUID=ee", "/dev/disk/by-uuid/ff", "PARTUUID=vda2-id", "/dev/vda2"] {
            assert_eq!(at(name, &disks), Ok(Some("/mnt/safe".into())), "{name}");
        }
        assert_eq!(at("UUID=aa", &disks), Ok(Some("/mnt/a".into())), "of the two copies it is mounted");
        assert_eq!(at("UUID=bb", &disks), Ok(None), "it is not mounted by us");
        assert_eq!(at("UUID=dd", &disks), Err(Missing::Nowhere));
        disks[1].children[0].mounts.push(MountPoint { target: "/mnt/b".into(), read_only: true });
        assert!(matches!(at("UUID=aa", &disks), Err(Missing::Several(_))));
    }
}
