//! Bonds of every mode with their options, tags in one another, a lease that goes on over the port that is left: the
//! tests of `init/tests/net_bond.rs`, on the kernel of an image.
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::image::{Image, workspace};
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    // Their names are in the tests: `CARGO_BIN_EXE_rescue`.
    let (tests, program) = (built(lab)?, workspace().join("target/x86_64-unknown-linux-gnu/debug/rescue"));
    let dir = lab.path("image");
    let mut build = lab.bench.binaries()?.image_command("debian", "minimal", &dir);
    build.args(["--add", "iproute2", "--add", "dnsmasq-base", "--module", "veth", "--module", "dummy"]);
    process::check(&mut build, limit(120))?;
    let device = lab.root_device()?;
    let vm = lab.with_image(Image::built("debian", dir), &device)?.start()?;
    vm.ready()?;
    let guest = vm.ssh(&device, "root")?;
    let folder = program.parent().unwrap_or(Path::new("/")).display();
    guest.ok(&format!("mkdir -p {folder} && ln -s /init {}", program.display()))?;
    guest.run_with_input("cat >/tmp/tests && chmod 700 /tmp/tests", &tests)?.ok()?;
    let mut run = guest.command(&["--", "/tmp/tests --ignored --test-threads=1"]);
    let said = process::run(&mut run, b"", limit(240))?.ok()?;
    let ran =
        said.lines().find_map(|line| line.strip_prefix("running ")?.split(' ').next()?.parse::<u32>().ok());
    ensure!(ran.is_some_and(|ran| ran > 0), "none was run: {said}");
    Ok(())
}

/// The program of the tests, without what a debugger wants.
fn built(lab: &Lab<'_>) -> anyhow::Result<Vec<u8>> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["test", "--quiet", "-p", "init", "--test", "net_bond", "--no-run", "--message-format=json"]);
    let said = process::check(build.current_dir(workspace()), limit(600))?;
    let executable = said.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "net_bond";
        message["executable"].as_str().filter(|_| is_it).map(str::to_string)
    });
    let stripped = lab.path("tests");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(executable.context("cargo named no program")?);
    process::check(&mut strip, limit(60))?;
    std::fs::read(&stripped).with_context(|| format!("reading {}", stripped.display()))
}
