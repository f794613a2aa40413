//! Families of one's own, what the command line adds, kernels of one's own, and what is wrong with them.

mod standin;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use standin::standin;

const BUILDER: &str = env!("CARGO_BIN_EXE_imagebuilder");

fn builder(arguments: &[&str]) -> Output {
    Command::new(BUILDER).args(arguments).output().expect("imagebuilder starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Builds a minimal image; any static program may stand for the `rescue` binary.
fn build(family: &str, folder: &Path, more: &[&str]) -> Output {
    let out = folder.to_str().unwrap();
    let base = ["build", "--family", family, "--profile", "minimal", "--init", &standin(), "-o", out];
    builder(&[&base[..], more].concat())
}

fn manifest(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

fn entry(manifest: &serde_json::Value, path: &str) -> Option<serde_json::Value> {
    manifest["files"].as_array().unwrap().iter().find(|file| file["path"] == path).cloned()
}

fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_family_of_ones_own_and_what_is_added_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let own = write(
        folder.path(),
        "mine.toml",
        "name = \"mine\"\nabout = \"x\"\ninherits = [\"redhat\"]\n[guest]\ntext = \"ours\"\n\
         [[profile.minimal.file]]\npath = \"/etc/motd\"\ntext = \"hello\\n\"\n\
         [[profile.minimal.link]]\npath = \"/etc/issue\"\nto = \"motd\"\n",
    );
    write(folder.path(), "over/etc/profile.d/x.sh", "true\n");
    write(folder.path(), "over/etc/motd", "over it\n");
    let overlay = folder.path().join("over");
    let out = folder.path().join("out");
    let more =
        ["--add", "gdisk", "--add", "/bin/ls", "--module", "dm-mod", "--overlay", overlay.to_str().unwrap()];
    let output = build(own.to_str().unwrap(), &out, &more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(out.join("rescue-mine.img").exists());
    let manifest = manifest(&out);
    assert_eq!(manifest["image"]["guest"]["text"], "ours");
    assert_eq!(manifest["image"]["guest"]["file_systems"][1], "xfs", "inherited");
    let origin = |path: &str| entry(&manifest, path).map(|e| e["origin"].as_str().unwrap().to_string());
    for program in ["/sbin/sgdisk", "/sbin/gdisk", "/sbin/fixparts"] {
        assert!(
            origin(program).or(origin(&format!("/usr{program}"))).is_some_and(|o| o.starts_with("gdisk=")),
            "{program}"
        );
    }
    assert_eq!(origin("/usr/local/bin/ls").as_deref(), Some("host"));
    let files = manifest["files"].as_array().unwrap();
    let named = |end: &str| files.iter().filter(|f| f["path"].as_str().unwrap().ends_with(end)).count();
    assert_eq!(
        (named("/libc.so.6"), named("/dm-mod.ko") + named("/dm-mod.ko.zst"), named("/xfs.ko.zst")),
        (1, 1, 1)
    );
    assert_eq!(entry(&manifest, "/etc/motd").unwrap()["bytes"], 8, "the overlay lies over the family's own");
    assert_eq!(entry(&manifest, "/etc/issue").unwrap()["target"], "motd");
    assert!(entry(&manifest, "/etc/profile.d/x.sh").is_some());
}

#[test]
fn every_family_builds_and_explains_itself() {
    let listed = builder(&["families", "--json"]);
    let families: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let families = families.as_array().unwrap();
    assert_eq!(families.len(), 6);
    for family in families {
        let name = family["name"].as_str().unwrap();
        // Universal has what all the others have.
        let profiles: &[&str] = if name == "universal" { &["minimal", "standard"] } else { &["minimal"] };
        for profile in profiles {
            let shown = builder(&["show", name, "--profile", profile, "--init", &standin(), "--json"]);
            assert!(shown.status.success(), "{name} {profile}: {}", text(&shown.stderr));
            let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
            let profile = &shown["profiles"][0];
            let sum: u64 =
                profile["parts"].as_array().unwrap().iter().map(|p| p["bytes"].as_u64().unwrap()).sum();
            assert_eq!(profile["unpacked_bytes"], sum, "{name}");
            // The kernel unpacks into half of the memory, 256 MiB of which must do; what stands for the rescue
            // here is larger than that.
            let ours =
                profile["parts"].as_array().unwrap().iter().find(|part| part["what"] == "rescue").unwrap();
            let sum = sum - ours["bytes"].as_u64().unwrap();
            assert!(sum < 72 << 20, "{name}: {sum} bytes");
        }
    }
    assert!(
        text(&builder(&["show", "windows", "--profile", "standard", "--init", &standin()]).stdout)
            .contains("chntpw")
    );
}

#[test]
fn what_is_wrong_with_a_family_is_one_line_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let at = folder.path().to_str().unwrap();
    let head = "name = \"mine\"\nabout = \"x\"\ninherits = [\"debian\"]\n[profile.minimal]\n";
    for (body, wanted) in [
        ("toolsets = [\"tolls\"]", "mine.toml:5: unknown toolset \"tolls\""),
        ("modules = [\n\"no_such_driver\"]", "mine.toml:6: module glob \"no_such_driver\" matches no module"),
        ("modules = [\"[z\"]", "mine.toml:5: module glob \"[z\""),
        ("kernel = \"linux-image-none\"", "mine.toml:5: package linux-image-none is not in apt's lists"),
        ("kernel_config = [\"none\"]", "mine.toml:5: unknown kernel-config fragment \"none\""),
        (
            "[[profile.minimal.package]]\nname = \"no-such-package\"",
            "mine.toml:6: package no-such-package is not in",
        ),
        (
            "[[profile.minimal.package]]\nname = \"gdisk\"\nprograms = [\"gdisc\"]",
            "mine.toml:7: package gdisk has no program gdisc",
        ),
        (
            "[[profile.minimal.package]]\nname = \"gdisk\"\nfiles = [\"etc/none\"]",
            "mine.toml:7: package gdisk has no file etc/none",
        ),
        (
            "[[profile.minimal.file]]\npath = \"/a/../b\"\ntext = \"\"",
            "mine.toml:6: \"/a/../b\" is not the absolute path",
        ),
        ("[[profile.minimal.file]]\npath = \"/init\"\ntext = \"\"", "mine.toml:6: /init comes from both"),
        (
            "[[profile.minimal.file]]\npath = \"/init/x\"\ntext = \"\"",
            "mine.toml:6: /init/x: /init is not a directory",
        ),
        (
            "[[profile.minimal.file]]\npath = \"/a\\u0000b\"\ntext = \"\"",
            "mine.toml:6: \"/a\\0b\" is not the absolute path",
        ),
        (
            "[[profile.minimal.link]]\npath = \"/a\"\nto = \"b\\u0000\"",
            "mine.toml:6: \"b\\0\" is nothing that a link can lead to",
        ),
        ("[[profile.minimal.link]]\npath = \"/a\"\nto = \"\"", "mine.toml:6: \"\" is nothing that a link"),
        (
            "[[profile.minimal.package]]\nname = \"a\\u0000b\"",
            "mine.toml:6: \"a\\0b\" is no name of a package",
        ),
        ("kernel = \"-oDir::Etc=/x\"", "mine.toml:5: \"-oDir::Etc=/x\" is no name of a package"),
        ("pack_level = 20", "mine.toml:5: pack_level is one of zstd's levels, 1 to 19"),
        ("modules = 7", "mine.toml:5: invalid type"),
        ("modules = [", "mine.toml:5: "),
    ] {
        let path = write(folder.path(), "mine.toml", &format!("{head}{body}\n"));
        let output = build(path.to_str().unwrap(), &out, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{body}: {said}");
        assert!(
            said.replace(&format!("{at}/"), "").contains(wanted) && said.lines().count() == 1,
            "{body}: {said}"
        );
        assert!(!out.exists(), "{body}");
    }
    let script = write(folder.path(), "own script", "#!/usr/bin/env bash\n");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let over = folder.path().join("over it");
    std::fs::create_dir(&over).unwrap();
    std::os::unix::fs::symlink("usr/bin", over.join("bin")).unwrap();
    let modules = folder.path().join("6.1.0-own");
    std::fs::create_dir(&modules).unwrap();
    std::fs::write(modules.join("modules.builtin"), "").unwrap();
    let (pipe, package) = (folder.path().join("pipe"), folder.path().join("package.deb"));
    assert!(Command::new("mkfifo").args([&pipe, &package]).status().unwrap().success());
    let (fifo, deb) = (pipe.to_str().unwrap(), package.to_str().unwrap());
    let (script, over, modules) =
        (script.to_str().unwrap(), over.to_str().unwrap(), modules.to_str().unwrap());
    for (more, wanted) in [
        (vec!["--add", script], "own script is a script for bash, which the image has not"),
        (vec!["--add", "/tmp/../bin/sh.deb"], "--add /tmp/../bin/sh.deb: "),
        (vec!["--overlay", over], "--overlay: /bin is a folder of the image"),
        (vec!["--overlay", at], "lies in --overlay"),
        (vec!["--overlay", "self\u{1b}[2J"], "--overlay self\\u{1b}[2J: "),
        (vec!["--kernel", fifo, "--modules", modules], "pipe: not a file"),
        (vec!["--kernel", deb], "package.deb: not a file"),
        (vec!["--init", fifo], "pipe: build it (cargo build --release), or name it with --init: not a file"),
        (vec!["--init", "/dev/zero"], "--init: not a file"),
        (vec!["--add", fifo], "pipe: not a file"),
        (vec!["--firmware", "/no/such/folder"], "--firmware /no/such/folder: no such folder"),
        (vec!["--kernel", script, "--modules", modules], "own script: not a kernel that x86 boots"),
        (vec!["--add", "no-such-package"], "--add: package no-such-package"),
        (vec!["--add", "./no-such-file"], "--add ./no-such-file: "),
        (vec!["--add", "tzdata"], "--add tzdata: the package has no program"),
        (vec!["--add", "debconf"], "is a script for /usr/bin/perl, which the image has not"),
        (vec!["--module", "no_such_driver"], "--module: module glob"),
        (vec!["--overlay", "/no/such/folder"], "--overlay /no/such/folder: "),
        (vec!["--kernel", "/no/such.deb"], "/no/such.deb"),
    ] {
        let output = build("debian", &out, &more);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{more:?}: {said}");
        assert!(said.contains(wanted) && said.lines().count() == 1, "{more:?}: {said}");
        assert!(!out.exists(), "{more:?}");
    }
    let file = build("debian", Path::new(script), &[]);
    assert!(text(&file.stderr).contains("own script: a file; -o names the folder"), "{}", text(&file.stderr));
    let none = build("debian", Path::new(""), &[]);
    assert!(none.status.code() == Some(2) && text(&none.stderr).contains("-o has an empty value"));
}

#[test]
fn modules_of_another_kernel_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let package = kernel_package(folder.path(), None);
    assert!(package.exists());
    let boot = std::fs::read_dir(folder.path().join("tree/boot")).unwrap().map(|e| e.unwrap().path());
    let kernel = boot.into_iter().find(|p| p.to_str().unwrap().contains("vmlinuz-")).unwrap();
    let libraries = ["lib/modules", "usr/lib/modules"].map(|at| folder.path().join("tree").join(at));
    let modules = libraries.iter().find_map(|at| std::fs::read_dir(at).ok()?.next()).unwrap().unwrap().path();
    let build = |kernel: &Path| {
        let out = folder.path().join("out");
        let more = ["--kernel", kernel.to_str().unwrap(), "--modules", modules.to_str().unwrap()];
        let output = build("debian", &out, &more);
        (output.status.success(), text(&output.stderr), out.exists())
    };
    // A path with a blank, and a kernel that says another release of itself.
    let other = folder.path().join("vmlinuz of another");
    let mut bytes = std::fs::read(&kernel).unwrap();
    let at = 0x200 + usize::from(u16::from_le_bytes([bytes[0x20e], bytes[0x20f]]));
    bytes[at] = b'7';
    std::fs::write(&other, bytes).unwrap();
    let (done, said, left) = build(&other);
    assert!(!done && said.contains("this is kernel 7.") && said.lines().count() == 1 && !left, "{said}");
    let (done, said, _) = build(&kernel);
    assert!(done, "{said}");
}

/// A package of a kernel whose configuration lacks `without`, made by the real tools of the package that
/// apt has.
fn kernel_package(folder: &Path, without: Option<&str>) -> PathBuf {
    let script = r#"set -e
        cd "$1"; mkdir -p tree/DEBIAN
        ls linux-image-*.deb >/dev/null 2>&1 || {
            name=$(apt-cache depends --no-recommends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -1)
            apt-get -q download "$name" >/dev/null
        }
        [ -d tree/boot ] || dpkg-deb -x linux-image-*.deb tree
        printf 'Package: own-kernel\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n' >tree/DEBIAN/control
        if [ -n "$2" ]; then sed -i "/^$2=/d" tree/boot/config-*; fi
        dpkg-deb --root-owner-group -Znone -b tree own.deb >/dev/null"#;
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(folder)
        .arg(without.unwrap_or_default())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder.join("own.deb")
}

#[test]
fn a_kernel_of_ones_own_comes_from_a_package_file_and_must_do_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // Its own cache: the package is none that apt knows.
    let package = kernel_package(folder.path(), None);
    let output = build("debian", &out, &["--kernel", package.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let manifest = manifest(&out);
    let release = manifest["image"]["kernel"].as_str().unwrap();
    let origin =
        entry(&manifest, &format!("/lib/modules/{release}/modules.dep")).map(|e| e["origin"].clone());
    assert_eq!(origin.unwrap(), "rescue");
    assert!(
        manifest["files"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f["origin"].as_str().unwrap().starts_with("own.deb=sha256:"))
    );

    std::fs::remove_dir_all(&out).unwrap();
    let package = kernel_package(folder.path(), Some("CONFIG_DEVTMPFS"));
    let output = build("debian", &out, &["--kernel", package.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert!(said.contains("CONFIG_DEVTMPFS=n, wanted =y (kernel-configs/required.config:"), "{said}");
    assert!(said.lines().count() == 1 && !out.exists(), "{said}");

    let config = std::fs::read_dir(folder.path().join("tree/boot")).unwrap();
    let config = config.map(|e| e.unwrap().path()).find(|p| p.to_str().unwrap().contains("config-")).unwrap();
    let checked = builder(&["kernel", "check", config.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stdout).starts_with("CONFIG_DEVTMPFS=n, wanted =y"), "{}", text(&checked.stdout));
    let garbage = write(folder.path(), "garbage", "hello\n");
    let checked = builder(&["kernel", "check", garbage.to_str().unwrap()]);
    assert!(text(&checked.stderr).contains("not a kernel's .config"));
}

#[test]
fn firmware_that_the_modules_ask_for_goes_in_as_far_as_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let firmware = folder.path().join("firmware");
    let plain = b"firmware".repeat(64);
    std::fs::create_dir_all(firmware.join("ql8100")).unwrap();
    write(&firmware, "ast_dp501_fw.bin", "plain");
    std::fs::write(firmware.join("ql2100_fw.bin.zst"), zstd(&plain)).unwrap();
    write(&firmware, "nobody/asks.bin", "x");
    let out = folder.path().join("out");
    let output = builder(&[
        "build",
        "--family",
        "debian",
        "--profile",
        "standard",
        "--init",
        &standin(),
        "--firmware",
        firmware.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("modules ask for some of"), "{}", text(&output.stdout));
    let manifest = manifest(&out);
    assert_eq!(entry(&manifest, "/lib/firmware/ast_dp501_fw.bin").unwrap()["bytes"], 5);
    assert_eq!(entry(&manifest, "/lib/firmware/ql2100_fw.bin").unwrap()["bytes"], plain.len());
    assert!(entry(&manifest, "/lib/firmware/nobody/asks.bin").is_none());
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, bytes).unwrap();
    Command::new("zstd").args(["-q", "-c"]).arg(&path).output().unwrap().stdout
}
