//! `rescue netd`: the service that brings up the network and keeps it up.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use rescue_schema::{network::Network, paths};

use super::{Command, Usage, net_wishes};
use crate::{net, sys};

/// Largest document of wishes that is read, in bytes.
const MAX_WISHES: usize = 1 << 20;

pub(super) const COMMAND: Command =
    Command { name: "netd", links: &[], usage: "[--root DIR] [--verbose]", about: "", run };

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let (mut root, mut verbose) = (PathBuf::from("/"), false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Where files are read and written; the network itself is that of this process.
            "--root" => root = args.next().ok_or_else(|| Usage("--root wants a folder".into()))?.into(),
            "--verbose" => verbose = true,
            other => return Err(Usage(format!("unknown argument {other:?}")).into()),
        }
    }
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let say = |text: &str| {
        sys::log::note("netd", text);
        if verbose {
            eprintln!("netd: {text}");
        }
    };
    // Wishes that cannot be read must not cost the machine its network: DHCP is then the best guess.
    let network = wishes(&at(paths::NETWORK_WISHES)).unwrap_or_else(|error| {
        say(&format!("{error:#}; using DHCP on every link"));
        Network::default()
    });
    let network = net_wishes::wanted(&root, network, &say);
    let settings = net::daemon::Settings {
        network,
        resolv_conf: at("/etc/resolv.conf"),
        report: at(paths::NET_REPORT),
        say: &say,
    };
    net::daemon::run(settings).context("watching the network by netlink")?;
    Ok(ExitCode::SUCCESS)
}

fn wishes(path: &Path) -> anyhow::Result<Network> {
    match sys::files::read_capped(path, MAX_WISHES) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Network::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
