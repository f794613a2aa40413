//! Device nodes whose first opening loads their driver, as kmod-static-nodes(8) makes them.
//!
//! A module may name a node and its number among its aliases (`devname:loop-control` beside
//! `char-major-10-237`): devtmpfs has the node only once the module is there, and a program that opens it
//! (losetup, mount.btrfs, fuse) expects the kernel to load the module because of that.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::Tables;
use crate::sys::files;

/// One node that is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node<'a> {
    /// Below `/dev`.
    pub(super) name: &'a str,
    /// Whether it is a block device.
    pub(super) block: bool,
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.block { "b" } else { "c" };
        write!(f, "/dev/{} {kind} {} {}", self.name, self.major, self.minor)
    }
}

/// The nodes that the modules of the image name.
pub(super) fn plan<'a>(tables: &'a Tables) -> Vec<Node<'a>> {
    #[derive(Default)]
    struct Named<'a> {
        name: Option<&'a str>,
        number: Option<(bool, u32, u32)>,
    }
    let mut modules: BTreeMap<&str, Named<'_>> = BTreeMap::new();
    for (pattern, module) in tables.patterns() {
        if let Some(name) = pattern.strip_prefix("devname:") {
            modules.entry(module).or_default().name = Some(name);
        } else if let Some(number) = number(pattern) {
            modules.entry(module).or_default().number = Some(number);
        }
    }
    // Nothing that leaves the folder.
    let sound = |name: &&str| name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let node = |module: Named<'a>| {
        let (block, major, minor) = module.number?;
        Some(Node { name: module.name.filter(sound)?, block, major, minor })
    };
    modules.into_values().filter_map(node).collect()
}

/// `char-major-10-237`; one with a wildcard names no single device.
fn number(pattern: &str) -> Option<(bool, u32, u32)> {
    let (block, rest) = match pattern.strip_prefix("block-major-") {
        Some(rest) => (true, rest),
        None => (false, pattern.strip_prefix("char-major-")?),
    };
    let (major, minor) = rest.split_once('-')?;
    Some((block, major.parse().ok()?, minor.parse().ok()?))
}

/// Makes those that are not there, for root alone.
///
/// # Errors
/// The node that cannot be made, and why.
pub(super) fn apply(nodes: &[Node<'_>], dev: &Path) -> io::Result<()> {
    for node in nodes {
        let path = dev.join(node.name);
        let made = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| files::make_node(&path, node.block, node.major, node.minor));
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(io::Error::new(error.kind(), format!("making {node}: {error}")));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_names_a_node_and_its_number_gets_one() {
        let aliases = "alias char-major-10-237 loop\nalias block-major-7-* loop\nalias devname:loop-control loop\n\
             alias devname:net/tun tun\nalias char-major-10-200 tun\nalias devname:../evil evil\n\
             alias char-major-1-1 evil\nalias devname:half half\nalias char-major-x-1 half\n";
        let tables = Tables::new("", aliases.into(), "", "");
        let lines: Vec<String> = plan(&tables).iter().map(Node::to_string).collect();
        assert_eq!(lines, ["/dev/loop-control c 10 237", "/dev/net/tun c 10 200"]);
    }

    #[test]
    fn what_is_there_stays() {
        let dev = tempfile::tempdir().unwrap();
        std::fs::write(dev.path().join("there"), "x").unwrap();
        let node = Node { name: "there", block: false, major: 1, minor: 3 };
        apply(&[node], dev.path()).unwrap();
        assert_eq!(std::fs::read(dev.path().join("there")).unwrap(), b"x");
    }
}
