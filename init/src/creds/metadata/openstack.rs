//! OpenStack (nova, `doc/source/user/metadata.rst`), of virtual machines and of Ironic's bare metal, where
//! nothing but the route that DHCP gives says that it is there.

use super::hints::{Field, Mark};
use super::talk::{Request, Seen, Stop, refused};
use super::{Dialect, LINK_LOCAL, WELL_KNOWN};
use crate::creds::media::drive::join;
use crate::creds::part::{NetworkDocument, NetworkFormat, Part};
use crate::creds::translate::{cloud_config, openstack};

pub(super) const DIALECT: Dialect = Dialect {
    name: "openstack",
    title: "OpenStack",
    // cloud-init, `DataSourceOpenStack.py`: what nova itself and those who sell it put there.
    marks: &[
        Mark(Field::Product, "OpenStack Nova"),
        Mark(Field::Product, "OpenStack Compute"),
        Mark(Field::AssetTag, "OpenStack Nova"),
        Mark(Field::AssetTag, "OpenStack Compute"),
        Mark(Field::AssetTag, "HUAWEICLOUD"),
        Mark(Field::AssetTag, "OpenTelekomCloud"),
        Mark(Field::AssetTag, "SAP CCloud VM"),
        Mark(Field::AssetTag, "Samsung Cloud Platform"),
    ],
    by_route: true,
    addresses: &[WELL_KNOWN, LINK_LOCAL],
    host: None,
    step,
};

const LATEST: &str = "/openstack/latest";

fn step(seen: &Seen) -> Result<Part, Stop> {
    let page = |name: &str| Request::get(format!("{LATEST}/{name}"));
    let meta_data = seen.must(page("meta_data.json"))?;
    let mut part = openstack::meta_data(&meta_data.body).map_err(refused("meta_data.json"))?;
    if let Some(network) = seen.may(page("network_data.json"))? {
        part.network.push(NetworkDocument::one(NetworkFormat::OpenStack, "network_data.json", &network.body));
    }
    if let Some(user_data) = seen.may(Request::long(format!("{LATEST}/user_data")))? {
        part = join(cloud_config::user_data(&user_data.body).map_err(refused("user_data"))?, part);
    }
    Ok(part)
}
