//! States that no tool leaves in a file: the field that says so is set, and its checksum made right.

use init::disk::source::crc32;

use super::Image;
use super::images::named;

const CASTAGNOLI: u32 = 0x82F6_3B78;

fn state(image: &Image) -> String {
    let report = image.look();
    report.state.unwrap_or_else(|| panic!("{:?} without a state: {:?}", report.kind, report.notes))
}

#[test]
fn btrfs_with_a_log_tree_or_errors() {
    let seal = |image: &mut Image| {
        let sum = !crc32(CASTAGNOLI, !0, &image.bytes(65536 + 32, 4096 - 32));
        image.put(65536, &sum.to_le_bytes());
    };
    for (at, value, says) in [(96, 30_490_624u64, "needs journal recovery"), (56, 1 | 1 << 2, "errors seen")]
    {
        let mut image = Image::open(&named("btrfs"));
        image.put(65536 + at, &value.to_le_bytes());
        seal(&mut image);
        assert_eq!(state(&image), says);
    }
}

#[test]
fn xfs_that_needs_repair_or_has_a_dirty_log() {
    let mut image = Image::open(&named("xfs"));
    let features = u32::from_be_bytes(image.bytes(216, 4).try_into().unwrap());
    image.put(216, &(features | 1 << 4).to_be_bytes());
    image.put(224, &[0; 4]);
    let sum = !crc32(CASTAGNOLI, !0, &image.bytes(0, 512));
    image.put(224, &sum.to_le_bytes());
    assert_eq!(state(&image), "errors seen");
    // The log of a new file system holds one record, that of an unmount: make it another operation.
    let mut image = Image::open(&named("xfs"));
    let number =
        |at: u64, length: usize| image.bytes(at, length).iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let (block, start, group, bits) = (number(4, 4), number(48, 8), number(84, 4), number(124, 1));
    let log = ((start >> bits) * group + (start & ((1 << bits) - 1))) * block;
    assert_eq!(image.bytes(log, 4), [0xfe, 0xed, 0xba, 0xbe]);
    let flags = image.bytes(log + 512 + 9, 1)[0];
    assert_eq!(flags & 0x20, 0x20);
    image.put(log + 512 + 9, &[flags & !0x20]);
    assert_eq!(state(&image), "needs journal recovery");
}

#[test]
fn f2fs_by_the_newer_checkpoint() {
    let set = |image: &mut Image, pack: u64, change: &dyn Fn(u32) -> u32, newer: u64| {
        let start = u32::from_le_bytes(image.bytes(1024 + 0x4c, 4).try_into().unwrap());
        let at = (u64::from(start) + pack * 512) << 12;
        let mut block = image.bytes(at, 4096);
        let flags = u32::from_le_bytes(block[132..136].try_into().unwrap());
        block[132..136].copy_from_slice(&change(flags).to_le_bytes());
        let version = u64::from_le_bytes(block[..8].try_into().unwrap());
        block[..8].copy_from_slice(&(version + newer).to_le_bytes());
        let end = usize::try_from(u32::from_le_bytes(block[164..168].try_into().unwrap())).unwrap();
        let sum = crc32(0xEDB8_8320, 0xF2F5_2010, &block[..end]);
        block[end..end + 4].copy_from_slice(&sum.to_le_bytes());
        image.put(at, &block);
    };
    let mut image = Image::open(&named("f2fs"));
    set(&mut image, 0, &|flags| flags & !1, 10);
    assert_eq!(state(&image), "needs journal recovery");
    set(&mut image, 0, &|flags| flags | 0x10, 0);
    assert_eq!(state(&image), "errors seen");
    let mut image = Image::open(&named("f2fs"));
    let start = u32::from_le_bytes(image.bytes(1024 + 0x4c, 4).try_into().unwrap());
    for pack in [0, 512] {
        image.flip((u64::from(start) + pack) << 12);
    }
    assert_eq!(state(&image), "damaged");
}

