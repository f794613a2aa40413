//! The metadata service, asked beside everything else as soon as the network is there.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rescue_schema::paths;
use rescue_schema::report::{CredentialState, NetReport};

use super::sources::settled;
use super::sources_asking::Asking;
use crate::creds::metadata::DIALECTS;
use crate::creds::metadata::Dialect;
use crate::creds::metadata::ask::{self, Answered, Ask, Limits, Link, Network, Outcome};
use crate::creds::metadata::hints::{Hints, Routes, Url, Wanted};
use crate::creds::{METADATA, Said};
use crate::sys::cmdline::Cmdline;
use crate::sys::files::read_capped;
use crate::sys::watch::Watch;

/// How long the network is waited for.
const NETWORK: Duration = Duration::from_secs(180);
/// Longest report of the network, in bytes.
const MAX_REPORT: usize = 1 << 20;

/// Begins to ask, where something says that there may be somebody to ask; else, what there is to say.
/// `known` is what was asked and ignored before.
pub(super) fn begin(root: &Path, line: &Cmdline, known: Vec<String>) -> Result<Asking, Box<Said>> {
    let Wanted { dialects, by_route, at, mut remarks } = Hints::observe(root, line).wanted();
    remarks.extend(known);
    let titles: Vec<&str> = dialects.iter().map(|dialect| dialect.title).collect();
    let mut so_far = match titles.as_slice() {
        [] => Said::absent(
            METADATA,
            "neither the firmware, nor DHCP, nor the kernel command line says that there is one",
        ),
        titles => Said::waiting(METADATA, &format!("asking {}", titles.join(", "))),
    };
    so_far.add(remarks.iter().cloned());
    if dialects.is_empty() && !by_route {
        return Err(Box::new(so_far));
    }
    let mut wire = Wire { root: root.into(), dialects, by_route, at, watch: None };
    let said = so_far.clone();
    Asking::begin(so_far, move || {
        let answers = if wire.wait() { ask::run(&mut wire, Limits::default()) } else { Vec::new() };
        let mut said = conclude(answers).unwrap_or_else(|| match said.state {
            CredentialState::Waiting => Said::absent(METADATA, "no network to ask by"),
            _ => said,
        });
        said.add(remarks);
        said
    })
}

/// The network as netd reports it.
struct Wire {
    root: PathBuf,
    dialects: Vec<&'static Dialect>,
    by_route: bool,
    at: Option<Url>,
    watch: Option<Watch>,
}

impl Wire {
    /// Waits until there is somebody to ask; whether there is.
    fn wait(&mut self) -> bool {
        let report = self.below(paths::NET_REPORT);
        let Some(folder) = report.parent() else { return false };
        // The watch first: a change behind the look is then seen.
        self.watch = Watch::open(folder).ok();
        let until = Instant::now() + NETWORK;
        loop {
            if !self.places().is_empty() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            let Some(watch) = self.watch.as_mut().filter(|_| !left.is_zero()) else { return false };
            if watch.wait_for(left).is_err() {
                return false;
            }
        }
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn links(&self) -> Vec<Link> {
        let report = read_capped(&self.below(paths::NET_REPORT), MAX_REPORT).unwrap_or_default();
        let report: NetReport = serde_json::from_slice(&report).unwrap_or_default();
        let links = report.links.into_iter().filter(|link| link.carrier && link.controller.is_none());
        let links = links.filter_map(|link| {
            let index = self.root.join("sys/class/net").join(&link.name).join("ifindex");
            let index = String::from_utf8(read_capped(&index, 64).ok()?).ok()?.trim().parse().ok()?;
            let has = |v6: bool| link.addresses.iter().any(|address| address.contains(':') == v6);
            Some(Link { index, v4: has(false), v6: has(true), name: link.name })
        });
        links.collect()
    }
}

impl Network for Wire {
    fn places(&mut self) -> Vec<Ask> {
        // What has changed until now is seen below.
        while self.watch.as_mut().is_some_and(|watch| matches!(watch.wait_for(Duration::ZERO), Ok(true))) {}
        let routes = Routes::observe(&self.root);
        let dialects: Vec<&'static Dialect> = match self.by_route && routes.tell() {
            true => DIALECTS.iter().filter(|dialect| dialect.by_route).collect(),
            false => self.dialects.clone(),
        };
        ask::places(&dialects, self.at.as_ref(), &self.links(), &routes)
    }

    fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }
}

/// What all answers come to: the first that is one decides, and the others are remarks.
fn conclude(answers: Vec<Answered>) -> Option<Said> {
    let mut said: Option<Said> = None;
    let mut silent = Vec::new();
    for Answered { place, outcome, .. } in answers {
        match outcome {
            Outcome::Absent(why) => silent.push(format!("{place}: {why}")),
            Outcome::Found(_) | Outcome::Refused(_) if said.is_some() => {
                silent.push(format!("{place}: not used"))
            }
            Outcome::Found(part) => said = Some(settled(METADATA, &place, *part)),
            Outcome::Refused(why) => said = Some(Said::refused(METADATA, &format!("{place}: {why}"))),
        }
    }
    match said {
        Some(mut said) => {
            said.add(silent);
            Some(said)
        }
        None => (!silent.is_empty()).then(|| Said::absent(METADATA, &silent.join(", "))),
    }
}
