//! The document of a Scaleway instance (`conf?format=json`).

use super::draft::{Draft, malformed};
use crate::creds::part::Part;
use crate::tree;

/// What begins a tag that is a key, its blanks written as underscores.
const TAG: &str = "AUTHORIZED_KEY=";

/// Reads it.
///
/// # Errors
/// One that is malformed, or whose keys all are.
pub fn conf(bytes: &[u8]) -> Result<Part, String> {
    let root = tree::json(bytes).map_err(|error| malformed(&error))?;
    let Some(id) = root.get("id").text() else { return Err("no id in it".into()) };
    let mut draft = Draft::default();
    draft.id("id", id);
    if let Some(name) = root.any(&["hostname", "name"]).text() {
        draft.hostname("hostname", name);
    }
    for key in root.get("ssh_public_keys").items() {
        draft.keys("ssh_public_keys", "root", key.get("key").text());
    }
    for tag in root.get("tags").items().iter().filter_map(|tag| tag.text()?.strip_prefix(TAG)) {
        // Base64 has none of them, as OpenSSH writes it.
        draft.keys("tags", "root", [tag.replace('_', " ").as_str()]);
    }
    draft.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tags_let_in() {
        let part = conf(include_bytes!("testdata/scaleway.json")).unwrap();
        let d = &part.document;
        assert_eq!((d.validate(), d.device.hostname.as_deref()), (Ok(()), Some("db7")));
        assert_eq!(d.device.id.as_deref(), Some("11a2b3c4-5d6e-4f70-8a91-b2c3d4e5f607"));
        let keys = &d.logins[0].authorized_keys;
        assert!(keys.len() == 2 && keys[1].starts_with("ssh-rsa AAAA"), "{keys:?}");
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for bad in [&b"{"[..], b"{}", br#"{"id":"x","tags":["AUTHORIZED_KEY=hunter2"]}"#] {
            assert!(!conf(bad).unwrap_err().contains("hunter2"));
        }
    }
}
