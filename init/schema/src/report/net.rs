use serde::{Deserialize, Serialize};

/// What `netd` knows of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetReport {
    /// Cards and what is built upon them, in kernel order.
    pub links: Vec<LinkReport>,
    /// Name servers in use.
    pub dns: Vec<String>,
    /// Search domains in use.
    pub search: Vec<String>,
    /// What is wished and not there: `bond0: no card 52:54:00:12:34:56 here yet`.
    pub problems: Vec<String>,
    /// None of the cards that are wished is here: every card is used as if nothing had been said.
    pub fallback: bool,
}

/// One link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkReport {
    /// The kernel's name of it.
    pub name: String,
    /// What the document calls it.
    pub id: Option<String>,
    /// `ethernet`, `bond 802.3ad`, `vlan 7`, `bridge`, `dummy`.
    pub kind: String,
    /// MAC address.
    pub mac: String,
    /// The address that the hardware came with, where it is another.
    pub permanent_mac: Option<String>,
    /// Its place, as udev's `ID_PATH`: `pci-0000:01:00.0`.
    pub path: Option<String>,
    /// Whether it has carrier.
    pub carrier: bool,
    /// Speed in Mbit/s, where it has carrier and the driver says it.
    pub speed: Option<u32>,
    /// MTU in bytes.
    pub mtu: u32,
    /// What the MTU was before anything here changed it.
    pub mtu_before: u32,
    /// The bond or bridge that it is a port of.
    pub controller: Option<String>,
    /// The link that it is a VLAN of.
    pub parent: Option<String>,
    /// Addresses with prefix length, but for those that every link has (`fe80::…`).
    pub addresses: Vec<String>,
    /// Who gave each of its addresses.
    pub origins: Vec<OriginReport>,
    /// Gateway of its default route.
    pub gateway: Option<String>,
    /// Who has been asked for addresses, and what came of it.
    pub sources: Vec<SourceReport>,
    /// Addresses of this link that another host has as well.
    pub duplicates: Vec<DuplicateReport>,
    /// Who is at the other end of the cable, as it says itself (LLDP and its like).
    pub neighbours: Vec<NeighbourReport>,
    /// One line of what is going on: `lease until 14:02`, `asking (3rd time)`, `no carrier`.
    pub state: String,
}

/// An address and who gave it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OriginReport {
    /// With prefix length.
    pub address: String,
    /// `static`, `dhcp`, `router`, `dhcp6`, `kernel` (link-local), `other` (an engineer, by hand).
    pub by: String,
    /// Seconds since boot at which it ends; none for never.
    pub until: Option<u64>,
}

/// A source of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceReport {
    /// `static`, `dhcp`, `router`, `dhcp6`.
    pub source: String,
    /// What came of it: `lease of 86400 s from 10.0.2.2`.
    pub state: String,
}

/// An address that is used twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DuplicateReport {
    /// The address.
    pub address: String,
    /// The MAC address of the other host, where it is known.
    pub mac: Option<String>,
}

/// A switch, or whatever else says who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NeighbourReport {
    /// How it is known: `lldp`, `cdp`, `lacp`.
    pub by: String,
    /// Its name, or else its MAC address.
    pub system: String,
    /// Its port that the cable is in.
    pub port: String,
    /// VLANs that it names: `7`, `12 storage`.
    pub vlans: Vec<String>,
    /// What else is worth knowing: its description, its management address.
    pub about: Vec<String>,
}

/// One line: switch, port, VLAN.
impl std::fmt::Display for NeighbourReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} port {}", self.system, self.port)?;
        match self.vlans.as_slice() {
            [] => Ok(()),
            vlans => write!(f, ", VLAN {}", vlans.join(", ")),
        }
    }
}

impl LinkReport {
    /// Adds what a source has to say, and to the one line of what is going on.
    pub fn says(&mut self, source: &str, state: String) {
        if !self.state.is_empty() {
            self.state.push_str(", ");
        }
        self.state.push_str(&state);
        self.sources.push(SourceReport { source: source.into(), state });
    }
}
