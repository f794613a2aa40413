//! Hetzner's cloud.

use super::hints::{Field, Mark};
use super::talk::{Request, Seen, Stop, refused};
use super::{Dialect, LINK_LOCAL, WELL_KNOWN};
use crate::creds::media::drive::join;
use crate::creds::part::Part;
use crate::creds::translate::{cloud_config, hetzner};

pub(super) const DIALECT: Dialect = Dialect {
    name: "hetzner",
    title: "Hetzner",
    marks: &[Mark(Field::Vendor, "Hetzner")],
    by_route: false,
    addresses: &[WELL_KNOWN, LINK_LOCAL],
    host: None,
    step,
};

fn step(seen: &Seen) -> Result<Part, Stop> {
    let metadata = seen.must(Request::get("/hetzner/v1/metadata"))?;
    let part = hetzner::metadata(&metadata.body).map_err(refused("metadata"))?;
    match seen.may(Request::long("/hetzner/v1/userdata"))? {
        None => Ok(part),
        Some(said) => Ok(join(cloud_config::user_data(&said.body).map_err(refused("userdata"))?, part)),
    }
}
