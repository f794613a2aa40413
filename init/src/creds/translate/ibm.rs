//! IBM classic's `vendor_data.json`: a script that sets root's password, which is read and never run
//! (cloud-init, `DataSourceIBMCloud.py`).

use super::draft::{Draft, malformed};
use crate::creds::part::Part;
use crate::tree;

/// Reads `vendor_data.json`: in `cloud-init`, each `echo 'NAME:HASH' | chpasswd -e`.
///
/// # Errors
/// One that is malformed, or sets a password by something that is no hash.
pub fn vendor_data(bytes: &[u8]) -> Result<Part, String> {
    let root = tree::json(bytes).map_err(|error| malformed(&error))?;
    let mut draft = Draft::default();
    let script = root.get("cloud-init").text().unwrap_or_default();
    for line in script.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((before, after)) = line.split_once("chpasswd") else { continue };
        let said = before.trim_end().strip_suffix('|').and_then(|text| text.trim().strip_prefix("echo "));
        let said = said.map(|text| text.trim().trim_matches(['\'', '"']));
        let encrypted = after.split_whitespace().any(|word| word == "-e" || word == "--encrypted");
        match said.and_then(|text| text.split_once(':')) {
            Some((name, hash)) if encrypted => {
                if draft.knows("a login of chpasswd", name) {
                    draft.hash("chpasswd -e", name, hash);
                }
            }
            Some(_) => draft.fail("chpasswd: a plain password is never taken".into()),
            None => draft.fail("chpasswd: not the line that is known".into()),
        }
    }
    if draft.part == Part::default() {
        draft.say("no chpasswd in it: not used");
    }
    draft.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "$6$abc$dv7vAygfDghQeO8lNAuLv4y4HAQXw9d6a14dcjFGfTijFc0S6MgzM7g53hZv6MaGDXhNpGxhpXakWuTlqHtzn.";

    fn of(script: &str) -> Result<Part, String> {
        vendor_data(serde_json::json!({ "cloud-init": script }).to_string().as_bytes())
    }

    #[test]
    fn the_hash_is_taken_and_nothing_is_run() {
        let part = of(&format!("#!/bin/bash\necho 'root:{HASH}' | chpasswd -e")).unwrap();
        assert_eq!(part.document.logins[0].password_hash.as_ref().unwrap().expose_secret(), HASH);
        assert_eq!(part.document.validate(), Ok(()));
        let part = of(&format!("#!/bin/sh\nrm -rf /\necho \"root:{HASH}\"|chpasswd --encrypted\n")).unwrap();
        assert_eq!(part.document.logins.len(), 1);
    }

    #[test]
    fn anything_else_lets_nobody_in() {
        for script in [
            "echo 'root:hunter2' | chpasswd",
            "echo 'root:hunter2' | chpasswd -e",
            "cat hunter2 | chpasswd -e",
            "chpasswd",
        ] {
            let why = of(script).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        assert!(vendor_data(b"{").is_err());
        assert!(vendor_data(b"{}").unwrap().document.logins.is_empty());
    }
}