#[test]
fn ntfs_with_a_log_to_replay() {
    let mut image = Image::open(&named("ntfs"));
    let size = std::fs::metadata(named("ntfs")).unwrap().len();
    // mkntfs fills the log with ones.
    let log = (0..size).step_by(4096).find(|at| image.bytes(*at, 4096).iter().all(|b| *b == 0xff)).unwrap();
    for (client, flags, says) in
        [(0u16, 0u16, "needs journal recovery"), (0, 2, "clean"), (0xffff, 0, "clean")]
    {
        let mut page = vec![0u8; 4096];
        page[..4].copy_from_slice(b"RSTR");
        page[4..6].copy_from_slice(&30u16.to_le_bytes());
        page[6..8].copy_from_slice(&9u16.to_le_bytes());
        page[24..26].copy_from_slice(&48u16.to_le_bytes());
        page[30] = 7;
        for sector in 1..=8 {
            page[sector * 512 - 2] = 7;
        }
        page[48] = 99;
        page[48 + 12..48 + 14].copy_from_slice(&client.to_le_bytes());
        page[48 + 14..48 + 16].copy_from_slice(&flags.to_le_bytes());
        image.put(log, &page);
        image.put(log + 4096, &[0; 4096]);
        assert_eq!(state(&image), says, "{client} {flags}");
    }
}

/// Of formats without a checksum: image, place, what stands there then, what that says.
const SET: &[(&str, u64, &[u8], &str)] = &[
    ("jfs", 32768 + 40, &[1, 0, 0, 0], "needs journal recovery"),
    ("jfs", 32768 + 40, &[2, 0, 0, 0], "errors seen"),
    ("reiserfs", 65536 + 50, &[2, 0], "not cleanly unmounted"),
    ("reiserfs", 65536 + 62, &[1, 0], "errors seen"),
    ("minix1", 1024 + 18, &[0, 0], "not cleanly unmounted"),
    ("minix2", 1024 + 18, &[2, 0], "errors seen"),
    ("ufs2-le", 8192 + 209, &[0], "not cleanly unmounted"),
    ("ufs2-be", 8192 + 211, &[4], "errors seen"),
    ("ufs1-le", 8192 + 209, &[0], "not cleanly unmounted"),
    ("exfat", 106, &[4], "errors seen"),
    ("hfs", 1024 + 10, &[0, 0], "not cleanly unmounted"),
    ("hfsplus", 1024 + 4, &[0, 0, 0, 0], "not cleanly unmounted"),
    ("hfsplus", 1024 + 4, &[0, 0, 0x09, 0], "errors seen"),
    ("ext4-nocsum", 1024 + 0x3a, &[0, 0], "not cleanly unmounted"),
    ("ext4-nocsum", 1024 + 0x3a, &[3, 0], "errors seen"),
];

#[test]
fn ext4_that_another_machine_may_have_mounted() {
    let mut image = Image::open(&named("ext4-mmp"));
    let note = |image: &Image| image.look().notes.join("; ");
    assert_eq!(note(&image), "");
    let block = u64::from_le_bytes(image.bytes(1024 + 0x168, 8).try_into().unwrap());
    image.put(block * 1024 + 4, &77u32.to_le_bytes());
    image.put(block * 1024 + 16, b"node-b\0");
    assert!(note(&image).contains("mounted on node-b"), "{}", note(&image));
}

#[test]
fn the_word_that_says_it() {
    for (name, at, bytes, says) in SET {
        let mut image = Image::open(&named(name));
        image.put(*at, bytes);
        assert_eq!(state(&image), *says, "{name} at {at}");
    }
    let mut image = Image::open(&named("ext4-nocsum"));
    image.put(1024 + 0xe8, &[12, 0, 0, 0]);
    assert!(image.look().notes.iter().any(|n| n.contains("wait to be freed")));
}
