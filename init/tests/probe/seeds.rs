//! Seeds for the fuzzer, from the images: `cargo test -p init --test probe seeds -- --ignored` writes them again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use init::disk::probe;
use init::disk::source::{Reader, Source};

use super::Image;
use super::images::make;
use super::recipes::RECIPES;

/// Most bytes of a seed: what changes it must meet what matters.
const LONGEST: usize = 24 << 10;

/// Remembers which sectors were read.
struct Watched {
    image: Image,
    sectors: RefCell<BTreeSet<u64>>,
}

impl Source for Watched {
    fn size(&self) -> u64 {
        self.image.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.sectors.borrow_mut().extend(offset / 512..(offset + buffer.len() as u64).div_ceil(512));
        self.image.read_at(offset, buffer)
    }
}

/// The name of the format, a NUL, and the image as `init/fuzz/src/sparse.rs` reads it.
fn seed(format: &str, path: &Path) -> Option<Vec<u8>> {
    let watched = Watched { image: Image::open(path), sectors: RefCell::default() };
    if probe::ask_one(format, &Reader::new(&watched, 512)).is_empty() {
        return None;
    }
    let size = watched.size();
    let mut bytes = format.as_bytes().to_vec();
    bytes.push(0);
    bytes.push(9);
    bytes.extend(size.to_le_bytes());
    for sector in watched.sectors.borrow().iter().filter(|sector| *sector * 512 < size) {
        let at = sector * 512;
        let piece = watched.image.bytes(at, usize::try_from((size - at).min(512)).unwrap());
        let used = piece.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        // Long runs of one byte are boot code's padding and empty logs.
        if used == 0 || piece.iter().all(|b| *b == piece[0]) || bytes.len() + used + 10 > LONGEST {
            continue;
        }
        bytes.extend(at.to_le_bytes());
        bytes.extend(u16::try_from(used).unwrap().to_le_bytes());
        bytes.extend(&piece[..used]);
    }
    Some(bytes)
}

/// One image a format; for those that have several shapes, one of each.
const SEEDS: &[(&str, &str)] = &[
    ("swap", "swap"),
    ("xfs", "xfs"),
    ("xfs_external_log", "xfs-log"),
    ("btrfs", "btrfs-first"),
    ("ext", "ext4-1k"),
    ("f2fs", "f2fs-sums"),
    ("ntfs", "ntfs-asleep-crowded"),
    ("exfat", "exfat"),
    ("udf", "udf"),
    ("iso9660", "iso-joliet"),
    ("hfsplus", "hfsplus"),
    ("hfs", "hfs"),
    ("apfs", "apfs"),
    ("ufs", "ufs2-be"),
    ("jfs", "jfs"),
    ("reiserfs", "reiserfs"),
    ("reiser4", "reiser4"),
    ("nilfs2", "nilfs2-1k"),
    ("ocfs2", "ocfs2"),
    ("gfs2", "gfs2-cluster"),
    ("squashfs", "squashfs"),
    ("erofs", "erofs"),
    ("cramfs", "cramfs"),
    ("romfs", "romfs"),
    ("minix", "minix3"),
    ("named", "bfs"),
    ("vfat", "vfat32"),
];

/// Those that no package makes, from what `built.rs` and the tests beside the probes put together.
const BY_HAND: &[(&str, &str)] = &[("bcachefs", "bcachefs"), ("befs", "befs"), ("refs", "refs")];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/format")
}

#[test]
#[ignore = "writes into the source tree"]
fn seeds_are_written() {
    std::fs::create_dir_all(folder()).unwrap();
    for (format, image) in SEEDS {
        let recipe = RECIPES.iter().find(|r| r.name == *image).unwrap();
        let bytes = seed(format, &make(recipe)).unwrap_or_else(|| panic!("{image} is no {format}"));
        std::fs::write(folder().join(image), bytes).unwrap();
    }
}

/// Each format's seed is found by it alone, and is there.
#[test]
fn every_file_system_has_a_seed() {
    for (format, image) in SEEDS.iter().chain(BY_HAND) {
        let bytes = std::fs::read(folder().join(image)).unwrap_or_else(|e| panic!("{image}: {e}"));
        assert!(bytes.starts_with(&[format.as_bytes(), &[0]].concat()), "{image}");
        assert!(probe::formats().any(|known| known.name == *format), "{format}");
    }
    // What is no file system has its seeds beside, by the names of what is in them.
    let containers = folder().with_file_name("container");
    let names: Vec<String> = std::fs::read_dir(containers)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for format in probe::formats() {
        let name = match format.name {
            "highpoint" => "hpt",
            "ceph" => "bluestore",
            name => name,
        };
        let there = SEEDS.iter().chain(BY_HAND).any(|(seed, _)| *seed == name)
            || names.iter().any(|seed| seed.starts_with(name));
        assert!(there, "{name} has no seed");
    }
}
