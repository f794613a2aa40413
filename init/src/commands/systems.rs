//! `rescue systems`: what is installed on the disks.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use rescue_schema::report::{BlockReport, SystemReport, SystemsReport};

use super::find::{self, Found, Survey};
use super::wrapped::{put, tell};
use super::{Command, Usage, assemble, disks, mount};
use crate::disk::{resolve, sealed};
use crate::sys::spawn;

pub(super) const COMMAND: Command = Command {
    name: "systems",
    links: &[],
    usage: "[--only DEV]… [--json]",
    about: "the installed systems: what they are, where, and how sure",
    run,
};

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let (mut only, mut json) = (Vec::new(), false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = true,
            "--only" => only.push(args.next().ok_or_else(|| Usage("--only wants a device".into()))?.clone()),
            other => return Err(Usage(format!("unknown argument {other:?}")).into()),
        }
    }
    let _alone = mount::alone()?;
    let disks = disks::look(&only)?;
    let survey = find::survey(&disks);
    let mut systems: Vec<SystemReport> = survey.systems.iter().map(|s| report(s, &survey, &disks)).collect();
    systems.extend(unknown(&survey, &disks));
    let mut unseen = survey.unseen;
    // With devices named, what is on the others is not asked about.
    if only.is_empty() {
        unseen.extend(sealed::words(&disks, assemble::imports_pools(), &spawn::has_program));
    }
    let report = SystemsReport { systems, unseen };
    if json {
        put!("{}\n", serde_json::to_string_pretty(&report)?);
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
        tell!("{}", text(&report, now));
    }
    Ok(ExitCode::SUCCESS)
}

fn report(system: &Found<'_>, survey: &Survey<'_>, disks: &[BlockReport]) -> SystemReport {
    let facts = &system.facts;
    let plan = find::plan(system, survey, disks, crate::disk::mount::Leave { write: false, degraded: true });
    let part = |target: &str| {
        let device = plan.steps.iter().find(|s| s.target == target).map(|s| s.device.clone());
        device.and_then(|d| survey.parts.iter().find(|(path, _)| *path == d))
    };
    let home: Vec<&BlockReport> = disks.iter().filter(|d| holds(d, &system.root.path)).collect();
    let esps: Vec<&(String, crate::disk::system::Content)> = survey
        .parts
        .iter()
        .filter(|(path, c)| c.role == Some("/boot/efi") && home.iter().any(|d| holds(d, path)))
        .collect();
    let esp = part("/boot/efi").or_else(|| part("/efi")).or_else(|| esps.first().copied());
    let mut boot = system.boot.clone();
    for (_, content) in [part("/boot"), esp].into_iter().flatten() {
        boot.kernels.extend(content.boot.kernels.iter().cloned());
        boot.initrds.extend(content.boot.initrds.iter().cloned());
        boot.entries.extend(content.boot.entries.iter().cloned());
        for loader in &content.boot.loaders {
            if !boot.loaders.contains(loader) {
                boot.loaders.push(loader.clone());
            }
        }
    }
    let folder = plan.folder.to_string_lossy();
    SystemReport {
        name: system.name.clone(),
        family: facts.family.into(),
        id: facts.id.clone(),
        pretty_name: facts.pretty_name.clone(),
        version: facts.version.clone(),
        edition: facts.edition.clone(),
        build: facts.build.clone(),
        architecture: facts.architecture.clone(),
        machine_id: facts.machine_id.clone(),
        hostname: facts.hostname.clone(),
        device: system.root.path.clone(),
        filesystem: system.root.probe.kind.clone(),
        uuid: system.root.probe.uuid.clone(),
        subvolume: system.subvolume.clone(),
        snapshot: system.snapshot,
        guest: system.guest.map(|volume| volume.backing.clone().unwrap_or_else(|| volume.path.clone())),
        kernels: boot.kernels,
        initrds: boot.initrds,
        loaders: boot.loaders,
        esp: esp.map(|(path, _)| path.clone()),
        entries: boot.entries,
        last_boot: facts.last_boot,
        last_log: facts.last_log,
        mounted: system.root.mounts.iter().map(|m| &m.target).find(|t| **t == folder).cloned(),
        sure: facts.sure().into(),
        evidence: facts.evidence.clone(),
        notes: facts.notes.clone(),
    }
}

fn holds(disk: &BlockReport, path: &str) -> bool {
    resolve::flat(std::slice::from_ref(disk)).iter().any(|b| b.path == path)
}

