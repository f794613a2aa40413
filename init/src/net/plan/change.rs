//! The steps from one plan to another.

use super::Plan;
use crate::sys::netlink::{Address, MAIN_TABLE, Route, Rule};

/// One step from a plan to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Remove a rule.
    DropRule(Rule),
    /// Remove a route.
    DropRoute(Route),
    /// Remove an address.
    DropAddress(Address),
    /// Set the MTU; none sets back what it was before.
    Mtu(Option<u32>),
    /// Set the MTU of IPv6; none sets back that of the link.
    Mtu6(Option<u32>),
    /// Add an address.
    Address(Address),
    /// Renew an address that is there.
    Renew(Address),
    /// Add a route or replace it.
    Route(Route),
    /// Add a rule.
    Rule(Rule),
}

impl Plan {
    /// The steps from `self`, which stands, to `next`. What goes, goes first. An IPv4 address that is
    /// removed takes the others of its subnet and the routes that name it along, so they are set again;
    /// else what stands and is still wanted is left alone.
    #[must_use]
    pub fn changes(&self, next: &Self) -> Vec<Change> {
        let stays = |old: &Address| next.addresses.iter().any(|new| same(new, old));
        let gone: Vec<&Address> = self.addresses.iter().filter(|old| !stays(old)).collect();
        let shaken = |v4: bool| gone.iter().any(|old| old.address.is_ipv4() == v4);
        let mut changes: Vec<Change> = Vec::new();
        let rules = self.rules.iter().filter(|old| !next.rules.contains(old));
        changes.extend(rules.cloned().map(Change::DropRule));
        let routes = self.routes.iter().filter(|old| !next.routes.contains(old));
        changes.extend(routes.cloned().map(Change::DropRoute));
        changes.extend(gone.iter().map(|old| Change::DropAddress((*old).clone())));
        if self.mtu != next.mtu {
            changes.push(Change::Mtu(next.mtu));
        }
        if self.mtu6 != next.mtu6 || (self.mtu != next.mtu && next.mtu6.is_some()) {
            changes.push(Change::Mtu6(next.mtu6));
        }
        for new in &next.addresses {
            match self.addresses.iter().find(|old| same(new, old)) {
                None => changes.push(Change::Address(new.clone())),
                Some(old) if old != new => changes.push(Change::Renew(new.clone())),
                Some(_) if new.address.is_ipv4() && shaken(true) => changes.push(Change::Renew(new.clone())),
                Some(_) => {}
            }
        }
        for new in &next.routes {
            if !self.routes.contains(new) || shaken(new.to.0.is_ipv4()) {
                changes.push(Change::Route(new.clone()));
            }
        }
        let rules = next.rules.iter().filter(|new| !self.rules.contains(new));
        changes.extend(rules.cloned().map(Change::Rule));
        changes
    }
}

fn same(a: &Address, b: &Address) -> bool {
    (a.address, a.length) == (b.address, b.length)
}

/// A route as it is said.
pub(super) struct Shown<'a>(pub(super) &'a Route);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Route { to, via, onlink, metric, source, table, origin, .. } = self.0;
        match to {
            (_, 0) => f.write_str("default")?,
            (to, length) => write!(f, "{to}/{length}")?,
        }
        if let Some(via) = via {
            write!(f, " via {via}{}", if *onlink { " on link" } else { "" })?;
        }
        if let Some(source) = source.filter(|_| *origin == crate::sys::netlink::Origin::Static) {
            write!(f, " from {source}")?;
        }
        // Those that we number ourselves say nothing to anyone.
        if !(super::METRIC..super::METRIC + 1000).contains(metric) {
            write!(f, " metric {metric}")?;
        }
        if *table != MAIN_TABLE {
            write!(f, " table {table}")?;
        }
        Ok(())
    }
}

/// A rule as it is said.
pub(super) struct ShownRule<'a>(pub(super) &'a Rule);

impl std::fmt::Display for ShownRule<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("rule")?;
        for (word, prefix) in [("from", self.0.from), ("to", self.0.to)] {
            if let Some((address, length)) = prefix {
                write!(f, " {word} {address}/{length}")?;
            }
        }
        write!(f, " table {} priority {}", self.0.table, self.0.priority)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mtu(Some(mtu)) => write!(f, "setting the MTU to {mtu}"),
            Self::Mtu(None) => f.write_str("setting back the MTU"),
            Self::Mtu6(Some(mtu)) => write!(f, "setting the MTU of IPv6 to {mtu}"),
            Self::Mtu6(None) => f.write_str("setting back the MTU of IPv6"),
            Self::DropAddress(a) => write!(f, "removing address {}/{}", a.address, a.length),
            Self::Address(a) => write!(f, "setting address {}/{}", a.address, a.length),
            Self::Renew(a) => write!(f, "renewing address {}/{}", a.address, a.length),
            Self::DropRoute(r) => write!(f, "removing the route {}", Shown(r)),
            Self::Route(r) => write!(f, "setting the route {}", Shown(r)),
            Self::DropRule(r) => write!(f, "removing the {}", ShownRule(r)),
            Self::Rule(r) => write!(f, "setting the {}", ShownRule(r)),
        }
    }
}
