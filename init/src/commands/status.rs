//! `rescue status`: one screen that answers "where am I, how do I get in, what next".

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use rescue_schema::manifest::ImageInfo;
use rescue_schema::paths;
use rescue_schema::report::{CredentialSource, StageResult, StatusReport};
use serde::de::DeserializeOwned;

use super::wrapped::put;
use super::{Command, Usage};
use crate::sys::files::{read_capped, read_trimmed};
use crate::sys::time::since_boot;

pub(super) const COMMAND: Command = Command {
    name: "status",
    links: &[],
    usage: "[--sources] [--json]",
    about: "this machine, this session, how to get in and how to leave",
    run,
};

/// Longest state file that is read, in bytes.
const MAX_STATE: usize = 1 << 20;

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let (mut json, mut sources) = (false, false);
    for arg in args {
        match arg.as_str() {
            "--json" => json = true,
            "--sources" => sources = true,
            _ => return Err(Usage("status takes no argument but --sources and --json".into()).into()),
        }
    }
    let report = observe(Path::new("/"));
    match (json, sources) {
        (true, false) => put!("{}\n", serde_json::to_string_pretty(&report)?),
        (true, true) => put!("{}\n", serde_json::to_string_pretty(&report.boot.sources)?),
        (false, false) => put!("{}", render(&report)),
        (false, true) => put!("{}", render_sources(&report.boot.sources)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The screen, of the machine below `root`.
pub(super) fn text(root: &Path) -> String {
    render(&observe(root))
}

fn observe(root: &Path) -> StatusReport {
    let memory = read_capped(&root.join("proc/meminfo"), MAX_STATE).unwrap_or_default();
    let memory = String::from_utf8_lossy(&memory).into_owned();
    let mib = |key: &str| -> u64 {
        let line = memory.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    StatusReport {
        hostname: read_trimmed(&root.join("proc/sys/kernel/hostname")).unwrap_or_default(),
        uptime_seconds: since_boot().as_secs(),
        memory_mib: (mib("MemTotal"), mib("MemAvailable")),
        image: state::<Option<ImageInfo>>(root, paths::IMAGE_INFO),
        boot: state(root, paths::BOOT_REPORT),
        network: state(root, paths::NET_REPORT),
    }
}

/// A state file, or nothing of it when it is not there (yet).
fn state<T: DeserializeOwned + Default>(root: &Path, path: &str) -> T {
    let path = root.join(path.trim_start_matches('/'));
    read_capped(&path, MAX_STATE).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

fn render(report: &StatusReport) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<9} {value}");
        }
    };
    let boot = &report.boot;
    let image =
        report.image.as_ref().map(|i| format!(", {} image ({}), kernel {}", i.family, i.profile, i.kernel));
    row("rescue", &format!("{}{}", report.hostname, image.unwrap_or_default()));
    let expected = report.image.as_ref().and_then(|image| image.guest.text.as_deref());
    row("family", expected.unwrap_or_default());
    row("device", boot.device.as_deref().unwrap_or_default());
    row("session", boot.session.as_deref().unwrap_or_default());
    match &boot.ready {
        Some(ready) => {
            row("ssh", &ready.ssh);
            row("host key", &ready.hostkey);
        }
        None => row("ssh", "not reachable yet"),
    }
    for link in &report.network.links {
        let mut line = format!("{} {}", link.name, link.addresses.join(" "));
        if let Some(gateway) = &link.gateway {
            let _ = write!(line, " via {gateway}");
        }
        if !link.state.is_empty() {
            let _ = write!(line, " ({})", link.state);
        }
        row("network", &line);
    }
    for link in &report.network.links {
        // Whoever says more comes first.
        if let Some(neighbour) = link.neighbours.first() {
            row("switch", &format!("{}: {neighbour}", link.name));
        }
    }
    match (&boot.closed, boot.logins.is_empty()) {
        (Some(why), _) => row("logins", &format!("nobody: {why}")),
        (None, false) => row("logins", &boot.logins.join(", ")),
        (None, true) => {}
    }
    if let Some(at) = boot.returns_at {
        let left = duration(at.saturating_sub(report.uptime_seconds));
        row("returns", &format!("to its disk in {left}, unless somebody logs in"));
    }
    let (all, free) = report.memory_mib;
    row("memory", &format!("{free} of {all} MiB free, up {}", duration(report.uptime_seconds)));
    for stage in boot.stages.iter().filter(|s| s.result == StageResult::Failed) {
        row("problem", &format!("{}: {}", stage.name, stage.why));
    }
    for (service, count) in &boot.restarts {
        row("problem", &format!("{service} was restarted {count} times: rescue log"));
    }
    text.push_str("\n  rescue disks    what is on the disks     rescue mount    read-only, until --rw\n");
    text.push_str("  rescue log      what happened so far     reboot          back into the system\n");
    text
}

