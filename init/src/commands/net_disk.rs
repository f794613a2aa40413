//! `rescue net-from-disk`: how the rescued system configures its own network, in our words. A process of
//! its own, because a disk that never answers would hold whoever asks it.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rescue_schema::network::Network;
use rescue_schema::report::ProbeResult;
use serde::{Deserialize, Serialize};

use super::wrapped::put;
use super::{Command, Usage, disks, find_inside, mount};
use crate::disk::{drivers, resolve, system};
use crate::net::translate::{self, Translation};
use crate::net::{cards, settle};
use crate::sys::lines::hear;
use crate::sys::mounts;

/// How long netd waits for it: drivers settle, disks spin up, a probe gives up.
const DEADLINE: Duration = Duration::from_secs(25);
/// Longest answer.
const MAX_ANSWER: usize = 1 << 20;

pub(super) const COMMAND: Command =
    Command { name: "net-from-disk", links: &[], usage: "[--root DIR] [--only DEV]…", about: "", run };

/// What the helper says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// The network.
    pub(super) network: Network,
    /// What of it was left out or taken otherwise, a line each.
    pub(super) remarks: Vec<String>,
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let (mut root, mut only): (Option<PathBuf>, Vec<String>) = (None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Of a system that is mounted.
            "--root" => root = Some(args.next().ok_or_else(|| Usage("--root wants a folder".into()))?.into()),
            "--only" => only.push(args.next().ok_or_else(|| Usage("--only wants a device".into()))?.clone()),
            other => return Err(Usage(format!("unknown argument {other:?}")).into()),
        }
    }
    let found = match root {
        Some(root) => {
            let folder = mounts::folder(&root).with_context(|| format!("opening {}", root.display()))?;
            translate::translate("disk", &translate::disk::gather(folder.as_fd()))?
        }
        None => from_disks(&only)?,
    };
    let remarks = found.remarks.iter().map(ToString::to_string).collect();
    put!("{}\n", serde_json::to_string_pretty(&Answer { network: found.network, remarks })?);
    Ok(ExitCode::SUCCESS)
}

/// Of the systems on the disks, the first that describes a network for cards of this machine.
fn from_disks(only: &[String]) -> anyhow::Result<Translation> {
    let _alone = mount::alone()?;
    let disks = disks::look(only)?;
    let cards = cards::observe(Path::new("/")).context("listing the cards")?;
    let mut elsewhere = None;
    let mut trouble = Vec::new();
    for root in resolve::flat(&disks) {
        let kind = root.probe.kind.as_deref();
        let Some(driver) = kind.and_then(drivers::driver).filter(|d| d.root) else { continue };
        if root.probe.result != ProbeResult::Found || root.children.iter().any(|c| c.partition.is_none()) {
            continue;
        }
        let loaded = crate::modules::load(driver.driver);
        let files =
            find_inside::inside(root, driver, |fd| system::look(fd).map(|_| translate::disk::gather(fd)));
        let read = match files {
            Ok(None) => continue,
            Ok(Some(files)) => translate::translate("disk", &files).map_err(|e| e.to_string()),
            Err(error) => Err(refused(&error, driver, loaded.err())),
        };
        match read {
            Err(error) => trouble.push(format!("{}: {error}", root.path)),
            Ok(mut found) => {
                for remark in &mut found.remarks {
                    remark.at = format!("{} {}", root.path, remark.at);
                }
                if settle::any(&found.network, &cards) {
                    return Ok(found);
                }
                elsewhere = elsewhere.or(Some(found));
            }
        }
    }
    match elsewhere {
        Some(found) => Ok(found),
        None if trouble.is_empty() => bail!("no system is on the disks: `rescue disks` shows what is"),
        None => bail!("{}", trouble.join("; ")),
    }
}

/// Why nothing could be looked into, where the image may lack the driver.
fn refused(error: &std::io::Error, driver: &drivers::Driver, loaded: Option<anyhow::Error>) -> String {
    match loaded {
        // ENODEV: the kernel knows no such file system.
        Some(why) if error.raw_os_error() == Some(nix::libc::ENODEV) => {
            let name = driver.driver;
            format!(
                "no driver for {name} here ({why}): an image of the standard profile has it, or --add {name}"
            )
        }
        _ => error.to_string(),
    }
}

/// Asks the helper.
///
/// # Errors
/// When it found nothing, or did not answer in time: it is killed then, and left behind where not even
/// that ends it.
pub(super) fn ask() -> anyhow::Result<Answer> {
    let mut child = std::process::Command::new("/proc/self/exe")
        .arg0("rescue")
        .arg(COMMAND.name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting rescue net-from-disk")?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("starting rescue net-from-disk: no pipes");
    };
    let heard = hear(File::from(std::os::fd::OwnedFd::from(out)), DEADLINE, MAX_ANSWER);
    let json = match heard {
        Ok(json) => json,
        Err(error) => {
            let _ = child.kill();
            bail!("reading the disks: {error}");
        }
    };
    let status = child.wait().context("waiting for rescue net-from-disk")?;
    if !status.success() {
        let mut said = String::new();
        let _ = err.take(4096).read_to_string(&mut said);
        bail!("{}", said.trim().trim_start_matches("rescue net-from-disk: "));
    }
    serde_json::from_slice(&json).context("reading the answer of rescue net-from-disk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_missing_is_named() {
        let ufs = drivers::driver("ufs").unwrap();
        let missing = std::io::Error::from_raw_os_error(nix::libc::ENODEV);
        let said = refused(&missing, ufs, Some(anyhow::anyhow!("no module ufs in this image")));
        let full = "no driver for ufs here (no module ufs in this image): an image of the standard profile has it, \
                    or --add ufs";
        assert_eq!(said, full);
        let damaged = std::io::Error::from_raw_os_error(nix::libc::EINVAL);
        assert_eq!(refused(&damaged, ufs, None), damaged.to_string());
    }
}
