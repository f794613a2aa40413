//! The systems on the disks: every file system is looked at once, read-only and out of sight, and what they
//! say is put together. Shared by the verbs that name a system.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rescue_schema::paths::MOUNT_ROOT;
use rescue_schema::report::{BlockReport, ProbeResult, SubvolumeReport};

use super::find_inside::{may_stay, stays, subvolumes, through};
use super::find_kept::Kept;
use crate::disk::drivers::{Driver, driver};
use crate::disk::mount::Leave;
use crate::disk::system::{self, Boot, Content};
use crate::disk::{assemble, fallback, fstab, mount, pool, resolve, zfs};

/// A system that was found.
pub(super) struct Found<'a> {
    /// Where its root is.
    pub root: &'a BlockReport,
    /// As which subvolume.
    pub subvolume: Option<SubvolumeReport>,
    /// Whether it is a copy that was kept of another.
    pub snapshot: bool,
    /// The volume of a pool that it is on, as a guest's is.
    pub guest: Option<&'a BlockReport>,
    /// What it is called here.
    pub name: String,
    /// What it says of itself.
    pub facts: system::Facts,
    /// What there is to boot on its root.
    pub boot: Boot,
}

/// What all the file systems say.
#[derive(Default)]
pub(super) struct Survey<'a> {
    /// The systems, in the order of the disks.
    pub systems: Vec<Found<'a>>,
    /// File systems that hold no system's root.
    pub parts: Vec<(String, Content)>,
    /// What could not be looked at, a sentence each.
    pub unseen: Vec<String>,
    /// The devices among it that could not be read.
    pub unread: Vec<String>,
    /// What was looked into and holds a system.
    pub kept: Kept,
}

/// Looks at all of them.
pub(super) fn survey(disks: &[BlockReport]) -> Survey<'_> {
    let mut survey = Survey::default();
    let mut pools: Vec<&str> = Vec::new();
    // Pulled out from under what is on it.
    let mut lost: BTreeMap<&str, &str> = BTreeMap::new();
    for gone in resolve::flat(disks).into_iter().filter(|b| b.gone) {
        for block in resolve::flat(std::slice::from_ref(gone)) {
            lost.entry(&block.path).or_insert(&gone.path);
        }
    }
    for root in resolve::flat(disks) {
        let known = root.probe.kind.as_deref().and_then(driver);
        if (known.is_some() || root.probe.result == ProbeResult::Unreadable)
            && let Some(gone) = lost.get(root.path.as_str())
        {
            // What is read of it is what the kernel still remembers.
            let path = &root.path;
            survey
                .unseen
                .push(format!("{path}: the disks below {gone} are gone: rescue umount lets go of it"));
            survey.unread.push(path.clone());
            continue;
        }
        if root.probe.result == ProbeResult::Unreadable {
            survey.unread.push(root.path.clone());
            let why = root.probe.notes.first().map_or("no answer", String::as_str);
            survey.unseen.push(if root.kind == "lvm" && assemble::lvm::lacks(disks, &root.path) {
                format!("{}: where it lies on disks that are missing it cannot be read", root.path)
            } else {
                format!("{}: cannot be read: {why}", root.path)
            });
        }
        let Some(driver) = known else { continue };
        let found = matches!(root.probe.result, ProbeResult::Found | ProbeResult::Ambivalent);
        if !found || root.children.iter().any(|c| c.partition.is_none()) {
            continue;
        }
        if !resolve::is_clear(&root.probe) {
            survey.unseen.push(format!("not looked into: {}", resolve::doubt(root)));
            continue;
        }
        if zfs::is_dataset(root) {
            if !zfs::may_be_root(root, disks) && !zfs::is_boot(root) {
                continue;
            }
            if let Some(why) = zfs::locked(root) {
                survey.unseen.push(why);
                continue;
            }
        }
        let mut root = root;
        let looked = if driver.kind == "btrfs" {
            // Each device of a file system shows all of it; copies of a file system on one do not.
            let uuid = root.probe.uuid.as_deref().unwrap_or(&root.path);
            if pools.contains(&uuid) {
                continue;
            }
            if pool::is_part(root) {
                pools.push(uuid);
            }
            let pool = match pool::gather(root, disks) {
                Ok(pool) => pool,
                Err(why) => {
                    survey.unseen.push(why);
                    continue;
                }
            };
            root = pool.devices.iter().copied().find(|b| !b.mounts.is_empty()).unwrap_or(root);
            if let Some(why) = pool.lacking.as_ref().filter(|_| root.mounts.is_empty()) {
                survey.unseen.push(format!(
                    "{why}: attach the others, or use it without them: rescue mount --degraded"
                ));
            }
            let kept = may_stay(root, &pool.devices, disks).then_some(&survey.kept);
            subvolumes(root, &pool, driver, kept)
        } else {
            let kept = (driver.root && may_stay(root, &[root], disks)).then_some(&survey.kept);
            let look = |fd: BorrowedFd<'_>| vec![(None, false, system::content(fd))];
            let log = match mount::log(root, disks) {
                Some(Err(why)) => {
                    survey.unseen.push(why);
                    survey.unread.push(root.path.clone());
                    continue;
                }
                log => log.and_then(Result::ok).map(|device| format!("{}{device}", mount::LOG)),
            };
            through(root, driver, log.as_deref(), look, |shown, mount| stays(kept, shown, mount))
        };
        match looked {
            Ok(all) => {
                let kept = zfs::is_kept(root, disks) || assemble::lvm::is_snapshot(root, disks);
                all.into_iter().for_each(|(subvolume, default, content)| {
                    take(&mut survey, root, driver, subvolume, default, kept, content);
                });
            }
            Err(error) if driver.root && driver.kind != "vfat" => {
                let why = mount::meaning(&error, driver.driver, &root.path);
                survey.unseen.push(format!("looking at {} ({}): {why}", root.path, driver.kind));
                survey.unread.push(root.path.clone());
            }
            Err(_) => {}
        }
    }
    apart(&mut survey.systems);
    survey.systems.iter_mut().for_each(|system| system.guest = zfs::guest(&system.root.path, disks));
    for at in 0..survey.systems.len() {
        complete(&mut survey, disks, at);
    }
    named(&mut survey.systems);
    survey
}

