//! The tree of disks as a person reads it: 80 columns, colours only for a terminal.

use std::collections::HashSet;
use std::io::IsTerminal;

use rescue_schema::report::{BlockReport, DisksReport, PathReport, ProbeResult};

/// Columns of the narrowest terminal that is common: a serial console.
const WIDTH: usize = 80;
/// Columns of a UUID, which is typed into an fstab and so never cut.
const UUID: usize = 36;

/// Whether stdout is a terminal that wants colours (no-color.org).
pub(super) fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
    std::io::stdout().is_terminal() && !dumb && !set("NO_COLOR")
}

/// ECMA-48 "select graphic rendition".
#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Warning,
    Bad,
}

struct View {
    colours: bool,
    /// Columns of the names.
    names: usize,
    /// Devices that were shown: one that is built on several stands below each of them.
    shown: HashSet<String>,
    text: String,
}

/// The tree, and what can be done next.
pub(super) fn tree(report: &DisksReport, colours: bool) -> String {
    if report.disks.is_empty() {
        return "no disks: `rescue log` shows which drivers were loaded\n".into();
    }
    let names = report.disks.iter().map(|d| name_columns(d, 0)).max().unwrap_or(0).clamp(12, 20);
    let mut view = View { colours, names, shown: HashSet::new(), text: String::new() };
    let what = view.what();
    let head = format!("{:<names$} {:>5} {:<what$} UUID or MODEL", "NAME", "SIZE", "WHAT");
    view.line(&[(&head, Style::Dim)]);
    for disk in &report.disks {
        view.block(disk, "", "");
    }
    let mut hint = String::new();
    let held = |block: &BlockReport| block.mounts.iter().any(|m| m.target.starts_with("/mnt/"));
    if any(&report.disks, &held) {
        hint.push_str("rescue umount    unmounts what is below /mnt, in order");
    } else if any(&report.disks, &|b| {
        matches!(b.probe.kind.as_deref(), Some("ext2" | "ext3" | "ext4" | "xfs" | "btrfs"))
    }) {
        hint.push_str("rescue mount     finds the system and shows it in /mnt, read-only");
    }
    if !hint.is_empty() {
        view.text.push('\n');
        view.line(&[(&hint, Style::Bold)]);
    }
    view.text
}

fn any(blocks: &[BlockReport], is: &dyn Fn(&BlockReport) -> bool) -> bool {
    blocks.iter().any(|b| is(b) || any(&b.children, is))
}

fn name(block: &BlockReport) -> &str {
    block.path.strip_prefix("/dev/mapper/").unwrap_or(&block.name)
}

fn name_columns(block: &BlockReport, depth: usize) -> usize {
    let below = block.children.iter().map(|c| name_columns(c, depth + 1)).max();
    (2 * depth + name(block).chars().count()).max(below.unwrap_or(0))
}

impl View {
    fn what(&self) -> usize {
        WIDTH - UUID - 8 - self.names
    }

    fn block(&mut self, block: &BlockReport, own: &str, below: &str) {
        let (names, width) = (self.names, self.what());
        let first = self.shown.insert(block.path.clone());
        let label = cut(&format!("{own}{}", name(block)), names);
        let style = if own.is_empty() { Style::Bold } else { Style::Plain };
        if !first {
            self.line(&[(&format!("{label:<names$} "), style), ("      as above", Style::Dim)]);
            return;
        }
        let id = if block.partition.is_none() && block.model.is_some() {
            Some([&block.model, &block.serial].into_iter().flatten().cloned().collect::<Vec<_>>().join(" "))
        } else {
            block.probe.uuid.clone().or_else(|| block.serial.clone())
        };
        let mut words = what(block);
        if let Some(role) = role(block).filter(|role| words.chars().count() + role.chars().count() < width) {
            words = format!("{words} {role}");
        }
        let columns = format!("{:>5} {:<width$} ", size(block.size), cut(&words, width));
        self.line(&[
            (&format!("{label:<names$} "), style),
            (&columns, Style::Plain),
            (&cut(id.as_deref().unwrap_or_default(), UUID), Style::Plain),
        ]);
        let bar = if block.children.is_empty() { below.to_string() } else { format!("{below}│") };
        for (fact, style) in facts(block) {
            for line in wrapped(&fact, WIDTH - names - 7) {
                self.line(&[(&format!("{bar:<names$}       "), Style::Plain), (&line, style)]);
            }
        }
        let last = block.children.len().saturating_sub(1);
        for (index, child) in block.children.iter().enumerate() {
            let (tee, bar) = if index == last { ("└─", "  ") } else { ("├─", "│ ") };
            self.block(child, &format!("{below}{tee}"), &format!("{below}{bar}"));
        }
    }