/// Disks that something starts from, and on which no system was found.
fn unknown(survey: &Survey<'_>, disks: &[BlockReport]) -> Vec<SystemReport> {
    let mut found = Vec::new();
    for disk in disks.iter().filter(|d| d.kind != "zvol") {
        let blocks = resolve::flat(std::slice::from_ref(disk));
        if survey.systems.iter().any(|s| blocks.iter().any(|b| b.path == s.root.path)) {
            continue;
        }
        let active = blocks.iter().find(|b| b.partition.as_ref().is_some_and(|p| p.bootable));
        let starts = survey.parts.iter().find(|(path, content)| {
            !(content.boot.entries.is_empty() && content.boot.kernels.is_empty())
                && blocks.iter().any(|b| b.path == *path)
        });
        let mut evidence: Vec<String> =
            active.map(|b| format!("{} is marked to boot from", b.path)).into_iter().collect();
        let mut report = SystemReport {
            name: disk.name.clone(),
            family: "unknown".into(),
            device: disk.path.clone(),
            sure: "remains".into(),
            ..SystemReport::default()
        };
        if let Some((path, content)) = starts {
            evidence.push(format!("{path} has something to boot"));
            report.kernels = content.boot.kernels.clone();
            report.entries = content.boot.entries.clone();
            report.loaders = content.boot.loaders.clone();
        }
        if !evidence.is_empty() {
            report.evidence = evidence;
            found.push(report);
        }
    }
    found
}

/// For a person.
fn text(report: &SystemsReport, now: i64) -> String {
    let mut out = String::new();
    for system in &report.systems {
        let what = system.pretty_name.clone().unwrap_or_else(|| match system.family.as_str() {
            "unknown" => "something that boots, unknown".into(),
            family => format!("{family}, of which little is left"),
        });
        let kind = match &system.guest {
            Some(volume) => format!(" (a guest's, on {volume})"),
            None => if system.snapshot { " (snapshot)" } else { "" }.into(),
        };
        let mut lines = vec![format!("{:<16} {what}{kind}", system.name)];
        let mut row = |key: &str, words: Vec<Option<String>>| {
            let words: Vec<String> = words.into_iter().flatten().collect();
            if !words.is_empty() {
                lines.push(format!("  {key:<9} {}", words.join(", ")));
            }
        };
        let subvolume = system
            .subvolume
            .as_ref()
            .map(|s| format!("subvolume {}", if s.path.is_empty() { "/" } else { &s.path }));
        row(
            "root",
            vec![
                Some(system.device.clone()),
                system.filesystem.clone(),
                subvolume,
                system.mounted.as_ref().map(|m| format!("at {m}")),
            ],
        );
        row(
            "version",
            vec![
                system.version.clone(),
                system.edition.clone(),
                system.build.as_ref().map(|b| format!("build {b}")),
                system.architecture.clone(),
            ],
        );
        row("identity", vec![system.hostname.clone(), system.machine_id.clone()]);
        let more = |list: &[String]| match list {
            [] => None,
            [one] => Some(one.clone()),
            [first, rest @ ..] => Some(format!("{first} and {} more", rest.len())),
        };
        row(
            "kernel",
            vec![
                more(&system.kernels),
                system
                    .initrds
                    .is_empty()
                    .then(|| "no initrd".into())
                    .filter(|_| !system.kernels.is_empty() && system.family == "linux"),
            ],
        );
        row("boots by", vec![more(&system.loaders), system.esp.clone(), more(&system.entries)]);
        let ago = |at: i64| match (now - at).max(0) / 3600 {
            0 => "in the last hour".to_string(),
            hours @ 1..48 => format!("{hours} hours ago"),
            hours => format!("{} days ago", hours / 24),
        };
        row(
            "last",
            vec![
                system.last_boot.map(|t| format!("booted {}", ago(t))),
                system.last_log.map(|t| format!("log {}", ago(t))),
            ],
        );
        row(
            "sure",
            vec![
                Some(system.sure.clone()),
                system.evidence.first().cloned(),
                system.evidence.get(1).cloned(),
            ],
        );
        lines.extend(system.notes.iter().map(|n| format!("  ! {n}")));
        out.extend(lines.into_iter().map(|l| l + "\n"));
        out.push('\n');
    }
    if report.systems.is_empty() {
        out.push_str("no system found: `rescue disks` shows what is on the disks\n");
    }
    report.unseen.iter().for_each(|line| out.push_str(&format!("! {line}\n")));
    if report.systems.iter().any(|s| s.mounted.is_none() && s.family != "unknown") {
        out.push_str("rescue mount NAME mounts one read-only, rescue enter NAME runs its own programs\n");
    }
    out
}
