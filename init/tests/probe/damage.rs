//! Broken images: what is left of them is found, and nothing that is broken is called whole.

use std::path::Path;

use rescue_schema::report::{ProbeReport, ProbeResult};

use super::Image;
use super::images::{make, named, shell, status};
use super::recipes::RECIPES;

/// A byte that the checksum of the superblock is over, in the UUID where it has one. Whether a copy brings
/// the true UUID back.
const FLIPPED: &[(&str, u64, bool)] = &[
    ("ext4-1k", 1024 + 0x68, true),
    ("ext4-4k", 1024 + 0x78, true),
    ("ext4", 1024 + 0x68, true),
    ("xfs", 32, true),
    ("xfs-groups", 33, true),
    ("btrfs", 65536 + 32, true),
    ("btrfs-xxhash", 65536 + 32, true),
    ("btrfs-sha256", 65536 + 32, true),
    ("btrfs-blake2", 65536 + 32, true),
    ("btrfs-first", 65536 + 32, true),
    ("btrfs-mixed", 65536 + 32, false),
    ("f2fs-sums", 1024 + 0x6c, true),
    ("exfat", 100, true),
    ("apfs", 72, false),
    ("erofs", 1024 + 48, false),
    ("nilfs2", 1024 + 152, true),
    ("romfs", 20, false),
    ("cramfs", 40, false),
    ("cramfs-big", 40, false),
];

/// The first superblock, from where and how long, of formats that keep another.
const WIPED: &[(&str, u64, usize)] = &[
    ("ext4-1k", 1024, 1024),
    ("ext4-4k", 0, 4096),
    ("ext3-2k", 1024, 1024),
    ("xfs", 0, 512),
    ("xfs-v4", 0, 4096),
    ("xfs-1k", 0, 512),
    ("xfs-groups", 0, 512),
    ("xfs-stripe", 0, 1 << 20),
    ("btrfs", 65536, 4096),
    ("btrfs-second", 65536, 4096),
    ("f2fs-sums", 1024, 3072),
    ("ntfs", 0, 512),
    ("ntfs-64k", 0, 512),
    ("ntfs-4ksector", 0, 4096),
    ("exfat", 0, 6144),
    ("ufs1-le", 8192, 8192),
    ("vfat32", 0, 512),
    ("vfat32-4k", 0, 4096),
    ("jfs", 32768, 4096),
    ("nilfs2", 1024, 1024),
    ("nilfs2-1k", 1024, 1024),
    ("hfsplus", 1024, 512),
    ("apfs", 0, 4096),
    ("ocfs2-4k", 8192, 4096),
];

fn same(damaged: &ProbeReport, whole: &ProbeReport, name: &str) {
    assert_eq!(damaged.result, ProbeResult::Found, "{name}: {:?}", damaged.notes);
    assert_eq!(damaged.state.as_deref(), Some("damaged"), "{name}");
    assert_eq!(damaged.kind, whole.kind, "{name}");
    assert!(!damaged.notes.is_empty(), "{name}");
}

#[test]
fn a_flipped_bit_is_damage() {
    for (name, at, copy) in FLIPPED {
        let mut image = Image::open(&named(name));
        let whole = image.look();
        image.flip(*at);
        let damaged = image.look();
        same(&damaged, &whole, name);
        if *copy {
            assert_eq!((&damaged.uuid, &damaged.label), (&whole.uuid, &whole.label), "{name}");
            assert!(!damaged.signatures[0].backups.is_empty(), "{name}: {:?}", damaged.notes);
        }
    }
}

#[test]
fn a_superblock_that_is_gone_leaves_its_copies() {
    for (name, at, length) in WIPED {
        let mut image = Image::open(&named(name));
        let whole = image.look();
        image.put(*at, &vec![0; *length]);
        let damaged = image.look();
        same(&damaged, &whole, name);
        let first = &damaged.signatures[0];
        assert_eq!(
            (&damaged.uuid, &damaged.label),
            (&whole.uuid, &whole.label),
            "{name}: {:?}",
            damaged.notes
        );
        assert_eq!((first.size, first.block_size), (whole.signatures[0].size, whole.block_size), "{name}");
        assert!(!first.backups.is_empty(), "{name}");
    }
}

