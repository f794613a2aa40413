//! Azure's instance metadata service: keys of the account that the machine was made with. Its passwords are
//! told by no service.

use super::hints::{Field, Mark};
use super::talk::{Request, Seen, Stop, refused};
use super::{Dialect, WELL_KNOWN};
use crate::creds::part::Part;
use crate::creds::translate::azure;

pub(super) const DIALECT: Dialect = Dialect {
    name: "azure",
    title: "Azure",
    // The one tag that all of its machines have.
    marks: &[Mark(Field::AssetTag, "7783-7084-3265-9085-8269-3286-77")],
    by_route: false,
    addresses: &[WELL_KNOWN],
    host: None,
    step,
};

const INSTANCE: &str = "/metadata/instance?api-version=2021-08-01";

fn step(seen: &Seen) -> Result<Part, Stop> {
    let instance = seen.must(Request::long(INSTANCE).with("Metadata", "true"))?;
    azure::instance(&instance.body).map_err(refused("instance"))
}
