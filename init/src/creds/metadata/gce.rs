//! Google Compute Engine: one document with everything, if the question and the answer have its flavour.

use std::net::{IpAddr, Ipv6Addr};

use super::hints::{Field, Mark};
use super::talk::{Request, Seen, Stop, refused};
use super::{Dialect, WELL_KNOWN};
use crate::creds::part::Part;
use crate::creds::translate::gce;
use crate::web::http;

pub(super) const DIALECT: Dialect = Dialect {
    name: "gce",
    title: "Google Compute Engine",
    marks: &[Mark(Field::Product, "Google Compute Engine"), Mark(Field::Serial, "GoogleCloud-*")],
    by_route: false,
    addresses: &[WELL_KNOWN, IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254))],
    // It refuses other names, so that a page in a browser cannot ask it.
    host: Some("metadata.google.internal"),
    step,
};

const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
const ALL: &str = "/computeMetadata/v1/?recursive=true&alt=json";

fn step(seen: &Seen) -> Result<Part, Stop> {
    let all = seen.must(Request::long(ALL).with(FLAVOR.0, FLAVOR.1))?;
    if all.header(FLAVOR.0) != Some(FLAVOR.1) {
        return Err(Stop::Refused("an answer without Metadata-Flavor: Google".into()));
    }
    // A key may have a last day. The clock of a machine that is rescued may be wrong; theirs is not.
    let theirs = all.header("Date").and_then(http::date).unwrap_or(0);
    let ours = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    gce::document(&all.body, ours.max(theirs)).map_err(refused("metadata"))
}
