//! Probes against images made by the real tools, compared with `blkid`, and against damage.
#![allow(missing_docs)]

use std::path::Path;
use std::process::Command;

use init::disk::probe;
use init::disk::source::{BUDGET, Reader};
use rescue_schema::report::{ProbeReport, ProbeResult};

fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    let out = out.unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn look(bytes: Vec<u8>) -> ProbeReport {
    let reader = Reader::new(&bytes, 512);
    let report = probe::image(&reader);
    assert!(reader.spent() <= BUDGET);
    report
}

fn make(folder: &Path, size: &str, command: &str) -> Vec<u8> {
    let image = folder.join("image");
    let image = image.to_str().unwrap();
    sh(&format!("rm -f {image}; truncate -s {size} {image}; {} >/dev/null", command.replace('@', image)));
    std::fs::read(image).unwrap()
}

const MADE: &[(&str, &str)] = &[
    ("8M", "mkfs.ext2 -q -L two @"),
    ("16M", "mkfs.ext3 -q -L three @"),
    ("16M", "mkfs.ext4 -q -L four -O metadata_csum @"),
    ("2M", "mkfs.vfat -F 12 -n TWELVE @"),
    ("32M", "mkfs.vfat -F 16 -n SIXTEEN @"),
    ("64M", "mkfs.vfat -F 32 -n ESP @"),
    ("2M", "mkswap -L rest @"),
    ("2M", "mkswap -p 65536 @"),
];

#[test]
fn agrees_with_blkid() {
    let folder = tempfile::tempdir().unwrap();
    for (size, command) in MADE {
        let report = look(make(folder.path(), size, command));
        let told = sh(&format!("blkid -p -o export {}/image", folder.path().display()));
        let field = |name: &str| {
            told.lines()
                .find_map(|l| l.split_once('=').filter(|(k, _)| *k == name))
                .map(|(_, v)| v.to_string())
        };
        assert_eq!(report.result, ProbeResult::Found, "{command}");
        assert_eq!(report.kind, field("TYPE"), "{command}");
        assert_eq!(report.label, field("LABEL"), "{command}");
        assert_eq!(report.uuid, field("UUID"), "{command}");
        assert_eq!(report.version, field("VERSION"), "{command}");
    }
}

const GPT: &str = "printf 'label: gpt\\nsize=4M,type=U\\nsize=4M\\n' | sfdisk -q @";

#[test]
fn a_damaged_gpt_says_which_copy() {
    let folder = tempfile::tempdir().unwrap();
    let good = make(folder.path(), "16M", GPT);
    let end = good.len();
    let mut front = good.clone();
    front[512 + 40] ^= 1;
    let report = look(front.clone());
    assert_eq!(report.partitions.len(), 2);
    assert!(report.notes[0].contains("primary GPT is damaged"), "{:?}", report.notes);
    let mut back = good;
    back[end - 512] ^= 1;
    assert!(look(back).notes[0].contains("backup GPT is damaged"));
    front[end - 512] ^= 1;
    let report = look(front.clone());
    assert_eq!((report.kind.as_deref(), report.state.as_deref()), (Some("gpt"), Some("damaged")));
    assert_eq!(report.partitions.len(), 2);
    assert!(report.notes[0].contains("both copies of the GPT are damaged"), "{:?}", report.notes);
    front[512..34 * 512].fill(0);
    front[end - 33 * 512..].fill(0);
    let report = look(front);
    assert_eq!(report.kind.as_deref(), Some("dos"));
    assert!(report.notes[0].contains("protective MBR"));
}

#[test]
fn a_damaged_superblock_names_its_backups() {
    let folder = tempfile::tempdir().unwrap();
    let good = make(folder.path(), "32M", "mkfs.ext4 -q -b 1024 -O metadata_csum @");
    let mut flipped = good.clone();
    flipped[1024 + 0x78] ^= 1;
    let mut wiped = good;
    wiped[1024..2048].fill(0);
    for bytes in [flipped, wiped] {
        let report = look(bytes);
        assert_eq!((report.kind.as_deref(), report.state.as_deref()), (Some("ext4"), Some("damaged")));
        assert!(
            report.notes.iter().any(|n| n.contains("backup superblocks at block 8193")),
            "{:?}",
            report.notes
        );
    }
}

#[test]
fn no_bytes_make_a_probe_panic_or_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for (size, command) in MADE.iter().chain(&[("12M", GPT)]) {
        let mut bytes = make(folder.path(), size, command);
        for _ in 0..300 {
            let changes: Vec<usize> = (0..8).map(|_| random(4096)).collect();
            let old: Vec<u8> = changes.iter().map(|at| bytes[*at]).collect();
            for at in &changes {
                bytes[*at] = [0, 0xff, 0x7f, 1][random(4)];
            }
            let reader = Reader::new(&bytes, 512);
            probe::image(&reader);
            assert!(reader.spent() <= BUDGET);
            for (at, old) in changes.iter().zip(old).rev() {
                bytes[*at] = old;
            }
        }
        for length in [0, 1, 511, 512, 1024, 2047, 4096, 66_000] {
            look(bytes[..length].to_vec());
        }
    }
}

#[test]
fn several_are_looked_at_in_one_call_each_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (four, swap, none) = (path("four"), path("swap"), path("none"));
    sh(&format!("truncate -s 16M {four} {swap}; mkfs.ext4 -q -L four {four}; mkswap {swap} >/dev/null"));
    let probe = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescue"));
        let out = command.args(["probe", "--json"]).args(args).output().unwrap();
        (out.status.code(), serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap())
    };
    let (status, one) = probe(&[&four]);
    assert_eq!((status, one["type"].as_str()), (Some(0), Some("ext4")), "{one}");
    let (status, all) = probe(&[&four, &swap, &four]);
    assert_eq!((status, &all[&four], all[&swap]["type"].as_str()), (Some(0), &one, Some("swap")), "{all}");
    // What is not there is said, and the others are looked at.
    let (status, all) = probe(&[&four, &none]);
    assert_eq!((status, &all[&four], all[&none]["result"].as_str()), (Some(1), &one, Some("unreadable")));
}
