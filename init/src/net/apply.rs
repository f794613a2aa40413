//! A plan becomes the kernel's configuration.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::plan::{Change, Plan};
use crate::sys::netlink::{Link, Netlink};

/// Takes a link from the plan that stands to the next. One step that fails is reported and the others
/// are taken: an address without its MTU is better than none. Returns the IPv4 addresses that are new, for neighbours.
pub fn apply(
    netlink: &mut Netlink,
    link: &Link,
    from: &Plan,
    to: &Plan,
    mut say: impl FnMut(String),
) -> Vec<Ipv4Addr> {
    let mut new = Vec::new();
    for change in from.changes(to) {
        let result = match &change {
            Change::DropRoute(route) => gone(netlink.delete_route(route)),
            Change::DropAddress(address) => gone(netlink.delete_address(address)),
            Change::Mtu(mtu) if *mtu == link.mtu => Ok(()),
            Change::Mtu(mtu) => netlink.set_mtu(link.index, *mtu),
            Change::Address(address) => netlink.set_address(address),
            Change::Route(route) => netlink.set_route(route),
        };
        if let Err(error) = result {
            say(format!("{}: {change}: {error}", link.name));
        }
        if let Change::Address(address) = &change
            && let IpAddr::V4(ip) = address.address
            && !from.addresses.iter().any(|old| old.address == address.address)
        {
            new.push(ip);
        }
    }
    new
}

/// What is to be removed and is not there is as it should be: the kernel ends lifetimes by itself, and
/// removes routes with their address.
fn gone(result: io::Result<()>) -> io::Result<()> {
    const ESRCH: i32 = 3;
    const ENODEV: i32 = 19;
    const EADDRNOTAVAIL: i32 = 99;
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(ESRCH | ENODEV | EADDRNOTAVAIL)) => Ok(()),
        other => other,
    }
}
