use serde::{Deserialize, Serialize};

use super::{LacpReport, NeighbourReport};

/// What `netd` knows of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetReport {
    /// Ethernet links, in kernel order.
    pub links: Vec<LinkReport>,
    /// Name servers in use.
    pub dns: Vec<String>,
}

/// One link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkReport {
    /// The kernel's name of it.
    pub name: String,
    /// MAC address.
    pub mac: String,
    /// Whether it has carrier.
    pub carrier: bool,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Gateway of its default route.
    pub gateway: Option<String>,
    /// One line of what is going on: `lease until 14:02`, `asking (3rd time)`, `no carrier`.
    pub state: String,
    /// Who is at the other end of its cable; LLDP before CDP.
    pub neighbours: Vec<NeighbourReport>,
    /// The switch's side of an aggregate, where it speaks LACP.
    pub lacp: Option<LacpReport>,
}
