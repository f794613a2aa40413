//! Two formats on one device.

use rescue_schema::report::{ProbeReport, ProbeResult};

use super::Image;
use super::agreement::blkid;
use super::images::{named, shell};

/// `below`, with `length` bytes at `at` of the image `above` laid over it.
fn overlaid(below: &str, above: &str, at: u64, length: usize) -> Image {
    let mut image = Image::open(&named(below));
    let bytes = Image::open(&named(above)).bytes(at, length);
    image.put(at, &bytes);
    image
}

fn kinds(report: &ProbeReport) -> Vec<&str> {
    report.signatures.iter().map(|s| s.kind.as_str()).collect()
}

/// Below, what lies over it, where, how long; which is likelier, and why.
type Pair = (&'static str, &'static str, u64, usize, [&'static str; 2], &'static str);

const PAIRS: &[Pair] = &[
    ("ext4-4k", "xfs", 0, 512, ["ext4", "xfs"], "xfs is damaged"),
    ("xfs", "ext4-4k", 1024, 1024, ["xfs", "ext4"], "ext4 is damaged"),
    ("ntfs", "btrfs", 65536, 4096, ["ntfs", "btrfs"], "btrfs is damaged"),
    ("btrfs", "ntfs", 0, 512, ["btrfs", "ntfs"], "ntfs is damaged"),
    ("jfs", "reiserfs", 65536, 512, ["jfs", "reiserfs"], "reiserfs says to be larger than the device"),
    ("ext4-4k", "btrfs", 65536, 4096, ["ext4", "btrfs"], "btrfs is damaged"),
    ("btrfs", "vfat32", 0, 512, ["btrfs", "vfat"], "vfat is damaged"),
];

#[test]
fn the_likelier_of_two_comes_first_with_the_reason() {
    for (below, above, at, length, order, reason) in PAIRS {
        let report = overlaid(below, above, *at, *length).look();
        assert_eq!(report.result, ProbeResult::Ambivalent, "{below}, {above}: {:?}", kinds(&report));
        assert_eq!(kinds(&report), order, "{below}, {above}: {:?}", report.notes);
        assert_eq!(report.kind.as_deref(), Some(order[0]));
        assert!(report.notes[0].contains(reason), "{below}, {above}: {:?}", report.notes);
    }
}

#[test]
fn where_blkid_gives_up_both_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let script = "cp --sparse=always $FROM $TO; dd if=$OVER of=$TO bs=512 count=1 conv=notrunc status=none";
    shell(script, &[("FROM", &named("ext4-4k")), ("OVER", &named("xfs")), ("TO", &copy)]);
    assert_eq!(blkid(&copy).0, Some(8), "blkid's status for an ambivalent device");
    let report = Image::open(&copy).look();
    assert_eq!((report.result, kinds(&report).len()), (ProbeResult::Ambivalent, 2));
}

#[test]
fn a_partition_table_beside_a_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let with_table = |name: &str| {
        let copy = folder.path().join(name);
        shell("cp --sparse=always $FROM $TO", &[("FROM", &named(name)), ("TO", &copy)]);
        shell("printf 'label: dos\\nstart=64,type=83\\n' | sfdisk -q --wipe never $TO", &[("TO", &copy)]);
        Image::open(&copy).look()
    };
    let report = with_table("ext4");
    assert_eq!((report.result, kinds(&report)), (ProbeResult::Ambivalent, vec!["ext4", "dos"]));
    assert!(report.notes[0].starts_with("more likely ext4 than dos"), "{:?}", report.notes);
    // A partition that holds something speaks for the table.
    let copy = folder.path().join("used");
    let script = "cp --sparse=always $FROM $TO; printf 'label: dos\nstart=20480,type=83\n' | sfdisk -q --wipe never $TO; \
                  dd if=$IN of=$TO bs=512 seek=20480 conv=notrunc status=none";
    shell(script, &[("FROM", &named("ext4-nocsum")), ("IN", &named("romfs")), ("TO", &copy)]);
    let image = Image::open(&copy);
    let report = image.look();
    assert_eq!((report.result, kinds(&report)), (ProbeResult::Ambivalent, vec!["dos", "ext4"]));
    assert!(report.notes[0].contains("partitions of the dos table hold something"), "{:?}", report.notes);
    assert_eq!(report.partitions[0].content.as_ref().unwrap().kind.as_deref(), Some("romfs"));
    // A disc image that also boots from a stick has one on purpose.
    let report = with_table("iso");
    assert_eq!((report.result, kinds(&report)), (ProbeResult::Found, vec!["iso9660", "dos"]));
    assert_eq!(report.partitions.len(), 1);
}

#[test]
fn discs_that_are_two_things_on_purpose_are_found() {
    for (name, both) in [("iso-udf", ["udf", "iso9660"]), ("iso-hfs", ["iso9660", "hfs"])] {
        let report = Image::open(&named(name)).look();
        assert_eq!((report.result, kinds(&report)), (ProbeResult::Found, both.to_vec()), "{name}");
    }
}

/// HFS+ inside an HFS wrapper, as Mac OS 8.1 made it (TN1150, "HFS Wrapper").
#[test]
fn hfsplus_in_its_wrapper() {
    let inner = Image::open(&named("hfsplus"));
    let plain = inner.look();
    let length = usize::try_from(std::fs::metadata(named("hfsplus")).unwrap().len()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrapped");
    let mut bytes = vec![0u8; 16384];
    let mut put = |at: usize, value: &[u8]| bytes[1024 + at..1024 + at + value.len()].copy_from_slice(value);
    put(0, b"BD");
    put(18, &100u16.to_be_bytes());
    put(20, &2048u32.to_be_bytes());
    put(28, &8u16.to_be_bytes());
    put(124, b"H+");
    // 8 sectors, then 6 allocation blocks of 2 KiB: 16 KiB.
    put(126, &6u16.to_be_bytes());
    bytes.extend(inner.bytes(0, length));
    std::fs::write(&path, &bytes).unwrap();
    let report = Image::open(&path).look();
    assert_eq!(
        (report.kind.as_deref(), &report.uuid, &report.label),
        (Some("hfsplus"), &plain.uuid, &plain.label)
    );
    assert_eq!(report.signatures[0].offset, 16384 + 1024);
    assert_eq!(blkid(&path).1.get("LABEL"), report.label.as_ref());
}
