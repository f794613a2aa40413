//! Equinix Metal (Packet), and Tinkerbell's services that speak like it. Its machines are those of many makers, and
//! nothing in their firmware tells of it. Its address is one that routers carry further. So it is asked where the
//! command line says so, and nowhere else.

use std::net::{IpAddr, Ipv4Addr};

use super::Dialect;
use super::talk::{Request, Seen, Stop, refused};
use crate::creds::media::drive::join;
use crate::creds::part::Part;
use crate::creds::translate::{cloud_config, equinix};

pub(super) const DIALECT: Dialect = Dialect {
    name: "equinix",
    title: "Equinix Metal",
    marks: &[],
    by_route: false,
    // What its name stands for in all of its places (lokomotive, `packet/flatcar-linux/kubernetes`).
    addresses: &[IpAddr::V4(Ipv4Addr::new(192, 80, 8, 124))],
    host: Some("metadata.platformequinix.com"),
    step,
};

fn step(seen: &Seen) -> Result<Part, Stop> {
    let metadata = seen.must(Request::long("/metadata"))?;
    let part = equinix::metadata(&metadata.body).map_err(refused("metadata"))?;
    match seen.may(Request::long("/userdata"))? {
        None => Ok(part),
        Some(said) => Ok(join(cloud_config::user_data(&said.body).map_err(refused("userdata"))?, part)),
    }
}
