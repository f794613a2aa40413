//! Superblocks of arrays, made here and described as mdadm(8) does.

use super::*;

/// A 1.x superblock of a member, with its checksum.
fn md1(at: u64, level: i32, wanted: u32, own: u32, roles: &[u16], resync: u64) -> Vec<u8> {
    let mut sb = vec![0u8; 256 + 2 * roles.len()];
    let mut put = |at: usize, bytes: &[u8]| sb[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xa92b_4efcu32.to_le_bytes());
    put(4, &1u32.to_le_bytes());
    put(16, &[0xab; 16]);
    put(32, b"db7:root");
    put(72, &level.to_le_bytes());
    // Two copies near one another, or left-symmetric parity.
    put(76, &if level == 10 { 0x102u32 } else { 2 }.to_le_bytes());
    put(80, &20480u64.to_le_bytes());
    put(88, &1024u32.to_le_bytes());
    put(92, &wanted.to_le_bytes());
    put(128, &if at == 0 || at == 4096 { 2048u64 } else { 0 }.to_le_bytes());
    put(136, &20480u64.to_le_bytes());
    put(144, &(at / 512).to_le_bytes());
    put(160, &own.to_le_bytes());
    put(168, &[0xcd; 16]);
    put(192, &1_700_000_000u64.to_le_bytes());
    put(200, &42u64.to_le_bytes());
    put(208, &resync.to_le_bytes());
    put(220, &u32::try_from(roles.len()).unwrap().to_le_bytes());
    for (index, role) in roles.iter().enumerate() {
        put(256 + 2 * index, &role.to_le_bytes());
    }
    let words = sb.chunks(4).map(|w| w.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b)));
    let sum: u64 = words.sum();
    let sum = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    sb[216..220].copy_from_slice(&sum.to_le_bytes());
    sb
}

