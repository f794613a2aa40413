//! What the types of the vocabulary cannot say.

use super::{Kind, Link, MAX_ENTRIES, Network, Prefix};
use crate::check::{DocumentError, fail, is_host_name};

/// Longest kernel name of a link (`IFNAMSIZ` without its NUL).
const MAX_NAME: usize = 15;

impl Network {
    /// Checks the section of `device.json`; `at` is its path for messages.
    pub(crate) fn validate_own(&self, at: &str) -> Result<(), DocumentError> {
        for (i, link) in self.links.iter().enumerate() {
            let at = format!("{at}.links[{i}]");
            if link.name.is_some() {
                return fail(
                    format!("{at}.name"),
                    "a card is matched by mac or path, never by a name".into(),
                );
            }
            if link.kind == Kind::Ethernet && link.mac.is_none() && link.path.is_none() {
                return fail(format!("{at}.mac"), "missing: a card is matched by mac or path".into());
            }
        }
        self.validate(at)
    }

    /// Checks what the types alone cannot, for our own document and for what was translated into it.
    /// `at` is the path of this section for messages.
    ///
    /// # Errors
    /// The first field that is wrong, and why.
    pub fn validate(&self, at: &str) -> Result<(), DocumentError> {
        too_many(self.links.len(), format!("{at}.links"))?;
        too_many(self.dns.servers.len(), format!("{at}.dns.servers"))?;
        too_many(self.dns.search.len(), format!("{at}.dns.search"))?;
        for (i, domain) in self.dns.search.iter().enumerate() {
            if !is_host_name(domain) {
                return fail(format!("{at}.dns.search[{i}]"), "not a domain name".into());
            }
        }
        for (i, link) in self.links.iter().enumerate() {
            let earlier = self.links.get(..i).unwrap_or_default();
            self.link(link, earlier, &format!("{at}.links[{i}]"))?;
        }
        self.cycles(at)
    }

