use serde::{Deserialize, Serialize};

/// A port of a switch, as it describes itself by LLDP or CDP. Nothing in it holds control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NeighbourReport {
    /// `LLDP` or `CDP`.
    pub protocol: String,
    /// The switch, as it is identified: mostly a MAC address. Empty by CDP.
    pub chassis: String,
    /// The name of the switch.
    pub system: String,
    /// What it is: maker, model, version.
    pub description: String,
    /// Its port, as it is identified: mostly a name.
    pub port: String,
    /// What the operator wrote at the port.
    pub port_description: String,
    /// Where it is managed.
    pub address: Option<String>,
    /// VLAN of untagged frames.
    pub vlan: Option<u16>,
    /// Whether the port is a member of an aggregate now.
    pub aggregated: Option<bool>,
    /// Largest frame that the port takes, in bytes.
    pub max_frame: Option<u16>,
}

/// One line: switch, port, VLAN.
impl std::fmt::Display for NeighbourReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let system = if self.system.is_empty() { &self.chassis } else { &self.system };
        write!(f, "{system} port {}", self.port)?;
        if !self.port_description.is_empty() && self.port_description != self.port {
            write!(f, " ({})", self.port_description)?;
        }
        match self.vlan {
            Some(vlan) => write!(f, ", VLAN {vlan}"),
            None => Ok(()),
        }
    }
}

/// What the switch's end of a cable says by LACP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LacpReport {
    /// MAC address that identifies the switch, or the pair of switches that act as one.
    pub system: String,
    /// Priority of that system.
    pub priority: u16,
    /// Ports of one system with one key belong together.
    pub key: u16,
    /// Number of its port.
    pub port: u16,
    /// Whether it takes and sends frames on this port now.
    pub carries: bool,
}
