//! Formats that no package of Debian makes, put together here from their documentation; where `blkid` knows
//! them, what it says is compared.

use init::disk::source::crc32;
use rescue_schema::report::{ProbeReport, ProbeResult, Proof};

use super::Image;
use super::agreement::blkid;

/// Zeros with pieces in them, as a file that `blkid` reads too.
struct Built(Vec<u8>);

impl Built {
    fn new(size: usize) -> Self {
        Self(vec![0; size])
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn look(&self) -> (ProbeReport, std::collections::BTreeMap<String, String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.0).unwrap();
        (Image::open(file.path()).look(), blkid(file.path()).1)
    }

    /// The same type, label, UUID and version as blkid says.
    fn agrees(&self) -> ProbeReport {
        let (report, theirs) = self.look();
        assert_eq!(report.result, ProbeResult::Found);
        for (name, own) in [
            ("TYPE", &report.kind),
            ("LABEL", &report.label),
            ("UUID", &report.uuid),
            ("VERSION", &report.version),
        ] {
            assert_eq!(own.as_ref(), theirs.get(name), "{name} of {:?}", report.kind);
        }
        report
    }
}

#[test]
fn squashfs_of_the_old_versions() {
    for (magic, big) in [(b"hsqs", false), (b"sqsh", true)] {
        let word = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let report = Built::new(1 << 16).put(0, magic).put(28, &word(3)).put(30, &word(1)).agrees();
        assert_eq!(report.kind.as_deref(), Some("squashfs3"));
    }
}

#[test]
fn reiserfs_with_its_journal_elsewhere() {
    let report = Built::new(1 << 20)
        .put(65536, &200u32.to_le_bytes())
        .put(65536 + 12, &18u32.to_le_bytes())
        .put(65536 + 44, &4096u16.to_le_bytes())
        .put(65536 + 50, &1u16.to_le_bytes())
        .put(65536 + 52, b"ReIsEr3Fs")
        .put(65536 + 84, &[7; 16])
        .put(65536 + 100, b"elsewhere")
        .agrees();
    assert_eq!((report.version.as_deref(), report.state.as_deref()), (Some("JR"), Some("clean")));
}

#[test]
fn ext3_with_its_journal_elsewhere() {
    let report = Built::new(1 << 20)
        .put(1024, &[0, 1, 0, 0, 0, 4, 0, 0])
        .put(1024 + 0x20, &8192u32.to_le_bytes())
        .put(1024 + 0x38, &[0x53, 0xef, 1, 0])
        .put(1024 + 0x4c, &1u32.to_le_bytes())
        .put(1024 + 0x5c, &4u32.to_le_bytes())
        .put(1024 + 0xd0, &[5; 16])
        .agrees();
    assert_eq!(report.kind.as_deref(), Some("ext3"));
    assert_eq!(report.signatures[0].more["EXT_JOURNAL"], "05050505-0505-0505-0505-050505050505");
}

#[test]
fn gfs_of_the_first_version() {
    let report = Built::new(40 << 20)
        .put(65536, &0x0116_1970u32.to_be_bytes())
        .put(65536 + 4, &1u32.to_be_bytes())
        .put(65536 + 24, &1309u32.to_be_bytes())
        .put(65536 + 28, &1401u32.to_be_bytes())
        .put(65536 + 36, &4096u32.to_be_bytes())
        .put(65536 + 96, b"lock_dlm")
        .put(65536 + 160, b"cluster:name")
        .agrees();
    assert_eq!(report.kind.as_deref(), Some("gfs"));
    assert!(report.notes[0].contains("other machines"));
}

#[test]
fn befs_of_both_machines() {
    for (start, big) in [(512usize, false), (0, true)] {
        let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let long = |n: u64| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let (report, _) = Built::new(2 << 20)
            .put(start, b"Haiku")
            .put(start + 32, &word(0x4246_5331))
            .put(start + 36, &word(0x4249_4745))
            .put(start + 40, &word(2048))
            .put(start + 44, &word(11))
            .put(start + 48, &long(1024))
            .put(start + 68, &word(0xdd12_1031))
            .put(start + 96, &long(5))
            .put(start + 104, &long(9))
            .put(start + 112, &word(0x15b6_830e))
            .look();
        let version = if big { "big-endian" } else { "little-endian" };
        assert_eq!((report.kind.as_deref(), report.label.as_deref()), (Some("befs"), Some("Haiku")));
        assert_eq!(report.version.as_deref(), Some(version));
        assert_eq!(report.state.as_deref(), Some("needs journal recovery"));
        assert_eq!(report.signatures[0].size, Some(2 << 20));
    }
}

