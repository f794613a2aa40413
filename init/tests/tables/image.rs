//! What the tests of tables and of containers share: images made by a command, and looking at them.

use std::path::PathBuf;
use std::process::Command;

use init::disk::probe;
use init::disk::source::{BUDGET, Reader};
use rescue_schema::report::ProbeReport;

pub(crate) fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    let out = out.unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

pub(crate) fn look(bytes: &Vec<u8>) -> ProbeReport {
    let reader = Reader::new(bytes, 512);
    let report = probe::image(&reader);
    assert!(reader.spent() <= BUDGET);
    report
}

/// A file in a folder of its own, `@` in the command that makes it; and an empty one beside it, `@2`.
pub(crate) struct Image(tempfile::TempDir);

impl Image {
    pub(crate) fn made(size: &str, command: &str) -> Self {
        let image = Self(tempfile::tempdir().unwrap());
        let path = image.path();
        let path = path.to_str().unwrap();
        sh(&format!("truncate -s {size} {path} {path}2; ({}) >/dev/null 2>&1", command.replace('@', path)));
        image
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("image")
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }
}
