//! Builds real images through the host's apt. A cold cache downloads; apt's lists must be there.

mod standin;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use standin::standin;

const BUILDER: &str = env!("CARGO_BIN_EXE_imagebuilder");

fn builder(arguments: &[&str]) -> Output {
    Command::new(BUILDER).args(arguments).output().expect("imagebuilder starts")
}

fn build(family: &str, profile: &str, init: &str, folder: &Path) -> Output {
    let folder = folder.to_str().unwrap();
    builder(&["build", "--family", family, "--profile", profile, "--init", init, "-o", folder])
}

fn built(family: &str, profile: &str, folder: &Path) -> serde_json::Value {
    let output = build(family, profile, &standin(), folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

/// Unpacks an image with the real cpio, one archive after the other as the kernel does, without its device nodes.
fn unpack(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    std::fs::create_dir(&root).unwrap();
    for archive in archives(folder) {
        let mut cpio = Command::new("cpio");
        let cpio = cpio.args(["-idm", "--quiet", "-f", "dev/*"]).current_dir(&root).stdin(Stdio::piped());
        let mut child = cpio.spawn().expect("cpio is installed (apt-get install cpio)");
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(child.wait().unwrap().success(), "cpio unpacks the image");
    }
    root
}

/// The archives of an image, as the kernel finds them: compressed ones one behind the other, one that is not at a
/// multiple of four.
fn archives(folder: &Path) -> Vec<Vec<u8>> {
    let mut images = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let image =
        std::fs::read(images.find(|path| path.extension().is_some_and(|e| e == "img")).unwrap()).unwrap();
    let (mut at, mut found) = (0, Vec::new());
    while at < image.len() {
        match image[at] {
            0 => at += 1,
            b'0' => {
                assert_eq!(at % 4, 0);
                let end = b"TRAILER!!!\0";
                let length = image[at..].windows(end.len()).position(|w| w == end).unwrap() + end.len();
                let length = length.next_multiple_of(4);
                found.push(image[at..at + length].to_vec());
                at += length;
            }
            _ => {
                let length =
                    zstd::zstd_safe::find_frame_compressed_size(&image[at..]).expect("a whole frame");
                found.push(zstd::decode_all(&image[at..at + length]).unwrap());
                at += length;
            }
        }
    }
    assert_eq!(image.len() % 4, 0, "device.cpio is found behind it");
    found
}

#[test]
fn what_has_not_changed_keeps_its_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    built("debian", "minimal", one.path());
    let other = two.path().join("other");
    std::fs::write(&other, [std::fs::read(standin()).unwrap(), b"changed".to_vec()].concat()).unwrap();
    let output = build("debian", "minimal", other.to_str().unwrap(), two.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (one, two) = (archives(one.path()), archives(two.path()));
    assert_eq!(one.len(), two.len());
    assert_eq!(one.iter().zip(&two).filter(|(one, two)| one != two).count(), 1, "that of the program alone");
    // An archive begins with its magic, and the last is stored: what it holds is packed.
    assert!(one.iter().all(|archive| archive.starts_with(b"070701")));
    let packed = one.last().unwrap();
    assert!(
        packed.windows(8).any(|w| w == b".ko.zst\0") && packed.windows(4).any(|w| w == b"\x28\xb5\x2f\xfd")
    );
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manifest = built("debian", "minimal", one.path());
    // One core instead of all: neither may show in the bytes.
    let output = Command::new("taskset")
        .args([
            "-c",
            "0",
            BUILDER,
            "build",
            "--family",
            "debian",
            "--profile",
            "minimal",
            "--init",
            BUILDER,
            "-o",
        ])
        .arg(two.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["vmlinuz", "rescue-debian.img", "manifest.json"] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert!(read(one.path()) == read(two.path()), "{name} differs");
    }
    assert_eq!(manifest["initramfs"]["bytes"].as_u64().unwrap() % 4, 0, "device.cpio can follow");
}

#[test]
fn modules_dep_is_what_depmod_says() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = built("debian", "minimal", folder.path());
    let release = manifest["image"]["kernel"].as_str().unwrap();
    let root = unpack(folder.path());
    let modules = root.join("lib/modules").join(release);
    let table = |name: &str| -> BTreeSet<String> {
        let text = std::fs::read_to_string(modules.join(name)).unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                // depmod lists what a module needs in an order of its own where several are right.
                let mut words: Vec<&str> = line.split(' ').collect();
                if name == "modules.dep" {
                    words.sort_unstable();
                }
                words.join(" ")
            })
            .collect()
    };
    let ours: Vec<_> = ["modules.dep", "modules.alias", "modules.softdep"].map(&table).into();
    std::fs::write(modules.join("modules.order"), "").unwrap();
    let output =
        Command::new("depmod").arg("-b").arg(&root).arg(release).output().expect("kmod is installed");
    assert!(output.status.success());
    for (name, ours) in ["modules.dep", "modules.alias", "modules.softdep"].into_iter().zip(ours) {
        assert!(!ours.is_empty() || name == "modules.softdep");
        assert_eq!(ours, table(name), "{name}");
    }
}

