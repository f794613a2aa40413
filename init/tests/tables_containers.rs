//! Containers made by their own tools, compared with what `blkid -p` says of them field by field; those that
//! need a kernel or a machine that is not here, from the bytes that one left; and what damage does to them.
#![allow(missing_docs, clippy::cast_possible_truncation)]

use std::path::Path;

use init::disk::probe;
use init::disk::source::Reader;
use rescue_schema::report::{ProbeReport, ProbeResult, SignatureReport};

#[path = "tables/image.rs"]
mod image;
#[path = "tables/md.rs"]
mod md;
#[path = "../fuzz/src/sparse.rs"]
#[allow(dead_code, unreachable_pub)]
mod sparse;
use image::{Image, look, sh};
use sparse::Sparse;

/// LVM2 works on block devices alone, but needs no device mapper to write its metadata.
const LVM: &str = "A=$(losetup -f --show @); B=$(losetup -f --show @2); trap 'losetup -d $A $B' EXIT; \
    lvm pvcreate -q --driverloaded n $A $B; lvm vgcreate --driverloaded n vgt$$ $A $B; \
    for v in root swap var; do lvm lvcreate --driverloaded n -an -Zn -Wn -L 4M -n $v vgt$$; done";

/// A name, sizes, what makes it, its state, and what is said of it.
const MADE: &[(&str, &str, &str, &str, &str)] = &[
    (
        "LUKS1",
        "16M",
        "echo pw | cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 @ -",
        "clean",
        "1 of 8 key slots",
    ),
    (
        "LUKS2",
        "32M",
        "echo pw | cryptsetup -q luksFormat --type luks2 --label my-label --subsystem sub --pbkdf pbkdf2 \
         --pbkdf-force-iterations 1000 @ -",
        "clean",
        "1 key slots in use",
    ),
    (
        "LUKS2, large header",
        "32M",
        "echo pw | cryptsetup -q luksFormat --type luks2 --luks2-metadata-size 64k --pbkdf pbkdf2 \
         --pbkdf-force-iterations 1000 @ -",
        "clean",
        "1 key slots in use",
    ),
    ("LVM2 group", "32M", LVM, "clean", "3 logical volumes: root, swap, var"),
    (
        "LVM2 alone",
        "16M",
        "A=$(losetup -f --show @); trap 'losetup -d $A' EXIT; lvm pvcreate -q --driverloaded n $A",
        "clean",
        "belongs to no volume group",
    ),
    ("bcache backing", "16M", "make-bcache -B @", "clean", "no cache is attached"),
    ("bcache cache", "128M", "make-bcache -C @", "clean", "a cache, device 0 of 1"),
    ("DRBD 8", "16M", "drbdmeta --force 0 v08 @ internal create-md", "inconsistent", "secondary"),
    ("DRBD 9", "16M", "drbdmeta --force 0 v09 @ internal create-md 3", "inconsistent", "secondary"),
    ("dm-verity hashes", "1M", "veritysetup format @2 @", "", "hashes by sha256"),
];

#[test]
fn agrees_with_blkid_on_every_field() {
    println!("{:<20} {:<10} {:<40} {:<40}", "made", "field", "blkid", "rescue");
    for (name, size, command, state, said) in MADE {
        let images = Image::made(size, command);
        let report = look(&images.bytes());
        assert_eq!(report.result, ProbeResult::Found, "{name}: {report:?}");
        let told = sh(&format!("blkid -p -o udev {}", images.path().display()));
        let more = report.signatures[0].more.clone();
        let usage = report.signatures[0].usage.clone();
        let ours = [
            ("TYPE", report.kind.clone()),
            ("USAGE", Some(usage)),
            ("UUID", report.uuid.clone()),
            ("LABEL", report.label.clone()),
            ("VERSION", report.version.clone()),
            ("UUID_SUB", more.get("UUID_SUB").cloned()),
            ("SUBSYSTEM", more.get("SUBSYSTEM").cloned()),
        ];
        for (field, ours) in ours {
            let theirs =
                told.lines().find_map(|l| l.strip_prefix(&format!("ID_FS_{field}="))).map(String::from);
            println!(
                "{name:<20} {field:<10} {:<40} {:<40}",
                theirs.clone().unwrap_or_default(),
                ours.clone().unwrap_or_default()
            );
            let Some(theirs) = theirs else {
                // An older blkid knows less of bcache and DRBD.
                continue;
            };
            // What blkid prints for udev has no blanks.
            assert_eq!(
                ours.map(|o| o.replace(' ', "\\x20").replace("\\x20", "_")),
                Some(theirs.replace("\\x20", "_")),
                "{name} {field}"
            );
        }
        assert_eq!(report.state.as_deref().unwrap_or_default(), *state, "{name}: {:?}", report.notes);
        assert!(report.notes.iter().any(|n| n.contains(said)), "{name}: {:?}", report.notes);
    }
}

