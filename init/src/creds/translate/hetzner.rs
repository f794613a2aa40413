//! The document of a server in Hetzner's cloud (`hetzner/v1/metadata`), YAML.

use super::draft::{Draft, malformed};
use super::json_of;
use crate::creds::part::{NetworkDocument, NetworkFormat, Part};
use crate::tree;

/// Reads it.
///
/// # Errors
/// One that is malformed, or whose keys all are.
pub fn metadata(bytes: &[u8]) -> Result<Part, String> {
    let root = tree::yaml(bytes).map_err(|error| malformed(&error))?;
    let Some(id) = root.get("instance-id").text() else { return Err("no instance-id in it".into()) };
    let mut draft = Draft::default();
    draft.id("instance-id", id);
    if let Some(name) = root.get("hostname").text() {
        draft.hostname("hostname", name);
    }
    draft.keys("public-keys", "root", root.get("public-keys").items().iter().filter_map(tree::Node::text));
    let network = root.get("network-config");
    if !network.is_null() {
        let json = json_of(network).to_string();
        let document = NetworkDocument::one(NetworkFormat::CloudInit, "network-config", json.as_bytes());
        draft.part.network.push(document);
    }
    if root.get("vendor_data").text().is_some_and(|text| !text.is_empty()) {
        draft.say("vendor_data: not used, it sets up the image that it came with");
    }
    draft.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_with_its_network() {
        let part = metadata(include_bytes!("testdata/hetzner.yaml")).unwrap();
        let d = &part.document;
        assert_eq!((d.validate(), d.device.hostname.as_deref()), (Ok(()), Some("db7")));
        assert_eq!(d.device.id.as_deref(), Some("47110815"));
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4tG0pZ7Jmq0bRZ6vYf3XQm2Wk1cN8uT5sLh0dEaPqO me@laptop";
        assert_eq!(d.logins[0].authorized_keys, [key]);
        let network = &part.network[0].files[0].1;
        assert!(String::from_utf8_lossy(network).contains("2a01:4f8:c17:7f3::1/64"));
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for bad in [&b"a: ["[..], b"x: y", b"instance-id: 1\npublic-keys: [hunter2]\n"] {
            assert!(!metadata(bad).unwrap_err().contains("hunter2"));
        }
    }
}