fn take<'a>(
    survey: &mut Survey<'a>,
    root: &'a BlockReport,
    driver: &Driver,
    subvolume: Option<SubvolumeReport>,
    default: bool,
    kept: bool,
    mut content: Content,
) {
    match content.facts.take().filter(|_| driver.root) {
        Some(facts) => {
            // The default subvolume, or the one that its own fstab names, is the system; others are copies.
            let own = !kept && subvolume.as_ref().is_none_or(|s| default || boots_from(&facts, s));
            survey.systems.push(Found {
                root,
                subvolume,
                snapshot: !own,
                guest: None,
                name: String::new(),
                facts,
                boot: content.boot,
            });
        }
        None => survey.parts.push((root.path.clone(), content)),
    }
}

fn boots_from(facts: &system::Facts, subvolume: &SubvolumeReport) -> bool {
    let (entries, _) = fstab::parse(facts.fstab.as_deref().unwrap_or_default());
    let root = entries.iter().find(|e| e.target == "/");
    let options = root.map(|e| e.options.as_slice()).unwrap_or_default();
    options.iter().any(|o| match o.split_once('=') {
        Some(("subvol", path)) => path.trim_matches('/') == subvolume.path,
        Some(("subvolid", id)) => id.parse() == Ok(subvolume.id),
        _ => false,
    })
}

