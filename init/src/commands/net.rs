//! `rescue net`: the network as it is, and its correction from the console without typing a file.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rescue_schema::network::{BondMode, Network, Prefix};
use rescue_schema::paths;
use rescue_schema::report::NetReport;

use super::wrapped::{complain, put};
use super::{Command, Usage, net_text, net_wishes};
use crate::net::control::{self, Order};
use crate::net::describe;
use crate::net::edit::{self, Edit, Set};
use crate::sys::files::{read_capped, replace};
use crate::sys::time::since_boot;
use crate::sys::watch::Watch;

pub(super) const COMMAND: Command = Command {
    name: "net",
    links: &[],
    usage: "[--json]  |  dhcp [LINK]  |  retry  |  \
            set LINK ADDRESS/LEN [via GATEWAY] [dns SERVER…] [vlan ID] [bond CARD… [mode MODE]]  |  --dry-run",
    about: "links, addresses, who gave them; set, dhcp and retry correct it",
    run,
};

/// How long netd may take to choose a network: drivers settle, and a disk may be asked.
const BEGINNING: Duration = Duration::from_secs(60);
/// Largest report that is read, in bytes.
const MAX_REPORT: usize = 1 << 20;

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let (mut root, mut json, mut dry_run) = (PathBuf::from("/"), false, false);
    let mut words = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--root" => root = args.next().ok_or_else(|| usage("--root wants a folder"))?.into(),
            "--json" => json = true,
            "--dry-run" | "-n" => dry_run = true,
            option if option.starts_with('-') => return Err(usage(&format!("{option} is not understood"))),
            word => words.push(word),
        }
    }
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let (report, wishes, socket) =
        (at(paths::NET_REPORT), at(paths::NETWORK_IN_FORCE), at(paths::NET_CONTROL));
    let edit = match words.as_slice() {
        [] | ["show"] => return show(&report, json),
        ["adopt"] => return adopt(&root, &wishes, &socket),
        ["retry"] => return order(&socket, Order::Retry),
        ["dhcp"] => Edit::Dhcp(None),
        ["dhcp", link] => Edit::Dhcp(Some((*link).into())),
        ["set", rest @ ..] => Edit::Set(parse(rest)?),
        [word, ..] => return Err(usage(&format!("{word} is not understood"))),
    };
    change(&report, &wishes, &socket, &edit, dry_run)
}

fn usage(text: &str) -> anyhow::Error {
    Usage(text.into()).into()
}

