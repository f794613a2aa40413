//! `rescue modules`: the driver service, which PID 1 starts.

use std::path::Path;
use std::process::ExitCode;

use super::Command;
use crate::modules::hotplug;

pub(super) const COMMAND: Command = Command { name: "modules", links: &[], usage: "", about: "", run };

fn run(_: &str, _: &[String]) -> anyhow::Result<ExitCode> {
    hotplug::serve(Path::new("/"))?;
    Ok(ExitCode::SUCCESS)
}
