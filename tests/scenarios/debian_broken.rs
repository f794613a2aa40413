//! The broken disk is broken in the way that it claims: its own boot ends in emergency mode, because
//! of the file system that is gone.
use crate::console::Mark;
use crate::debian::{Health, debian};
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let disk = lab.path("disk.img");
    lab.alone(|| debian(&disk, Health::FstabNamesMissingDisk))?;
    let vm = lab.firmware()?.disk(&disk).start()?;
    vm.console.line("Timed out waiting for device", Mark::default(), limit(90))?;
    vm.console.line("Dependency failed for srv.mount", Mark::default(), limit(10))?;
    vm.console.line("You are in emergency mode", Mark::default(), limit(90))?;
    vm.console.line("Give root password for maintenance", Mark::default(), limit(30))?;
    anyhow::ensure!(
        !vm.console.lines().iter().any(|line| line.contains("db7 login:")),
        "it booted after all"
    );
    Ok(())
}
