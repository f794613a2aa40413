//! `rescue sources`: looks for credentials wherever the platform may have put them, beside the boot, and
//! hands PID 1 what it finds as valid documents. It ends once it has.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use rescue_schema::paths;
use rescue_schema::report::{BootReport, CredentialState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::sources_asking::Asking;
use super::wrapped::put;
use super::{
    Command, Usage, drivers, https, sources_media, sources_metadata, sources_softlayer, sources_url,
    sources_vmware,
};
use crate::creds::firmware::{self, Found};
use crate::creds::part::Part;
use crate::creds::{FW_CFG, SMBIOS, Said};
use crate::modules;
use crate::net::translate::{self, File};
use crate::sys::cmdline::Cmdline;
use crate::sys::files::{read_capped, replace};
use crate::sys::notify::Notice;
use crate::sys::uevent::Uevents;
use crate::sys::{log, priority};
use crate::web::exchange;

/// How long it goes on looking for media that come later, where nobody may log in: a BMC's drive, or a
/// disk on USB, takes seconds to show.
const LATER: Duration = Duration::from_secs(180);

pub(super) const COMMAND: Command =
    Command { name: "sources", links: &[], usage: "[--root DIR] [--beside]", about: "", run };

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let mut root = PathBuf::from("/");
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Where /sys and /dev are looked at; what is found is printed.
            "--root" => root = args.next().ok_or_else(|| Usage("--root wants a folder".into()))?.into(),
            // Somebody may log in already: what is found is not urgent.
            "--beside" => priority::set_nice(10),
            "--read" => return sources_media::read(args.as_slice()),
            https::FETCH => return https::fetch(exchange::none).map(|()| ExitCode::SUCCESS),
            other => return Err(Usage(format!("unknown argument {other:?}")).into()),
        }
    }
    let mut all = All { ours: root == Path::new("/"), said: Vec::new() };
    look(&root, &mut all)?;
    if !all.ours {
        for said in &all.said {
            put!("{}: {}: {}\n", said.source, said.state.word(), said.text);
            said.remarks.iter().for_each(|remark| put!("  {remark}\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks everywhere, and goes on doing so while that may bring something.
fn look(root: &Path, all: &mut All) -> anyhow::Result<()> {
    let line = Cmdline::parse(&read_capped(&root.join("proc/cmdline"), 1 << 16).unwrap_or_default());
    let mut asking = Vec::new();
    // First of all, while there is one thread.
    let host = sources_vmware::ask(root, &line);
    let metadata = match host {
        None if let Some(asking) = sources_softlayer::begin(root, &line, all.ours) => asking,
        Some(said) if said.state != CredentialState::Absent => Err(Box::new(said)),
        Some(said) => sources_metadata::begin(root, &line, vec![said.text]),
        None => sources_metadata::begin(root, &line, Vec::new()),
    };
    for begun in [sources_url::begin(root, &line, all.ours), metadata] {
        match begun {
            Ok(begun) => {
                all.add(begun.so_far.clone());
                asking.push(begun);
            }
            Err(said) => all.add(*said),
        }
    }
    if all.ours
        && firmware::has_fw_cfg(root)
        && let Err(why) = modules::load_with_devices("qemu_fw_cfg")
    {
        log::note("sources", &format!("loading qemu_fw_cfg: {why:#}"));
    }
    all.add(of_firmware(SMBIOS, firmware::strings(root)));
    all.add(of_firmware(FW_CFG, firmware::files(root)));
    if all.said.iter().any(|said| said.state != CredentialState::Absent) {
        all.publish(false)?;
    }
    let events = Uevents::open().ok();
    if all.ours {
        drivers::settle(root);
    }
    let mut looked = sources_media::Looked::default();
    looked.look(root).into_iter().for_each(|said| all.add(said));
    all.hear(&mut asking);
    all.publish(true)?;
    let Some(events) = events else { return Ok(()) };
    let until = Instant::now() + LATER;
    loop {
        let media = all.ours && Instant::now() < until && nobody();
        if !media && !asking.iter().any(Asking::is_sure) {
            return Ok(());
        }
        match wait(&events, &asking, media.then_some(until)) {
            Change::Media => {
                let found = looked.look(root);
                if found.iter().any(|said| !all.said.contains(said)) {
                    found.into_iter().for_each(|said| all.add(said));
                    all.publish(true)?;
                }
            }
            Change::Answer => {
                all.hear(&mut asking);
                all.publish(true)?;
            }
            // Whether there is still somebody to wait for is seen above.
            Change::None => {}
        }
    }
}

/// What was said so far.
struct All {
    /// Of this machine, not of a folder.
    ours: bool,
    said: Vec<Said>,
}

impl All {
    /// Takes what a source says, in place of what it said before.
    fn add(&mut self, said: Said) {
        self.said.retain(|other| other.source != said.source);
        self.said.push(said);
    }

    /// Takes what those say who have come to an end.
    fn hear(&mut self, asking: &mut Vec<Asking>) {
        asking.retain(|asking| match asking.answer() {
            Some(said) => {
                self.add(said);
                false
            }
            None => true,
        });
    }

    /// Hands it to PID 1, whole each time.
    fn publish(&self, looked: bool) -> anyhow::Result<()> {
        if !self.ours {
            return Ok(());
        }
        let json = zeroize::Zeroizing::new(serde_json::to_vec(&self.said)?);
        replace(Path::new(paths::SOURCES_FOUND), 0o600, &json)
            .with_context(|| format!("writing {}", paths::SOURCES_FOUND))?;
        Notice::Sources { looked }.deliver().context("telling PID 1")
    }
}

fn of_firmware(source: &str, found: Found) -> Said {
    match found {
        Found::Said(said) => said,
        Found::Part(part) => settled(source, "", part),
    }
}

/// A part with its network translated: the first of its descriptions that comes to a link.
pub(super) fn settled(source: &str, place: &str, mut part: Part) -> Said {
    for document in std::mem::take(&mut part.network) {
        let (name, files) = (document.format.name(), document.files);
        if !part.document.network.links.is_empty() {
            part.remarks.push(format!("network in the format {name}: not used, there is another"));
            continue;
        }
        let files: Vec<File> = files.into_iter().map(|(path, bytes)| File { path, bytes }).collect();
        match translate::translate(name, &files) {
            Ok(found) => {
                let dns = std::mem::take(&mut part.document.network.dns);
                part.document.network = found.network;
                if part.document.network.dns == Default::default() {
                    part.document.network.dns = dns;
                }
                part.remarks.extend(found.remarks.iter().map(|remark| format!("network: {remark}")));
            }
            // Whom it lets in it says elsewhere: without this network it is reached by another.
            Err(error) => part.remarks.push(format!("network: not used: {error}")),
        }
    }
    Said::found(source, place, part.document, part.remarks)
}

/// Whether PID 1 knows of nobody who may log in.
fn nobody() -> bool {
    let report = read_capped(Path::new(paths::BOOT_REPORT), 1 << 20).ok();
    let report = report.and_then(|json| serde_json::from_slice::<BootReport>(&json).ok());
    report.is_none_or(|boot| boot.logins.is_empty())
}

/// What was waited for.
enum Change {
    /// A block device has come, or changed.
    Media,
    /// Somebody who was asked has answered, or will not.
    Answer,
    /// Neither, until it was too late.
    None,
}

/// Waits for an answer, and until `until` for block devices.
fn wait(events: &Uevents, asking: &[Asking], until: Option<Instant>) -> Change {
    loop {
        while let Ok(Some(message)) = events.pending() {
            let event = modules::hotplug::parse(&message);
            if until.is_some() && event.is_some_and(|e| e.subsystem == "block" && e.action != "remove") {
                return Change::Media;
            }
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Change::None;
        }
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let mut fds = vec![PollFd::new(events, PollFlags::IN)];
        fds.extend(asking.iter().map(|asking| PollFd::new(asking, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) if fds.iter().skip(1).any(|fd| !fd.revents().is_empty()) => return Change::Answer,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // That nothing can be waited for is no reason to ask for it all day.
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}
