//! `rescue reboot`, `poweroff`, `halt`, and the names by which an engineer types them anywhere.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use rescue_schema::report::PowerReport;

use super::wrapped::put;
use super::{Command, Usage};
use crate::disk::mountinfo::planned_unmounts;
use crate::sys::files::read_capped;
use crate::sys::notify::{Down, Notice};
use crate::sys::power::down_now;

const USAGE: &str = "[--force] [--dry-run] [--json]";

pub(super) const REBOOT: Command = Command {
    name: "reboot",
    links: &["reboot", "shutdown", "init", "telinit"],
    usage: USAGE,
    about: "end every session, unmount in order, sync, and boot again",
    run,
};
pub(super) const POWEROFF: Command = Command {
    name: "poweroff",
    links: &["poweroff"],
    usage: USAGE,
    about: "the same, and switch the power off",
    run,
};
pub(super) const HALT: Command = Command {
    name: "halt",
    links: &["halt"],
    usage: USAGE,
    about: "the same, and stop with the power on",
    run,
};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    way: Down,
    force: bool,
    dry_run: bool,
    json: bool,
}

fn run(name: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let wish = parse(name, args)?;
    let mounts = read_capped(Path::new("/proc/self/mountinfo"), 4 << 20).context("reading the mounts")?;
    let unmounts: Vec<String> = planned_unmounts(&mounts).iter().map(|p| p.display().to_string()).collect();
    if wish.json {
        let report = PowerReport { action: wish.way.word().into(), force: wish.force, unmounts };
        put!("{}\n", serde_json::to_string_pretty(&report)?);
    } else {
        for target in &unmounts {
            put!("unmount {target}\n");
        }
        put!("{}\n", wish.way.word());
    }
    if wish.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if wish.force {
        if !Path::new(rescue_schema::paths::NOTIFY).exists() {
            bail!("this machine does not run a rescue");
        }
        rustix::fs::sync();
        bail!("{}: {}", wish.way.word(), down_now(wish.way));
    }
    Notice::GoDown(wish.way).deliver().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            anyhow::anyhow!("this machine does not run a rescue")
        }
        _ => anyhow::anyhow!("telling PID 1: {error}; `{} --force` goes down without it", wish.way.word()),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Understands what is typed for these programs on any Linux: `reboot -f`, `shutdown -r now`, `halt
/// -p`, `init 6`.
fn parse(name: &str, args: &[String]) -> Result<Wish, Usage> {
    let default = match name {
        "poweroff" | "shutdown" => Down::PowerOff,
        "halt" => Down::Halt,
        _ => Down::Reboot,
    };
    let mut wish = Wish { way: default, force: false, dry_run: false, json: false };
    let runlevels = matches!(name, "init" | "telinit");
    if runlevels && args.is_empty() {
        return Err(Usage(format!("{name} takes a runlevel: 0 (power off) or 6 (reboot)")));
    }
    for arg in args {
        match arg.as_str() {
            "--dry-run" => wish.dry_run = true,
            "--json" => wish.json = true,
            "0" if runlevels => wish.way = Down::PowerOff,
            "6" if runlevels => wish.way = Down::Reboot,
            "now" | "+0" if name == "shutdown" => {}
            "-h" | "-P" if name == "shutdown" => wish.way = Down::PowerOff,
            "-f" | "--force" | "-ff" if name != "shutdown" => wish.force = true,
            "-p" | "--poweroff" if name != "shutdown" => wish.way = Down::PowerOff,
            "-r" | "--reboot" => wish.way = Down::Reboot,
            "-H" | "--halt" => wish.way = Down::Halt,
            "--poweroff" => wish.way = Down::PowerOff,
            other => return Err(Usage(format!("{other:?} is not understood"))),
        }
    }
    Ok(wish)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(name: &str, args: &[&str]) -> Option<(Down, bool)> {
        let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
        parse(name, &args).ok().map(|wish| (wish.way, wish.force))
    }

    #[test]
    fn understands_what_is_typed() {
        assert_eq!(way("reboot", &[]), Some((Down::Reboot, false)));
        assert_eq!(way("reboot", &["-f"]), Some((Down::Reboot, true)));
        assert_eq!(way("poweroff", &[]), Some((Down::PowerOff, false)));
        assert_eq!(way("halt", &["-p"]), Some((Down::PowerOff, false)));
        assert_eq!(way("shutdown", &["-r", "now"]), Some((Down::Reboot, false)));
        assert_eq!(way("shutdown", &["-h", "now"]), Some((Down::PowerOff, false)));
        assert_eq!(way("init", &["6"]), Some((Down::Reboot, false)));
        assert_eq!(way("init", &["0"]), Some((Down::PowerOff, false)));
        assert_eq!(way("init", &[]), None);
        assert_eq!(way("shutdown", &["+5"]), None);
        assert_eq!(way("reboot", &["6"]), None);
    }
}
