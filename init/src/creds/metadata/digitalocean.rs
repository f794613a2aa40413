//! DigitalOcean's droplets.

use super::hints::{Field, Mark};
use super::talk::{Request, Seen, Stop, refused};
use super::{Dialect, WELL_KNOWN};
use crate::creds::part::Part;
use crate::creds::translate::digitalocean;

pub(super) const DIALECT: Dialect = Dialect {
    name: "digitalocean",
    title: "DigitalOcean",
    marks: &[Mark(Field::Vendor, "DigitalOcean")],
    by_route: false,
    addresses: &[WELL_KNOWN],
    host: None,
    step,
};

fn step(seen: &Seen) -> Result<Part, Stop> {
    let droplet = seen.must(Request::long("/metadata/v1.json"))?;
    digitalocean::droplet(&droplet.body).map_err(refused("v1.json"))
}
