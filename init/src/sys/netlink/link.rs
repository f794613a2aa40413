//! Links.

use netlink_packet_route::link::{
    InfoBond, InfoBondPort, InfoData, InfoPortData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage, VlanProtocol,
};

use super::bond::{self, BondOption};

/// A network link as the kernel shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index; never used twice while the kernel runs.
    pub index: u32,
    /// Its name, which may change.
    pub name: String,
    /// Hardware address when it is one of 6 bytes.
    pub mac: Option<[u8; 6]>,
    /// The address that the hardware came with, which a bond does not change.
    pub permanent_mac: Option<[u8; 6]>,
    /// The address that it had when it became a port of a bond.
    pub joined_mac: Option<[u8; 6]>,
    /// ARPHRD_ETHER.
    pub ethernet: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// IFF_UP: we want it to work.
    pub up: bool,
    /// IFF_LOWER_UP: it does.
    pub carrier: bool,
    /// What virtual kind it is of (`bridge`, `veth`, …); none for hardware.
    pub kind: Option<String>,
    /// The bond or bridge that it is a port of.
    pub controller: Option<u32>,
    /// The link that it is built upon.
    pub parent: Option<u32>,
    /// VLAN: its id and whether its tag is a service tag (802.1ad).
    pub vlan: Option<(u16, bool)>,
    /// Bond: its mode, by the kernel's number.
    pub bond_mode: Option<u8>,
    /// Bond: index of the port that it prefers.
    pub bond_primary: Option<u32>,
    /// Bond: its other options, as far as documents say something of them.
    pub bond_options: Vec<BondOption>,
    /// It was built by this program.
    pub ours: bool,
    /// MTU in bytes.
    pub mtu: u32,
}

impl Link {
    /// The address that tells which card it is.
    #[must_use]
    pub fn identity(&self) -> Option<[u8; 6]> {
        self.permanent_mac.or(self.joined_mac).or(self.mac)
    }
}

pub(super) fn parse(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        loopback: flags.contains(LinkFlags::Loopback),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
            LinkAttribute::PermAddress(bytes) => {
                link.permanent_mac = bytes.try_into().ok().filter(|mac| *mac != [0; 6]);
            }
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index).filter(|i| *i != 0),
            LinkAttribute::IfAlias(alias) => link.ours = alias == super::build::OURS,
            LinkAttribute::Link(index) => link.parent = Some(index),
            LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| kind(&mut link, info)),
            _ => {}
        }
    }
    link
}

fn kind(link: &mut Link, info: LinkInfo) {
    match info {
        LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
        LinkInfo::Data(InfoData::Vlan(data)) => {
            let (mut id, mut service) = (None, false);
            for item in data {
                match item {
                    InfoVlan::Id(value) => id = Some(value),
                    InfoVlan::Protocol(protocol) => service = protocol == VlanProtocol::Ieee8021Ad,
                    _ => {}
                }
            }
            link.vlan = id.map(|id| (id, service));
        }
        // The hardware's address, also of cards that do not say theirs.
        LinkInfo::PortData(InfoPortData::BondPort(data)) => {
            let said = data.into_iter().find_map(|item| match item {
                InfoBondPort::PermHwaddr(bytes) => bytes.try_into().ok(),
                _ => None,
            });
            link.joined_mac = said;
        }
        LinkInfo::Data(InfoData::Bond(data)) => {
            for item in data {
                match item {
                    InfoBond::Mode(mode) => link.bond_mode = Some(mode.into()),
                    InfoBond::Primary(port) => link.bond_primary = Some(port),
                    other => link.bond_options.extend(bond::option(&other)),
                }
            }
        }
        _ => {}
    }
}
