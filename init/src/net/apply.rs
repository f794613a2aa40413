//! A plan becomes the kernel's configuration.

use std::io;
use std::net::Ipv4Addr;

use super::plan::{Change, Plan};
use crate::sys::netlink::{Link, Netlink};

/// Takes a link from the plan that stands to the next. One step that fails is reported and the others
/// are taken: an address without its MTU is better than none. `mtu` is what the link had before any
/// plan.
pub fn apply(
    netlink: &mut Netlink,
    link: &Link,
    mtu: u32,
    from: &Plan,
    to: &Plan,
    mut say: impl FnMut(String),
) {
    for change in from.changes(to) {
        let result = match &change {
            Change::DropRule(rule) => gone(netlink.delete_rule(rule)),
            Change::DropRoute(route) => gone(netlink.delete_route(route)),
            Change::DropAddress(address) => gone(netlink.delete_address(address)),
            Change::Mtu(wanted) => set_mtu(netlink, link, wanted.unwrap_or(mtu)),
            Change::Mtu6(wanted) => set_mtu6(link, *wanted),
            Change::Address(address) => {
                if address.address.is_ipv6() {
                    use_at_once(link);
                }
                netlink.set_address(address, true)
            }
            Change::Renew(address) => netlink.set_address(address, false),
            Change::Route(route) => netlink.set_route(route),
            Change::Rule(rule) => netlink.set_rule(rule),
        };
        if let Err(error) = result {
            say(format!("{}: {change}: {error}", link.name));
        }
    }
}

fn set_mtu(netlink: &mut Netlink, link: &Link, mtu: u32) -> io::Result<()> {
    if mtu == link.mtu { Ok(()) } else { netlink.set_mtu(link.index, mtu) }
}

/// The kernel lets it be at most that of the link and follows the link's when that changes.
fn set_mtu6(link: &Link, mtu: Option<u32>) -> io::Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{}/mtu", link.name);
    std::fs::write(path, mtu.unwrap_or(link.mtu).min(link.mtu).to_string())
}

/// Optimistic duplicate address detection (RFC 4429): the address is used while the kernel asks whether
/// another host has it, which takes a second or two. Where the kernel has none of it, it waits.
fn use_at_once(link: &Link) {
    for switch in ["optimistic_dad", "use_optimistic"] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/{switch}", link.name), "1");
    }
}

/// The IPv4 addresses of a plan that those of another do not have: neighbours are told of them.
pub fn new_addresses<'a>(from: &'a Plan, to: &'a Plan) -> impl Iterator<Item = Ipv4Addr> + 'a {
    let old = |ip| from.addresses.iter().any(|a| a.address == ip);
    to.addresses.iter().map(|a| a.address).filter(move |ip| !old(*ip)).filter_map(|ip| match ip {
        std::net::IpAddr::V4(ip) => Some(ip),
        std::net::IpAddr::V6(_) => None,
    })
}

/// What is to be removed and is not there is as it should be: the kernel ends lifetimes by itself, and
/// removes routes with their address.
fn gone(result: io::Result<()>) -> io::Result<()> {
    const ENOENT: i32 = 2;
    const ESRCH: i32 = 3;
    const ENODEV: i32 = 19;
    const EADDRNOTAVAIL: i32 = 99;
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(ENOENT | ESRCH | ENODEV | EADDRNOTAVAIL)) => Ok(()),
        other => other,
    }
}
