//! Kernel configurations: every symbol of the fragments survives merging with the packaged source.

use std::process::{Command, Output};

const BUILDER: &str = env!("CARGO_BIN_EXE_imagebuilder");

fn merge(configuration: &str, more: &[&str]) -> Output {
    let base = ["kernel", "build", "--config", configuration, "--merge-only"];
    Command::new(BUILDER).args(base).args(more).output().expect("imagebuilder starts")
}

#[test]
fn every_symbol_survives_merging_or_the_reason_is_told() {
    for name in ["cloud", "server"] {
        let output = merge(name, &[]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(
            said.starts_with(&format!("{name}: all ")) && said.contains("symbols survived merging"),
            "{said}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.config");
    std::fs::write(&own, "# Why not.\nCONFIG_SCSI_LPFC_DEBUG_FS=y\nCONFIG_NO_SUCH_SYMBOL=y\nCONFIG_SMP=n\n")
        .unwrap();
    let output = merge("cloud", &["--fragment", own.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("own.config:2: CONFIG_SCSI_LPFC_DEBUG_FS=n, wanted =y: it depends on"), "{said}");
    assert!(
        said.contains("own.config:3: CONFIG_NO_SUCH_SYMBOL=n, wanted =y: this kernel has no such symbol"),
        "{said}"
    );
    assert!(!said.contains("CONFIG_SMP"), "a fragment of one's own has the last word: {said}");
}

#[test]
fn what_is_wrong_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.config");
    std::fs::write(&own, "CONFIG_SMP=y\n").unwrap();
    let own = own.to_str().unwrap();
    for (arguments, status, wanted) in [
        (vec!["kernel", "build", "--config", "huge", "--merge-only"], 1, "there are: cloud"),
        (vec!["kernel", "build", "--config", "cloud"], 2, "either --merge-only or -o"),
        (vec!["kernel", "build", "--merge-only"], 2, "--config"),
        (vec!["kernel", "build", "--config", "cloud", "--merge-only", "--fragment", own], 1, "has no reason"),
        (
            vec!["kernel", "build", "--config", "cloud", "--merge-only", "--source", "no-such"],
            1,
            "package no-such",
        ),
        (
            vec!["kernel", "build", "--config", "cloud", "--merge-only", "--signing-key", own],
            1,
            "holds no private key in PEM; make one: openssl req",
        ),
        (vec!["kernel"], 2, "kernel needs a verb"),
    ] {
        let output = Command::new(BUILDER).args(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(wanted) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
}

#[test]
fn a_configuration_is_held_against_one_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let mut text = String::new();
    for name in ["required", "machine", "core", "security", "console", "virtio", "xen", "hyperv", "storage"]
        .iter()
        .chain(&["filesystems", "network", "speed", "server"])
    {
        let path = format!("{}/../kernel-configs/{name}.config", env!("CARGO_MANIFEST_DIR"));
        text.push_str(&std::fs::read_to_string(path).unwrap());
    }
    std::fs::write(&config, text.replace("CONFIG_SMP=y\n", "")).unwrap();
    // `cloud` says more to itself at each boot, and has the driver for that.
    for (name, wrong, modules) in [("server", 1, false), ("cloud", 3, true)] {
        let mut check = Command::new(BUILDER);
        let output = check.args(["kernel", "check", "--config", name]).arg(&config).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("CONFIG_SMP=n, wanted =y (kernel-configs/machine.config:"), "{said}");
        assert!(
            error.contains(&format!(": {wrong} of ")) && error.contains(&format!("of {name} are")),
            "{error}"
        );
        assert_eq!(said.contains("are modules here"), modules, "{said}");
        assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
    }
}

#[test]
fn what_is_no_configuration_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let output = Command::new(BUILDER).args(["kernel", "check"]).arg(&path).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let large = b"CONFIG_SMP=y\n".repeat(1 << 20);
    let packed = || {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &large).unwrap();
        encoder.finish().unwrap()
    };
    for (name, bytes, wanted) in [
        ("empty", Vec::new(), "not a kernel's .config: it sets no CONFIG_ symbol"),
        ("binary", b"MZ\xff\xfe\0CONFIG\0".repeat(100), "not a kernel's .config: it sets no CONFIG_ symbol"),
        ("large", large.clone(), "not a kernel's .config: it has over 4 MiB"),
        ("bomb.gz", packed(), "not a kernel's .config: it has over 4 MiB"),
        ("torn.gz", vec![0x1f, 0x8b, 8], "reading"),
    ] {
        let (status, said) = check(name, &bytes);
        assert_eq!(status, Some(1), "{name}: {said}");
        assert!(said.contains(wanted) && said.contains(name) && said.lines().count() == 1, "{name}: {said}");
    }
    for path in ["/no/such/file", "/dev/zero", "/"] {
        let output = Command::new(BUILDER).args(["kernel", "check", path]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{path}: {said}");
        assert!(said.contains(path), "{said}");
    }
}
