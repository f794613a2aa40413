//! `rescue netd`: the service that brings up the network and keeps it up.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use rescue_schema::paths;

use super::wrapped::complain;
use super::{Command, Usage, drivers, modprobe, net_wishes};
use crate::{net, sys};

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
            complain!("netd: {text}");
        }
    };
    let in_force = at(paths::NETWORK_IN_FORCE);
    let network = net_wishes::in_force(&in_force, &root, &say);
    let load = |module: &str, parameters: &str| modprobe::load_for(module, parameters);
    let settings = net::daemon::Settings {
        network,
        root: root.clone(),
        settled: &|| drivers::settled(&root),
        load: &load,
        control: at(paths::NET_CONTROL),
        reload: &|| net_wishes::read(&in_force).map_err(|error| format!("{error:#}")),
        resolv_conf: at("/etc/resolv.conf"),
        report: at(paths::NET_REPORT),
        ladder: at(paths::NETWORK_LADDER),
        say: &say,
    };
    net::daemon::run(settings).context("watching the network by netlink")?;
    Ok(ExitCode::SUCCESS)
}