#[test]
fn formats_that_are_only_named() {
    for (at, magic, kind) in [
        (1024, &b"\xf5\xfc\x01\xa5"[..], "vxfs"),
        (8192, b"\xa5\x01\xfc\xf5", "vxfs"),
        (0, b"SFOZ", "zonefs"),
        (0, b"\x31\x18\x10\x06", "ubifs"),
        (32, b"ORCLDISK", "oracleasm"),
        (8192, b"\x49\xe8\x95\xf9", "hpfs"),
        (0, b"\xce\xfa\xad\x1b", "bfs"),
    ] {
        let (report, _) = Built::new(20 << 20).put(at, magic).look();
        assert_eq!((report.result, report.kind.as_deref()), (ProbeResult::Found, Some(kind)));
    }
}

const BCACHEFS: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";

/// A superblock of the second of two devices, at `place`, with the field of its members.
fn bcachefs(place: u64, flags: u64) -> Vec<u8> {
    let mut b = vec![0u8; 752 + 16 + 2 * 64];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    // Version 1.7; CRC-32C.
    put(16, &((1u16 << 10) | 7).to_le_bytes());
    put(24, BCACHEFS);
    put(40, &[1; 16]);
    put(56, &[2; 16]);
    put(72, b"both");
    put(104, &(place / 512).to_le_bytes());
    put(120, &8u16.to_le_bytes());
    put(122, &[1, 2]);
    put(124, &u32::try_from((16 + 2 * 64) / 8).unwrap().to_le_bytes());
    put(144, &(flags | 1 << 2).to_le_bytes());
    put(240, BCACHEFS);
    put(258, &[2]);
    put(264, &8u64.to_le_bytes());
    put(272, &4096u64.to_le_bytes());
    put(752, &u32::try_from((16 + 2 * 64) / 8).unwrap().to_le_bytes());
    put(756, &11u32.to_le_bytes());
    put(760, &64u16.to_le_bytes());
    put(768 + 64, &[9; 16]);
    put(768 + 64 + 16, &100u64.to_le_bytes());
    put(768 + 64 + 26, &512u16.to_le_bytes());
    let sum = !crc32(0x82F6_3B78, !0, &b[16..]);
    b[..4].copy_from_slice(&sum.to_le_bytes());
    b
}

#[test]
fn a_bcachefs_and_what_is_left_of_it() {
    let mut layout = BCACHEFS.to_vec();
    layout.extend([0, 11, 2, 0, 0, 0, 0, 0]);
    layout.extend(8u64.to_le_bytes());
    layout.extend(4096u64.to_le_bytes());
    let disk = || {
        Built::new(64 << 20)
            .put(3584, &layout)
            .put(4096, &bcachefs(4096, 3))
            .put(2 << 20, &bcachefs(2 << 20, 3))
    };
    let (report, _) = disk().look();
    let first = &report.signatures[0];
    assert_eq!((report.kind.as_deref(), report.label.as_deref()), (Some("bcachefs"), Some("both")));
    assert_eq!((report.version.as_deref(), report.state.as_deref()), (Some("1.7"), Some("clean")));
    assert_eq!(report.uuid.as_deref(), Some("02020202-0202-0202-0202-020202020202"));
    assert_eq!(first.more["UUID_SUB"], "09090909-0909-0909-0909-090909090909");
    assert_eq!(
        (first.size, first.block_size, first.proof),
        (Some(100 * 512 * 512), Some(4096), Proof::Checksum)
    );
    assert_eq!(report.notes, ["device 2 of a file system on 2 devices"]);
    let (report, _) = disk().put(4096 + 72, b"BOTH").look();
    assert_eq!((report.state.as_deref(), report.signatures[0].backups[0]), (Some("damaged"), 2 << 20));
    let (report, _) = disk().put(4096, &[0; 1024]).look();
    assert_eq!((report.state.as_deref(), report.label.as_deref()), (Some("damaged"), Some("both")));
    assert_eq!(report.signatures[0].repair.as_deref(), Some("bcachefs recover-super DEV"));
    let (report, _) = Built::new(64 << 20).put(4096, &bcachefs(4096, 1)).look();
    assert_eq!(report.state.as_deref(), Some("needs journal recovery"));
    let (report, _) = Built::new(64 << 20).put(4096, &bcachefs(4096, 3 | 1 << 60)).look();
    assert_eq!(report.state.as_deref(), Some("errors seen"));
}