#[test]
fn every_program_of_every_family_finds_its_libraries() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = built("universal", "standard", folder.path());
    let root = unpack(folder.path());
    let loader = root.join("lib64/ld-linux-x86-64.so.2");
    let real = root.join(std::fs::read_link(&loader).unwrap().to_str().unwrap().trim_start_matches('/'));
    let packed = |plain: &str| root.join(format!("usr/lib/rescue/packed{plain}.zst"));
    let unzstd = |from: &Path, to: &Path| {
        let status = Command::new("zstd").args(["-dqf", "-o"]).arg(to).arg(from).status().unwrap();
        assert!(status.success(), "{}", from.display());
    };
    let list = std::fs::read(root.join("usr/lib/rescue/packed/libraries.json")).unwrap();
    let needed: BTreeMap<String, Vec<String>> = serde_json::from_slice(&list).unwrap();
    let all: BTreeSet<&String> = needed.values().flatten().collect();
    assert!(all.len() > 50 && all.iter().all(|path| !root.join(&path[1..]).exists()), "{all:?}");
    let mut checked = 0;
    for file in manifest["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let origin = file["origin"].as_str().unwrap();
        let program = path.contains("bin/") && file["sha256"].is_string() && !origin.starts_with("rescue");
        if !program || path.ends_with("/busybox") {
            continue;
        }
        let libraries = format!("{0}/lib/x86_64-linux-gnu:{0}/usr/lib/x86_64-linux-gnu", root.display());
        let mut program = root.join(path.trim_start_matches('/'));
        // Those that come with it, and no others.
        let mut brought = Vec::new();
        if let Some(plain) = path.strip_prefix("/usr/lib/rescue/packed").and_then(|p| p.strip_suffix(".zst"))
        {
            let there = folder.path().join("program");
            unzstd(&program, &there);
            program = there;
            for library in needed.get(plain).into_iter().flatten() {
                let place = root.join(&library[1..]);
                unzstd(&packed(library), &place);
                brought.push(place);
            }
        }
        if std::fs::read(&program).unwrap().starts_with(b"#!") {
            // The builder has checked that its interpreter is there.
            continue;
        }
        let output = Command::new(&real)
            .args(["--inhibit-cache", "--library-path", &libraries, "--list"])
            .arg(&program)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let inside = |line: &str| !line.contains("=> /") || line.contains(root.to_str().unwrap());
        assert!(output.status.success() && text.lines().all(inside), "{path}: {text}");
        brought.iter().for_each(|library| std::fs::remove_file(library).unwrap());
        checked += 1;
    }
    assert!(checked > 90, "{checked} programs");
}

#[test]
fn what_is_wrong_is_one_line_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("manifest.json"), "old").unwrap();
    let at = folder.path().to_str().unwrap();
    let base = ["build", "--family", "debian", "--profile", "minimal", "-o", at];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    for (arguments, status, wanted) in [
        (vec!["build", "--family", "plan9", "--profile", "minimal", "-o", at], 1, "unknown family"),
        (vec!["build", "--family", "debian", "--profile", "x", "-o", at], 1, "no profile"),
        (vec!["build", "--family", "debian", "-o", at], 2, "--profile"),
        (vec!["build", "--frobnicate"], 2, "frobnicate"),
        (with(&["--init", "/bin/bash"]), 1, "not a static binary"),
        (with(&["--init", "/nonexistent"]), 1, "--init"),
        (with(&["--init", BUILDER, "--kernel", "/nonexistent", "--modules", "/tmp"]), 1, "opening kernel"),
        (with(&["--init", BUILDER, "--kernel", "/bin/sh", "--modules", "/none"]), 1, "modules directory"),
        (with(&["--kernel", "/bin/sh"]), 2, "go together"),
        (vec!["run", "--image", at], 1, "no kernel"),
        (vec!["inject", "-o", "x"], 2, "inject needs"),
    ] {
        let output = builder(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains(wanted) && text.lines().count() == 1, "{arguments:?}: {text}");
    }
    assert_eq!(std::fs::read(folder.path().join("manifest.json")).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
