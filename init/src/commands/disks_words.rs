//! What is said of one device in the tree of disks: on its line, and below it.

use rescue_schema::report::{BlockReport, PathReport, ProbeResult};

use super::wrapped::columns;
use crate::disk::zfs;

/// Columns of a UUID, which is typed into an fstab and so never cut.
pub(super) const UUID: usize = 36;

/// ECMA-48 "select graphic rendition".
#[derive(Clone, Copy)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Warning,
    Bad,
}

/// What it is known by: a disk by its model and serial number, all else by its UUID.
pub(super) fn id(block: &BlockReport) -> Option<String> {
    if block.partition.is_none() && block.model.is_some() {
        return Some(
            [&block.model, &block.serial].into_iter().flatten().cloned().collect::<Vec<_>>().join(" "),
        );
    }
    block.probe.uuid.clone().or_else(|| block.serial.clone())
}

/// How it is attached or what it is built as, what is on it, and the label of that.
pub(super) fn what(block: &BlockReport) -> String {
    let built = match block.kind.as_str() {
        "part" | "dataset" => None,
        "disk" => Some(block.bus.clone().unwrap_or_else(|| "disk".into())),
        kind => Some(kind.to_string()),
    };
    let partition = block.partition.as_ref();
    let empty = || partition.and_then(|p| p.purpose.clone().or_else(|| p.name.clone()));
    let content = block.probe.kind.clone().or_else(empty);
    let label = block.probe.label.as_ref().map(|l| format!("{l:?}"));
    [built, content, label].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// What a partition is for, by its type, where what is on it does not say that already.
pub(super) fn role(block: &BlockReport) -> Option<String> {
    const PLAIN: &[&str] =
        &["Linux", "Linux LVM", "Linux RAID", "Linux swap", "Windows data", "Windows", "FAT32", "extended"];
    let purpose = block.partition.as_ref()?.purpose.as_deref()?;
    let told = block.probe.kind.is_none() || PLAIN.contains(&purpose);
    (!told).then(|| format!("({purpose})"))
}

/// What the table calls a partition, where that says more than its type and its label do.
fn named(block: &BlockReport) -> Option<&str> {
    const COMMON: &[&str] = &["Basic data partition", "Microsoft reserved partition", "EFI System Partition"];
    let partition = block.partition.as_ref().filter(|_| block.probe.kind.is_some())?;
    let name = partition.name.as_deref().filter(|name| !name.is_empty() && !COMMON.contains(name))?;
    let told = |text: &Option<String>| text.as_deref().is_some_and(|text| text.eq_ignore_ascii_case(name));
    (!told(&partition.purpose) && !told(&block.probe.label)).then_some(name)
}

/// What a disk is to be known by beside its model, and that it is well.
fn standing(block: &BlockReport) -> Option<String> {
    let mut words = Vec::new();
    if let Some(health) = block.health.as_ref().filter(|h| h.word != "unknown") {
        if health.word == "good" {
            words.push("health good".to_string());
        }
        words.extend(health.temperature.map(|t| format!("{t} °C")));
        words.extend(health.hours.map(|hours| format!("{hours} h")));
        words.extend(health.used.map(|used| format!("{used} % used")));
    }
    let shown = id(block).filter(|id| columns(id) <= UUID).unwrap_or_default();
    let serial = block.serial.as_ref().filter(|serial| !shown.contains(serial.as_str()));
    words.extend(serial.map(|serial| format!("serial {serial}")));
    words.extend(block.wwn.as_ref().map(|wwn| format!("WWN {wwn}")));
    words.extend(block.slot.as_ref().map(|slot| format!("at {slot}")));
    words.extend(block.namespace.filter(|n| *n != 1).map(|n| format!("namespace {n}")));
    let backing = if block.kind == "zvol" { "volume" } else { "file" };
    words.extend(block.backing.as_ref().map(|what| format!("{backing} {what}")));
    (!words.is_empty()).then(|| words.join(", "))
}

fn health(block: &BlockReport) -> Option<(String, Style)> {
    let health = block.health.as_ref()?;
    let why = health.why.join("; ");
    match health.word.as_str() {
        "good" => None,
        "failing" => Some((format!("FAILING: {why}"), Style::Bad)),
        // Disks of virtual machines have none to tell of, and that is no news.
        "unknown" if why.contains("keeps no log") || why.contains("has none") => None,
        "unknown" => Some((format!("health unknown: {why}"), Style::Dim)),
        word => Some((format!("{word}: {why}"), Style::Warning)),
    }
}

/// What is to be said of a device below its line.
pub(super) fn facts(block: &BlockReport) -> Vec<(String, Style)> {
    let mut facts = Vec::new();
    if block.kind == "overlay" {
        // What is on it was said of the device below.
        return vec![("what is written to it stays in RAM".into(), Style::Dim)];
    }
    facts.extend(standing(block).map(|words| (words, Style::Dim)));
    // A file system on all of a disk: the disk is shown by its model.
    let uuid =
        block.probe.uuid.as_ref().filter(|_| {
            block.partition.is_none() && block.model.is_some() && block.probe.partitions.is_empty()
        });
    facts.extend(uuid.map(|uuid| (format!("UUID {uuid}"), Style::Plain)));
    facts.extend(named(block).map(|name| (format!("named {name:?}"), Style::Dim)));
    if block.kind == "zpool" {
        let how = if block.read_only { "imported read-only" } else { "imported READ-WRITE" };
        facts.push((how.into(), if block.read_only { Style::Dim } else { Style::Warning }));
    } else if block.read_only && block.mounts.is_empty() && !matches!(block.kind.as_str(), "rom" | "dataset")
    {
        facts.push(("the device is read-only".into(), Style::Dim));
    }
    facts.extend(zfs::locked(block).map(|why| (why, Style::Warning)));
    if !block.paths.is_empty() {
        let path = |p: &PathReport| match p.state.as_deref() {
            Some("running" | "live") | None => p.name.clone(),
            Some(state) => format!("{} ({state})", p.name),
        };
        let paths: Vec<String> = block.paths.iter().map(path).collect();
        facts.push((format!("{} paths: {}", paths.len(), paths.join(", ")), Style::Dim));
    }
    facts.extend(health(block));
    // Why it cannot be read says that it is suspended, and what to do.
    let state = block.state.as_ref().filter(|state| *state != "suspended");
    facts.extend(state.map(|state| (state.clone(), Style::Bad)));
    match block.probe.result {
        ProbeResult::Unreadable => {
            facts.push(("UNREADABLE: this is not to say that it is empty".into(), Style::Bad))
        }
        ProbeResult::Ambivalent => {
            let kinds: Vec<&str> = block.probe.signatures.iter().map(|s| s.kind.as_str()).collect();
            facts.push((format!("ambivalent: it looks like {}", kinds.join(" and like ")), Style::Bad));
        }
        ProbeResult::Found | ProbeResult::Nothing => {}
    }
    match block.probe.state.as_deref() {
        None | Some("clean") => {}
        Some(state @ ("damaged" | "errors seen")) => facts.push((state.into(), Style::Bad)),
        // What is in use for writing has not been written back; that says nothing of its health.
        Some(_) if block.mounts.iter().any(|m| !m.read_only) => {}
        Some(state) => facts.push((state.into(), Style::Warning)),
    }
    // A dying disk fails every read, each in its own words: the first says what is wrong.
    let (failed, said): (Vec<&String>, Vec<&String>) = block
        .probe
        .notes
        .iter()
        .partition(|note| note.starts_with("reading ") || note.contains("more places"));
    // How a pool is imported is of no use where it is.
    let imported = block.children.iter().any(|c| c.kind == "zpool");
    facts.extend(said.into_iter().filter(|_| !imported).map(|n| (n.clone(), Style::Warning)));
    if let Some(first) = failed.first() {
        facts.push(((*first).clone(), Style::Bad));
    }
    if let more @ 1.. = failed.len().saturating_sub(1) {
        facts.push((format!("and {more} reads more"), Style::Bad));
    }
    for mount in &block.mounts {
        facts.push(match (mount.target.as_str(), mount.read_only) {
            (swap @ "[SWAP]", _) => (swap.into(), Style::Good),
            (target, true) => (format!("at {target}, read-only"), Style::Good),
            (target, false) => (format!("at {target}, READ-WRITE"), Style::Warning),
        });
    }
    facts
}

/// In the largest unit that it is at least one of.
pub(super) fn size(bytes: u64) -> String {
    let mut unit = "B";
    let (mut whole, mut tenth) = (bytes, 0);
    for next in ["K", "M", "G", "T", "P", "E"] {
        if whole < 1024 {
            break;
        }
        tenth = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit = next;
    }
    if whole < 10 && unit != "B" { format!("{whole}.{tenth}{unit}") } else { format!("{whole}{unit}") }
}
