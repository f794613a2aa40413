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
        same_device(&process.join("root"), device(&root)).then_some(())?;
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
    let ours = device(target);
    let on_it = |link: &Path| {
        let path = std::fs::read_link(link).ok()?;
        (path.starts_with(target) && same_device(link, ours)).then_some(path)
    };
    let by = |what: &str, path: &Path| format!("{what} {}", path.display());
    let held = on_it(&folder.join("cwd")).map(|p| by("working directory", &p));
    let held = held.or_else(|| on_it(&folder.join("root")).map(|p| by("root", &p)));
    let held = held.or_else(|| on_it(&folder.join("exe")).map(|p| by("program", &p)));
    let held = held.or_else(|| {
        let open = std::fs::read_dir(folder.join("fd")).ok()?.flatten();
        open.filter_map(|e| on_it(&e.path())).next().map(|p| by("open file", &p))
    });
    let held = held.or_else(|| mapped(&folder, target, ours).map(|p| by("mapped file", &p)));
    let command = read_capped(&folder.join("comm"), 256).unwrap_or_default();
    held.map(|by| Holder { pid, command: clean(&String::from_utf8_lossy(&command)), by: clean(&by) })
}

/// A path alone is not enough: a file in the folder that a mount lies on has the same, and so has what
/// another namespace mounted there. Where a device cannot be told the path decides.
fn same_device(link: &Path, ours: Option<u64>) -> bool {
    device(link).zip(ours).is_none_or(|(theirs, ours)| theirs == ours)
}

fn device(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|m| m.dev())
}

fn mapped(folder: &Path, target: &Path, ours: Option<u64>) -> Option<PathBuf> {
    let maps = read_capped(&folder.join("maps"), MAPS).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let of = |line: &str| {
        let path = Path::new("/").join(line.split_once('/')?.1);
        // The name of its link: the same addresses without the zeros before them (proc_pid_map_files(5)).
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let address = |hex| u64::from_str_radix(hex, 16).ok();
        let link = folder.join("map_files").join(format!("{:x}-{:x}", address(from)?, address(to)?));
        (path.starts_with(target) && same_device(&link, ours)).then_some(path)
    };
    maps.lines().find_map(of)
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
