//! What SoftLayer's service `SoftLayer_Resource_Metadata` says of the machine that asks (IBM classic), a method each,
//! as JSON.

use super::cloud_config;
use super::draft::{Draft, malformed};
use crate::creds::media::drive::join;
use crate::creds::part::Part;
use crate::tree;

/// The methods that are asked, in the order of [`metadata`].
pub const METHODS: [&str; 4] = ["getId", "getHostname", "getDomain", "getUserMetadata"];

/// Reads their answers; an empty one is of a method that has none.
///
/// # Errors
/// What is no JSON, a machine without a number, and user-data that [`cloud_config::user_data`] refuses.
pub fn metadata(answers: &[Vec<u8>; 4]) -> Result<Part, String> {
    let mut texts = Vec::new();
    for (method, answer) in METHODS.iter().zip(answers) {
        let text = match answer.trim_ascii() {
            b"" => None,
            json => {
                let node = tree::json(json).map_err(|error| format!("{method}: {}", malformed(&error)))?;
                // The last is a list where the machine was ordered with several.
                node.text().or_else(|| node.items().first()?.text()).map(str::to_string)
            }
        };
        texts.push(text.filter(|text| !text.is_empty()));
    }
    let [id, host, domain, user_data] = texts.as_slice() else { return Err("not all was answered".into()) };
    let Some(id) = id else { return Err("getId: no number".into()) };
    let mut draft = Draft::default();
    draft.id("getId", id);
    match (host, domain) {
        (Some(host), Some(domain)) => draft.hostname("getHostname", &format!("{host}.{domain}")),
        (Some(host), None) => draft.hostname("getHostname", host),
        (None, _) => {}
    }
    let part = draft.finish()?;
    match user_data {
        None => Ok(part),
        Some(text) => {
            let user =
                cloud_config::user_data(text.as_bytes()).map_err(|why| format!("getUserMetadata: {why}"))?;
            Ok(join(user, part))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIHcKXvHJEvGqMNTAb/cgp0UGYa/Ze7DIwXbvAMyRPMF a";

    fn read(texts: [&str; 4]) -> Result<Part, String> {
        metadata(&texts.map(|text| text.as_bytes().to_vec()))
    }

    #[test]
    fn a_machine_is_read_with_the_keys_of_its_user_data() {
        let user = format!(r##""#cloud-config\nssh_authorized_keys: [\"{KEY}\"]\n""##);
        for user in [user.clone(), format!("[{user}]")] {
            let d = read(["47110815", r#""db7""#, r#""example.net""#, &user]).unwrap().document;
            assert_eq!(d.device.id.as_deref(), Some("47110815"));
            assert_eq!(d.device.hostname.as_deref(), Some("db7.example.net"));
            assert_eq!(d.logins[0].authorized_keys, [KEY]);
        }
        let bare = read(["1", r#""db7""#, "null", ""]).unwrap();
        assert_eq!((bare.document.device.hostname.as_deref(), bare.document.logins.len()), (Some("db7"), 0));
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for bad in [
            ["", "", "", ""],
            ["null", r#""db7""#, "", ""],
            ["<html>", "", "", ""],
            ["1", "", "", r##""#cloud-config\n{""##],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