/// Every place that was looked at, the most trusted first, and what came of it.
fn render_sources(sources: &[CredentialSource]) -> String {
    let mut text = String::new();
    for source in sources {
        let _ = writeln!(text, "  {:<20} {:<8} {}", source.source, source.state.word(), source.text);
        if !source.gave.is_empty() {
            let _ = writeln!(text, "  {:<20} gave     {}", "", source.gave.join(", "));
        }
        for remark in &source.remarks {
            let _ = writeln!(text, "  {:<20} -        {remark}", "");
        }
    }
    text
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rescue_schema::report::{BootReport, LinkReport, NeighbourReport, Ready, StageReport};

    fn report() -> StatusReport {
        StatusReport {
            hostname: "db7".into(),
            uptime_seconds: 125,
            memory_mib: (512, 430),
            image: None,
            boot: BootReport {
                session: Some("7d5c".into()),
                logins: vec!["root".into()],
                ready: Some(Ready { ms: 1, ssh: "10.0.2.15:22".into(), hostkey: "SHA256:abc".into() }),
                ..BootReport::default()
            },
            network: Default::default(),
        }
    }

    #[test]
    fn one_screen() {
        let text = render(&report());
        assert!(
            text.contains("  session   7d5c\n  ssh       10.0.2.15:22\n  host key  SHA256:abc\n"),
            "{text}"
        );
        assert!(text.contains("430 of 512 MiB free, up 2 min"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn the_switch_is_one_line() {
        let mut report = report();
        let neighbour = |by: &str, system: &str, port: &str, vlans: &[&str]| NeighbourReport {
            by: by.into(),
            system: system.into(),
            port: port.into(),
            vlans: vlans.iter().map(ToString::to_string).collect(),
            about: vec!["a long description".into()],
        };
        let neighbours = vec![
            neighbour("lldp", "sw-17", "Eth17/1", &["7"]),
            neighbour("lacp", "02:00:00:00:00:01", "2", &[]),
        ];
        report.network.links = vec![
            LinkReport { name: "eth0".into(), neighbours, ..LinkReport::default() },
            LinkReport { name: "eth1".into(), ..LinkReport::default() },
        ];
        let text = render(&report);
        assert!(text.contains("  switch    eth0: sw-17 port Eth17/1, VLAN 7\n"), "{text}");
        assert_eq!(text.matches("switch").count(), 1, "{text}");
    }

    #[test]
    fn sources_are_listed_with_what_they_gave_and_what_was_ignored() {
        let text = render_sources(&[CredentialSource {
            source: "SMBIOS".into(),
            state: rescue_schema::report::CredentialState::Found,
            text: "logins root".into(),
            gave: vec!["logins".into(), "device.hostname".into()],
            remarks: vec!["vconsole.keymap: not used".into()],
        }]);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["SMBIOS", "found", "logins", "root"], "{text}");
        assert_eq!(words[1], ["gave", "logins,", "device.hostname"], "{text}");
        assert_eq!(words[2], ["-", "vconsole.keymap:", "not", "used"], "{text}");
        let column = |line: usize, word: &str| text.lines().nth(line).and_then(|l| l.find(word));
        assert_eq!((column(0, "found"), column(0, "logins")), (column(1, "gave"), column(1, "logins")));
    }

    #[test]
    fn problems_are_said() {
        let mut report = report();
        report.boot.closed = Some("no credentials were injected".into());
        report.boot.stages.push(StageReport {
            name: "network".into(),
            result: StageResult::Failed,
            ms: 30000,
            why: "not there after 30 s; still trying".into(),
        });
        let text = render(&report);
        assert!(text.contains("logins    nobody: no credentials were injected"), "{text}");
        assert!(text.contains("problem   network: not there after 30 s; still trying"), "{text}");
    }

    #[test]
    fn state_files_that_are_missing_or_garbage_are_nothing() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/rescue")).unwrap();
        std::fs::write(root.path().join("run/rescue/boot.json"), b"{\xff").unwrap();
        assert_eq!(observe(root.path()).boot, BootReport::default());
    }
}
