//! A GPT that is damaged in every way that was thought of.

use super::*;

const GPT: &str = "sgdisk -n1:0:+4M -t1:ef00 -n2:0:+4M @";

type Damage = fn(&mut Vec<u8>);

/// What is done to a GPT of two partitions on 16 MiB; the type, state and number of partitions that are left;
/// what is said; and whether the command that is named repairs it.
const DAMAGE: &[(&str, Damage, &str, &str, usize, &str, bool)] = &[
    ("primary header flipped", |b| b[512 + 40] ^= 1, "gpt", "damaged", 2, "primary GPT is damaged", true),
    ("primary header zeroed", |b| b[512..1024].fill(0), "gpt", "damaged", 2, "primary GPT is damaged", true),
    ("primary entries flipped", |b| b[1024 + 200] ^= 1, "gpt", "damaged", 2, "primary GPT is damaged", true),
    ("front zeroed", |b| b[..34 * 512].fill(0), "gpt", "damaged", 2, "protective MBR is gone", true),
    ("protective MBR zeroed", |b| b[..512].fill(0), "gpt", "damaged", 2, "protective MBR is gone", false),
    ("backup header zeroed", |b| last(b, 1).fill(0), "gpt", "damaged", 2, "backup GPT is damaged", true),
    ("backup entries flipped", |b| last(b, 33)[200] ^= 1, "gpt", "damaged", 2, "backup GPT is damaged", true),
    ("disk grown", |b| b.resize(24 << 20, 0), "gpt", "clean", 2, "the disk has grown", true),
    ("disk grown, primary gone", grown_and_gone, "gpt", "damaged", 2, "primary GPT is damaged", true),
    ("disk cut", |b| b.truncate(12 << 20), "gpt", "damaged", 2, "8192 sectors are missing", false),
    (
        "both headers flipped",
        |b| {
            b[512 + 40] ^= 1;
            last(b, 1)[40] ^= 1;
        },
        "gpt",
        "damaged",
        2,
        "vouches for",
        false,
    ),
    (
        "entries flipped in both",
        |b| {
            b[1024 + 60] ^= 1;
            last(b, 33)[60] ^= 1;
        },
        "gpt",
        "damaged",
        2,
        "have changed",
        false,
    ),
    (
        "both headers zeroed",
        |b| {
            b[512..1024].fill(0);
            last(b, 1).fill(0);
        },
        "gpt",
        "damaged",
        2,
        "stand alone",
        false,
    ),
    (
        "all but the MBR zeroed",
        |b| {
            b[512..].fill(0);
        },
        "dos",
        "damaged",
        1,
        "no GPT is left",
        false,
    ),
    ("header points outside", |b| outside(b), "gpt", "damaged", 2, "primary GPT is damaged", true),
    ("entries of 64 bytes", |b| sealed(b, 84, 64), "gpt", "damaged", 2, "primary GPT is damaged", true),
    ("entries without end", |b| sealed(b, 80, u32::MAX), "gpt", "damaged", 2, "primary GPT is damaged", true),
    ("copies that differ", |b| differ(b), "gpt", "damaged", 2, "copies of the GPT differ", false),
    (
        "partitions that overlap",
        |b| both(b, 128 + 32, 2048 + 100),
        "gpt",
        "errors seen",
        2,
        "partitions 1 and 2 overlap",
        false,
    ),
    (
        "a partition beyond the end",
        |b| both(b, 128 + 40, 1 << 20),
        "gpt",
        "errors seen",
        2,
        "partition 2 ends",
        false,
    ),
    (
        "a partition that ends first",
        |b| both(b, 128 + 40, 50),
        "gpt",
        "errors seen",
        2,
        "partition 2 ends before it starts",
        false,
    ),
    (
        "a partition on the table",
        |b| both(b, 32, 3),
        "gpt",
        "errors seen",
        2,
        "outside of what the GPT says is usable",
        false,
    ),
    (
        "an MBR made later",
        |b| {
            let mbr = mbr();
            b[..512].copy_from_slice(&mbr);
        },
        "dos",
        "clean",
        1,
        "an older GPT is left",
        false,
    ),
];

fn last(bytes: &mut [u8], sectors: usize) -> &mut [u8] {
    let from = bytes.len() - sectors * 512;
    &mut bytes[from..from + 512]
}

fn grown_and_gone(bytes: &mut Vec<u8>) {
    bytes.resize(24 << 20, 0);
    bytes[512..34 * 512].fill(0);
}

fn crc(bytes: &[u8]) -> u32 {
    !init::disk::source::crc32(0xEDB8_8320, !0, bytes)
}

/// Makes the checksums of the header in a sector right again.
fn seal(bytes: &mut [u8], at: usize, entries: usize) {
    let sum = crc(&bytes[entries..entries + 128 * 128]);
    bytes[at + 88..at + 92].copy_from_slice(&sum.to_le_bytes());
    bytes[at + 16..at + 20].fill(0);
    let sum = crc(&bytes[at..at + 92]);
    bytes[at + 16..at + 20].copy_from_slice(&sum.to_le_bytes());
}