#[test]
fn luks2_lives_on_its_second_header() {
    let images = Image::made("32M", MADE[1].2);
    let good = images.bytes();
    let before = look(&good);
    assert_eq!(before.signatures[0].backups, [16384]);
    type Damage = fn(&mut [u8]);
    let cases: [(&str, Damage, &str); 5] = [
        ("first flipped", |b| b[4100] ^= 1, "first header is damaged"),
        ("first zeroed", |b| b[..16384].fill(0), "first header is damaged"),
        ("first sector zeroed", |b| b[..512].fill(0), "first header is damaged"),
        ("second flipped", |b| b[16384 + 5000] ^= 1, "second header is damaged"),
        ("second zeroed", |b| b[16384..32768].fill(0), "second header is damaged"),
    ];
    for (what, damage, said) in cases {
        let mut bytes = good.clone();
        damage(&mut bytes);
        let report = look(&bytes);
        assert_eq!(
            (report.kind.as_deref(), report.state.as_deref()),
            (Some("crypto_LUKS"), Some("damaged")),
            "{what}"
        );
        assert_eq!((&report.uuid, &report.label), (&before.uuid, &before.label), "{what}");
        assert!(report.notes.iter().any(|n| n.contains(said)), "{what}: {:?}", report.notes);
        // The command that is named does what it promises.
        let repair = report.signatures[0].repair.clone().unwrap();
        let broken = images.path().with_file_name("broken");
        std::fs::write(&broken, &bytes).unwrap();
        sh(&format!("echo YES | {} -q", repair.replace("DEV", broken.to_str().unwrap())));
        let after = look(&std::fs::read(&broken).unwrap());
        assert_eq!(after.state.as_deref(), Some("clean"), "{what}, repaired: {:?}", after.notes);
    }
    let mut bytes = good;
    (bytes[4100], bytes[16384 + 4100]) = (0, 0);
    assert!(look(&bytes).notes.iter().any(|n| n.contains("only a header backup")));
}

#[test]
fn lvm_without_its_label_is_known_by_its_metadata() {
    let images = Image::made("32M", LVM);
    let good = images.bytes();
    let before = look(&good);
    assert_eq!(before.signatures[0].more["VG_PVS"], "2");
    let mut bytes = good.clone();
    bytes[512..1024].fill(0);
    let report = look(&bytes);
    assert_eq!((report.kind.as_deref(), report.state.as_deref()), (Some("LVM2_member"), Some("damaged")));
    assert!(
        report.notes.iter().any(|n| n.contains("label of the physical volume is gone")),
        "{:?}",
        report.notes
    );
    assert_eq!(report.signatures[0].more["VG_NAME"], before.signatures[0].more["VG_NAME"]);
    let mut bytes = good.clone();
    bytes[512 + 40] ^= 1;
    let report = look(&bytes);
    assert_eq!(report.state.as_deref(), Some("damaged"));
    assert_eq!(report.signatures[0].more["VG_NAME"], before.signatures[0].more["VG_NAME"]);
    let mut bytes = good;
    bytes[4096 + 512..4096 + 65536].fill(0x20);
    let report = look(&bytes);
    assert_eq!((report.state.as_deref(), report.uuid), (Some("damaged"), before.uuid));
    assert!(report.notes.iter().any(|n| n.contains("checksum of the text")), "{:?}", report.notes);
}

