//! How the network of a document that was read to its end is closed.

use rescue_schema::network::{Kind, Link, MAX_ENTRIES, Network, is_link_name};

use super::draft::{Draft, card};
use super::{Error, Result, Translation};

impl Draft {
    /// Closes it.
    pub(super) fn finish(mut self) -> Result {
        self.links.retain(|link| {
            !(link.kind == Kind::Ethernet && matches!(link.name.as_deref(), Some("lo" | "lo0")))
        });
        for link in &mut self.links {
            if link.kind != Kind::Ethernet {
                (link.name, link.path) = (None, None);
                link.mac = link.mac.or(link.set_mac.take());
            }
        }
        self.unite();
        self.complete()?;
        self.rename();
        self.ports();
        let network = Network { links: self.links, dns: self.dns };
        network.validate("network").map_err(|e| Error::new(e.field, e.reason))?;
        Ok(Translation { network, remarks: self.notes.0 })
    }

    /// Cards that are described twice, by one MAC address, are one.
    fn unite(&mut self) {
        let mut kept: Vec<Link> = Vec::new();
        let mut other_ids: Vec<(String, String)> = Vec::new();
        for link in std::mem::take(&mut self.links) {
            let same = |other: &&mut Link| {
                link.kind == Kind::Ethernet
                    && other.kind == Kind::Ethernet
                    && link.mac.is_some()
                    && other.mac == link.mac
            };
            match kept.iter_mut().find(same) {
                None => kept.push(link),
                Some(first) => {
                    self.notes.say(&link.id, format!("the same card as {}", first.id));
                    first.dhcp4 |= link.dhcp4;
                    first.dhcp6 |= link.dhcp6;
                    first.accept_ra = first.accept_ra.or(link.accept_ra);
                    first.mtu = first.mtu.or(link.mtu);
                    for one in link.addresses {
                        if !first.addresses.contains(&one) {
                            first.addresses.push(one);
                        }
                    }
                    for one in link.routes {
                        if !first.routes.contains(&one) {
                            first.routes.push(one);
                        }
                    }
                    first.rules.extend(link.rules);
                    other_ids.push((link.id, first.id.clone()));
                }
            }
        }
        for link in &mut kept {
            below_mut(&mut link.kind, |id| {
                if let Some((_, first)) = other_ids.iter().find(|(other, _)| other == id) {
                    id.clone_from(first);
                }
            });
        }
        self.links = kept;
    }

    /// What is referred to and not described is a card of that name.
    fn complete(&mut self) -> Result<()> {
        let mut missing: Vec<String> = Vec::new();
        for id in self.links.iter().flat_map(Link::below) {
            if !self.has(id) && !missing.contains(id) {
                missing.push(id.clone());
            }
        }
        self.links.splice(0..0, missing.iter().map(|id| card(id)));
        // Cards first, and what is built after what it is built upon: the order is that of preference.
        let depth: Vec<(String, usize)> =
            self.links.iter().map(|link| (link.id.clone(), self.depth(link, 0))).collect();
        let of = |id: &str| depth.iter().find(|(other, _)| other == id).map_or(0, |(_, depth)| *depth);
        self.links.sort_by_key(|link| of(&link.id));
        if self.links.len() > MAX_ENTRIES {
            return Err(Error::new("links", format!("{} of them; at most {MAX_ENTRIES}", self.links.len())));
        }
        Ok(())
    }

    fn depth(&self, link: &Link, level: usize) -> usize {
        // Deeper than this is a circle, which validation refuses.
        if level > 4 {
            return 0;
        }
        let below = link.below().iter().take(MAX_ENTRIES);
        let below = below.filter_map(|id| self.links.iter().find(|other| &other.id == id));
        below.map(|other| self.depth(other, level + 1) + 1).max().unwrap_or(0)
    }

    /// What is built needs a name that the kernel takes.
    fn rename(&mut self) {
        let mut names: Vec<String> = self.links.iter().map(|link| link.id.clone()).collect();
        let mut renamed: Vec<(String, String)> = Vec::new();
        for link in self.links.iter_mut().filter(|link| link.kind != Kind::Ethernet) {
            if is_link_name(&link.id) {
                continue;
            }
            let stem = match &link.kind {
                Kind::Bond(_) => "bond",
                Kind::Bridge(_) => "br",
                Kind::Vlan(_) => "vlan",
                Kind::Dummy | Kind::Ethernet => "dummy",
            };
            let wanted = match &link.kind {
                Kind::Vlan(vlan) => vec![format!("{}.{}", vlan.link, vlan.id), format!("vlan{}", vlan.id)],
                _ => Vec::new(),
            };
            let numbered = (0..=MAX_ENTRIES).map(|n| format!("{stem}{n}"));
            let free = |name: &String| is_link_name(name) && !names.contains(name);
            if let Some(name) = wanted.into_iter().chain(numbered).find(free) {
                self.notes.say(&link.id, format!("called {name} here"));
                renamed.push((std::mem::replace(&mut link.id, name.clone()), name.clone()));
                names.push(name);
            }
        }
        for link in &mut self.links {
            below_mut(&mut link.kind, |id| {
                if let Some((_, name)) = renamed.iter().find(|(old, _)| old == id) {
                    id.clone_from(name);
                }
            });
        }
    }

    /// A port has no addresses of its own.
    fn ports(&mut self) {
        let ports: Vec<String> = self
            .links
            .iter()
            .filter(|link| matches!(link.kind, Kind::Bond(_) | Kind::Bridge(_)))
            .flat_map(Link::below)
            .cloned()
            .collect();
        for link in &mut self.links {
            if let Kind::Bond(bond) = &mut link.kind
                && let Some(primary) = bond.primary.take_if(|primary| !bond.links.contains(primary))
            {
                self.notes.say(&link.id, format!("{primary} is preferred and none of its ports"));
            }
        }
        for link in self.links.iter_mut().filter(|link| ports.contains(&link.id)) {
            if !link.addresses.is_empty() || link.dhcp4 || link.dhcp6 {
                self.notes.say(&link.id, "a port has no addresses of its own");
            }
            (link.dhcp4, link.dhcp6, link.accept_ra) = (false, false, None);
            link.addresses.clear();
            link.routes.clear();
            link.rules.clear();
        }
    }
}

fn below_mut(kind: &mut Kind, mut change: impl FnMut(&mut String)) {
    match kind {
        Kind::Ethernet | Kind::Dummy => {}
        Kind::Bond(bond) => {
            bond.links.iter_mut().for_each(&mut change);
            bond.primary.iter_mut().for_each(change);
        }
        Kind::Vlan(vlan) => change(&mut vlan.link),
        Kind::Bridge(bridge) => bridge.links.iter_mut().for_each(change),
    }
}
