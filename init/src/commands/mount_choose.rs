//! Which of the systems that were found is meant, and why there may be others that were not.

use anyhow::bail;
use rescue_schema::report::BlockReport;

use super::Usage;
use super::find::{Found, Survey};
use super::wrapped::complain;
use crate::disk::{assemble, zfs};

/// Says what could not be looked at, unless the system that is meant was found all the same.
pub(super) fn unseen(survey: &Survey<'_>, name: Option<&str>) {
    if !name.is_some_and(|name| survey.systems.iter().any(|s| is_called(s, name))) {
        survey.unseen.iter().for_each(|line| complain!("rescue: {line}"));
    }
}

/// Whether a person means this one by a name.
pub(super) fn is_called(system: &Found<'_>, name: &str) -> bool {
    system.name == name || system.root.path == name
}

/// The systems that are meant: snapshots, and those of guests, only where they are named.
pub(super) fn choose<'a>(
    survey: &'a Survey<'a>,
    name: Option<&str>,
    all: bool,
    write: bool,
    disks: &[BlockReport],
) -> anyhow::Result<Vec<&'a Found<'a>>> {
    let systems = &survey.systems;
    let list = |shown: &[&Found<'_>]| {
        shown.iter().map(|s| format!("\n  {:<16} {}", s.name, describe(s))).collect::<String>()
    };
    let (guests, live): (Vec<&Found<'_>>, Vec<&Found<'_>>) =
        systems.iter().filter(|s| !s.snapshot).partition(|s| s.guest.is_some());
    if let Some(one) = name.and_then(|name| systems.iter().find(|s| is_called(s, name))) {
        return Ok(vec![one]);
    }
    match name {
        // One that has a name is not to be found for the same reasons.
        _ if live.is_empty() && !guests.is_empty() => {
            Err(Usage(format!("no system but those of guests: name one:{}", list(&guests))).into())
        }
        _ if live.is_empty() => {
            bail!("no Linux system found, nor another{}", where_else(survey, disks, write))
        }
        Some(name) => {
            let all = [live, guests].concat();
            Err(Usage(format!("no system {name:?}; there are:{}", list(&all))).into())
        }
        None if live.len() > 1 && !all => {
            Err(Usage(format!("several systems: name one, or --all:{}", list(&live))).into())
        }
        None => Ok(live),
    }
}

/// Where one may be all the same: what is locked, could not be read or is not put together.
fn where_else(survey: &Survey<'_>, disks: &[BlockReport], write: bool) -> String {
    let rw = if write { "--rw " } else { "" };
    let locked = assemble::locked_here(disks).into_iter();
    let mut said: Vec<String> =
        locked.map(|b| format!("{0} is encrypted: rescue unlock {rw}{0}", b.path)).collect();
    let datasets = zfs::locked_keys(disks, false).into_iter();
    said.extend(datasets.map(|name| format!("{name} is encrypted: rescue unlock {rw}{name}")));
    match survey.unread.as_slice() {
        [] => {}
        [one] => said.push(format!("{one} could not be read")),
        all => said.push(format!("{} devices could not be read: {}", all.len(), all.join(", "))),
    }
    said.extend(assemble::left(disks, false).why);
    match said.as_slice() {
        [] => ": `rescue disks` shows what is on the disks".into(),
        [one] => format!("; {one}"),
        all => format!(", but not all could be seen:\n  {}", all.join("\n  ")),
    }
}

fn describe(system: &Found<'_>) -> String {
    let pretty = system.facts.pretty_name.as_deref().unwrap_or(system.facts.family);
    let subvolume = system.subvolume.as_ref().filter(|s| !s.path.is_empty());
    let subvolume = subvolume.map(|s| format!(", {}", s.path)).unwrap_or_default();
    format!("{pretty} on {}{subvolume}", system.root.path)
}