/// Writes a number into the primary header, whose own checksum is right afterwards.
fn sealed(bytes: &mut [u8], field: usize, value: u32) {
    bytes[512 + field..512 + field + 4].copy_from_slice(&value.to_le_bytes());
    bytes[512 + 16..512 + 20].fill(0);
    let sum = crc(&bytes[512..512 + 92]);
    bytes[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
}

fn outside(bytes: &mut [u8]) {
    bytes[512 + 72..512 + 80].copy_from_slice(&(u64::MAX / 512).to_le_bytes());
    sealed(bytes, 84, 128);
}

/// Writes a number into an entry of both copies, all checksums right.
fn both(bytes: &mut [u8], at: usize, value: u64) {
    let end = bytes.len();
    for entries in [1024, end - 33 * 512] {
        bytes[entries + at..entries + at + 8].copy_from_slice(&value.to_le_bytes());
    }
    seal(bytes, 512, 1024);
    seal(bytes, end - 512, end - 33 * 512);
}

fn differ(bytes: &mut [u8]) {
    bytes[1024 + 56] ^= 1;
    seal(bytes, 512, 1024);
}

/// An MBR of one partition.
fn mbr() -> Vec<u8> {
    Image::made("16M", "echo 'start=2048,size=4096' | sfdisk -q --label dos @").bytes()[..512].to_vec()
}

#[test]
fn a_damaged_gpt_shows_what_is_left_and_how_to_repair_it() {
    let good = Image::made("16M", GPT);
    let before = look(&good.bytes());
    for (what, damage, kind, state, count, said, repairs) in DAMAGE {
        let mut bytes = good.bytes();
        damage(&mut bytes);
        let report = look(&bytes);
        println!(
            "{what:<28} {kind:<4} {:<8} {}",
            report.state.clone().unwrap_or_default(),
            report.notes.join(" | ")
        );
        assert_eq!(
            (report.kind.as_deref(), report.state.as_deref()),
            (Some(*kind), Some(*state)),
            "{what}: {:?}",
            report.notes
        );
        assert_eq!(report.partitions.len(), *count, "{what}: {:?}", report.notes);
        assert!(report.notes.iter().any(|n| n.contains(said)), "{what}: {:?}", report.notes);
        if !repairs {
            continue;
        }
        // What is named must do what it promises.
        let repair = report.signatures[0].repair.clone().unwrap_or_else(|| panic!("{what}: no repair"));
        std::fs::write(good.path().with_file_name("broken"), &bytes).unwrap();
        let broken = good.path().with_file_name("broken");
        // The status says nothing: sgdisk ends with 4 where it has regenerated what was missing.
        sh(&format!("({}) >/dev/null 2>&1 || :", repair.replace("DEV", broken.to_str().unwrap())));
        let after = look(&std::fs::read(broken).unwrap());
        assert_eq!(after.state.as_deref(), Some("clean"), "{what}, repaired: {:?}", after.notes);
        let places = |r: &ProbeReport| {
            r.partitions.iter().map(|p| (p.number, p.start, p.size, p.uuid.clone())).collect::<Vec<_>>()
        };
        assert_eq!(places(&after), places(&before), "{what}");
    }
}

/// A disk of 4096-byte sectors behind an adapter that shows 512: a tool that counts in those sees no table.
#[test]
fn a_gpt_in_sectors_of_another_size_is_repaired_in_its_own() {
    let image = Image::made("64M", "printf 'g\\nn\\n1\\n\\n+8M\\nn\\n2\\n\\n\\nw\\n' | fdisk -b 4096 @");
    let good = image.bytes();
    let before = look(&good);
    assert_eq!((before.state.as_deref(), before.partitions.len()), (Some("clean"), 2));
    assert!(before.notes.iter().any(|n| n.contains("--sector-size 4096")), "{:?}", before.notes);
    let end = good.len();
    for (what, at) in [("front", 4096..6 * 4096), ("back", end - 4096..end)] {
        let mut bytes = good.clone();
        bytes[at].fill(0);
        let report = look(&bytes);
        assert_eq!((report.state.as_deref(), report.partitions.len()), (Some("damaged"), 2), "{what}");
        let repair = report.signatures[0].repair.clone().unwrap();
        let broken = image.path().with_file_name("broken");
        std::fs::write(&broken, &bytes).unwrap();
        sh(&format!("({}) >/dev/null 2>&1 || :", repair.replace("DEV", broken.to_str().unwrap())));
        let after = look(&std::fs::read(&broken).unwrap());
        assert_eq!(after.state.as_deref(), Some("clean"), "{what}: {:?}", after.notes);
        let places = |r: &ProbeReport| {
            r.partitions.iter().map(|p| (p.start, p.size, p.uuid.clone())).collect::<Vec<_>>()
        };
        assert_eq!(places(&after), places(&before), "{what}");
    }
}
