//! Partition tables made by sfdisk, sgdisk, fdisk and parted, compared field by field with what sfdisk and
//! partx say of them; and tables that are damaged in every way that was thought of.
#![allow(missing_docs, clippy::cast_possible_truncation)]

use std::path::Path;

#[path = "tables/gpt.rs"]
mod gpt;
#[path = "tables/image.rs"]
mod image;

use image::{Image, look, sh};
use rescue_schema::report::{ProbeReport, ProbeResult};
use serde_json::Value;

/// A name, the size of a disk, bytes of a sector, and what makes its table.
const MADE: &[(&str, &str, u64, &str)] = &[
    (
        "gpt by sfdisk",
        "64M",
        512,
        "printf 'label: gpt\\nsize=8M,type=U,name=\"EFI ümlaut\"\\nsize=8M,type=R,attrs=\"RequiredPartition,\
         LegacyBIOSBootable,GUID:63\"\\nsize=4M,type=S\\nsize=4M,type=V\\ntype=H\\n' | sfdisk -q @",
    ),
    (
        "gpt by sgdisk",
        "64M",
        512,
        "sgdisk -n1:0:+8M -t1:ef02 -n5:0:+8M -t5:8304 -c5:root -n128:0:0 -t128:bf01 @",
    ),
    (
        "gpt by parted",
        "64M",
        512,
        "parted -s @ mklabel gpt mkpart one fat32 1MiB 9MiB set 1 esp on mkpart two 9MiB 100%",
    ),
    ("gpt of 4096", "64M", 4096, "printf 'g\\nn\\n1\\n\\n+8M\\nn\\n2\\n\\n\\nw\\n' | fdisk -b 4096 @"),
    (
        "gpt of many",
        "64M",
        512,
        "(echo 'label: gpt'; echo 'grain: 4096'; for i in $(seq 1 120); do echo size=256K; done) | sfdisk -q @",
    ),
    ("gpt without partitions", "8M", 512, "echo 'label: gpt' | sfdisk -q @"),
    (
        "dos by sfdisk",
        "64M",
        512,
        "printf 'label: dos\\nsize=8M,type=83,bootable\\nsize=8M,type=82\\ntype=7\\n' | sfdisk -q @",
    ),
    (
        "dos with logicals",
        "64M",
        512,
        "printf 'label: dos\\nsize=4M\\nsize=40M,type=5\\ntype=8e\\n\\nsize=4M\\nsize=4M,type=82\\nsize=4M,type=fd\\n' | sfdisk -q @",
    ),
    (
        "dos by parted",
        "64M",
        512,
        "parted -s @ mklabel msdos mkpart primary 1MiB 9MiB mkpart extended 9MiB 100% mkpart logical 10MiB 20MiB mkpart logical 21MiB 30MiB set 1 boot on",
    ),
    (
        "dos with many logicals",
        "128M",
        512,
        "(printf 'label: dos\\ntype=f\\n'; for i in $(seq 1 55); do echo size=1M; done) | sfdisk -q @",
    ),
    ("hybrid", "64M", 512, "sgdisk -n1:0:+8M -n2:0:+8M -t2:0700 @; sgdisk -h 2 @"),
];

/// Start and size in bytes, type, UUID, name.
type Row = (u64, u64, String, String, String);

/// What sfdisk says: the table, its identifier, its partitions.
fn by_sfdisk(path: &Path) -> (String, String, Vec<Row>) {
    let json: Value = serde_json::from_str(&sh(&format!("sfdisk -J {}", path.display()))).unwrap();
    let table = &json["partitiontable"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
    let unit = table["sectorsize"].as_u64().unwrap_or(512);
    let list = table["partitions"].as_array().cloned().unwrap_or_default();
    let row = |p: &Value| {
        let number = |key: &str| p[key].as_u64().unwrap() * unit;
        let name = p["name"].as_str().unwrap_or_default().to_string();
        (number("start"), number("size"), text(&p["type"]), text(&p["uuid"]), name)
    };
    let id = text(&table["id"]).trim_start_matches("0x").to_string();
    (text(&table["label"]), id, list.iter().map(row).collect())
}

#[test]
fn agrees_with_sfdisk_on_every_field() {
    println!("{:<24} {:<6} {:>5} {:>6} {:>6}", "table", "type", "count", "fields", "equal");
    for (name, size, sector, command) in MADE {
        let image = Image::made(size, command);
        let report = look(&image.bytes());
        assert_eq!(report.result, ProbeResult::Found, "{name}: {:?}", report.notes);
        assert_eq!(report.state.as_deref(), Some("clean"), "{name}: {:?}", report.notes);
        if *sector == 4096 {
            // sfdisk takes every image for one of 512.
            assert_eq!(report.block_size, Some(4096), "{name}");
            let places: Vec<_> = report.partitions.iter().map(|p| (p.start, p.size)).collect();
            assert_eq!(places[0], (1 << 20, 8 << 20), "{name}");
            assert_eq!(places[1].0, 9 << 20, "{name}");
            continue;
        }
        let (kind, id, theirs) = by_sfdisk(&image.path());
        let ours: Vec<_> = report
            .partitions
            .iter()
            .map(|p| {
                let uuid = p.uuid.clone().unwrap_or_default();
                let uuid = if kind == "dos" { String::new() } else { uuid };
                let name = p.name.clone().unwrap_or_default();
                (p.start, p.size, p.kind.trim_start_matches("0x").to_string(), uuid, name)
            })
            .collect();
        assert_eq!(
            (report.kind.as_deref(), report.uuid.as_deref()),
            (Some(kind.as_str()), Some(id.as_str())),
            "{name}"
        );
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!(a, b, "{name}");
        }
        println!("{name:<24} {kind:<6} {:>5} {:>6} {:>6}", ours.len(), 5 * ours.len(), 5 * ours.len());
    }
}

