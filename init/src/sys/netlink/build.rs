//! Links that are built upon others: bonds, VLANs, bridges.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BondAdSelect, BondFailOverMac, BondLacpRate, BondMode, BondXmitHashPolicy, BridgeStpState, InfoBond,
    InfoBridge, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VlanProtocol,
};
use rescue_schema::network::{self, AdSelect, Bond, FailOverMac, HashPolicy};

use super::Netlink;

/// IFLA_IFALIAS of the links that this program builds, to know them again.
pub(super) const OURS: &str = "rescue";
/// How often a bond looks at the carrier where nothing is said, in milliseconds: with the kernel's own
/// 0 it never would, and a cut cable would stay in use.
const MIIMON: u32 = 100;

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

/// What is said of a bond. The kernel takes the carrier monitor and the ARP monitor, but not both.
fn options(bond: &Bond) -> Vec<InfoBond> {
    let arp = bond.arp_interval.is_some_and(|interval| interval > 0);
    let miimon = bond.miimon.or((!arp).then_some(MIIMON)).filter(|ms| !arp || *ms > 0);
    let mut all = vec![InfoBond::Mode(BondMode::from(mode(bond.mode)))];
    all.extend(miimon.map(InfoBond::MiiMon));
    all.extend(bond.up_delay.map(InfoBond::UpDelay));
    all.extend(bond.down_delay.map(InfoBond::DownDelay));
    all.extend(bond.lacp_fast.map(|fast| InfoBond::AdLacpRate(BondLacpRate::from(u8::from(fast)))));
    all.extend(bond.xmit_hash_policy.map(|policy| {
        InfoBond::XmitHashPolicy(BondXmitHashPolicy::from(match policy {
            HashPolicy::Layer2 => 0,
            HashPolicy::Layer34 => 1,
            HashPolicy::Layer23 => 2,
            HashPolicy::Encap23 => 3,
            HashPolicy::Encap34 => 4,
            HashPolicy::VlanSrcMac => 5,
        }))
    }));
    all.extend(bond.ad_select.map(|select| {
        InfoBond::AdSelect(BondAdSelect::from(match select {
            AdSelect::Stable => 0,
            AdSelect::Bandwidth => 1,
            AdSelect::Count => 2,
        }))
    }));
    all.extend(bond.min_links.map(InfoBond::MinLinks));
    all.extend(bond.fail_over_mac.map(|whose| {
        InfoBond::FailOverMac(BondFailOverMac::from(match whose {
            FailOverMac::None => 0,
            FailOverMac::Active => 1,
            FailOverMac::Follow => 2,
        }))
    }));
    if arp {
        all.extend(bond.arp_interval.map(InfoBond::ArpInterval));
        all.push(InfoBond::ArpIpTarget(bond.arp_targets.clone()));
    }
    all
}

/// The kernel's number of a mode.
#[must_use]
pub fn mode(mode: network::BondMode) -> u8 {
    match mode {
        network::BondMode::BalanceRr => 0,
        network::BondMode::ActiveBackup => 1,
        network::BondMode::BalanceXor => 2,
        network::BondMode::Broadcast => 3,
        network::BondMode::Lacp => 4,
        network::BondMode::BalanceTlb => 5,
        network::BondMode::BalanceAlb => 6,
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

    fn set_link(&mut self, index: u32, attribute: LinkAttribute) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        // RTM_NEWLINK and not RTM_SETLINK: only that takes what is said of a kind.
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_ACK, |_| {})
    }
}
