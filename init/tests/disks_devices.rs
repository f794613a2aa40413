//! `rescue disks` on block devices that are healthy, dying and silent: loop devices over files of a file system
//! in user space, which answers as it is told to. Needs root, loop devices and FUSE.
#![allow(missing_docs, clippy::cast_possible_truncation)]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rescue_schema::report::{BlockReport, DisksReport, ProbeResult};

fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    let out = out.unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_string()
}

/// How a file answers to being read.
#[derive(Clone)]
struct Served {
    name: &'static str,
    bytes: Vec<u8>,
    /// Where reading fails.
    bad: Range<u64>,
    /// Whether a read is answered at all.
    silent: bool,
}

/// A file system in user space; when it is dropped every read that waits for it fails.
struct Fuse {
    folder: tempfile::TempDir,
    served: Vec<Served>,
    loops: Vec<String>,
    /// Shut at the end, which ends the thread that serves.
    connection: File,
}

impl Fuse {
    fn new(served: Vec<Served>) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "loop devices need root: run this test as root");
        let folder = tempfile::tempdir().unwrap();
        let connection = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", connection.as_raw_fd());
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        mount(Some("rescue-test"), folder.path(), Some("fuse"), flags, Some(options.as_str())).unwrap();
        let (mut own, files) = (connection.try_clone().unwrap(), served.clone());
        std::thread::spawn(move || {
            let mut request = vec![0u8; 1 << 20];
            while let Ok(length) = own.read(&mut request) {
                if let Some(answer) = answer(&request[..length], &files) {
                    let _ = own.write_all(&answer);
                }
            }
        });
        let mut fuse = Self { folder, served, loops: Vec::new(), connection };
        for file in fuse.served.clone() {
            let path = fuse.folder.path().join(file.name);
            fuse.loops.push(sh(&format!("losetup -r --find --show {}", path.display())));
        }
        fuse
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // Detached first and aborted then, or what waits for an answer would keep all this for ever.
        let connections = Path::new("/sys/fs/fuse/connections");
        let number = nix::sys::stat::stat(self.folder.path()).map(|s| nix::sys::stat::minor(s.st_dev));
        let mounted = Command::new("mountpoint").arg("-q").arg("/sys/fs/fuse/connections").status();
        if !mounted.is_ok_and(|s| s.success()) {
            let _ = mount(Some("none"), connections, Some("fusectl"), MsFlags::empty(), None::<&str>);
        }
        if let Ok(number) = number {
            let _ = std::fs::write(connections.join(number.to_string()).join("abort"), "1");
        }
        for device in &self.loops {
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
        let _ = self.connection.flush();
    }
}

const ATTR: usize = 88;

/// An answer of the protocol (`include/uapi/linux/fuse.h`, 7.31): length, error, request, and what follows.
fn reply(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + body.len() as u32).to_le_bytes().to_vec();
    bytes.extend(error.to_le_bytes());
    bytes.extend(unique.to_le_bytes());
    bytes.extend(body);
    bytes
}

/// `struct fuse_attr` of the root (node 1) or of a file.
fn attributes(node: u64, size: u64) -> [u8; ATTR] {
    let mut attr = [0u8; ATTR];
    attr[..8].copy_from_slice(&node.to_le_bytes());
    attr[8..16].copy_from_slice(&size.to_le_bytes());
    attr[16..24].copy_from_slice(&size.div_ceil(512).to_le_bytes());
    let mode: u32 = if node == 1 { 0o040_755 } else { 0o100_644 };
    attr[60..64].copy_from_slice(&mode.to_le_bytes());
    attr[64..68].copy_from_slice(&1u32.to_le_bytes());
    attr[80..84].copy_from_slice(&4096u32.to_le_bytes());
    attr
}

