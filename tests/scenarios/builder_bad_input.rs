//! The image builder answers bad input with one line that says what and what to do, status 1 (2 for
//! wrong usage), and leaves nothing half-written behind.
use std::path::Path;
use std::process::Command;

use crate::lab::Lab;
use crate::process::{self, Output};
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let builder = lab.bench.binaries()?.imagebuilder;
    let out = lab.path("out");
    let build = |words: &[&str]| {
        let mut command = Command::new(&builder);
        command.arg("build").args(words).arg("-o").arg(&out);
        process::run(&mut command, b"", limit(60))
    };
    let debian = ["--family", "debian", "--profile", "minimal"];
    let with = |words: &[&'static str]| [&debian[..], words].concat();

    let unknown = build(&["--family", "plan9", "--profile", "minimal"])?;
    refused(&unknown, 1, "plan9", &out);
    refused(&build(&["--family", "debian", "--profile", "maximal"])?, 1, "maximal", &out);
    let kernel = build(&with(&["--kernel", "/no/such/vmlinuz", "--modules", "/no/such/modules"]))?;
    refused(&kernel, 1, "/no/such", &out);
    refused(&build(&["--nonsense"])?, 2, "nonsense", &out);

    let modules = lab.path("not-a-folder");
    std::fs::write(&modules, "")?;
    let mut command = Command::new(&builder);
    command.arg("build").args(debian).args(["--kernel", "/proc/version", "--modules"]).arg(&modules);
    let unreadable = process::run(command.arg("-o").arg(&out), b"", limit(60))?;
    refused(&unreadable, 1, "not-a-folder", &out);

    let mut command = Command::new(&builder);
    command.arg("build").args(debian).args(["-o", "/dev/null/out"]);
    refused(&process::run(&mut command, b"", limit(60))?, 1, "/dev/null/out", &out);

    let mut command = Command::new(&builder);
    command.args(["inject", "--device", "/no/such.json", "-o"]).arg(&out);
    refused(&process::run(&mut command, b"", limit(60))?, 1, "/no/such.json", &out);

    let image = lab.bench.minimal()?;
    let mut command = Command::new(&builder);
    command.args(["run", "--image"]).arg(&image.dir).env("PATH", "/nonexistent");
    // Not `process::run`, which would give it a PATH with QEMU in it.
    let run = command.stdin(std::process::Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.code() == Some(1) && said.contains("qemu-system-x86"), "{run:?}");
    Ok(())
}

fn refused(output: &Output, status: i32, names: &str, out: &Path) {
    assert_eq!(output.status, status, "{output:?}");
    assert!(output.stderr.lines().next().unwrap_or_default().contains(names), "{names}: {output:?}");
    assert!(status == 2 || output.stderr.trim().lines().count() == 1, "one line: {output:?}");
    let left: Vec<_> = std::fs::read_dir(out).into_iter().flatten().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
