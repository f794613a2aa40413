//! EC2's metadata, which is a page for each thing.

use super::cloud_config;
use super::draft::Draft;
use crate::creds::media::drive::join;
use crate::creds::part::Part;

/// Most keys that are asked for.
const MAX_KEYS: usize = 16;

/// The pages.
pub struct Instance<'a> {
    /// `meta-data/instance-id`.
    pub id: &'a [u8],
    /// `meta-data/local-hostname`.
    pub hostname: Option<&'a [u8]>,
    /// `meta-data/public-keys/N/openssh-key`.
    pub keys: Vec<&'a [u8]>,
    /// `user-data`.
    pub user_data: Option<&'a [u8]>,
}

/// The numbers in `meta-data/public-keys/`: lines `0=name`.
#[must_use]
pub fn numbers(list: &[u8]) -> Vec<u16> {
    let list = String::from_utf8_lossy(list);
    let number = |line: &str| line.split('=').next().and_then(|number| number.trim().parse().ok());
    list.lines().filter_map(number).take(MAX_KEYS).collect()
}

/// Puts them together.
///
/// # Errors
/// Keys of which all are malformed, and user-data that is.
pub fn translate(instance: &Instance<'_>) -> Result<Part, String> {
    let text = |bytes| std::str::from_utf8(bytes).ok().map(str::trim).filter(|text| !text.contains('\n'));
    let mut draft = Draft::default();
    let id =
        text(instance.id).filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
    draft.id("instance-id", id.ok_or("instance-id: none")?);
    if let Some(name) = instance.hostname.and_then(text) {
        // A machine with several names has them all there.
        draft.hostname("local-hostname", name.split_whitespace().next().unwrap_or_default());
    }
    for key in &instance.keys {
        draft.keys("public-keys", "root", [String::from_utf8_lossy(key).as_ref()]);
    }
    let part = draft.finish()?;
    match instance.user_data {
        None => Ok(part),
        Some(bytes) => {
            Ok(join(cloud_config::user_data(bytes).map_err(|why| format!("user-data: {why}"))?, part))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers() {
        assert_eq!(numbers(b"0=my-public-key\n1=other=key\n"), [0, 1]);
        assert_eq!(numbers(b"0=a\n../../x=b\n-1=c\n99999999=d\n<html>\n"), [0]);
        assert_eq!(numbers("0=a\n".repeat(1000).as_bytes()).len(), MAX_KEYS);
    }

    #[test]
    fn pages_make_a_part() {
        let mut instance = Instance {
            id: b"i-0abcdef1234567890",
            hostname: Some(b"ip-10-0-0-12.eu-central-1.compute.internal second"),
            keys: vec![b"ssh-rsa AAAAB3Nza my-key\n"],
            user_data: Some(b"#!/bin/sh\n"),
        };
        let part = translate(&instance).unwrap();
        assert_eq!(part.document.device.id.as_deref(), Some("i-0abcdef1234567890"));
        assert_eq!(
            part.document.device.hostname.as_deref(),
            Some("ip-10-0-0-12.eu-central-1.compute.internal")
        );
        assert_eq!((part.document.logins[0].authorized_keys.len(), part.remarks.len()), (1, 1));
        instance.keys = vec![b"hunter2"];
        assert!(!translate(&instance).unwrap_err().contains("hunter2"));
        instance.id = b"a\nb";
        assert!(translate(&instance).is_err());
    }
}
