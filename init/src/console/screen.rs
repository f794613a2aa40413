//! What the login screen says: which machine this is, how it is reached, or why nobody may enter.

use std::path::Path;

use rescue_schema::manifest::ImageInfo;
use rescue_schema::paths;
use rescue_schema::report::{BootReport, NetReport};

use crate::sys::files;

/// Longest report in bytes that is read.
const MAX_REPORT: usize = 256 << 10;
/// Columns that a line may fill; a serial terminal that is told nothing has 80.
const COLUMNS: usize = 78;
/// Column at which values begin.
const INDENT: usize = 12;
/// Most links that are listed; a screen has 24 lines.
const MAX_LINKS: usize = 8;

/// What the screen is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) hostname: String,
    pub(super) image: Option<ImageInfo>,
    pub(super) boot: Option<BootReport>,
    pub(super) net: Option<NetReport>,
}

impl Facts {
    /// Reads them, with `root` in the place of `/`. What is missing or damaged is left out.
    pub(super) fn read(root: &Path) -> Self {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let hostname =
            files::read_trimmed(&below("/proc/sys/kernel/hostname")).filter(|name| !name.is_empty());
        Self {
            hostname: tame(&hostname.unwrap_or_else(|| "rescue".into()), 64),
            image: report(&below(paths::IMAGE_INFO)),
            boot: report(&below(paths::BOOT_REPORT)),
            net: report(&below(paths::NET_REPORT)),
        }
    }

    /// Why nobody may log in, when that is known to be so.
    pub(super) fn closed(&self) -> Option<&str> {
        self.boot.as_ref()?.closed.as_deref()
    }

    /// Whether there is something to say that will hold: the end of the boot, or a closed door.
    pub(super) fn is_settled(&self) -> bool {
        self.boot.as_ref().is_some_and(|boot| boot.ready.is_some() || boot.closed.is_some())
    }

    /// The screen, without prompt.
    pub(super) fn screen(&self, terminal: &str) -> String {
        let mut text = String::from("\nRescue Kernel");
        if let Some(image) = &self.image {
            text += &format!(
                " {}, {} ({})",
                tame(&image.version, 20),
                tame(&image.family, 20),
                tame(&image.profile, 20)
            );
        }
        text += &format!(" on {}\n", tame(terminal, 16));
        let mut row = |label: &str, value: &str| {
            text +=
                &format!("  {:<1$}{2}\n", tame(label, INDENT - 3), INDENT - 2, tame(value, COLUMNS - INDENT));
        };
        row("host", &self.hostname);
        if let Some(boot) = &self.boot {
            [("device", &boot.device), ("session", &boot.session)]
                .into_iter()
                .filter_map(|(label, value)| Some((label, value.as_ref()?)))
                .for_each(|(label, value)| row(label, value));
        }
        match &self.net {
            None => row("network", "not known yet"),
            Some(net) if net.links.is_empty() => row("network", "no Ethernet link"),
            Some(net) => {
                for link in net.links.iter().take(MAX_LINKS) {
                    match link.addresses.as_slice() {
                        [] => row(&link.name, &link.state),
                        addresses => row(&link.name, &addresses.join("  ")),
                    }
                }
                if net.links.len() > MAX_LINKS {
                    row("", &format!("and {} more links", net.links.len() - MAX_LINKS));
                }
            }
        }
        if let Some(ready) = self.boot.as_ref().and_then(|boot| boot.ready.as_ref()) {
            row("ssh", &ready.ssh);
            row("host key", &ready.hostkey);
        }
        text.push('\n');
        if let Some(reason) = self.closed() {
            text += &wrapped(&format!("Nobody may log in: {reason}"));
            text.push('\n');
        }
        text
    }
}

fn report<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::read_capped(path, MAX_REPORT).ok()?).ok()
}

/// Reports repeat what came over the network: no control character of it reaches a terminal.
fn tame(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(limit).collect()
}

