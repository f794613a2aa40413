//! Oracle's cloud, virtual and bare metal.

use std::net::{IpAddr, Ipv6Addr};

use super::hints::{Field, Mark};
use super::talk::{Request, Seen, Stop, refused};
use super::{Dialect, WELL_KNOWN};
use crate::creds::part::Part;
use crate::creds::translate::oracle;

pub(super) const DIALECT: Dialect = Dialect {
    name: "oracle",
    title: "Oracle",
    marks: &[Mark(Field::AssetTag, "OracleCloud.com")],
    by_route: false,
    addresses: &[WELL_KNOWN, IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe))],
    host: None,
    step,
};

fn step(seen: &Seen) -> Result<Part, Stop> {
    let instance = seen.must(Request::long("/opc/v2/instance/").with("Authorization", "Bearer Oracle"))?;
    oracle::instance(&instance.body).map_err(refused("instance"))
}
