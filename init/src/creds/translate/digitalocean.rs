//! The document of a DigitalOcean droplet (`metadata/v1.json`).

use super::cloud_config;
use super::draft::{Draft, malformed};
use crate::creds::media::drive::join;
use crate::creds::part::Part;
use crate::tree;

/// Reads it.
///
/// # Errors
/// One that is malformed, or whose keys all are.
pub fn droplet(bytes: &[u8]) -> Result<Part, String> {
    let root = tree::json(bytes).map_err(|error| malformed(&error))?;
    let Some(id) = root.get("droplet_id").text() else { return Err("no droplet_id in it".into()) };
    let mut draft = Draft::default();
    draft.id("droplet_id", id);
    if let Some(name) = root.get("hostname").text() {
        draft.hostname("hostname", name);
    }
    // A list, or one text.
    draft.keys("public_keys", "root", root.get("public_keys").items().iter().filter_map(tree::Node::text));
    if root.get("vendor_data").text().is_some_and(|text| !text.is_empty()) {
        draft.say("vendor_data: not used, it sets up the image that it came with");
    }
    let part = draft.finish()?;
    match root.get("user_data").text().filter(|text| !text.is_empty()) {
        None => Ok(part),
        Some(text) => {
            let said = cloud_config::user_data(text.as_bytes()).map_err(|why| format!("user_data: {why}"))?;
            Ok(join(said, part))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_droplet_is_read() {
        let part = droplet(include_bytes!("testdata/digitalocean.json")).unwrap();
        let d = &part.document;
        assert_eq!((d.validate(), d.device.hostname.as_deref()), (Ok(()), Some("db7")));
        assert_eq!((d.device.id.as_deref(), d.logins[0].authorized_keys.len()), (Some("2756294"), 2));
    }

    #[test]
    fn a_single_key_is_no_list_and_none_is_nothing() {
        let one = droplet(br#"{"droplet_id":1,"public_keys":"ssh-rsa A a"}"#).unwrap();
        assert_eq!(one.document.logins.len(), 1);
        assert!(droplet(br#"{"droplet_id":1,"public_keys":""}"#).unwrap().document.logins.is_empty());
        for bad in [&b"{"[..], b"{}", br#"{"droplet_id":1,"public_keys":["hunter2"]}"#] {
            assert!(!droplet(bad).unwrap_err().contains("hunter2"));
        }
    }
}
