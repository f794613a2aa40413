//! cloud-init's NoCloud at an address: `ds=nocloud;s=URL`, which whoever starts the machine says.

use super::Dialect;
use super::talk::{Request, Seen, Stop, refused};
use crate::creds::media::drive::join;
use crate::creds::part::{NetworkDocument, NetworkFormat, Part};
use crate::creds::translate::cloud_config;

pub(super) const DIALECT: Dialect = Dialect {
    name: "nocloud",
    title: "NoCloud",
    marks: &[],
    by_route: false,
    addresses: &[],
    host: None,
    step,
};

fn step(seen: &Seen) -> Result<Part, Stop> {
    let meta_data = seen.must(Request::get("/meta-data"))?;
    let mut part = cloud_config::meta_data(&meta_data.body).map_err(refused("meta-data"))?;
    if let Some(said) = seen.may(Request::long("/user-data"))? {
        part = join(cloud_config::user_data(&said.body).map_err(refused("user-data"))?, part);
    }
    if let Some(network) = seen.may(Request::get("/network-config"))? {
        let document = NetworkDocument::one(NetworkFormat::CloudInit, "network-config", &network.body);
        part.network.insert(0, document);
    }
    Ok(part)
}
