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
        (vec!["kernel"], 2, "kernel needs a verb"),
    ] {
        let output = Command::new(BUILDER).args(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(wanted) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
}