/// A seed of the fuzzer; type, label, UUID, version, state.
type Kept = (
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    Option<&'static str>,
    &'static str,
);

/// What is kept where no tool here makes one.
const KEPT: &[Kept] = &[
    ("adaptec", "adaptec_raid_member", None, None, Some("8"), ""),
    ("bcache_log", "bcache", Some("journal-cache"), None, Some("3"), "clean"),
    (
        "bitlocker",
        "BitLocker",
        Some("DESKTOP-7BHQ0UE Bitlocker Win 10 25/07/2024"),
        Some("83330ba8-07b7-4ea8-b641-ff7bdf18f6b3"),
        Some("2"),
        "damaged",
    ),
    ("bluestore", "ceph_bluestore", None, None, None, "clean"),
    ("ddf", "ddf_raid_member", None, None, Some("01.02.00"), "clean"),
    ("drbd_9", "drbd", None, Some("4242424242424242"), Some("v09"), "inconsistent"),
    ("hpt37x", "hpt37x_raid_member", None, None, None, ""),
    ("hpt45x", "hpt45x_raid_member", None, None, None, ""),
    ("integrity", "DM_integrity", None, None, Some("4"), ""),
    ("isw", "isw_raid_member", None, None, Some("1.0.00"), "clean"),
    ("jmicron", "jmicron_raid_member", None, None, Some("0.1"), ""),
    ("lsi", "lsi_mega_raid_member", None, None, None, ""),
    (
        "md_0_90",
        "linux_raid_member",
        None,
        Some("37c76b91-011a-05c5-d30c-1fd4c5c3dbbc"),
        Some("0.90.0"),
        "clean",
    ),
    ("md_1", "linux_raid_member", None, None, None, "clean"),
    ("nvidia", "nvidia_raid_member", None, None, Some("100"), ""),
    ("promise", "promise_fasttrack_raid_member", None, None, None, ""),
    ("silicon", "silicon_medley_raid_member", None, None, None, ""),
    ("stratis", "stratis", None, Some("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"), None, "clean"),
    ("vdo", "vdo", None, None, None, ""),
    ("via", "via_raid_member", None, None, None, ""),
    ("vmfs", "VMFS", None, None, None, ""),
    ("vmfs_volume", "VMFS_volume_member", None, Some("49edf842-dcb35d37-b383-0021280083cf"), Some("3"), ""),
    ("zfs", "zfs_member", Some("tank"), None, None, "clean"),
    ("zfs_mirror", "zfs_member", Some("duo"), None, None, "clean"),
];

fn kept(name: &str) -> ProbeReport {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/container").join(name);
    let seed = std::fs::read(path).unwrap();
    let image = Sparse::parse(&seed).unwrap();
    probe::image(&Reader::new(&image, image.sector))
}

#[test]
fn what_other_machines_left_is_recognised() {
    for (name, kind, label, uuid, version, state) in KEPT {
        let report = kept(name);
        assert_eq!(report.kind.as_deref(), Some(*kind), "{name}: {report:?}");
        assert_eq!(report.state.as_deref().unwrap_or_default(), *state, "{name}: {:?}", report.notes);
        for (said, wanted) in [(&report.label, label), (&report.uuid, uuid), (&report.version, version)] {
            if wanted.is_some() {
                assert_eq!(said.as_deref(), *wanted, "{name}");
            }
        }
    }
    let said = |name: &str| kept(name).notes.join("; ");
    assert!(
        said("isw").contains("2 disks and 1 volumes, the first is RAID_Volume1: raid0, normal"),
        "{}",
        said("isw")
    );
    assert!(said("bluestore").contains("osd.4, main"));
    assert!(said("zfs_mirror").contains("part of a mirror"));
    assert!(said("bitlocker").contains("opens with a password or the recovery password"));
    let secret = |s: &SignatureReport| s.more.keys().any(|k| k.contains("KEY") && k != "LUKS_KEYSLOTS");
    assert!(!kept("bluestore").signatures.iter().any(secret));
}
