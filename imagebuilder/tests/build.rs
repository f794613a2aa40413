//! Builds real images through the host's apt. A cold cache downloads; apt's lists must be there.

mod standin;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// Unpacks an image with the real tools, without its device nodes.
fn unpack(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    std::fs::create_dir(&root).unwrap();
    let status = Command::new("sh")
        .args(["-c", "zstd -dqc ../rescue-*.img 2>/dev/null | cpio -idm --quiet -f 'dev/*'"])
        .current_dir(&root)
        .status()
        .unwrap();
    assert!(status.success(), "zstd and cpio unpack the image");
    root
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
        if path.ends_with(".zst") {
            let plain = folder.path().join("program");
            let unpacked =
                Command::new("zstd").args(["-dqf", "-o"]).arg(&plain).arg(&program).status().unwrap();
            assert!(unpacked.success(), "{path}");
            program = plain;
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