#[test]
fn numbers_are_those_of_libblkid() {
    for (name, size, sector, command) in MADE {
        if *sector != 512 || name.contains("without") {
            continue;
        }
        let image = Image::made(size, command);
        let told = sh(&format!("partx -g -b -o NR,START,SIZE {}", image.path().display()));
        // partx counts the two sectors of an extended partition that a kernel shows; their size is no matter.
        let theirs: Vec<(u64, u64)> = told
            .lines()
            .map(|l| l.split_whitespace().filter_map(|w| w.parse().ok()).collect::<Vec<u64>>())
            .map(|f| (f[0], f[1] * 512))
            .collect();
        let ours: Vec<(u64, u64)> =
            look(&image.bytes()).partitions.iter().map(|p| (u64::from(p.number), p.start)).collect();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn flags_and_purposes_have_names() {
    let image = Image::made("64M", MADE[0].3);
    let report = look(&image.bytes());
    let purposes: Vec<_> = report.partitions.iter().map(|p| p.purpose.as_deref().unwrap()).collect();
    assert_eq!(purposes, ["EFI system", "Linux RAID", "Linux swap", "Linux LVM", "Linux home"]);
    assert_eq!(report.partitions[1].flags, ["required", "legacy-boot", "no-auto"]);
    assert!(report.partitions[1].bootable && !report.partitions[0].bootable);
    assert_eq!(report.partitions[0].name.as_deref(), Some("EFI ümlaut"));
    let hybrid = look(&Image::made("64M", MADE[10].3).bytes());
    assert!(
        hybrid.notes.iter().any(|n| n.contains("hybrid MBR") && n.contains("is partition 2")),
        "{:?}",
        hybrid.notes
    );
}

#[test]
fn chains_of_logical_partitions_end() {
    let logicals = Image::made("64M", MADE[7].3);
    let good = logicals.bytes();
    let extended = look(&good).partitions[1].start as usize;
    // The link of the first record, in its second entry.
    let link = extended + 446 + 16 + 8;
    for (what, value, said, left) in [
        ("to itself", 0u32, "is a loop", 4),
        ("beyond the end", 0xffff_0000, "breaks at sector", 4),
        ("to a sector without a record", 5, "breaks at sector", 4),
    ] {
        let mut bytes = good.clone();
        bytes[link..link + 4].copy_from_slice(&value.to_le_bytes());
        let report = look(&bytes);
        assert_eq!(report.state.as_deref(), Some("damaged"), "{what}");
        assert!(report.notes.iter().any(|n| n.contains(said)), "{what}: {:?}", report.notes);
        assert_eq!(report.partitions.len(), left, "{what}: {:?}", report.partitions);
    }
    // A chain in which every record is new and holds four partitions.
    let mut bytes = vec![0u8; 4 << 20];
    bytes[..512].copy_from_slice(&good[..512]);
    bytes[446..446 + 64].fill(0);
    bytes[446 + 4] = 5;
    bytes[446 + 8..446 + 12].copy_from_slice(&1u32.to_le_bytes());
    bytes[446 + 12..446 + 16].copy_from_slice(&8000u32.to_le_bytes());
    for record in 0..8000u32 {
        let at = (1 + record as usize) * 512;
        for (entry, kind, start) in [(0, 0x83u8, 1u32), (1, 5, record + 1)] {
            let at = at + 446 + 16 * entry;
            bytes[at + 4] = kind;
            bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            bytes[at + 12..at + 16].copy_from_slice(&1u32.to_le_bytes());
        }
        bytes[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
    }
    let report = look(&bytes);
    assert!(report.partitions.len() <= 256, "{}", report.partitions.len());
    assert!(report.notes.iter().any(|n| n.contains("goes on past")), "{:?}", report.notes);
}

/// A disklabel with these partitions: start and size in sectors, type.
fn disklabel(partitions: &[(u32, u32, u8)]) -> Vec<u8> {
    let mut label = vec![0u8; 404];
    for at in [0, 132] {
        label[at..at + 4].copy_from_slice(&[0x57, 0x45, 0x56, 0x82]);
    }
    label[40..44].copy_from_slice(&512u32.to_le_bytes());
    label[138..140].copy_from_slice(&u16::try_from(partitions.len()).unwrap().to_le_bytes());
    for (index, (start, size, kind)) in partitions.iter().enumerate() {
        let at = 148 + 16 * index;
        label[at..at + 4].copy_from_slice(&size.to_le_bytes());
        label[at + 4..at + 8].copy_from_slice(&start.to_le_bytes());
        label[at + 12] = *kind;
    }
    let sum = label.chunks_exact(2).fold(0u16, |sum, w| sum ^ u16::from_le_bytes([w[0], w[1]]));
    label[136..138].copy_from_slice(&sum.to_le_bytes());
    label
}

fn by_partx(bytes: &[u8]) -> Vec<(u32, u64, u64)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, bytes).unwrap();
    let told = sh(&format!("partx -g -b -o NR,START,SIZE {}", path.display()));
    let row = |l: &str| l.split_whitespace().filter_map(|w| w.parse::<u64>().ok()).collect::<Vec<_>>();
    told.lines().map(row).map(|f| (u32::try_from(f[0]).unwrap(), f[1] * 512, f[2])).collect()
}

#[test]
fn disklabels_of_the_bsds() {
    let whole = [(63, 8000, 7u8), (8063, 1000, 1), (0, 32768, 0), (10000, 20000, 27)];
    let mut bytes = vec![0u8; 16 << 20];
    bytes[512..512 + 404].copy_from_slice(&disklabel(&whole));
    let report = look(&bytes);
    assert_eq!((report.kind.as_deref(), report.state.as_deref()), (Some("bsd"), Some("clean")));
    let ours: Vec<_> = report.partitions.iter().map(|p| (p.start, p.size, p.name.clone().unwrap())).collect();
    let theirs: Vec<_> = by_partx(&bytes).into_iter().map(|(_, start, size)| (start, size)).collect();
    assert_eq!(ours.iter().map(|(start, size, _)| (*start, *size)).collect::<Vec<_>>(), theirs);
    assert_eq!(ours.iter().map(|(.., name)| name.as_str()).collect::<String>(), "abd");
    bytes[512 + 148] ^= 1;
    assert_eq!(look(&bytes).state.as_deref(), Some("damaged"));

    for (kind, system, shift) in [("a5", "freebsd", 2048u32), ("a6", "openbsd", 0)] {
        let command = format!(
            "printf 'label: dos\\nstart=2048,size=16384,type={kind}\\nstart=20480,size=2048\\n' | sfdisk -q @"
        );
        let mut bytes = Image::made("16M", &command).bytes();
        let at = |start: u32| start + 2048 - shift;
        // `c` is the slice itself; the last lies outside of it.
        let inner = [
            (at(16), 4000, 7),
            (at(5000), 1000, 1),
            (if shift == 0 { 2048 } else { 0 }, 16384, 0),
            (at(50000), 9, 7),
        ];
        bytes[2049 * 512..2049 * 512 + 404].copy_from_slice(&disklabel(&inner));
        let report = look(&bytes);
        let ours: Vec<_> = report.partitions.iter().map(|p| (p.number, p.start, p.size)).collect();
        assert_eq!(ours, by_partx(&bytes), "{system}");
        assert_eq!(report.partitions[2].parent, Some(1), "{system}");
        assert!(report.notes.iter().any(|n| n.contains(system)), "{:?}", report.notes);
        assert!(!report.notes.iter().any(|n| n.contains("overlap")), "{:?}", report.notes);
    }
}

#[test]
fn file_systems_without_a_table_have_none() {
    for command in ["mkfs.vfat -F 32 @", "mkfs.vfat -F 16 @", "mkfs.ext4 -q @"] {
        let report = look(&Image::made("64M", command).bytes());
        assert_eq!(
            (report.result, report.partitions.len()),
            (ProbeResult::Found, 0),
            "{command}: {:?}",
            report.notes
        );
        assert!(report.signatures.iter().all(|s| s.usage != "partition-table"), "{command}");
    }
    assert_eq!(look(&vec![0; 1 << 20]).result, ProbeResult::Nothing);
}

#[test]
fn no_bytes_make_a_table_panic_or_read_on() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for (name, size, _, command) in MADE.iter().filter(|(name, ..)| !name.contains("many")) {
        let mut bytes = Image::made(size, command).bytes();
        let end = bytes.len();
        let logicals = look(&bytes).partitions.get(1).map_or(0, |p| p.start as usize);
        for _ in 0..40 {
            let places = [0, 446, 512, 1024, end - 512, end - 33 * 512, logicals + 440];
            let changes: Vec<usize> =
                (0..6).map(|_| (places[random(7)] + random(100)).min(end - 1)).collect();
            let old: Vec<u8> = changes.iter().map(|at| bytes[*at]).collect();
            for at in &changes {
                bytes[*at] = [0, 0xff, 0x7f, 1, 0xee, 5][random(6)];
            }
            let report = look(&bytes);
            assert!(report.partitions.len() <= 256, "{name}");
            for (at, old) in changes.iter().zip(old).rev() {
                bytes[*at] = old;
            }
        }
        for length in [0, 1, 511, 512, 1023, 1024, 1536, 17 * 512, 34 * 512, end / 2, end - 512] {
            look(&bytes[..length].to_vec());
        }
    }
}
