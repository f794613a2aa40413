//! Which modules are loaded for what is wanted, in which order.

use std::collections::HashSet;

use super::tables::{Tables, normal};

/// Modules in the order of loading: each stands behind all that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Names.
    pub modules: Vec<String>,
    /// What was wanted or needed and is left out, with the reason.
    pub left_out: Vec<(String, &'static str)>,
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "load {}", self.modules.join(" "))?;
        self.left_out.iter().try_for_each(|(name, why)| write!(f, ", not {name} ({why})"))
    }
}

/// Makes the plan. `blacklist` keeps a module from being loaded for a device's sake, and what needs it
/// with it; `loaded` says what the kernel has already.
pub(super) fn plan(
    tables: &Tables,
    wanted: &[String],
    loaded: &dyn Fn(&str) -> bool,
    blacklist: &HashSet<String>,
) -> Plan {
    let mut planner = Planner { tables, loaded, blacklist, plan: Plan::default(), seen: HashSet::new() };
    for name in wanted {
        planner.add(&normal(name));
    }
    planner.plan
}

struct Planner<'a> {
    tables: &'a Tables,
    loaded: &'a dyn Fn(&str) -> bool,
    blacklist: &'a HashSet<String>,
    plan: Plan,
    /// What has been looked at, so that a loop of dependencies ends.
    seen: HashSet<String>,
}

impl Planner<'_> {
    /// Adds a module behind what it needs. The depth is bounded by `seen`, and by the dependencies that
    /// depmod has already made flat: only softdeps recurse.
    fn add(&mut self, name: &str) {
        if !self.seen.insert(name.to_string()) || (self.loaded)(name) {
            return;
        }
        if self.blacklist.contains(name) {
            return self.plan.left_out.push((name.into(), "blacklisted"));
        }
        let Some(module) = self.tables.module(name) else {
            if !self.tables.is_builtin(name) {
                self.plan.left_out.push((name.into(), "not in this image"));
            }
            return;
        };
        if module.needs.iter().any(|need| self.blacklist.contains(need)) {
            return self.plan.left_out.push((name.into(), "needs a blacklisted module"));
        }
        module.pre.iter().for_each(|soft| self.add(soft));
        // depmod lists what a module needs with the most basic last.
        module.needs.iter().rev().for_each(|need| self.add(need));
        self.plan.modules.push(name.to_string());
        module.post.iter().for_each(|soft| self.add(soft));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Tables {
        Tables::new(
            "virtio_net.ko: net_failover.ko failover.ko virtio.ko virtio_ring.ko\nnet_failover.ko: failover.ko\n\
             failover.ko:\nvirtio.ko: virtio_ring.ko\nvirtio_ring.ko:\nfs.ko:\ncrc.ko:\na.ko:\nb.ko:\n",
            String::new(),
            "softdep fs pre: crc missing post: a\nsoftdep a pre: b\nsoftdep b pre: a\n",
            "kernel/built.ko\n",
        )
    }

    fn lines(wanted: &[&str], loaded: &[&str], blacklist: &[&str]) -> String {
        let wanted: Vec<String> = wanted.iter().map(|w| w.to_string()).collect();
        let blacklist = blacklist.iter().map(|b| b.to_string()).collect();
        plan(&tables(), &wanted, &|name| loaded.contains(&name), &blacklist).to_string()
    }

    #[test]
    fn what_is_needed_comes_first() {
        assert_eq!(
            lines(&["virtio-net"], &[], &[]),
            "load virtio_ring virtio failover net_failover virtio_net"
        );
        assert_eq!(
            lines(&["virtio_net"], &["virtio", "virtio_ring"], &[]),
            "load failover net_failover virtio_net"
        );
    }

    #[test]
    fn softdeps_go_around_it_and_loops_end() {
        assert_eq!(lines(&["fs"], &[], &[]), "load crc fs b a, not missing (not in this image)");
        assert_eq!(lines(&["built"], &[], &[]), "load ");
    }

    #[test]
    fn the_blacklist_takes_what_needs_it_along() {
        assert_eq!(
            lines(&["virtio_net"], &[], &["failover"]),
            "load , not virtio_net (needs a blacklisted module)"
        );
        assert_eq!(
            lines(&["crc", "fs"], &[], &["crc"]),
            "load fs b a, not crc (blacklisted), not missing (not in this image)"
        );
    }
}
