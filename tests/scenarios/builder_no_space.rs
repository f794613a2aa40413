//! An output folder without space ends the build with status 1, says so, and is left empty.
use std::process::Command;

use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let builder = lab.bench.binaries()?.imagebuilder;
    lab.bench.minimal()?; // so that all packages are in the cache
    let out = lab.path("full");
    std::fs::create_dir_all(&out)?;
    // A mount of its own, in a namespace of its own: as an ordinary user, with a mapped root.
    let script = "mount -t tmpfs -o size=1m none \"$1\" && { \
                  \"$2\" build --family debian --profile minimal -o \"$1\"; s=$?; find \"$1\" -type f; exit $s; }";
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["sh", "-c", script, "sh"]).arg(&out).arg(&builder);
    let output = process::run(&mut command, b"", limit(120))?;
    assert_eq!(output.status, 1, "{output:?}");
    assert!(output.stderr.to_lowercase().contains("space"), "{output:?}");
    assert_eq!(output.stdout.trim(), "", "left behind");
    Ok(())
}
