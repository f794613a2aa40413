//! Options of bonds, by the names that the kernel and the formats give them.

use rescue_schema::network::Bond;

use super::draft::Notes;
use super::text;

/// An option of a bond, by its name in the kernel or one of those that formats give it
/// (`Documentation/networking/bonding.rst`; times in milliseconds). Says whether it is known.
pub(super) fn option(bond: &mut Bond, notes: &mut Notes, at: &str, key: &str, value: &str) -> bool {
    use rescue_schema::network::{AdSelect, BondMode, FailOverMac, HashPolicy};
    let key = key.trim().to_ascii_lowercase().replace('_', "-");
    let key = key.strip_prefix("bond-").unwrap_or(&key);
    let value = value.trim();
    let lower = value.to_ascii_lowercase();
    let at = format!("{at}.{key}");
    let milliseconds = || text::number(lower.strip_suffix("ms").unwrap_or(&lower));
    macro_rules! set {
        ($field:expr, $read:expr) => {
            match $read {
                Some(known) => $field = known,
                None => notes.wrong(&at, value, "value of it that is known"),
            }
        };
    }
    match key {
        "mode" => set!(
            bond.mode,
            match lower.as_str() {
                "0" | "balance-rr" => Some(BondMode::BalanceRr),
                "1" | "active-backup" => Some(BondMode::ActiveBackup),
                "2" | "balance-xor" => Some(BondMode::BalanceXor),
                "3" | "broadcast" => Some(BondMode::Broadcast),
                "4" | "802.3ad" => Some(BondMode::Lacp),
                "5" | "balance-tlb" => Some(BondMode::BalanceTlb),
                "6" | "balance-alb" => Some(BondMode::BalanceAlb),
                _ => None,
            }
        ),
        "miimon" | "mii-monitor-interval" => set!(bond.miimon, milliseconds().map(Some)),
        "updelay" | "up-delay" => set!(bond.up_delay, milliseconds().map(Some)),
        "downdelay" | "down-delay" => set!(bond.down_delay, milliseconds().map(Some)),
        "lacp-rate" => set!(
            bond.lacp_fast,
            match lower.as_str() {
                "1" | "fast" => Some(Some(true)),
                "0" | "slow" => Some(Some(false)),
                _ => None,
            }
        ),
        "xmit-hash-policy" | "transmit-hash-policy" => set!(
            bond.xmit_hash_policy,
            match lower.as_str() {
                "0" | "layer2" => Some(Some(HashPolicy::Layer2)),
                "1" | "layer3+4" => Some(Some(HashPolicy::Layer34)),
                "2" | "layer2+3" => Some(Some(HashPolicy::Layer23)),
                "3" | "encap2+3" => Some(Some(HashPolicy::Encap23)),
                "4" | "encap3+4" => Some(Some(HashPolicy::Encap34)),
                "5" | "vlan+srcmac" => Some(Some(HashPolicy::VlanSrcMac)),
                _ => None,
            }
        ),
        "ad-select" => set!(
            bond.ad_select,
            match lower.as_str() {
                "0" | "stable" => Some(Some(AdSelect::Stable)),
                "1" | "bandwidth" => Some(Some(AdSelect::Bandwidth)),
                "2" | "count" => Some(Some(AdSelect::Count)),
                _ => None,
            }
        ),
        "min-links" => set!(bond.min_links, text::number(value).map(Some)),
        "primary" if value.is_empty() || lower == "none" => {}
        "primary" => bond.primary = Some(value.into()),
        "fail-over-mac" | "fail-over-mac-policy" => set!(
            bond.fail_over_mac,
            match lower.as_str() {
                "0" | "none" => Some(Some(FailOverMac::None)),
                "1" | "active" => Some(Some(FailOverMac::Active)),
                "2" | "follow" => Some(Some(FailOverMac::Follow)),
                _ => None,
            }
        ),
        "arp-interval" => set!(bond.arp_interval, milliseconds().map(Some)),
        "arp-ip-target" | "arp-ip-targets" => {
            for target in text::words(value) {
                match target.trim_start_matches('+').parse() {
                    Ok(target) if bond.arp_targets.len() < 16 => {
                        if !bond.arp_targets.contains(&target) {
                            bond.arp_targets.push(target);
                        }
                    }
                    _ => notes.wrong(&at, target, "IPv4 address to ask for"),
                }
            }
        }
        _ => return false,
    }
    true
}

/// Options of a bond in one text: `mode=802.3ad miimon=100`, separated by blanks or commas.
pub(super) fn options(bond: &mut Bond, notes: &mut Notes, at: &str, options: &str) {
    for word in options.split([' ', '\t', ',']).filter(|o| !o.is_empty()) {
        match word.split_once('=') {
            Some((key, value)) if option(bond, notes, at, key, value) => {}
            // A further target of arp_ip_target=A,B.
            None if text::ip(word).is_some() => {
                option(bond, notes, at, "arp_ip_target", word);
            }
            _ => notes.say(at, format!("{:?} is not used", text::shown(word, 40))),
        }
    }
}
