//! Scaleway's instances.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Dialect;
use super::hints::{Field, Mark};
use super::talk::{Request, Seen, Stop, refused};
use crate::creds::part::Part;
use crate::creds::translate::scaleway;

pub(super) const DIALECT: Dialect = Dialect {
    name: "scaleway",
    title: "Scaleway",
    marks: &[Mark(Field::Vendor, "Scaleway")],
    by_route: false,
    addresses: &[
        IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    ],
    host: None,
    step,
};

fn step(seen: &Seen) -> Result<Part, Stop> {
    let conf = seen.must(Request::get("/conf?format=json"))?;
    scaleway::conf(&conf.body).map_err(refused("conf"))
}
