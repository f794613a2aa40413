//! EC2's instance metadata service and those that are like it. Version 2, with a token, is asked for first;
//! where there is no such thing as a token, version 1.

use std::net::{IpAddr, Ipv6Addr};

use super::hints::{Field, Mark};
use super::talk::{Request, Seen, Stop, refused};
use super::{Dialect, WELL_KNOWN};
use crate::creds::part::Part;
use crate::creds::translate::ec2::{self, Instance};

pub(super) const DIALECT: Dialect = Dialect {
    name: "ec2",
    title: "EC2",
    marks: &[
        Mark(Field::Vendor, "Amazon EC2"),
        Mark(Field::Vendor, "Amazon"),
        Mark(Field::BiosVendor, "Amazon EC2"),
    ],
    by_route: true,
    addresses: &[WELL_KNOWN, IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))],
    host: None,
    step,
};

const TOKEN: &str = "/latest/api/token";
/// How long the token shall hold, in seconds: one conversation.
const SECONDS: &str = "60";
const MAX_TOKEN: usize = 512;

fn step(seen: &Seen) -> Result<Part, Stop> {
    let token = seen.any(Request::put(TOKEN).with("X-aws-ec2-metadata-token-ttl-seconds", SECONDS))?;
    let token = match token.status {
        200 => {
            let text = std::str::from_utf8(&token.body).unwrap_or_default().trim();
            if text.is_empty() || text.len() > MAX_TOKEN || !text.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(Stop::Refused(format!("{TOKEN}: what came is no token")));
            }
            Some(text)
        }
        // IMDS is turned off for this instance.
        status @ (401 | 403) => return Err(Stop::Refused(format!("{TOKEN}: HTTP {status}"))),
        // OpenStack's imitation and older ones have no tokens.
        _ => None,
    };
    let page = |path: &str| {
        let request = Request::get(format!("/latest/{path}"));
        match token {
            Some(token) => request.with("X-aws-ec2-metadata-token", token),
            None => request,
        }
    };
    let id = seen.must(page("meta-data/instance-id"))?;
    let mut keys = Vec::new();
    if let Some(list) = seen.may(page("meta-data/public-keys/"))? {
        for number in ec2::numbers(&list.body) {
            if let Some(key) = seen.may(page(&format!("meta-data/public-keys/{number}/openssh-key")))? {
                keys.push(key.body.as_slice());
            }
        }
    }
    let hostname = seen.may(page("meta-data/local-hostname"))?;
    let user_data = seen.may(Request { most: super::talk::LONG_PAGE, ..page("user-data") })?;
    let instance = Instance {
        id: &id.body,
        hostname: hostname.map(|answer| answer.body.as_slice()),
        keys,
        user_data: user_data.map(|answer| answer.body.as_slice()),
    };
    ec2::translate(&instance).map_err(refused("/latest"))
}