/// The command that the report names does use what is left.
#[test]
fn the_repair_that_is_named_works() {
    for (name, at) in [("ext4-1k", 1024u64), ("ext4-4k", 1024), ("xfs", 0), ("jfs", 32768)] {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        shell("cp --sparse=always $FROM $TO", &[("FROM", &named(name)), ("TO", &copy)]);
        shell(
            &format!("dd if=/dev/zero of=$TO bs=512 seek={} count=1 conv=notrunc status=none", at / 512),
            &[("TO", &copy)],
        );
        let report = Image::open(&copy).look();
        let repair = report.signatures[0].repair.clone().unwrap();
        let command = repair.replace("DEV", copy.to_str().unwrap());
        // e2fsck, jfs_fsck: 4 is "errors were left", as asked for with -n; from 8 on it did not work.
        let ended = status(&format!("{command} >/dev/null 2>&1"));
        assert!(ended.is_some_and(|status| status < 8), "{name}: {command} ended with {ended:?}");
    }
}

#[test]
fn the_first_backups_are_where_mke2fs_says() {
    for (name, first, block) in
        [("ext4-1k", 8193u64, 1024u64), ("ext4-4k", 32768, 4096), ("ext3-2k", 16384, 2048)]
    {
        let mut image = Image::open(&named(name));
        image.put(1024, &[0; 1024]);
        let found = image.look().signatures.remove(0);
        assert_eq!(found.backups[0], first * block, "{name}");
        assert_eq!(found.repair, Some(format!("e2fsck -n -b {first} -B {block} DEV")), "{name}");
    }
}

#[test]
fn what_is_cut_short_is_not_called_whole() {
    for recipe in RECIPES {
        let path = make(recipe);
        let size = std::fs::metadata(&path).unwrap().len();
        for length in [0, 1, 511, 512, 1023, 1024, 2047, 4096, 40_960, 66_000, 69_632, size / 2, size - 1] {
            let report = Image::open(&path).cut(length).look();
            let own = report.signatures.first().and_then(|s| s.size).unwrap_or(0);
            if own > length {
                assert!(
                    report.notes.iter().any(|n| n.contains("the device has")),
                    "{} {length}",
                    recipe.name
                );
            }
        }
    }
}

/// A place that cannot be read is said, and is not "nothing".
#[test]
fn a_bad_sector_is_unreadable() {
    let bad = |name: &str, from: u64, to: u64| {
        let mut image = Image::open(&named(name));
        image.bad = vec![(from, to)];
        let report = image.look();
        assert!(report.notes.iter().any(|n| n.contains("Input/output error")), "{name}: {:?}", report.notes);
        report
    };
    for (name, from, to) in [("gfs2", 65536, 66048), ("squashfs", 0, 512), ("iso", 32768, 34816)] {
        assert_eq!(bad(name, from, to).result, ProbeResult::Unreadable, "{name}");
    }
    // Where there is a copy it is used.
    for (name, from, to) in [("ext4", 1024, 2048), ("xfs", 0, 512), ("btrfs", 65536, 66048), ("ntfs", 0, 512)]
    {
        let report = bad(name, from, to);
        assert_eq!((report.result, report.state.as_deref()), (ProbeResult::Found, Some("damaged")), "{name}");
    }
    // Around a bad sector everything is found.
    for (name, from) in [("ext4", 32768), ("btrfs", 512), ("vfat32", 1 << 20), ("ntfs", 4096)] {
        let mut image = Image::open(&named(name));
        let whole = image.look();
        image.bad = vec![(from, from + 512)];
        let report = image.look();
        assert_eq!((report.result, report.uuid), (ProbeResult::Found, whole.uuid), "{name}");
    }
    let mut dead = Image::open(Path::new(&named("ext4")));
    dead.bad = vec![(0, u64::MAX)];
    let report = dead.look();
    assert_eq!(report.result, ProbeResult::Unreadable);
    assert!(report.notes.iter().any(|n| n.contains("more places could not be read")), "{:?}", report.notes);
}
