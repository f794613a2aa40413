//! How the machine is to be reached: the one vocabulary of `device.json`'s `network`, and what every
//! foreign document about networks is translated into.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

mod address;
mod validate;

pub use address::{MacAddress, Prefix};
pub use validate::is_link_name;

/// Whether it is a domain name (RFC 1123 section 2.1).
#[must_use]
pub fn is_domain(text: &str) -> bool {
    crate::check::is_host_name(text)
}

/// Most links, addresses a link, routes a link or name servers that a document may name.
pub const MAX_ENTRIES: usize = 64;

/// The `network` section. Empty means: the ladder, which starts with DHCP and router advertisements on
/// every link that has carrier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Links to configure; when any is named, only these are configured.
    pub links: Vec<Link>,
    /// Name servers and search domains, before those that DHCP brings.
    pub dns: Dns,
}

/// One link: a card, or what is built upon cards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Its name in this document, by which `kind` refers to it, and in messages; for a bond, VLAN or
    /// bridge also the kernel name that it is given where that is free. Never a kernel name to match.
    pub id: String,
    /// What it is; `ethernet` unless said.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Which card it is, by its permanent MAC address. For a bond, VLAN or bridge: the address that it
    /// is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Which card it is, by its place: a PCI address (`0000:01:00.0`) or udev's `ID_PATH`
    /// (`pci-0000:01:00.0`, globs allowed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The name that a foreign document gives a card that it does not identify otherwise. Resolved by
    /// what a predictable name (`enp1s0f0`, `ens3`, `eno1`, `enx…`) says of place or address, else by
    /// order of place (`eth0` is the first card). `device.json` itself may not match by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A MAC address that the card is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_mac: Option<MacAddress>,
    /// MTU in bytes, 68 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Ask for a lease by DHCPv4 (RFC 2131).
    pub dhcp4: bool,
    /// Ask for an address by DHCPv6 (RFC 8415) whatever router advertisements say.
    pub dhcp6: bool,
    /// Whether router advertisements are followed (RFC 4861, RFC 4862): addresses, routes, MTU, name
    /// servers, and DHCPv6 where they ask for it. Unless said, they are where no IPv6 address is static.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_ra: Option<bool>,
    /// Static addresses with their prefix length: `192.0.2.7/24`, `2001:db8::7/64`.
    pub addresses: Vec<Prefix>,
    /// Routes; `to` is a prefix, and `0.0.0.0/0` or `::/0` the default.
    pub routes: Vec<Route>,
    /// Policy: which routing table is asked for what.
    pub rules: Vec<Rule>,
}

/// What a link is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A card.
    #[default]
    Ethernet,
    /// Several links as one (`Documentation/networking/bonding.rst`).
    Bond(Bond),
    /// A tagged network on a link (IEEE 802.1Q).
    Vlan(Vlan),
    /// A switch of links.
    Bridge(Bridge),
    /// A name that holds addresses and routes and carries nothing.
    Dummy,
}

/// A bond. What is not said is as the kernel has it, but `miimon`, which is 100 where no ARP monitor is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// Ids of its ports.
    pub links: Vec<String>,
    /// How they are used.
    #[serde(default)]
    pub mode: BondMode,
    /// Milliseconds between looks at the carrier; 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub miimon: Option<u32>,
    /// Milliseconds that a port's carrier must be back before it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_delay: Option<u32>,
    /// Milliseconds that a port's carrier must be gone before it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_delay: Option<u32>,
    /// 802.3ad: LACPDUs every second and not every 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacp_fast: Option<bool>,
    /// What chooses the port for a packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xmit_hash_policy: Option<HashPolicy>,
    /// 802.3ad: how the aggregator is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ad_select: Option<AdSelect>,
    /// Ports with carrier that the bond needs to have one itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_links: Option<u32>,
    /// Active-backup and others: the id of the port that is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Active-backup: whose address the bond has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_over_mac: Option<FailOverMac>,
    /// Milliseconds between ARP requests; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arp_interval: Option<u32>,
    /// Whom they ask for, at most 16.
    #[serde(default)]
    pub arp_targets: Vec<std::net::Ipv4Addr>,
}

/// How a bond uses its ports; the names and numbers are the kernel's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// 0: one packet after another.
    #[default]
    BalanceRr,
    /// 1: one port, the others in reserve.
    ActiveBackup,
    /// 2: by hash.
    BalanceXor,
    /// 3: every packet on all.
    Broadcast,
    /// 4: as LACP agrees with the switch.
    #[serde(rename = "802.3ad")]
    Lacp,
    /// 5: sends by load.
    BalanceTlb,
    /// 6: sends and receives by load.
    BalanceAlb,
}

/// What chooses the port for a packet; the names and numbers (0 to 5) are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashPolicy {
    /// 0: MAC addresses.
    #[serde(rename = "layer2")]
    Layer2,
    /// 1: IP addresses and ports.
    #[serde(rename = "layer3+4")]
    Layer34,
    /// 2: MAC and IP addresses.
    #[serde(rename = "layer2+3")]
    Layer23,
    /// 3: as layer2+3, of what a tunnel carries.
    #[serde(rename = "encap2+3")]
    Encap23,
    /// 4: as layer3+4, of what a tunnel carries.
    #[serde(rename = "encap3+4")]
    Encap34,
    /// 5: the VLAN and the source's MAC address.
    #[serde(rename = "vlan+srcmac")]
    VlanSrcMac,
}

/// How 802.3ad chooses its aggregator; numbers 0 to 2 are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdSelect {
    /// 0: keeps it while it has a port.
    Stable,
    /// 1: the widest.
    Bandwidth,
    /// 2: the one with most ports.
    Count,
}

/// Whose MAC address an active-backup bond has; numbers 0 to 2 are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailOverMac {
    /// 0: the same on all ports.
    None,
    /// 1: that of the active port.
    Active,
    /// 2: ports keep theirs until they become active.
    Follow,
}

/// A tagged network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// Id of the link below it, which may be a VLAN itself.
    pub link: String,
    /// VLAN id, 0 to 4094.
    pub id: u16,
    /// Whether it is a service tag (IEEE 802.1ad) and not a customer's.
    #[serde(default)]
    pub service: bool,
}

/// A switch of links.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bridge {
    /// Ids of its ports.
    pub links: Vec<String>,
    /// Whether it speaks the spanning tree protocol.
    pub stp: bool,
    /// Seconds a port listens and learns, each, before it forwards (2 to 30); without `stp` it is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_delay: Option<u8>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination prefix.
    pub to: Prefix,
    /// The gateway, or none for a destination on this link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// Metric; lower wins. Unless said, an earlier link's are lower than a later one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Source address that is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Routing table; `main` (254) unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The gateway is on this link whatever its address; known by itself where no address covers it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
}

/// A rule of policy routing. At least one of `from` and `to` is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For packets from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Prefix>,
    /// For packets to there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Prefix>,
    /// The table that is asked.
    pub table: u32,
    /// Order among rules; lower comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
}

/// Name resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Name servers, in order.
    pub servers: Vec<IpAddr>,
    /// Search domains, in order.
    pub search: Vec<String>,
}

impl Link {
    /// Ids of the links below it.
    #[must_use]
    pub fn below(&self) -> &[String] {
        match &self.kind {
            Kind::Ethernet | Kind::Dummy => &[],
            Kind::Bond(bond) => &bond.links,
            Kind::Vlan(vlan) => std::slice::from_ref(&vlan.link),
            Kind::Bridge(bridge) => &bridge.links,
        }
    }
}
