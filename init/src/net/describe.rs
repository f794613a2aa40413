//! Wishes in words, for who is about to have them done.

use rescue_schema::network::{BondMode, Kind, Network};

use super::plan::{Brings, plan};
use crate::sys::netlink::Origin;

/// What a document will have done to each link that it names, a line each.
#[must_use]
pub fn describe(network: &Network) -> Vec<String> {
    let mut lines = Vec::new();
    if network.links.is_empty() {
        lines.push("every card: DHCP and router advertisements".into());
    }
    for (order, link) in (0..).zip(&network.links) {
        let what = match &link.kind {
            Kind::Ethernet => link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            Kind::Bond(bond) => format!("bond {} of {}", mode_name(bond.mode), bond.links.join(", ")),
            Kind::Vlan(vlan) => format!("VLAN {} of {}", vlan.id, vlan.link),
            Kind::Bridge(bridge) => format!("bridge of {}", bridge.links.join(", ")),
            Kind::Dummy => "dummy".into(),
        };
        let of = super::build::controller(network, link);
        let plan = match of {
            Some(of) => format!("port of {of}"),
            None => {
                let dhcp = if link.dhcp4 { "DHCP, " } else { "" };
                format!("{dhcp}{}", plan(0, order, &[(Origin::Static, Brings::of_wish(link))]))
            }
        };
        lines.push(format!("{} ({what}): {plan}", link.id));
    }
    let servers: Vec<String> = network.dns.servers.iter().map(ToString::to_string).collect();
    if !servers.is_empty() {
        lines.push(format!("name servers: {}", servers.join(", ")));
    }
    lines
}

/// The kernel's name of a mode.
fn mode_name(mode: BondMode) -> String {
    serde_json::to_value(mode).ok().and_then(|v| v.as_str().map(ToString::to_string)).unwrap_or_default()
}
