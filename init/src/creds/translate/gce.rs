//! Google Compute Engine's metadata in one document (its `computeMetadata/v1/?recursive=true`).

use super::draft::{Draft, malformed};
use super::{cloud_config, utc};
use crate::creds::base64;
use crate::creds::media::drive::join;
use crate::creds::part::Part;
use crate::tree::{self, Node};

/// What the agent that hands out keys for a while calls them in their comment.
const SCHEMA: &str = "google-ssh";

/// Reads it; `now` is in seconds since 1970.
///
/// # Errors
/// One that is malformed, or whose keys all are.
pub fn document(bytes: &[u8], now: u64) -> Result<Part, String> {
    let root = tree::json(bytes).map_err(|error| malformed(&error))?;
    let (instance, project) = (root.get("instance"), root.get("project"));
    if instance.is_null() {
        return Err("no instance in it".into());
    }
    let mut draft = Draft::default();
    if let Some(id) = instance.get("id").text() {
        draft.id("instance.id", id);
    }
    if let Some(name) = instance.get("hostname").text() {
        draft.hostname("instance.hostname", name);
    }
    let (own, shared) = (instance.get("attributes"), project.get("attributes"));
    keys(&mut draft, "instance ssh-keys", own.get("ssh-keys"), now);
    keys(&mut draft, "instance sshKeys", own.get("sshKeys"), now);
    // Google's guest agent: either of the two keeps those of the project out.
    let blocked = own.get("block-project-ssh-keys").flag() == Some(true) || !own.get("sshKeys").is_null();
    if !blocked {
        keys(&mut draft, "project ssh-keys", shared.get("ssh-keys"), now);
        keys(&mut draft, "project sshKeys", shared.get("sshKeys"), now);
    } else if !shared.any(&["ssh-keys", "sshKeys"]).is_null() {
        draft.say("project ssh-keys: not used, the instance blocks them");
    }
    if [own, shared].iter().any(|a| a.get("enable-oslogin").flag() == Some(true)) {
        draft.say("enable-oslogin: a rescue cannot ask Google who may enter; keys alone let in");
    }
    let part = draft.finish()?;
    let Some(text) = own.get("user-data").text() else { return Ok(part) };
    let user_data = match own.get("user-data-encoding").text() {
        Some("base64") => base64::decode(text.as_bytes()).ok_or("user-data: not base64")?,
        _ => text.as_bytes().to_vec(),
    };
    Ok(join(cloud_config::user_data(&user_data).map_err(|why| format!("user-data: {why}"))?, part))
}

/// Lines `USER:KEY`. On the machine itself each of the users may become root, so that here each enters as root.
fn keys(draft: &mut Draft, at: &str, lines: &Node, now: u64) {
    for line in lines.text().unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((user, key)) = line.split_once(':') else {
            draft.fail(format!("{at}: a line without a colon"));
            continue;
        };
        match expiry(key) {
            Some(None) => draft.fail(format!("{at}: a key whose expireOn is no date: not used")),
            Some(Some(end)) if end <= now => draft.fail(format!("{at}: a key that has expired: not used")),
            _ => {
                if user != "root" {
                    draft.as_root(at);
                }
                draft.keys(at, "root", [key]);
            }
        }
    }
}

/// `None` where a key does not expire; the date is `None` where it is none.
fn expiry(key: &str) -> Option<Option<u64>> {
    let comment = key.split_once(SCHEMA).filter(|(before, _)| before.split_whitespace().count() == 2)?.1;
    let said = tree::json(comment.trim().as_bytes()).unwrap_or_default();
    match said.get("expireOn") {
        Node::Null if said.is_null() => Some(None),
        Node::Null => None,
        date => Some(date.text().and_then(utc)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the server writes it, shortened where nothing concerns a login.
    const REAL: &[u8] = include_bytes!("testdata/gce.json");
    /// 2024-06-01.
    const NOW: u64 = 1_717_200_000;

    #[test]
    fn keys_of_the_instance_and_of_the_project_let_in() {
        let part = document(REAL, NOW).unwrap();
        let d = &part.document;
        assert_eq!((d.validate(), d.device.id.as_deref()), (Ok(()), Some("4711081512345678901")));
        assert_eq!(d.device.hostname.as_deref(), Some("db7.europe-west4-a.c.acme-prod.internal"));
        let keys: Vec<&str> = d.logins[0].authorized_keys.iter().map(|key| &key[..20]).collect();
        assert_eq!(keys, ["ssh-ed25519 AAAAC3Nz", "ecdsa-sha2-nistp256 ", "ssh-rsa AAAAB3NzaC1y"]);
        assert!(part.remarks.iter().any(|line| line.contains("has expired")), "{:?}", part.remarks);
        // Some months earlier all of them were valid.
        assert_eq!(document(REAL, 1_700_000_000).unwrap().document.logins[0].authorized_keys.len(), 4);
    }

    #[test]
    fn a_project_that_is_blocked_stays_out() {
        let text = String::from_utf8_lossy(REAL)
            .replace("\"block-project-ssh-keys\": \"false\"", "\"block-project-ssh-keys\": \"TRUE\"");
        let part = document(text.as_bytes(), NOW).unwrap();
        assert_eq!(part.document.logins[0].authorized_keys.len(), 2);
        assert!(part.remarks.iter().any(|line| line.contains("blocks them")));
    }

    #[test]
    fn dates_that_are_none_let_nobody_in() {
        for bad in ["x", "2024-13-01T00:00:00Z", "2024-01-01", "{", ""] {
            let key = format!(r#"me:ssh-rsa AAAA google-ssh {{\"userName\":\"me\",\"expireOn\":\"{bad}\"}}"#);
            let json = format!(r#"{{"instance":{{"attributes":{{"ssh-keys":"{key}"}}}}}}"#);
            assert!(document(json.as_bytes(), 0).is_err(), "{bad}");
        }
        assert!(document(br#"{"instance":{"attributes":{"ssh-keys":"hunter2"}}}"#, 0).is_err());
        assert!(document(b"{}", 0).is_err() && document(b"[", 0).is_err());
    }
}