/// Where none of a file system's subvolumes is known to be booted, those that are no copy by their place are.
fn apart(systems: &mut [Found<'_>]) {
    let live: Vec<String> = systems.iter().filter(|s| !s.snapshot).map(|s| s.root.path.clone()).collect();
    for system in systems.iter_mut() {
        let kept = system.subvolume.as_ref().is_some_and(|s| s.path.contains("snapshots"));
        // Datasets and volumes are apart already: each is a file system, and what it is of says which is booted.
        let alone = system.subvolume.is_some() && !live.contains(&system.root.path);
        // A second installation beside it has another identity.
        system.snapshot = system.snapshot && (kept || !alone);
    }
}

/// What a separate /usr says of a system that has none in its root.
fn complete(survey: &mut Survey<'_>, disks: &[BlockReport], at: usize) {
    let lacks = |facts: &system::Facts| facts.pretty_name.is_none() || facts.architecture.is_none();
    let Some(system) = survey.systems.get(at).filter(|s| lacks(&s.facts) && s.facts.family == "linux") else {
        return;
    };
    let plan = plan(system, survey, disks, Leave { write: false, degraded: true });
    let usr = plan.steps.iter().find(|s| s.target == "/usr").map(|s| s.device.clone());
    let usr = usr.and_then(|device| survey.parts.iter().find(|(d, _)| *d == device)?.1.usr.clone());
    if let (Some(usr), Some(system)) = (usr, survey.systems.get_mut(at)) {
        let facts = &mut system.facts;
        facts.id = facts.id.take().or(usr.id);
        facts.pretty_name = facts.pretty_name.take().or(usr.pretty_name);
        facts.version = facts.version.take().or(usr.version);
        facts.architecture = facts.architecture.take().or(usr.architecture);
        facts.evidence.extend(usr.evidence);
    }
}

fn named(systems: &mut [Found<'_>]) {
    for system in systems.iter_mut() {
        system.name = system::name(&system.facts);
    }
    // Of two with one name, as copies of a disk are, neither is the first: both get their device's.
    // A guest's is no other's equal on its host.
    let of = |s: &Found<'_>| (s.name.clone(), s.root.path.clone(), s.snapshot || s.guest.is_some());
    let names: Vec<(String, String, bool)> = systems.iter().map(of).collect();
    for system in systems.iter_mut() {
        let same =
            |snapshots: bool| names.iter().filter(|n| n.0 == system.name && (snapshots || !n.2)).count() > 1;
        let path = system.root.path.trim_start_matches("/dev/").trim_start_matches("mapper/");
        let device = system::clean(&path.replace('/', "-"));
        let subvolume = system.subvolume.as_ref().map(|s| system::clean(&s.path.replace('/', "-")));
        let several = names.iter().filter(|n| n.1 == system.root.path && !n.2).count() > 1;
        system.name = match subvolume {
            Some(subvolume) if system.snapshot || (same(false) && several) => {
                let subvolume = if subvolume.is_empty() {
                    system.subvolume.as_ref().map(|s| s.id.to_string()).unwrap_or_default()
                } else {
                    subvolume
                };
                format!("{}-{subvolume}", system.name)
            }
            _ if system.guest.is_some() && same(true) => {
                let volume = system.guest.and_then(|volume| volume.backing.as_deref());
                let volume = volume.map_or(device, |volume| system::clean(&volume.replace('/', "-")));
                format!("{}-{volume}", system.name)
            }
            _ if system.snapshot || same(false) => format!("{}-{device}", system.name),
            _ => std::mem::take(&mut system.name),
        };
    }
}

/// How it is mounted.
pub(super) fn plan(
    system: &Found<'_>,
    survey: &Survey<'_>,
    disks: &[BlockReport],
    leave: Leave,
) -> mount::Plan {
    let folder = Path::new(MOUNT_ROOT).join(&system.name);
    if !matches!(system.facts.family, "linux" | "freebsd") {
        return mount::alone(system.root, disks, &folder, leave);
    }
    let fstab = system.facts.fstab.as_deref();
    let tables = mount::Tables {
        fstab,
        crypttab: system.facts.crypttab.as_deref(),
        mdadm: system.facts.mdadm.as_deref(),
    };
    let mut plan = mount::plan(system.root, tables, disks, &folder, leave);
    if let (Some(subvolume), Some(root)) = (&system.subvolume, plan.steps.first_mut()) {
        root.options.retain(|o| !o.starts_with("subvol"));
        root.options.push(format!("subvolid={}", subvolume.id));
    }
    if zfs::is_dataset(system.root) {
        zfs::add(&mut plan, system.root, disks, leave.write);
        return plan;
    }
    // A fstab that does not even name its root says little of the rest; what it does name stands.
    if !fstab::parse(fstab.unwrap_or_default()).0.iter().any(|e| e.target == "/") {
        let roles: Vec<(String, &str)> =
            survey.parts.iter().filter_map(|(d, c)| Some((d.clone(), c.role?))).collect();
        let places = fallback::Places { roles: &roles, esp: system.facts.esp };
        fallback::add(&mut plan, system.root, disks, &places, leave.write);
    }
    plan
}
