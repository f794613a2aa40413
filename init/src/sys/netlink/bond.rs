//! Options of bonds (`Documentation/networking/bonding.rst`), as they are wished and as the kernel has them.

use std::io;
use std::net::Ipv4Addr;

use netlink_packet_route::link::{
    BondAdSelect, BondFailOverMac, BondLacpRate, BondMode, BondXmitHashPolicy, InfoBond, InfoData, InfoKind,
    LinkAttribute, LinkInfo,
};
use rescue_schema::network::{self, AdSelect, Bond, FailOverMac, HashPolicy};

use super::Netlink;

/// How often a bond looks at the carrier where nothing is said, in milliseconds: with the kernel's own
/// 0 it never would, and a cut cable would stay in use.
const MIIMON: u32 = 100;

/// An option of a bond.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BondOption {
    /// Its name in the kernel.
    pub name: &'static str,
    /// Its value by the kernel's number; several where they are addresses.
    pub values: Vec<u32>,
}

impl std::fmt::Display for BondOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        let is_address = self.name == "arp_ip_target";
        self.values.iter().try_for_each(|value| match is_address {
            true => write!(f, " {}", Ipv4Addr::from(*value)),
            false => write!(f, " {value}"),
        })
    }
}

impl BondOption {
    /// Whether the kernel changes it only while the bond is down (`BOND_OPTFLAG_IFDOWN` in
    /// `drivers/net/bonding/bond_options.c`).
    #[must_use]
    pub fn wants_down(&self) -> bool {
        matches!(self.name, "lacp_rate" | "ad_select")
    }

    /// Whether the kernel changes it only while the bond has no ports (`BOND_OPTFLAG_NOSLAVES`).
    #[must_use]
    pub fn wants_no_ports(&self) -> bool {
        self.name == "fail_over_mac"
    }
}

/// What is said of a bond and is otherwise in `now`. What the kernel does not tell counts as said, and its
/// mode and its preferred port are not among them.
#[must_use]
pub fn bond_lacks(bond: &Bond, now: &[BondOption]) -> Vec<BondOption> {
    let mut wanted: Vec<BondOption> = options(bond).iter().filter_map(option).collect();
    let is_lacp = bond.mode == network::BondMode::Lacp;
    wanted.retain(|wanted| is_lacp || !matches!(wanted.name, "lacp_rate" | "ad_select"));
    // Delays are counted in looks at the carrier.
    let look = wanted.iter().find(|o| o.name == "miimon").and_then(|o| o.values.first().copied());
    for delay in wanted.iter_mut().filter(|o| matches!(o.name, "updelay" | "downdelay")) {
        delay.values.iter_mut().for_each(|ms| *ms -= ms.checked_rem(look.unwrap_or(0)).unwrap_or(0));
    }
    wanted.retain(|wanted| {
        let mut values = now.iter().find(|o| o.name == wanted.name).map(|o| o.values.clone());
        if wanted.name == "arp_ip_target" {
            let all = values.get_or_insert_default();
            all.sort_unstable();
        }
        let mut own = wanted.values.clone();
        own.sort_unstable();
        values.is_some_and(|values| values != own)
    });
    wanted
}

/// An option as the kernel tells it.
pub(super) fn option(info: &InfoBond) -> Option<BondOption> {
    let (name, value) = match info {
        InfoBond::MiiMon(ms) => ("miimon", *ms),
        InfoBond::UpDelay(ms) => ("updelay", *ms),
        InfoBond::DownDelay(ms) => ("downdelay", *ms),
        InfoBond::AdLacpRate(rate) => ("lacp_rate", u8::from(*rate).into()),
        InfoBond::XmitHashPolicy(policy) => ("xmit_hash_policy", u8::from(*policy).into()),
        InfoBond::AdSelect(select) => ("ad_select", u8::from(*select).into()),
        InfoBond::MinLinks(count) => ("min_links", *count),
        InfoBond::FailOverMac(whose) => ("fail_over_mac", u8::from(*whose).into()),
        InfoBond::ArpInterval(ms) => ("arp_interval", *ms),
        InfoBond::ArpIpTarget(targets) => {
            let values = targets.iter().map(|target| u32::from(*target)).collect();
            return Some(BondOption { name: "arp_ip_target", values });
        }
        _ => return None,
    };
    Some(BondOption { name, values: vec![value] })
}

/// What is said of a bond. The kernel takes the carrier monitor and the ARP monitor, but not both.
pub(super) fn options(bond: &Bond) -> Vec<InfoBond> {
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
    /// Sets those options of a bond that are named, as `bond` says.
    ///
    /// # Errors
    /// `ENOTEMPTY` and `EPERM` for what is changed only without ports, or while it is down.
    pub fn set_bond(&mut self, index: u32, bond: &Bond, names: &[&str]) -> io::Result<()> {
        let named = |info: &InfoBond| option(info).is_some_and(|option| names.contains(&option.name));
        let data = options(bond).into_iter().filter(named).collect();
        let data = LinkInfo::Data(InfoData::Bond(data));
        self.set_link(index, LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bond), data]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_and_differs_is_lacking() {
        let bond = |json: &str| serde_json::from_str::<Bond>(json).unwrap();
        let says = |bond: &Bond, now: &[BondOption]| -> Vec<String> {
            bond_lacks(bond, now).iter().map(ToString::to_string).collect()
        };
        let is = |name, value| BondOption { name, values: vec![value] };
        let now = [
            is("miimon", 100),
            is("lacp_rate", 0),
            is("updelay", 200),
            is("min_links", 3),
            is("arp_interval", 0),
        ];
        let lacp = bond(r#"{"links":["a"],"mode":"802.3ad","lacp_fast":true,"up_delay":250}"#);
        assert_eq!(says(&lacp, &now), ["lacp_rate 1"], "a delay is rounded as the kernel does");
        assert!(bond_lacks(&lacp, &now).iter().all(BondOption::wants_down));
        assert_eq!(says(&lacp, &[is("miimon", 0), is("lacp_rate", 1)]), ["miimon 100"]);
        assert_eq!(says(&bond(r#"{"links":["a"],"mode":"active-backup","lacp_fast":true}"#), &now), [""; 0]);
        let arp = bond(
            r#"{"links":["a"],"mode":"active-backup","arp_interval":200,"arp_targets":["10.9.0.3","10.9.0.1"]}"#,
        );
        assert_eq!(says(&arp, &now), ["arp_interval 200", "arp_ip_target 10.9.0.3 10.9.0.1"]);
        let targets = BondOption { name: "arp_ip_target", values: vec![0x0a09_0001, 0x0a09_0003] };
        assert_eq!(says(&arp, &[is("arp_interval", 200), targets]), [""; 0]);
        let active = bond(r#"{"links":["a"],"mode":"active-backup","fail_over_mac":"active"}"#);
        assert!(bond_lacks(&active, &[is("fail_over_mac", 0)]).iter().any(BondOption::wants_no_ports));
    }
}