    fn link(&self, link: &Link, earlier: &[Link], at: &str) -> Result<(), DocumentError> {
        too_many(link.addresses.len(), format!("{at}.addresses"))?;
        too_many(link.routes.len(), format!("{at}.routes"))?;
        too_many(link.rules.len(), format!("{at}.rules"))?;
        too_many(link.below().len(), format!("{at}.type.links"))?;
        if link.mtu.is_some_and(|mtu| !(68..=65535).contains(&mtu)) {
            return fail(format!("{at}.mtu"), "68 to 65535 bytes".into());
        }
        let is_card = link.kind == Kind::Ethernet;
        let twice = earlier.iter().any(|o| o.kind == Kind::Ethernet && o.mac.is_some() && o.mac == link.mac);
        if let Some(mac) = link.mac.filter(|_| is_card && twice) {
            return fail(format!("{at}.mac"), format!("{mac} is named twice"));
        }
        if !link.id.is_empty() && earlier.iter().any(|other| other.id == link.id) {
            return fail(format!("{at}.id"), format!("{:?} is named twice", link.id));
        }
        if !is_card && !is_link_name(&link.id) {
            let why = format!("a bond, VLAN or bridge needs one of 1 to {MAX_NAME} letters, digits, . _ -");
            return fail(format!("{at}.id"), why);
        }
        for id in link.below() {
            if !self.links.iter().any(|other| &other.id == id) {
                return fail(format!("{at}.type"), format!("there is no link {id:?}"));
            }
        }
        match &link.kind {
            Kind::Bond(bond) if bond.links.is_empty() => {
                return fail(format!("{at}.type.bond.links"), "a bond needs a port".into());
            }
            Kind::Bond(bond) if bond.arp_targets.len() > 16 => {
                return fail(format!("{at}.type.bond.arp_targets"), "at most 16".into());
            }
            Kind::Vlan(vlan) if vlan.id > 4094 => {
                return fail(format!("{at}.type.vlan.id"), "0 to 4094".into());
            }
            _ => {}
        }
        let mixed = |to: &Prefix, other: std::net::IpAddr| other.is_ipv4() != to.address.is_ipv4();
        for (j, route) in link.routes.iter().enumerate() {
            if route.via.is_some_and(|via| mixed(&route.to, via)) {
                return fail(format!("{at}.routes[{j}].via"), "not of the family of `to`".into());
            }
            if route.source.is_some_and(|source| mixed(&route.to, source)) {
                return fail(format!("{at}.routes[{j}].source"), "not of the family of `to`".into());
            }
        }
        for (j, rule) in link.rules.iter().enumerate() {
            match (&rule.from, &rule.to) {
                (None, None) => return fail(format!("{at}.rules[{j}]"), "needs `from` or `to`".into()),
                (Some(from), Some(to)) if mixed(from, to.address) => {
                    return fail(format!("{at}.rules[{j}].to"), "not of the family of `from`".into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A link that is built upon itself, or is a port twice, can never come up.
    fn cycles(&self, at: &str) -> Result<(), DocumentError> {
        for (i, link) in self.links.iter().enumerate() {
            let mut next: Vec<&str> = link.below().iter().map(String::as_str).collect();
            let mut steps = 0;
            while let Some(id) = next.pop() {
                steps += 1;
                if (id == link.id && !id.is_empty()) || steps > MAX_ENTRIES * MAX_ENTRIES {
                    return fail(format!("{at}.links[{i}].type"), format!("{id:?} is built upon itself"));
                }
                let below = self.links.iter().filter(|other| other.id == id);
                next.extend(below.flat_map(|other| other.below()).map(String::as_str));
            }
        }
        let mut ports: Vec<&str> = Vec::new();
        for (i, link) in self.links.iter().enumerate() {
            if matches!(link.kind, Kind::Vlan(_)) {
                continue;
            }
            for id in link.below() {
                if ports.contains(&id.as_str()) {
                    return fail(format!("{at}.links[{i}].type"), format!("{id:?} is a port twice"));
                }
                ports.push(id);
            }
        }
        Ok(())
    }
}

/// Whether the kernel takes it as a name of a link.
#[must_use]
pub fn is_link_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(fits)
}

fn too_many(n: usize, field: String) -> Result<(), DocumentError> {
    match n {
        0..=MAX_ENTRIES => Ok(()),
        _ => fail(field, format!("{n} entries; at most {MAX_ENTRIES}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Network;

    fn check(json: &str) -> Result<(), String> {
        let network: Network = serde_json::from_str(json).map_err(|e| e.to_string())?;
        network.validate_own("network").map_err(|e| e.to_string())
    }

    #[test]
    fn a_vlan_on_a_bond_of_two_cards() {
        let json = r#"{"links":[
            {"id":"a","mac":"02:00:00:00:00:01"},{"id":"b","path":"0000:01:00.1"},
            {"id":"bond0","type":{"bond":{"links":["a","b"],"mode":"802.3ad","lacp_fast":true,"xmit_hash_policy":"layer3+4"}}},
            {"id":"bond0.7","type":{"vlan":{"link":"bond0","id":7}},"addresses":["192.0.2.7/24"],
             "routes":[{"to":"0.0.0.0/0","via":"192.0.2.1"}],"rules":[{"from":"192.0.2.0/24","table":7}]},
            {"id":"br0","type":{"bridge":{"links":["bond0.7"]}}}]}"#;
        check(json).unwrap();
        let network: Network = serde_json::from_str(json).unwrap();
        let again = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Network>(&again).unwrap(), network);
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        for (json, why) in [
            (r#"{"links":[{"id":"a","name":"eth0"}]}"#, "never by a name"),
            (r#"{"links":[{"id":"a"}]}"#, "matched by mac or path"),
            (r#"{"links":[{"id":"v","type":{"vlan":{"link":"v","id":1}}}]}"#, "built upon itself"),
            (
                r#"{"links":[{"id":"v","type":{"vlan":{"link":"w","id":1}}},{"id":"w","type":{"vlan":{"link":"v","id":2}}}]}"#,
                "built upon itself",
            ),
            (r#"{"links":[{"id":"v","type":{"vlan":{"link":"x","id":1}}}]}"#, "no link"),
            (r#"{"links":[{"id":"b","type":{"bond":{"links":[]}}}]}"#, "needs a port"),
            (r#"{"links":[{"id":"no name","type":"dummy"}]}"#, "needs one of"),
            (
                r#"{"links":[{"id":"a","mac":"02:00:00:00:00:01"},{"id":"b","type":{"bridge":{"links":["a"]}}},{"id":"c","type":{"bridge":{"links":["a"]}}}]}"#,
                "port twice",
            ),
            (
                r#"{"links":[{"id":"a","mac":"02:00:00:00:00:01"},{"id":"v","type":{"vlan":{"link":"a","id":4095}}}]}"#,
                "0 to 4094",
            ),
            (r#"{"links":[{"id":"a","mac":"02:00:00:00:00:01","rules":[{"table":7}]}]}"#, "needs `from`"),
            (r#"{"links":[{"id":"a","mac":"02:00:00:00:00:01","frobnicate":1}]}"#, "unknown field"),
        ] {
            let said = check(json).expect_err(json);
            assert!(said.contains(why), "{json}: {said}");
        }
    }
}
