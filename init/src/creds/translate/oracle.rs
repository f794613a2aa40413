//! The document of an instance in Oracle's cloud (`opc/v2/instance/`).

use super::cloud_config;
use super::draft::{Draft, malformed};
use crate::creds::base64;
use crate::creds::media::drive::join;
use crate::creds::part::Part;
use crate::tree;

/// Reads it.
///
/// # Errors
/// One that is malformed, or whose keys all are.
pub fn instance(bytes: &[u8]) -> Result<Part, String> {
    let root = tree::json(bytes).map_err(|error| malformed(&error))?;
    let Some(id) = root.get("id").text() else { return Err("no id in it".into()) };
    let mut draft = Draft::default();
    draft.id("id", id);
    if let Some(name) = root.any(&["hostname", "displayName"]).text() {
        draft.hostname("hostname", name);
    }
    let metadata = root.get("metadata");
    draft.keys("ssh_authorized_keys", "root", metadata.get("ssh_authorized_keys").text());
    let part = draft.finish()?;
    let Some(text) = metadata.get("user_data").text().filter(|text| !text.is_empty()) else {
        return Ok(part);
    };
    let user_data = base64::decode(text.as_bytes()).ok_or("user_data: not base64")?;
    Ok(join(cloud_config::user_data(&user_data).map_err(|why| format!("user_data: {why}"))?, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_read() {
        let part = instance(include_bytes!("testdata/oracle.json")).unwrap();
        let d = &part.document;
        assert_eq!((d.validate(), d.device.hostname.as_deref()), (Ok(()), Some("db7")));
        assert!(d.device.id.as_deref().unwrap().starts_with("ocid1.instance.oc1.phx."));
        // One of the field, one of the user-data.
        assert_eq!(d.logins[0].authorized_keys.len(), 2);
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for bad in [&b"{"[..], b"{}", br#"{"id":"x","metadata":{"ssh_authorized_keys":"hunter2"}}"#] {
            assert!(!instance(bad).unwrap_err().contains("hunter2"));
        }
    }
}
