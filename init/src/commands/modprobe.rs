//! `modprobe`, as the kernel calls it for what it wants loaded (`kernel/module/kmod.c`) and as an
//! engineer types it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;

use super::wrapped::put;
use super::{Command, Usage};
use crate::modules::{Loader, Tables};
use crate::sys::cmdline::Cmdline;

pub(super) const COMMAND: Command = Command {
    name: "modprobe",
    links: &["modprobe"],
    usage: "[-q] [-n] NAME [PARAMETER=VALUE]…  |  [-q] [-n] -a NAME…",
    about: "load a kernel module of the image with all that it needs",
    run,
};

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let (mut quiet, mut dry_run, mut all, mut names) = (false, false, false, Vec::new());
    let mut options = true;
    for arg in args {
        match arg.as_str() {
            "--" if options => options = false,
            "-q" | "--quiet" | "-s" | "--syslog" | "-b" if options => {
                quiet |= arg.starts_with("-q") || arg == "--quiet"
            }
            "-n" | "--dry-run" | "--show-depends" | "-D" if options => dry_run = true,
            "-a" | "--all" if options => all = true,
            "-v" | "--verbose" if options => {}
            option if options && option.starts_with('-') => {
                return Err(Usage(format!("{option} is not understood")).into());
            }
            name => names.push(name.to_string()),
        }
    }
    let (wanted, parameters) = match (all, names.split_first()) {
        (_, None) => return Err(Usage("which module?".into()).into()),
        (true, _) => (names.as_slice(), Vec::new()),
        (false, Some((_, parameters))) => (names.get(..1).unwrap_or_default(), parameters.to_vec()),
    };
    match load(wanted, &parameters, dry_run) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) if quiet => Ok(ExitCode::FAILURE),
        Err(error) => Err(error),
    }
}

/// Loads a module for a service, or says why not.
pub(super) fn load_for(name: &str, parameters: &str) -> Result<(), String> {
    let parameters: Vec<String> = parameters.split_whitespace().map(ToString::to_string).collect();
    load(&[name.to_string()], &parameters, false).map_err(|error| format!("{error:#}"))
}

fn load(names: &[String], parameters: &[String], dry_run: bool) -> anyhow::Result<()> {
    let root = Path::new("/");
    let tables = Arc::new(Tables::observe(root));
    let mut loader = Loader::new(root, &tables, &Cmdline::observe(root));
    for name in names {
        let modules = tables.resolve(name);
        if modules.is_empty() && !tables.is_builtin(name) {
            bail!("no module {name} in this image");
        }
        if let Some(module) = modules.first().filter(|_| !parameters.is_empty()) {
            loader.set_parameters(module, &parameters.join(" "));
        }
        if dry_run {
            put!("{}\n", loader.plan(&modules));
            continue;
        }
        if let Some(why) = loader.load(&modules).failed.first() {
            bail!("{why}");
        }
    }
    Ok(())
}
