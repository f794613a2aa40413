//! The document of Azure's instance metadata service (its `metadata/instance`).

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
    let compute = root.get("compute");
    if compute.is_null() {
        return Err("no compute in it".into());
    }
    let mut draft = Draft::default();
    if let Some(id) = compute.get("vmId").text() {
        draft.id("compute.vmId", id);
    }
    let profile = compute.get("osProfile");
    if let Some(name) = [profile.get("computerName"), compute.get("name")].iter().find_map(|node| node.text())
    {
        draft.hostname("compute.osProfile.computerName", name);
    }
    for key in compute.get("publicKeys").items() {
        // The portal wraps long ones, and ends them with a line of their own.
        let text = key.get("keyData").text().unwrap_or_default().replace(['\r', '\n'], "");
        draft.as_root("compute.publicKeys");
        draft.keys("compute.publicKeys", "root", [text.as_str()]);
    }
    let part = draft.finish()?;
    let Some(text) = compute.get("userData").text().filter(|text| !text.is_empty()) else { return Ok(part) };
    let user_data = base64::decode(text.as_bytes()).ok_or("compute.userData: not base64")?;
    Ok(join(cloud_config::user_data(&user_data).map_err(|why| format!("compute.userData: {why}"))?, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_it_was_made_with_lets_in() {
        let part = instance(include_bytes!("testdata/azure.json")).unwrap();
        let d = &part.document;
        assert_eq!((d.validate(), d.device.hostname.as_deref()), (Ok(()), Some("db7")));
        assert_eq!(d.device.id.as_deref(), Some("02aab8a4-74ef-476e-8182-f6d2ba4166a6"));
        let keys = &d.logins[0].authorized_keys;
        assert!(keys.len() == 2 && keys[0].starts_with("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ"), "{keys:?}");
        assert!(part.remarks.iter().any(|line| line.contains("enter as root")), "{:?}", part.remarks);
        assert!(part.remarks.iter().any(|line| line.contains("never run")), "{:?}", part.remarks);
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for bad in [
            &b"{"[..],
            b"{}",
            br#"{"compute":{"publicKeys":[{"keyData":"hunter2"}]}}"#,
            br#"{"compute":{"userData":"***"}}"#,
        ] {
            assert!(!instance(bad).unwrap_err().contains("hunter2"));
        }
    }
}
