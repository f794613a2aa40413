//! Tables of other machines' disks, made by sfdisk and parted and compared with what libblkid says of them;
//! damaged; and with a file system that begins where the disk does.
#![allow(missing_docs, clippy::cast_possible_truncation)]

#[path = "tables/image.rs"]
mod image;

use image::{Image, look, sh};
use rescue_schema::report::{ProbeReport, ProbeResult};

/// A type, and what makes its table on 64 MiB.
const MADE: &[(&str, &str)] = &[
    ("sun", "printf 'label: sun\\nsize=8M\\nsize=8M,type=82\\nsize=16M,type=8e\\n' | sfdisk -q @"),
    ("sun", "parted -s @ mklabel sun mkpart ext2 0% 20% mkpart linux-swap 20% 60%"),
    // The whole disk is the eleventh of its own accord, the header the ninth.
    ("sgi", "printf 'g\\ng\\nG\\nn\\n1\\n5000\\n20000\\nn\\n2\\n30000\\n60000\\nw\\n' | fdisk @"),
    ("mac", "parted -s @ mklabel mac mkpart one hfs 1MiB 9MiB mkpart two ext2 9MiB 40MiB"),
    ("mac", "parted -s @ mklabel mac"),
];

/// Number, start and size in sectors, type.
type Row = (u32, u64, u64, String);

fn ours(report: &ProbeReport) -> Vec<Row> {
    report.partitions.iter().map(|p| (p.number, p.start / 512, p.size / 512, p.kind.clone())).collect()
}

#[test]
fn agrees_with_libblkid_on_every_field() {
    for (kind, command) in MADE {
        let image = Image::made("64M", command);
        let path = image.path().display().to_string();
        assert_eq!(sh(&format!("blkid -p -o value -s PTTYPE {path}")).trim(), *kind);
        let report = look(&image.bytes());
        assert_eq!((report.result, report.kind.as_deref()), (ProbeResult::Found, Some(*kind)), "{command}");
        assert_eq!(report.state.as_deref(), Some("clean"), "{command}: {:?}", report.notes);
        let told = sh(&format!("partx -g -b -o NR,START,SECTORS,TYPE {path}"));
        let row = |line: &str| -> Row {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |n: usize| words[n].parse().unwrap();
            (number(0) as u32, number(1), number(2), words.get(3).map_or("0x0", |w| w).to_string())
        };
        // The eleventh of SGI is the whole disk, and no place for a file system.
        let theirs: Vec<Row> = told.lines().map(row).filter(|row| *kind != "sgi" || row.3 != "0x6").collect();
        assert!(!theirs.is_empty(), "{command}");
        assert_eq!(ours(&report), theirs, "{command}");
    }
}

#[test]
fn names_and_purposes_are_told() {
    let report = look(&Image::made("64M", MADE[3].1).bytes());
    let names: Vec<_> = report.partitions.iter().filter_map(|p| p.name.as_deref()).collect();
    assert!(names.contains(&"one") && names.contains(&"two"), "{names:?}");
    let report = look(&Image::made("64M", MADE[0].1).bytes());
    let purposes: Vec<_> = report.partitions.iter().filter_map(|p| p.purpose.as_deref()).collect();
    assert_eq!(purposes, ["Linux", "Linux swap", "Linux LVM"]);
}

#[test]
fn a_table_that_is_damaged_is_told_and_one_that_is_none_is_not() {
    type Damage = fn(&mut Vec<u8>);
    let damages: &[(usize, Damage, Option<&str>)] = &[
        (0, |b| b[450] ^= 1, Some("checksum of the Sun disklabel")),
        (0, |b| b[508] ^= 1, None),
        (0, |b| b[188] ^= 1, None),
        (2, |b| b[320] ^= 1, Some("checksum of the SGI volume header")),
        (2, |b| b[0] ^= 1, None),
        (3, |b| b[2 * 512] ^= 1, Some("entry 2 of")),
        (3, |b| b[512 + 4..512 + 8].fill(0xff), Some("entries; 256 are looked at")),
        (3, |b| b[512] ^= 1, None),
        (3, |b| b[2..4].fill(0xff), None),
        (3, |b| b.truncate(5 << 20), Some("beyond")),
    ];
    for (number, (made, damage, said)) in damages.iter().enumerate() {
        let mut bytes = Image::made("64M", MADE[*made].1).bytes();
        damage(&mut bytes);
        let report = look(&bytes);
        match said {
            Some(said) => {
                assert_eq!(report.kind.as_deref(), Some(MADE[*made].0), "{number}");
                assert!(report.notes.iter().any(|n| n.contains(said)), "{number}: {:?}", report.notes);
            }
            None => assert_eq!(report.result, ProbeResult::Nothing, "{number}: {report:?}"),
        }
    }
}

#[test]
fn a_file_system_that_begins_with_the_disk_is_its_partitions() {
    // mke2fs would empty the first sector.
    let make = |size: &str| {
        let copied = "dd if=@2 of=@ bs=1024 skip=1 seek=1 conv=notrunc,sparse";
        let made = format!("{}; mke2fs -q -F -t ext2 @2 {size}; {copied}", MADE[0].1);
        look(&Image::made("64M", &made).bytes())
    };
    let report = make("8M");
    assert_eq!(
        (report.result, report.kind.as_deref()),
        (ProbeResult::Found, Some("sun")),
        "{:?}",
        report.notes
    );
    let content = report.partitions[0].content.as_ref().unwrap();
    assert_eq!((content.result, content.kind.as_deref()), (ProbeResult::Found, Some("ext2")));
    // One that is larger than that partition is the disk's, and the label is older.
    let report = make("32M");
    assert_eq!(report.result, ProbeResult::Ambivalent, "{:?}", report.signatures);
}
