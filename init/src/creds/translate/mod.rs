//! Foreign documents that say who may enter, translated into ours: one file a format, each a pure function
//! from bytes to a [`Part`](super::part::Part).
//!
//! They are data: nothing in them is run. Logins, keys, host keys, names and the network are taken, and what is
//! left out is told. What would let somebody in and is malformed is an error, which closes the door for the
//! sources below; no message repeats a value, which may be a secret.
//!
//! To add a format: `translate/<format>.rs`, a caller, seeds in `init/fuzz/corpus/` and a row in the table of
//! fuzz targets.

pub(super) mod archive;
pub mod azure;
pub mod cloud_config;
pub mod digitalocean;
mod draft;
pub mod ec2;
pub mod equinix;
pub mod gce;
pub mod hetzner;
pub mod ibm;
pub mod openstack;
pub mod oracle;
pub mod scaleway;
pub mod softlayer;

use crate::sys::time::moment;
use crate::tree::Node;

/// Seconds since 1970 of a moment such as `2018-12-04T20:12:00+0000` (ISO 8601), with a zone.
pub(super) fn utc(text: &str) -> Option<u64> {
    let (date, rest) = text.trim().split_once('T')?;
    let at = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at(at);
    let numbers = |text: &str, mark: char| -> Option<Vec<u64>> {
        text.split(mark)
            .map(|part| part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit())))
            .collect()
    };
    let [year, month, day] = numbers(date, '-')?.try_into().ok()?;
    let [hour, minute, second]: [u64; 3] = numbers(clock.split('.').next()?, ':')?.try_into().ok()?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = moment(year, month, day, hour * 3600 + minute * 60 + second)?;
    let digits = zone.get(1..)?.replace(':', "");
    let offset = match (zone.starts_with('Z'), digits.len()) {
        (true, 0) => 0,
        (false, 4) => {
            let digits: u64 = digits.parse().ok()?;
            digits / 100 * 3600 + digits % 100 * 60
        }
        _ => return None,
    };
    if zone.starts_with('-') { local.checked_add(offset) } else { local.checked_sub(offset) }
}

/// A node as JSON, for those who read it as such: every scalar is a text.
pub(crate) fn json_of(node: &Node) -> serde_json::Value {
    use serde_json::Value;
    match node {
        Node::Null => Value::Null,
        Node::Text(text) => Value::String(text.clone()),
        Node::List(items) => Value::Array(items.iter().map(json_of).collect()),
        Node::Map(pairs) => {
            Value::Object(pairs.iter().map(|(key, value)| (key.clone(), json_of(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_date() {
        // `date -u -d TEXT +%s`
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2018-12-04T20:12:00+0000", 1_543_954_320),
            ("2024-02-29T23:59:59+01:00", 1_709_247_599),
            ("2000-03-01T00:00:00-0530", 951_888_600),
            ("2099-12-31T12:00:00.25Z", 4_102_401_600),
        ] {
            assert_eq!(utc(text), Some(seconds), "{text}");
        }
        for bad in [
            "",
            "2018-12-04",
            "2018-12-04T20:12:00",
            "2018-13-04T20:12:00Z",
            "2018-12-04T24:12:00Z",
            "x-y-zT1:2:3Z",
            "2018-12-04T20:12:00+1",
        ] {
            assert_eq!(utc(bad), None, "{bad}");
        }
    }
}
