//! What is mounted where, by a system's own fstab and what is there: pure.

use std::path::Path;

use rescue_schema::report::BlockReport;

use super::{Leave, MOST, Plan, Step, shown, step};
use crate::disk::crypttab::{self, Opened};
use crate::disk::drivers::driver;
use crate::disk::fstab;
use crate::disk::resolve::{self, Array, Missing};
use crate::disk::zfs::is_dataset;

/// What a system says itself of its devices.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tables<'a> {
    /// Its fstab, when it could be read.
    pub fstab: Option<&'a [u8]>,
    /// Its crypttab, when it has one.
    pub crypttab: Option<&'a [u8]>,
    /// Its mdadm.conf, when it has one.
    pub mdadm: Option<&'a [u8]>,
}

/// How the system whose root is on `root` is mounted at `folder`. `tables` are its own; `disks` is what
/// is there now.
pub fn plan(
    root: &BlockReport,
    tables: Tables<'_>,
    disks: &[BlockReport],
    folder: &Path,
    leave: Leave,
) -> Plan {
    let mut plan = Plan { folder: folder.into(), ..Plan::default() };
    let Leave { write, degraded } = leave;
    let Tables { fstab, crypttab, mdadm } = tables;
    let (entries, skipped) = fstab::parse(fstab.unwrap_or_default());
    let of_root = entries.iter().find(|e| e.target == "/");
    // That the rescued system starts with a read-only root (which it remounts itself) says nothing here.
    let root_options: Vec<String> =
        of_root.map(|e| e.options.iter().filter(|o| *o != "ro").cloned().collect()).unwrap_or_default();
    plan.add(step(root, "/", write, &root_options), root, disks, degraded);
    if let Some(entry) = of_root {
        let other = resolve::device(&entry.source, disks, &root.path).ok().filter(|b| b.path != root.path);
        if let Some(other) = other.filter(|_| entry.source.contains('=')) {
            plan.trouble.push(format!("/etc/fstab line {}: its root is {} by that", entry.line, other.path));
        }
    } else if is_dataset(root) {
        // Its pool says what belongs where; see `zfs::add`.
    } else if fstab.is_none() {
        plan.trouble
            .push("there is no /etc/fstab that can be read: what belongs where is not known by it".into());
    } else if entries.is_empty() {
        plan.trouble.push("/etc/fstab has no entry: what belongs where is not known by it".into());
    }
    let of_line = |line: usize, text: String| (line, format!("/etc/fstab line {line}{text}"));
    let mut left_out: Vec<(usize, String)> = Vec::new();
    let mut trouble: Vec<(usize, String)> = match skipped.as_slice() {
        [first, rest @ .., _] if rest.len() > 2 => {
            vec![of_line(*first, format!(" and {} others are none: skipped", rest.len() + 1))]
        }
        few => few.iter().map(|line| of_line(*line, " is none: skipped".into())).collect(),
    };
    let mut rest: Vec<_> = entries.iter().filter(|e| e.target != "/").collect();
    // A mount below another comes after it, in whatever order the lines stand; so does what shows a folder
    // again that is mounted itself.
    let depth = |path: &str| path.split('/').filter(|p| !p.is_empty()).count();
    rest.sort_by_key(|e| depth(&e.target).max(if e.is_bind() { depth(&e.source) + 1 } else { 0 }));
    // What is shown again with all that is mounted below it, of which one is shown again, doubles with every line.
    let binds: Vec<&str> = rest.iter().filter(|e| e.is_bind()).map(|e| e.target.as_str()).collect();
    let nested = |source: &str| binds.iter().any(|target| Path::new(target).starts_with(source));
    for entry in rest {
        let place =
            if entry.target == "none" { String::new() } else { format!(" for {}", shown(&entry.target)) };
        let what = format!(": {}{place}", shown(&entry.source));
        let mut said = |text: String| trouble.push(of_line(entry.line, format!("{what}{text}")));
        if let Some(why) = entry.unwanted() {
            left_out.push(of_line(entry.line, format!("{what}: {why}")));
            continue;
        }
        if plan.steps.len() >= MOST {
            said(format!(": more than {MOST} mounts, left out"));
            continue;
        }
        if entry.is_bind() {
            if plan.steps.iter().any(|s| s.target == entry.target) {
                said(format!(": {} is named twice", shown(&entry.target)));
            } else {
                let deep = entry.options.iter().any(|o| o == "rbind") && !nested(&entry.source);
                plan.steps.push(Step {
                    device: String::new(),
                    bind: Some(entry.source.clone()),
                    target: entry.target.clone(),
                    driver: if deep { "rbind" } else { "bind" },
                    options: Vec::new(),
                    read_only: !write || entry.options.iter().any(|o| o == "ro"),
                    writes: None,
                });
            }
            continue;
        }
        let opened = crypttab.and_then(|table| crypttab::opened(&entry.source, table, disks, &root.path));
        if let Some(Opened::Not(below)) = &opened {
            said(format!(": {below} is encrypted: rescue unlock {below}"));
            continue;
        }
        let open = match opened {
            Some(Opened::As(device)) => Some(device),
            _ => None,
        };
        let named = open.as_ref().unwrap_or(&entry.source);
        let array = resolve::array(named, mdadm, disks);
        let source = match &array {
            Array::Is(path, _) => path.clone(),
            _ => resolve::today(named, of_root.map_or("", |r| &r.source), root, disks),
        };
        let counted = is_counted(&source);
        if let Some(was) = of_root.map(|r| r.source.as_str()).filter(|was| counted && is_counted(was))
            && was != format!("/dev/{}", root.name)
        {
            said(format!(": such numbers are others here, its own root is not {}: left out", shown(was)));
            continue;
        }
        let found = match &array {
            Array::Absent | Array::Untold(_) => Err(Missing::Nowhere),
            _ => resolve::device(&source, disks, &root.path),
        };
        if let Some(words) = array.words(named) {
            said(words);
        } else if array == Array::Other && source != *named && found.is_ok() {
            said(format!(": taken for {source}, by its number on the disk of the root"));
        }
        if matches!(array, Array::Untold(_)) {
            continue;
        }
        match found {
            Err(Missing::Nowhere) if entry.may_be_missing() => {
                left_out.push(of_line(
                    entry.line,
                    format!("{what} is on no disk here; nofail, it boots without"),
                ));
            }
            Err(Missing::Nowhere) => said(" is on no disk here".into()),
            Err(Missing::Several(all)) => said(format!(" is ambiguous: {} have it", all.join(", "))),
            Ok(block) if plan.steps.iter().any(|s| s.target == entry.target) => {
                said(format!(": {} is named twice, {} left out", shown(&entry.target), block.path));
            }
            Ok(block) if !fits(&entry.kind, block) => {
                let kind = block.probe.kind.as_deref().unwrap_or("nothing known");
                said(format!(": {} holds {kind}, not {}", block.path, shown(&entry.kind)));
            }
            Ok(block) => match step(block, &entry.target, write, &entry.options) {
                Some(step) => {
                    if counted {
                        said(format!(": taken for {}, whose number may have been another's", block.path));
                    }
                    plan.add(Some(step), block, disks, degraded);
                }
                None => {
                    let kind = block.probe.kind.as_deref().unwrap_or("nothing known");
                    said(format!(": {} holds {kind}, which is not mounted here", block.path));
                }
            },
        }
    }
    // In the order of its lines, whatever the order of the mounts.
    trouble.sort();
    left_out.sort();
    plan.trouble.extend(trouble.into_iter().map(|(_, text)| text));
    plan.left_out.extend(left_out.into_iter().map(|(_, text)| text));
    plan
}

/// Whether it is a name of a mapped device by the order in which they were made, which is another with each boot.
fn is_counted(source: &str) -> bool {
    source.strip_prefix("/dev/dm-").is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Whether what the line calls its type can be what was found: a name like /dev/sdb1 may by now be
/// another disk's.
fn fits(kind: &str, block: &BlockReport) -> bool {
    let unstable = ["auto", "ntfs-3g", "fuseblk", "msdos", "none"].contains(&kind) || kind.contains(',');
    let named = |k: &str| driver(k).map(|d| d.driver);
    let wanted = if kind == "ntfs3" || kind == "ntfs-3g" { named("ntfs") } else { named(kind) };
    unstable
        || wanted.is_none()
        || wanted == block.probe.kind.as_deref().and_then(named)
        || step(block, "/", false, &[]).is_none()
}
