//! The network as a person reads it.

use std::fmt::Write as _;

use rescue_schema::report::{LinkReport, NetReport, OriginReport};

/// All links, a paragraph each; `now` is the time since boot in seconds.
pub(super) fn render(report: &NetReport, now: u64) -> String {
    let mut text = String::new();
    let width = report.links.iter().map(|link| link.name.len()).max().unwrap_or(0).max(7);
    for link in &report.links {
        let mut name = link.name.as_str();
        for line in lines(link, now) {
            let _ = writeln!(text, "{name:<width$}  {line}");
            name = "";
        }
    }
    for (name, all) in [("dns", &report.dns), ("search", &report.search)] {
        if !all.is_empty() {
            let _ = writeln!(text, "{name:<width$}  {}", all.join(" "));
        }
    }
    for problem in &report.problems {
        let _ = writeln!(text, "{:<width$}  {}", "missing", plain(problem));
    }
    if report.links.is_empty() {
        text.push_str("no network card is here: `rescue log` says which drivers were loaded\n");
    }
    text
}

fn lines(link: &LinkReport, now: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first = vec![link.kind.clone(), link.mac.clone()];
    first.extend(link.permanent_mac.as_ref().map(|mac| format!("(its own {mac})")));
    first.push(match (link.carrier, link.speed) {
        (false, _) => "no carrier".into(),
        (true, Some(speed)) => format!("{speed} Mbit/s"),
        (true, None) => "carrier".into(),
    });
    if link.mtu != 1500 {
        first.push(format!("MTU {}", link.mtu));
    }
    first.extend(link.controller.as_ref().map(|of| format!("port of {of}")));
    first.extend(link.parent.as_ref().map(|on| format!("on {on}")));
    first.extend(link.path.clone());
    lines.push(first.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "));
    for origin in &link.origins {
        lines.push(address(origin, now));
    }
    lines.extend(link.gateway.as_ref().map(|gateway| format!("gateway {gateway}")));
    for source in link.sources.iter().filter(|source| source.state != "static") {
        lines.push(format!("{}: {}", source.source, plain(&source.state)));
    }
    if link.sources.is_empty() && link.controller.is_none() && !link.state.is_empty() {
        lines.push(plain(&link.state));
    }
    for duplicate in &link.duplicates {
        let who = duplicate.mac.as_deref().map(|mac| format!(" ({mac})")).unwrap_or_default();
        lines.push(format!("DUPLICATE: another host{who} has {} as well", duplicate.address));
    }
    for neighbour in &link.neighbours {
        let mut line = format!("{}: {} port {}", neighbour.by, neighbour.system, neighbour.port);
        if !neighbour.vlans.is_empty() {
            let _ = write!(line, ", VLAN {}", neighbour.vlans.join(", "));
        }
        neighbour.about.iter().for_each(|about| line.push_str(&format!(", {about}")));
        lines.push(plain(&line));
    }
    lines
}

fn address(origin: &OriginReport, now: u64) -> String {
    let by = match origin.by.as_str() {
        "kernel" => "link-local",
        "other" => "set by hand",
        by => by,
    };
    let left = origin.until.map(|until| format!(", {} left", duration(until.saturating_sub(now))));
    format!("{} {by}{}", origin.address, left.unwrap_or_default())
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

/// What comes from the wire draws nothing on a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use rescue_schema::report::{DuplicateReport, NeighbourReport};

    use super::*;

    #[test]
    fn what_an_engineer_asks() {
        let origin =
            |address: &str, by: &str, until| OriginReport { address: address.into(), by: by.into(), until };
        let mut eth0 = LinkReport {
            name: "eth0".into(),
            kind: "ethernet".into(),
            mac: "02:00:00:00:00:01".into(),
            carrier: true,
            speed: Some(10000),
            mtu: 9000,
            path: Some("pci-0000:01:00.0".into()),
            origins: vec![origin("10.0.2.15/24", "dhcp", Some(86_400)), origin("fe80::1/64", "kernel", None)],
            gateway: Some("10.0.2.2".into()),
            duplicates: vec![DuplicateReport {
                address: "10.0.2.15".into(),
                mac: Some("02:00:00:00:00:99".into()),
            }],
            neighbours: vec![NeighbourReport {
                by: "lldp".into(),
                system: "sw1\u{1b}[2J".into(),
                port: "Gi1/0/7".into(),
                vlans: vec!["7".into()],
                about: vec![],
            }],
            ..LinkReport::default()
        };
        eth0.says("dhcp", "lease of 86400 s from 10.0.2.2".into());
        let eth1 =
            LinkReport { name: "eth1".into(), mtu: 1500, kind: "ethernet".into(), ..LinkReport::default() };
        let report = NetReport {
            links: vec![eth0, eth1],
            dns: vec!["9.9.9.9".into()],
            problems: vec!["b: no card 02:00:00:00:00:02 here yet".into()],
            ..NetReport::default()
        };
        assert_eq!(
            render(&report, 600),
            "eth0     ethernet 02:00:00:00:00:01 10000 Mbit/s MTU 9000 pci-0000:01:00.0\n         \
             10.0.2.15/24 dhcp, 23 h left\n         \
             fe80::1/64 link-local\n         \
             gateway 10.0.2.2\n         \
             dhcp: lease of 86400 s from 10.0.2.2\n         \
             DUPLICATE: another host (02:00:00:00:00:99) has 10.0.2.15 as well\n         \
             lldp: sw1[2J port Gi1/0/7, VLAN 7\n\
             eth1     ethernet no carrier\n\
             dns      9.9.9.9\n\
             missing  b: no card 02:00:00:00:00:02 here yet\n"
        );
        assert!(render(&NetReport::default(), 0).contains("no network card"));
    }
}
