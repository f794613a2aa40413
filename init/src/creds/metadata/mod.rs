//! Metadata services: an address at which a cloud describes its machines. Asked in parallel, over the link
//! that has an address, and only where something says that one is there.
//!
//! [`hints`] reads what says so: the firmware, a route that DHCP gave, the kernel command line. Each kind of
//! service is a [`Dialect`], a row in [`DIALECTS`]: how it is known, where it is, and a pure function from its
//! answers so far to the next question or to a [`Part`](super::part::Part) ([`talk`]). [`ask::run`] carries the
//! questions there and back, within limits of time and size, by [`http`].
//!
//! What is trusted is the address: one that no router carries any further, or one that whoever starts the machine has
//! named, be it by the name of its service. Nothing redirects elsewhere, and no name is looked up. Of several that answer, the first in the
//! table decides, also where what it says is refused: who answers nonsense lets nobody below it open a door.
//!
//! To add one: `metadata/<name>.rs` with a `DIALECT`, its row, and `translate/<name>.rs` with its document.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub mod ask;
mod azure;
mod digitalocean;
mod ec2;
mod equinix;
mod gce;
mod hetzner;
pub mod hints;
mod nocloud;
mod openstack;
mod oracle;
mod scaleway;
pub mod talk;

use hints::Mark;
use talk::Step;

/// A kind of metadata service.
pub struct Dialect {
    /// What `rescue.metadata=` calls it.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Any of these in the firmware tells of it.
    pub marks: &'static [Mark],
    /// It may be on any machine whose DHCP server gives a route to [`WELL_KNOWN`].
    pub by_route: bool,
    /// Where it is, the preferred address first; port 80.
    pub addresses: &'static [IpAddr],
    /// What it wants to be called in `Host:`, where not by its address.
    pub host: Option<&'static str>,
    /// What is asked, and what becomes of the answers.
    pub step: Step,
}

/// Where almost all of them are.
pub const WELL_KNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
/// The same in IPv6 on each link: the four bytes are those of the other.
pub const LINK_LOCAL: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe));

/// All of them. Where several are asked, the first that answers decides: OpenStack's own before its imitation
/// of EC2's, which says less.
#[rustfmt::skip]
pub const DIALECTS: &[Dialect] = &[
    openstack::DIALECT,
    ec2::DIALECT,
    gce::DIALECT,
    azure::DIALECT,
    oracle::DIALECT,
    digitalocean::DIALECT,
    hetzner::DIALECT,
    scaleway::DIALECT,
    equinix::DIALECT,
    nocloud::DIALECT,
];

impl std::fmt::Debug for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests;