fn answer(request: &[u8], files: &[Served]) -> Option<Vec<u8>> {
    let number = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
    let (operation, unique, node) = (number(4), long(8), long(16));
    let file = |node: u64| files.get((node as usize).wrapping_sub(2));
    let size = file(node).map_or(0, |f| f.bytes.len() as u64);
    const ENOENT: i32 = -2;
    const EIO: i32 = -5;
    const ENOSYS: i32 = -38;
    Some(match operation {
        // LOOKUP
        1 => {
            let name = request[40..].split(|b| *b == 0).next().unwrap();
            match files.iter().position(|f| f.name.as_bytes() == name) {
                None => reply(unique, ENOENT, &[]),
                Some(index) => {
                    let node = index as u64 + 2;
                    let mut body = vec![0u8; 40];
                    body[..8].copy_from_slice(&node.to_le_bytes());
                    body[16..24].copy_from_slice(&3600u64.to_le_bytes());
                    body[24..32].copy_from_slice(&3600u64.to_le_bytes());
                    body.extend(attributes(node, files[index].bytes.len() as u64));
                    reply(unique, 0, &body)
                }
            }
        }
        // FORGET and BATCH_FORGET have no answer.
        2 | 42 => return None,
        // GETATTR
        3 => {
            let mut body = vec![0u8; 16];
            body[..8].copy_from_slice(&3600u64.to_le_bytes());
            body.extend(attributes(node, size));
            reply(unique, 0, &body)
        }
        // OPEN, OPENDIR
        14 | 27 => reply(unique, 0, &[0; 16]),
        // READ
        15 => {
            let file = file(node)?;
            let (from, length) = (long(48), u64::from(number(56)));
            if file.silent {
                return None;
            }
            let to = (from + length).min(size);
            if from < file.bad.end && file.bad.start < to {
                return Some(reply(unique, EIO, &[]));
            }
            reply(unique, 0, &file.bytes[from as usize..to.max(from) as usize])
        }
        // RELEASE, FLUSH, RELEASEDIR
        18 | 25 | 29 => reply(unique, 0, &[]),
        // INIT: 7.31, no flags, 128 KiB at once.
        26 => {
            let mut body = vec![0u8; 64];
            body[..4].copy_from_slice(&7u32.to_le_bytes());
            body[4..8].copy_from_slice(&31u32.to_le_bytes());
            body[20..24].copy_from_slice(&(128u32 << 10).to_le_bytes());
            reply(unique, 0, &body)
        }
        _ => reply(unique, ENOSYS, &[]),
    })
}

fn ext4(folder: &Path) -> Vec<u8> {
    let path: PathBuf = folder.join("ext4");
    sh(&format!("truncate -s 16M {0}; mkfs.ext4 -q -L healthy -O metadata_csum {0}", path.display()));
    std::fs::read(path).unwrap()
}

fn disks(devices: &[String]) -> (DisksReport, Duration) {
    let begun = Instant::now();
    let out =
        Command::new(env!("CARGO_BIN_EXE_rescue")).arg("disks").arg("--json").args(devices).output().unwrap();
    let taken = begun.elapsed();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    (serde_json::from_slice(&out.stdout).unwrap(), taken)
}

#[test]
fn each_device_costs_its_own_deadline_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let good = ext4(folder.path());
    let served = |name, bad: Range<u64>, silent| Served { name, bytes: good.clone(), bad, silent };
    let fuse = Fuse::new(vec![
        served("healthy", 0..0, false),
        served("silent", 0..0, true),
        served("dead", 0..u64::MAX, false),
        served("scratched", 8 << 20..16 << 20, false),
        served("beheaded", 0..4096, false),
        served("silent-too", 0..0, true),
    ]);
    // Less than two deadlines in a row; on a busy machine one of several tries will show it.
    let mut tries = (0..10).map(|_| disks(&fuse.loops));
    let (report, taken) = tries.find(|(_, taken)| *taken < Duration::from_secs(4)).unwrap();
    let of = |index: usize| -> &BlockReport {
        report.disks.iter().find(|d| d.path == fuse.loops[index]).unwrap_or_else(|| panic!("{report:?}"))
    };
    for (index, served) in fuse.served.iter().enumerate() {
        println!("{:<12} {:?} {:?}", served.name, of(index).probe.result, of(index).probe.notes);
    }
    // The verb ends although two reads never do, and no later than the deadline of one device.
    println!("taken: {} ms", taken.as_millis());
    assert!(taken >= Duration::from_secs(2), "{taken:?}: the silent ones were not waited for");
    let healthy = of(0);
    assert_eq!(healthy.probe.result, ProbeResult::Found);
    assert_eq!(
        (healthy.probe.kind.as_deref(), healthy.probe.label.as_deref()),
        (Some("ext4"), Some("healthy"))
    );
    assert!(healthy.backing.as_deref().unwrap().ends_with("/healthy"));
    for index in [1, 5] {
        assert_eq!(of(index).probe.result, ProbeResult::Unreadable);
        assert_eq!(of(index).probe.notes, ["no answer within 2 s"]);
    }
    assert_eq!(of(2).probe.result, ProbeResult::Unreadable);
    assert!(of(2).probe.notes[0].contains("os error 5"), "{:?}", of(2).probe.notes);
    // What can be read is found around what cannot.
    assert_eq!(of(3).probe.kind.as_deref(), Some("ext4"));
    assert!(of(3).probe.notes.iter().any(|n| n.contains("os error 5")), "{:?}", of(3).probe.notes);
    assert_ne!(of(4).probe.result, ProbeResult::Nothing, "a bad sector is not an empty disk");
}

#[test]
fn a_longer_wait_is_a_longer_wait() {
    let folder = tempfile::tempdir().unwrap();
    let fuse =
        Fuse::new(vec![Served { name: "silent", bytes: ext4(folder.path()), bad: 0..0, silent: true }]);
    let out =
        Command::new(env!("CARGO_BIN_EXE_rescue")).args(["disks", "--wait", "1", &fuse.loops[0]]).output();
    let text = String::from_utf8(out.unwrap().stdout).unwrap();
    assert!(text.contains("no answer within 1 s") && !text.contains('\x1b'), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
}