/// A 0.90 superblock.
fn md0(level: u32, size_kib: u32, wanted: u32, active: u32, clean: bool) -> Vec<u8> {
    let mut words = vec![0u32; 1024];
    let fields =
        [(0, 0xa92b_4efc), (2, 90), (4, 1024), (5, 0x1111_1111), (7, level), (8, size_kib), (9, wanted)];
    for (index, value) in fields {
        words[index] = value;
    }
    (words[10], words[13], words[14], words[15]) = (wanted, 0x2222_2222, 0x3333_3333, 0x4444_4444);
    (words[32], words[33], words[34], words[35], words[39]) =
        (1_700_000_000, u32::from(clean), active, active, 7);
    // The first disk of the list, and this one.
    for at in [128, 992] {
        (words[at], words[at + 1], words[at + 2], words[at + 3], words[at + 4]) = (0, 8, 1, 0, 6);
    }
    let sum: u64 = words.iter().map(|w| u64::from(*w)).sum();
    words[38] = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn with(size: usize, pieces: &[(u64, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0u8; size];
    for (at, piece) in pieces {
        let at = usize::try_from(*at).unwrap();
        bytes[at..at + piece.len()].copy_from_slice(piece);
    }
    bytes
}

const MIB: usize = 1 << 20;

fn examine(path: &Path, field: &str) -> String {
    let told = sh(&format!("mdadm --examine {} 2>&1 || :", path.display()));
    let line = told.lines().find_map(|l| l.split_once(" : ").filter(|(k, _)| k.trim() == field));
    line.map(|(_, v)| v.trim().to_string()).unwrap_or_else(|| panic!("mdadm says no {field}: {told}"))
}

#[test]
fn arrays_are_described_as_mdadm_does() {
    let end = 16 * MIB as u64 - 8192;
    let cases = [
        (
            "1.2",
            4096,
            md1(4096, 1, 2, 0, &[0, 1], u64::MAX),
            "clean",
            "raid1 of 2 devices, this is device 0",
            "0",
        ),
        (
            "1.1",
            0,
            md1(0, 5, 3, 2, &[0, 1, 2], 512),
            "needs resync",
            "raid5 of 3 devices, this is device 2",
            "0",
        ),
        (
            "1.0",
            end,
            md1(end, 6, 5, 1, &[0, 1, 2, 0xffff, 0xfffe], u64::MAX),
            "degraded",
            "this is device 1",
            "2",
        ),
        ("1.2", 4096, md1(4096, 10, 4, 4, &[0, 1, 2, 3, 0xffff], u64::MAX), "clean", "this is a spare", "0"),
        ("1.2", 4096, md1(4096, 1, 2, 1, &[0, 0xfffe], u64::MAX), "faulty", "no longer a part of it", "1"),
    ];
    for (version, at, superblock, state, said, missing) in &cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let bytes = with(16 * MIB, &[(*at, superblock.as_slice())]);
        std::fs::write(&path, &bytes).unwrap();
        let report = look(&bytes);
        assert_eq!(report.kind.as_deref(), Some("linux_raid_member"), "{version} {said}");
        assert_eq!(
            (report.version.as_deref(), report.state.as_deref()),
            (Some(*version), Some(*state)),
            "{said}"
        );
        assert!(report.notes[0].contains(said), "{:?}", report.notes);
        let more = &report.signatures[0].more;
        assert_eq!(more["MD_MISSING"], *missing, "{said}");
        // mdadm reads the same, and finds the checksum right.
        assert_eq!(examine(&path, "Raid Level"), more["MD_LEVEL"]);
        assert_eq!(examine(&path, "Raid Devices"), more["MD_DEVICES"]);
        assert_eq!(examine(&path, "Events"), more["MD_EVENTS"]);
        assert!(examine(&path, "Checksum").ends_with("correct"));
        let plain = |id: String| id.replace([':', '-'], "");
        assert_eq!(plain(examine(&path, "Array UUID")), plain(report.uuid.clone().unwrap()));
        assert_eq!(plain(examine(&path, "Device UUID")), plain(more["UUID_SUB"].clone()));
        let told = sh(&format!("blkid -p -o value -s UUID_SUB {}", path.display()));
        assert_eq!(told.trim(), more["UUID_SUB"]);
        let mut flipped = bytes;
        flipped[usize::try_from(*at).unwrap() + 33] ^= 1;
        let report = look(&flipped);
        assert_eq!(report.state.as_deref(), Some("damaged"));
        assert!(report.notes.iter().any(|n| n.contains("checksum")));
    }
}

#[test]
fn an_old_superblock_belongs_to_whom_it_describes() {
    let size = 96 * MIB;
    let at = (size as u64 & !0xffff) - 0x10000;
    let whole = with(size, &[(at, &md0(1, u32::try_from(at >> 10).unwrap(), 2, 1, true))]);
    let report = look(&whole);
    assert_eq!(
        (report.kind.as_deref(), report.state.as_deref()),
        (Some("linux_raid_member"), Some("degraded"))
    );
    assert_eq!(report.uuid.as_deref(), Some("11111111-2222-2222-3333-333344444444"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(
        sh(&format!("blkid -p -o value -s UUID {}", path.display())).trim(),
        report.uuid.clone().unwrap()
    );
    assert_eq!(examine(&path, "Events"), report.signatures[0].more["MD_EVENTS"]);
    // On a disk whose last partition ends where the disk does, the same place is that partition's.
    let table = Image::made("96M", "echo 'start=163840' | sfdisk -q --label dos @");
    let mut bytes = table.bytes();
    let inside = md0(1, u32::try_from((at - 80 * MIB as u64) >> 10).unwrap(), 2, 2, true);
    bytes[at as usize..at as usize + 4096].copy_from_slice(&inside);
    let report = look(&bytes);
    assert_eq!(report.kind.as_deref(), Some("dos"), "{:?}", report.signatures);
    let content = report.partitions[0].content.as_ref().unwrap();
    assert_eq!(
        (content.kind.as_deref(), content.state.as_deref()),
        (Some("linux_raid_member"), Some("clean"))
    );
}