    fn line(&mut self, parts: &[(&str, Style)]) {
        let mut parts = parts.to_vec();
        while parts.pop_if(|(text, _)| text.trim().is_empty()).is_some() {}
        if let Some((text, _)) = parts.last_mut() {
            *text = text.trim_end();
        }
        for (text, style) in parts {
            let code = match style {
                _ if !self.colours => None,
                Style::Plain => None,
                Style::Bold => Some("1"),
                Style::Dim => Some("2"),
                Style::Good => Some("32"),
                Style::Warning => Some("33"),
                Style::Bad => Some("1;31"),
            };
            match code {
                Some(code) => self.text.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => self.text.push_str(text),
            }
        }
        self.text.push('\n');
    }
}

/// How it is attached or what it is built as, what is on it, and the label of that.
fn what(block: &BlockReport) -> String {
    let built = match block.kind.as_str() {
        "part" => None,
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
fn role(block: &BlockReport) -> Option<String> {
    const PLAIN: &[&str] =
        &["Linux", "Linux LVM", "Linux RAID", "Linux swap", "Windows data", "Windows", "FAT32", "extended"];
    let purpose = block.partition.as_ref()?.purpose.as_deref()?;
    let told = block.probe.kind.is_none() || PLAIN.contains(&purpose);
    (!told).then(|| format!("({purpose})"))
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
    words.extend(block.slot.as_ref().map(|slot| format!("at {slot}")));
    words.extend(block.namespace.filter(|n| *n != 1).map(|n| format!("namespace {n}")));
    words.extend(block.backing.as_ref().map(|file| format!("file {file}")));
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
fn facts(block: &BlockReport) -> Vec<(String, Style)> {
    let mut facts = Vec::new();
    facts.extend(standing(block).map(|words| (words, Style::Dim)));
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
    facts.extend(said.into_iter().map(|n| (n.clone(), Style::Warning)));
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

/// Lines of at most `width`, broken at blanks; at most eight.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let word = cut(word, width);
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(&word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines.truncate(8);
    lines
}

fn size(bytes: u64) -> String {
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

/// Labels are written by whoever made the disk; a terminal must not obey them.
fn cut(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(clean).collect();
    }
    text.chars().take(width.saturating_sub(1)).map(clean).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rescue_schema::report::{HealthReport, MountPoint, PartitionReport, ProbeReport};

    fn found(kind: &str, label: &str, uuid: &str, state: &str) -> ProbeReport {
        let text = |t: &str| (!t.is_empty()).then(|| t.to_string());
        ProbeReport {
            result: ProbeResult::Found,
            kind: text(kind),
            label: text(label),
            uuid: text(uuid),
            state: text(state),
            ..ProbeReport::default()
        }
    }

    fn device(
        path: &str,
        kind: &str,
        size: u64,
        probe: ProbeReport,
        children: Vec<BlockReport>,
    ) -> BlockReport {
        let partition = (kind == "part")
            .then(|| PartitionReport { purpose: Some("BIOS boot".into()), ..PartitionReport::default() });
        let name = path.trim_start_matches("/dev/").to_string();
        BlockReport {
            name,
            path: path.into(),
            kind: kind.into(),
            size,
            partition,
            probe,
            children,
            ..BlockReport::default()
        }
    }

    fn server() -> DisksReport {
        const ID: &str = "8f2a6c1e-5b0d-4e7f-9a31-c2d4e6f80912";
        let at = |target: &str, read_only| vec![MountPoint { target: target.into(), read_only }];
        let mut root = device(
            "/dev/mapper/vg0-root",
            "lvm",
            40 << 30,
            found("ext4", "root", ID, "needs journal recovery"),
            vec![],
        );
        root.mounts = at("/mnt/db7", true);
        let mut swap = device("/dev/mapper/vg0-swap", "lvm", 4 << 30, found("swap", "", ID, ""), vec![]);
        swap.mounts = at("[SWAP]", false);
        let array =
            device("/dev/md0", "raid1", 100 << 30, found("LVM2_member", "", "", ""), vec![root, swap]);
        let member = |path: &str| {
            device(path, "part", 100 << 30, found("linux_raid_member", "db7:0", ID, ""), vec![array.clone()])
        };
        let disk = |name: &str| {
            let path = |n: u32| format!("/dev/{name}{n}");
            let boot = device(&path(1), "part", 1 << 20, ProbeReport::default(), vec![]);
            let esp = device(
                &path(2),
                "part",
                512 << 20,
                found("vfat", "ESP\x1b[2J", "7A5E-11C9", "clean"),
                vec![],
            );
            let mut disk = device(
                &format!("/dev/{name}"),
                "disk",
                100 << 30,
                found("gpt", "", "", ""),
                vec![boot, esp, member(&path(3))],
            );
            (disk.bus, disk.model) = (Some("sata".into()), Some("Samsung SSD 870".into()));
            disk
        };
        let mut dead = device("/dev/sdc", "disk", 4 << 40, ProbeReport::default(), vec![]);
        dead.probe.result = ProbeResult::Unreadable;
        dead.probe.notes = vec!["no answer within 2 s".into()];
        DisksReport { disks: vec![disk("sda"), disk("sdb"), dead] }
    }

    #[test]
    fn a_server_with_an_array() {
        let text = tree(&server(), false);
        let expected = r#"NAME            SIZE WHAT                   UUID or MODEL
sda             100G sata gpt               Samsung SSD 870
├─sda1          1.0M BIOS boot
├─sda2          512M vfat "ESP\u{1b}[2J"    7A5E-11C9
└─sda3          100G linux_raid_member "db… 8f2a6c1e-5b0d-4e7f-9a31-c2d4e6f80912
  └─md0         100G raid1 LVM2_member
    ├─vg0-root   40G lvm ext4 "root"        8f2a6c1e-5b0d-4e7f-9a31-c2d4e6f80912
    │                needs journal recovery
    │                at /mnt/db7, read-only
    └─vg0-swap  4.0G lvm swap               8f2a6c1e-5b0d-4e7f-9a31-c2d4e6f80912
                     [SWAP]
sdb             100G sata gpt               Samsung SSD 870
├─sdb1          1.0M BIOS boot
├─sdb2          512M vfat "ESP\u{1b}[2J"    7A5E-11C9
└─sdb3          100G linux_raid_member "db… 8f2a6c1e-5b0d-4e7f-9a31-c2d4e6f80912
  └─md0              as above
sdc             4.0T disk
                     UNREADABLE: this is not to say that it is empty
                     no answer within 2 s

rescue umount    unmounts what is below /mnt, in order
"#;
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn a_disk_says_how_it_is_where_it_is_and_by_which_ways() {
        let mut disk = device("/dev/sda", "disk", 4 << 40, found("gpt", "", "", "clean"), vec![]);
        (disk.bus, disk.model, disk.serial) =
            (Some("sas".into()), Some("SEAGATE ST4000".into()), Some("Z1".into()));
        disk.slot = Some("Slot 03 0:0:3:0".into());
        let path =
            |name: &str, state: &str| PathReport { name: name.into(), slot: None, state: Some(state.into()) };
        disk.paths = vec![path("sda", "running"), path("sdb", "offline")];
        let (why, temperature) = (vec!["12 reallocated sectors".into()], Some(71));
        let health = HealthReport { word: "suspect".into(), why, temperature, hours: Some(9), used: None };
        disk.health = Some(health);
        let reads = ["reading 512 bytes at byte 0: EIO", "reading 512 bytes at byte 9: EIO"];
        disk.probe.notes = reads.map(String::from).to_vec();
        let mut esp = device("/dev/sda1", "part", 512 << 20, found("vfat", "", "7A5E-11C9", "clean"), vec![]);
        esp.partition =
            Some(PartitionReport { purpose: Some("EFI system".into()), ..PartitionReport::default() });
        let mut well = device("/dev/nvme0n1", "disk", 1 << 40, ProbeReport::default(), vec![]);
        let (word, hours) = ("good".to_string(), Some(1200));
        well.health = Some(HealthReport { word, why: vec![], temperature: Some(31), hours, used: Some(3) });
        disk.children.push(esp);
        let text = tree(&DisksReport { disks: vec![disk, well] }, false);
        let expected = r#"NAME          SIZE WHAT                     UUID or MODEL
sda           4.0T sas gpt                  SEAGATE ST4000 Z1
│                  71 °C, 9 h, at Slot 03 0:0:3:0
│                  2 paths: sda, sdb (offline)
│                  suspect: 12 reallocated sectors
│                  reading 512 bytes at byte 0: EIO
│                  and 1 reads more
└─sda1        512M vfat (EFI system)        7A5E-11C9
nvme0n1       1.0T disk
                   health good, 31 °C, 1200 h, 3 % used
"#;
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn it_fits_and_colours_change_no_letter() {
        let plain = tree(&server(), false);
        assert!(plain.lines().all(|l| l.chars().count() <= WIDTH), "{plain}");
        let mut coloured = tree(&server(), true);
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[1;31m"] {
            assert!(coloured.contains(code), "{code:?}");
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
    }
}