/// Wraps at [`COLUMNS`], between words where there are any.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in tame(text, 1200).split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > COLUMNS {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        for c in word.chars() {
            if column == COLUMNS {
                out.push('\n');
                column = 0;
            }
            out.push(c);
            column += 1;
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use rescue_schema::report::{LinkReport, Ready};

    use super::*;

    fn facts() -> Facts {
        Facts {
            hostname: "db7".into(),
            image: Some(ImageInfo {
                guest: Default::default(),
                family: "debian".into(),
                profile: "minimal".into(),
                version: "0.1.0".into(),
                kernel: "6.1".into(),
            }),
            boot: Some(BootReport {
                device: Some("srv-0142".into()),
                session: Some("7d5c".into()),
                ready: Some(Ready {
                    ms: 1,
                    ssh: "10.0.2.15:22".into(),
                    hostkey: format!("SHA256:{}", "x".repeat(43)),
                }),
                ..BootReport::default()
            }),
            net: Some(NetReport {
                links: vec![
                    LinkReport {
                        name: "eth0".into(),
                        addresses: vec!["10.0.2.15/24".into(), "fe80::1/64".into()],
                        ..LinkReport::default()
                    },
                    LinkReport { name: "eth1".into(), state: "no carrier".into(), ..LinkReport::default() },
                ],
                dns: Vec::new(),
                ..NetReport::default()
            }),
        }
    }

    #[test]
    fn an_open_door() {
        assert_eq!(
            facts().screen("ttyS0"),
            "\nRescue Kernel 0.1.0, debian (minimal) on ttyS0\n\
             \x20 host      db7\n\
             \x20 device    srv-0142\n\
             \x20 session   7d5c\n\
             \x20 eth0      10.0.2.15/24  fe80::1/64\n\
             \x20 eth1      no carrier\n\
             \x20 ssh       10.0.2.15:22\n\
             \x20 host key  SHA256:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n\n"
        );
    }

    #[test]
    fn a_closed_door_says_why() {
        let boot = BootReport {
            closed: Some("the credentials were refused: device.json: logins[0].password_hash: not a $6$, $5$, $y$ or $2b$ hash (a plain password is never taken)".into()),
            ..BootReport::default()
        };
        let facts = Facts { hostname: "rescue".into(), boot: Some(boot), ..Facts::default() };
        assert_eq!(
            facts.screen("tty1"),
            "\nRescue Kernel on tty1\n\
             \x20 host      rescue\n\
             \x20 network   not known yet\n\n\
             Nobody may log in: the credentials were refused: device.json:\n\
             logins[0].password_hash: not a $6$, $5$, $y$ or $2b$ hash (a plain password is\n\
             never taken)\n\n"
        );
        assert!(facts.is_settled());
    }

    #[test]
    fn whatever_the_reports_hold_the_screen_stays_one() {
        let mut facts = facts();
        let evil = "\u{1b}[2J\r\n\u{9b}31m".repeat(500);
        facts.hostname.clone_from(&evil);
        let boot = facts.boot.as_mut().unwrap();
        (boot.device, boot.closed) = (Some(evil.clone()), Some("x".repeat(5000)));
        let link = LinkReport { name: evil.clone(), state: evil, ..LinkReport::default() };
        facts.net.as_mut().unwrap().links = vec![link; 1000];
        let screen = facts.screen("ttyS0");
        assert!(
            screen.lines().count() < 40 && screen.lines().all(|line| line.chars().count() <= 80),
            "{screen}"
        );
        assert!(screen.chars().all(|c| !c.is_control() || c == '\n'));
    }

    #[test]
    fn damaged_reports_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/rescue")).unwrap();
        for junk in [&b""[..], b"\xff", b"[]", &b"[".repeat(100_000)] {
            std::fs::write(root.path().join("run/rescue/boot.json"), junk).unwrap();
            std::fs::write(root.path().join("run/rescue/net.json"), junk).unwrap();
            let facts = Facts::read(root.path());
            assert_eq!((facts.hostname.as_str(), facts.closed()), ("rescue", None));
        }
    }
}
