//! Who keeps a mount from being unmounted, as /proc tells it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rescue_schema::report::Holder;

use crate::sys::files::read_capped;

/// Most of one process's mappings that is read.
const MAPS: usize = 4 << 20;

/// Every process but this one that holds something at or below `target`. `proc` is `/proc`.
pub fn of(proc: &Path, target: &Path) -> Vec<Holder> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().filter(|pid| *pid != own).filter_map(|pid| holder(proc, pid, target)).collect()
}

/// Processes that are inside `folder` with mounts of their own, as `rescue enter` makes them: what is
/// unmounted here stays mounted for them.
pub fn inside(proc: &Path, folder: &Path) -> Vec<Holder> {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let own = std::fs::read_link(proc.join("self/ns/mnt")).ok();
    let held = |pid: i32| {
        let process = proc.join(pid.to_string());
        let root = std::fs::read_link(process.join("root")).ok().filter(|r| r.starts_with(folder))?;
        let theirs = std::fs::read_link(process.join("ns/mnt")).ok()?;
        let command = read_capped(&process.join("comm"), 256).unwrap_or_default();
        let by = clean(&format!("root {}", root.display()));
        (own.as_ref() != Some(&theirs)).then(|| Holder {
            pid,
            command: clean(&String::from_utf8_lossy(&command)),
            by,
        })
    };
    pids.into_iter().filter_map(held).collect()
}

/// How one process holds something at or below `target`, if it does: by the first thing that is found.
pub fn holder(proc: &Path, pid: i32, target: &Path) -> Option<Holder> {
    let folder = proc.join(pid.to_string());
    let device = std::fs::metadata(target).ok().map(|m| m.dev());
    // A path alone is not enough: a file in the folder that the mount lies on has the same.
    let on_it = |link: &Path| {
        let path = std::fs::read_link(link).ok()?;
        let held = path.starts_with(target)
            && match (std::fs::metadata(link).ok().map(|m| m.dev()), device) {
                (Some(theirs), Some(ours)) => theirs == ours,
                _ => true,
            };
        held.then_some(path)
    };
    let by = |what: &str, path: &Path| format!("{what} {}", path.display());
    let held = on_it(&folder.join("cwd")).map(|p| by("working directory", &p));
    let held = held.or_else(|| on_it(&folder.join("root")).map(|p| by("root", &p)));
    let held = held.or_else(|| on_it(&folder.join("exe")).map(|p| by("program", &p)));
    let held = held.or_else(|| {
        let open = std::fs::read_dir(folder.join("fd")).ok()?.flatten();
        open.filter_map(|e| on_it(&e.path())).next().map(|p| by("open file", &p))
    });
    let held = held.or_else(|| mapped(&folder, target).map(|p| by("mapped file", &p)));
    let command = read_capped(&folder.join("comm"), 256).unwrap_or_default();
    held.map(|by| Holder { pid, command: clean(&String::from_utf8_lossy(&command)), by: clean(&by) })
}

fn mapped(folder: &Path, target: &Path) -> Option<PathBuf> {
    let maps = read_capped(&folder.join("maps"), MAPS).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    maps.lines()
        .filter_map(|l| l.split_once('/'))
        .map(|(_, p)| Path::new("/").join(p))
        .find(|p| p.starts_with(target))
}

fn clean(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// This process's parents, the nearest first: the shell that it was typed in among them.
pub fn parents(proc: &Path) -> Vec<i32> {
    let parent = |pid: &i32| {
        let stat = read_capped(&proc.join(pid.to_string()).join("stat"), 4096).ok()?;
        // The name, in parentheses, may hold blanks and parentheses (proc_pid_stat(5)).
        let stat = String::from_utf8_lossy(&stat).into_owned();
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().filter(|p| *p > 0)
    };
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    std::iter::successors(Some(own), parent).skip(1).take(1024).collect()
}
