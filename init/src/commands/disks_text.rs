//! The tree of disks as a person reads it: 80 columns, colours only for a terminal.

use std::collections::HashSet;
use std::io::IsTerminal;

use rescue_schema::report::{BlockReport, DisksReport, PartitionReport};

use super::disks::unseen;
use super::disks_words::{Style, UUID, facts, id, role, size, what};
use super::wrapped::{columns, cut, filled, folded};

/// Columns of the narrowest terminal that is common: a serial console.
const WIDTH: usize = 80;

/// Whether stdout is a terminal that wants colours (no-color.org).
pub(super) fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
    std::io::stdout().is_terminal() && !dumb && !set("NO_COLOR")
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
        matches!(b.probe.kind.as_deref(), Some("ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "zfs"))
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
    // A dataset stands below its pool.
    if block.kind == "dataset"
        && let Some((_, inner)) = block.name.split_once('/')
    {
        return inner;
    }
    if block.name.starts_with('(') {
        return &block.name;
    }
    block.path.strip_prefix("/dev/mapper/").unwrap_or(&block.name)
}

fn name_columns(block: &BlockReport, depth: usize) -> usize {
    let below = block.children.iter().map(|c| name_columns(c, depth + 1)).max();
    (2 * depth + columns(name(block))).max(below.unwrap_or(0))
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
            self.line(&[(&format!("{} ", filled(&label, names)), style), ("      as above", Style::Dim)]);
            return;
        }
        let id = id(block).unwrap_or_default();
        let mut words = what(block);
        if let Some(role) = role(block).filter(|role| columns(&words) + columns(role) < width) {
            words = format!("{words} {role}");
        }
        let middle = format!("{:>5} {} ", size(block.size), filled(&words, width));
        self.line(&[
            (&format!("{} ", filled(&label, names)), style),
            (&middle, Style::Plain),
            (&cut(&id, UUID), Style::Plain),
        ]);
        let children: Vec<BlockReport> = block
            .children
            .iter()
            .cloned()
            .chain(unseen(block).into_iter().map(|p| hidden(p, block)))
            .collect();
        let bar = if children.is_empty() { below.to_string() } else { format!("{below}│") };
        let mut facts = facts(block);
        if columns(own) + columns(name(block)) > names {
            // What is typed to name it.
            let whole = if block.kind == "dataset" { name(block) } else { &block.path };
            facts.insert(0, (whole.into(), Style::Plain));
        }
        if columns(&words) > width {
            facts.extend(block.probe.label.as_ref().map(|label| (format!("label {label:?}"), Style::Dim)));
        }
        if children.len() > block.children.len() {
            facts.push(("the kernel does not show the partitions in brackets".into(), Style::Warning));
        }
        for (fact, style) in facts {
            for line in folded(&fact, WIDTH - names - 7) {
                self.line(&[(&format!("{bar:<names$}       "), Style::Plain), (&line, style)]);
            }
        }
        let last = children.len().saturating_sub(1);
        for (index, child) in children.iter().enumerate() {
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

/// A partition that the kernel does not show, as if it did.
fn hidden(partition: &PartitionReport, disk: &BlockReport) -> BlockReport {
    BlockReport {
        // No path at all, and one for each.
        path: format!("{} ({})", disk.path, partition.number),
        name: format!("({})", partition.number),
        kind: "part".into(),
        size: partition.size,
        probe: partition.content.as_deref().cloned().unwrap_or_default(),
        partition: Some(partition.clone()),
        ..BlockReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rescue_schema::report::{HealthReport, MountPoint, PathReport, ProbeReport, ProbeResult};

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
  │                  label "db7:0"
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
  │                  label "db7:0"
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
    fn partitions_that_the_kernel_does_not_show_are_there_with_what_is_on_them() {
        let mut disk = device("/dev/sda", "disk", 4 << 40, found("gpt", "", "", "damaged"), vec![]);
        (disk.model, disk.serial) = (Some("Some maker's model with a long name".into()), Some("Z1".into()));
        (disk.wwn, disk.read_only) = (Some("naa.5000c500a1b2c3d4".into()), true);
        let root = Box::new(found("xfs", &"漢".repeat(12), "8f2a6c1e-5b0d-4e7f-9a31-c2d4e6f80912", "clean"));
        disk.probe.partitions = vec![
            PartitionReport { number: 1, size: 1 << 20, kind: "0x5".into(), ..PartitionReport::default() },
            PartitionReport {
                number: 5,
                size: 1 << 40,
                name: Some("root a".into()),
                content: Some(root),
                ..PartitionReport::default()
            },
        ];
        let mut whole = device("/dev/sdb", "disk", 1 << 40, found("ext4", "", "7A5E", "clean"), vec![]);
        whole.model = Some("Model".into());
        let text = tree(&DisksReport { disks: vec![disk, whole] }, false);
        let expected = r#"NAME          SIZE WHAT                     UUID or MODEL
sda           4.0T disk gpt                 Some maker's model with a long name…
│                  serial Z1, WWN naa.5000c500a1b2c3d4
│                  the device is read-only
│                  damaged
│                  the kernel does not show the partitions in brackets
└─(5)         1.0T xfs "漢漢漢漢漢漢漢漢漢… 8f2a6c1e-5b0d-4e7f-9a31-c2d4e6f80912
                   named "root a"
                   label "漢漢漢漢漢漢漢漢漢漢漢漢"
sdb           1.0T disk ext4                Model
                   UUID 7A5E

rescue mount     finds the system and shows it in /mnt, read-only
"#;
        assert_eq!(text, expected, "\n{text}");
        assert!(text.lines().all(|line| columns(line) <= WIDTH), "{text}");
    }

    #[test]
    fn what_is_called_by_a_long_name_is_named_whole() {
        let path = "/dev/mapper/ubuntu--vg--production--db7-postgresql--data--cluster--main";
        let mut volume = device(path, "lvm", 20 << 20, found("ext4", "", "", "clean"), vec![]);
        volume.name = "dm-3".into();
        let text = tree(&DisksReport { disks: vec![volume] }, false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("ubuntu--vg--product… "), "{text}");
        assert_eq!(format!("{}{}", lines[2].trim(), lines[3].trim()), path, "{text}");
        assert!(lines.iter().all(|l| l.chars().count() <= WIDTH), "{text}");
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
