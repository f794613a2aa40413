//! `rescue.device_url=`: a document of ours at an address of the web. What makes it trusted is
//! `rescue.device_sha256=` beside it: whoever writes the command line vouches for each of its bytes, so that
//! neither the way nor the server has to be.

use rescue_schema::credentials::Document;
use sha2::{Digest, Sha256};

use super::{DEVICE_URL, Said};
use crate::sys::cmdline::Cmdline;
use crate::web::url::Url;

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Where it is.
    pub url: Url,
    digest: [u8; 32],
}

/// What the command line wants, or what there is to say instead.
///
/// # Errors
/// That it wants nothing, or nothing that could be trusted.
pub fn wish(line: &Cmdline) -> Result<Wish, Box<Said>> {
    let Some(url) = line.get("rescue.device_url") else {
        return Err(Box::new(Said::absent(DEVICE_URL, "no rescue.device_url=")));
    };
    let refused = |why: &str| Box::new(Said::refused(DEVICE_URL, why));
    let url = Url::parse(url).map_err(|why| refused(&format!("rescue.device_url= is {why}")))?;
    let Some(digest) = line.get("rescue.device_sha256") else {
        return Err(refused("rescue.device_sha256= must say which document it is: sha256sum device.json"));
    };
    let digest = digest_of(digest)
        .ok_or_else(|| refused("rescue.device_sha256= is no SHA-256: 64 hexadecimal digits"))?;
    Ok(Wish { url, digest })
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

impl Wish {
    /// Where it is, for people: what follows a `?` may be a secret.
    #[must_use]
    pub fn place(&self) -> String {
        let path = self.url.path().split('?').next().unwrap_or_default();
        let scheme = if self.url.is_https() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.url.authority())
    }

    /// What was fetched, as a source says it.
    #[must_use]
    pub fn read(&self, bytes: &[u8]) -> Said {
        let place = self.place();
        if Sha256::digest(bytes).as_slice() != self.digest {
            let why =
                format!("{place}: {} bytes, of which rescue.device_sha256= is not the SHA-256", bytes.len());
            return Said::refused(DEVICE_URL, &why);
        }
        match Document::parse(bytes) {
            Err(error) => Said::refused(DEVICE_URL, &format!("{place}: {error}")),
            Ok(document) => Said::found(DEVICE_URL, &place, document, Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rescue_schema::report::CredentialState;

    use super::*;

    const DOCUMENT: &[u8] =
        br#"{"version":1,"logins":[{"name":"root","authorized_keys":["ssh-ed25519 A"]}]}"#;

    fn asked(line: &str) -> Result<Wish, Box<Said>> {
        wish(&Cmdline::parse(line.as_bytes()))
    }

    fn digest(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|b| format!("{b:02X}")).collect()
    }

    #[test]
    fn only_the_document_that_was_meant_is_taken() {
        let url = "https://portal.example/d/1.json?token=hunter2";
        let wish =
            asked(&format!("rescue.device_url={url} rescue.device_sha256={}", digest(DOCUMENT))).unwrap();
        let said = wish.read(DOCUMENT);
        assert_eq!((said.state, said.document.is_some()), (CredentialState::Found, true), "{said:?}");
        assert!(said.text.starts_with("https://portal.example/d/1.json: "), "{}", said.text);
        let mut other = DOCUMENT.to_vec();
        other.push(b'\n');
        for bytes in [&other[..], b"", b"<html>"] {
            let said = wish.read(bytes);
            assert_eq!((said.state, said.document), (CredentialState::Refused, None));
            assert!(!said.text.contains("hunter2") && said.text.contains("not the SHA-256"), "{}", said.text);
        }
        let html =
            asked(&format!("rescue.device_url={url} rescue.device_sha256={}", digest(b"<html>"))).unwrap();
        assert_eq!(html.read(b"<html>").state, CredentialState::Refused);
    }

    #[test]
    fn what_nobody_vouches_for_closes_the_door() {
        assert_eq!(asked("quiet").unwrap_err().state, CredentialState::Absent);
        let digest = digest(DOCUMENT);
        for (line, why) in [
            ("rescue.device_url=https://a/", "rescue.device_sha256= must say"),
            ("rescue.device_url=https://a/ rescue.device_sha256=", "is no SHA-256"),
            ("rescue.device_url=https://a/ rescue.device_sha256=abc", "is no SHA-256"),
            (&format!("rescue.device_url=https://a/ rescue.device_sha256={digest}0"), "is no SHA-256"),
            (
                &format!("rescue.device_url=https://a/ rescue.device_sha256=é{}", &digest[2..]),
                "is no SHA-256",
            ),
            (&format!("rescue.device_url=ftp://a/ rescue.device_sha256={digest}"), "neither an http://"),
            (&format!("rescue.device_url=https://u:p@a/ rescue.device_sha256={digest}"), "a user in it"),
            (&format!("rescue.device_url rescue.device_sha256={digest}"), "neither"),
        ] {
            let said = asked(line).unwrap_err();
            assert_eq!(said.state, CredentialState::Refused, "{line}");
            assert!(said.text.contains(why), "{line}: {}", said.text);
        }
    }
}