fn show(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let report = read(path)?;
    match json {
        true => put!("{}\n", serde_json::to_string_pretty(&report)?),
        false => put!("{}", net_text::render(&report, since_boot().as_secs())),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<NetReport> {
    let bytes = read_capped(path, MAX_REPORT)
        .with_context(|| format!("reading {}: is netd running? `rescue log` says", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
}

fn order(socket: &Path, order: Order) -> anyhow::Result<ExitCode> {
    let answer = control::order(socket, order)
        .with_context(|| format!("asking netd at {}: `rescue log` says what it does", socket.display()))?;
    match answer.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        // It goes on trying; what is missing may yet come.
        false => Err(anyhow!(answer.replace('\n', "\n  "))),
    }
}

/// What was said about the network after netd began, for PID 1: a source of credentials has answered.
fn adopt(root: &Path, wishes: &Path, socket: &Path) -> anyhow::Result<ExitCode> {
    let say = |text: &str| crate::sys::log::note("net", text);
    let until = Instant::now() + BEGINNING;
    let mut watch =
        Watch::open(&root.join(paths::RUN.trim_start_matches('/'))).context("watching for netd")?;
    // netd itself reads what is said until it has chosen.
    while !(wishes.exists() && socket.exists()) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("netd has chosen no network in {} s", BEGINNING.as_secs());
        }
        watch.wait_for(left).context("watching for netd")?;
    }
    match net_wishes::adopt(wishes, root, &say)? {
        true => order(socket, Order::Reload),
        false => Ok(ExitCode::SUCCESS),
    }
}

fn change(
    report: &Path,
    wishes: &Path,
    socket: &Path,
    edit: &Edit,
    dry_run: bool,
) -> anyhow::Result<ExitCode> {
    let report = read(report)?;
    // What cannot be read is in use by nobody, and must not keep an engineer from setting it right.
    let before = net_wishes::read(wishes).unwrap_or_else(|error| {
        complain!("rescue net: {error:#}; beginning with nothing wished");
        Network::default()
    });
    let next = edit::edit(&before, &report, edit).map_err(|why| anyhow!(why))?;
    describe::describe(&next).iter().for_each(|line| put!("{line}\n"));
    if dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let json = serde_json::to_vec(&next)?;
    replace(wishes, 0o600, &json).with_context(|| format!("writing {}", wishes.display()))?;
    order(socket, Order::Reload)
}

/// `LINK ADDRESS/LEN [via GATEWAY] [dns SERVER…] [vlan ID] [bond CARD…] [mode MODE]`
fn parse(words: &[&str]) -> anyhow::Result<Set> {
    let [link, address, rest @ ..] = words else {
        return Err(usage("set wants a link and an address with its prefix length"));
    };
    let address: Prefix = address.parse().map_err(|why: String| usage(&why))?;
    let mut set = Set {
        link: (*link).into(),
        address,
        via: None,
        dns: Vec::new(),
        vlan: None,
        bond: Vec::new(),
        mode: BondMode::Lacp,
    };
    let mut about = "";
    for word in rest {
        let ip = || word.parse::<IpAddr>().map_err(|_| usage(&format!("{word} is no address")));
        match (about, *word) {
            (_, "via" | "dns" | "vlan" | "bond" | "mode") => about = word,
            ("via", _) if set.via.is_none() => set.via = Some(ip()?),
            ("dns", _) => set.dns.push(ip()?),
            ("vlan", _) if set.vlan.is_none() => {
                set.vlan = Some(word.parse().map_err(|_| usage(&format!("{word} is no VLAN id")))?);
            }
            ("bond", card) => set.bond.push(card.into()),
            ("mode", mode) => {
                set.mode = serde_json::from_value(serde_json::Value::from(mode)).map_err(|_| {
                    usage(&format!("{mode} is no mode: 802.3ad, active-backup, balance-rr, balance-xor, …"))
                })?;
            }
            _ => return Err(usage(&format!("{word} is not understood"))),
        }
    }
    if !set.bond.is_empty() && set.link.is_empty() {
        bail!("a bond wants a name, such as bond0");
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Set, String> {
        parse(&line.split(' ').collect::<Vec<_>>()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_says_it_all() {
        let set = of(
            "bond0 192.0.2.7/24 via 192.0.2.1 dns 9.9.9.9 2001:db8::1 vlan 7 bond eth0 eth1 mode active-backup",
        );
        let set = set.unwrap();
        assert_eq!((set.link.as_str(), set.vlan, set.dns.len()), ("bond0", Some(7), 2));
        assert_eq!(
            (set.bond.len(), set.mode, set.via),
            (2, BondMode::ActiveBackup, "192.0.2.1".parse().ok())
        );
        for (line, why) in [
            ("eth0", "set wants"),
            ("eth0 192.0.2.7", "is not an address with a prefix"),
            ("eth0 192.0.2.7/24 via", ""),
            ("eth0 192.0.2.7/24 via x", "x is no address"),
            ("eth0 192.0.2.7/24 via 192.0.2.1 192.0.2.2", "not understood"),
            ("eth0 192.0.2.7/24 gateway 192.0.2.1", "gateway is not understood"),
            ("eth0 192.0.2.7/24 vlan seven", "seven is no VLAN id"),
            ("eth0 192.0.2.7/24 bond a mode fast", "fast is no mode"),
        ] {
            match of(line) {
                Err(said) => assert!(!why.is_empty() && said.contains(why), "{line}: {said}"),
                Ok(set) => assert!(why.is_empty() && set.via.is_none(), "{line}"),
            }
        }
    }
}
