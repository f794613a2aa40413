//! Links that are built upon others: bonds, VLANs, bridges.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeStpState, InfoBond, InfoBridge, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, VlanProtocol,
};
use rescue_schema::network::Bond;

use super::Netlink;
use super::bond::options;

/// IFLA_IFALIAS of the links that this program builds, to know them again.
pub(super) const OURS: &str = "rescue";

/// What is to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Make {
    /// A bond, without its ports.
    Bond(Bond),
    /// A VLAN on the link of this index.
    Vlan {
        /// Index of the link below.
        parent: u32,
        /// VLAN id.
        id: u16,
        /// 802.1ad and not 802.1Q.
        service: bool,
    },
    /// A bridge, without its ports.
    Bridge {
        /// Whether it speaks the spanning tree protocol.
        stp: bool,
        /// Seconds of listening and of learning; none as the kernel has it.
        forward_delay: Option<u8>,
    },
    /// A dummy.
    Dummy,
}

impl Make {
    /// The kernel's name of its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bond(_) => "bond",
            Self::Vlan { .. } => "vlan",
            Self::Bridge { .. } => "bridge",
            Self::Dummy => "dummy",
        }
    }

    /// The module that it is in.
    #[must_use]
    pub fn module(&self) -> &'static str {
        match self {
            Self::Bond(_) => "bonding",
            Self::Vlan { .. } => "8021q",
            Self::Bridge { .. } => "bridge",
            Self::Dummy => "dummy",
        }
    }

    fn info(&self) -> Vec<LinkInfo> {
        match self {
            Self::Bond(bond) => {
                vec![LinkInfo::Kind(InfoKind::Bond), LinkInfo::Data(InfoData::Bond(options(bond)))]
            }
            Self::Vlan { id, service, .. } => {
                let protocol = if *service { VlanProtocol::Ieee8021Ad } else { VlanProtocol::Ieee8021Q };
                let data = vec![InfoVlan::Protocol(protocol), InfoVlan::Id(*id)];
                vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(data))]
            }
            Self::Bridge { stp, forward_delay } => {
                let state = if *stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled };
                let mut data = vec![InfoBridge::StpState(state)];
                // In hundredths of a second (USER_HZ).
                let delay = forward_delay.map(|seconds| u32::from(seconds) * 100);
                data.extend(delay.map(InfoBridge::ForwardDelay));
                vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(data))]
            }
            Self::Dummy => vec![LinkInfo::Kind(InfoKind::Dummy)],
        }
    }
}

impl Netlink {
    /// Builds a link.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the kernel does not know the kind, `EEXIST` where the name is taken, `EINVAL`
    /// for options that do not go together.
    pub fn create(&mut self, name: &str, mac: Option<[u8; 6]>, make: &Make) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        message.attributes.push(LinkAttribute::IfAlias(OURS.into()));
        if let Make::Vlan { parent, .. } = make {
            message.attributes.push(LinkAttribute::Link(*parent));
        }
        message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        message.attributes.push(LinkAttribute::LinkInfo(make.info()));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.request(RouteNetlinkMessage::NewLink(message), flags, |_| {})?;
        // Not every kernel takes the alias of a link that it makes.
        let index = self.links()?.into_iter().find(|link| link.name == name && !link.ours).map(|l| l.index);
        match index {
            Some(index) => self.set_link(index, LinkAttribute::IfAlias(OURS.into())),
            None => Ok(()),
        }
    }

    /// Removes a link that was built.
    ///
    /// # Errors
    /// Those of the kernel; `EOPNOTSUPP` for a card.
    pub fn remove(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.request(RouteNetlinkMessage::DelLink(message), NLM_F_ACK, |_| {})
    }

    /// Makes a link a port of a bond or bridge, or of none (0).
    ///
    /// # Errors
    /// `EPERM` where it is up and the controller is a bond; those of the driver.
    pub fn set_controller(&mut self, index: u32, controller: u32) -> io::Result<()> {
        self.set_link(index, LinkAttribute::Controller(controller))
    }

    /// Sets which port a bond prefers.
    ///
    /// # Errors
    /// `EACCES` in a mode that prefers none.
    pub fn set_primary(&mut self, bond: u32, port: u32) -> io::Result<()> {
        let data = LinkInfo::Data(InfoData::Bond(vec![InfoBond::Primary(port)]));
        self.set_link(bond, LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bond), data]))
    }

    /// Sets a link's hardware address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` for one that is no host's, `EOPNOTSUPP` or `EBUSY` of drivers.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> io::Result<()> {
        self.set_link(index, LinkAttribute::Address(mac.to_vec()))
    }

    /// Sets a link down.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn set_down(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, |_| {})
    }

    pub(super) fn set_link(&mut self, index: u32, attribute: LinkAttribute) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        // RTM_NEWLINK and not RTM_SETLINK: only that takes what is said of a kind.
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_ACK, |_| {})
    }
}
