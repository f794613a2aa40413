//! The cpio that the boot loader appended to the image: `device.json`, unpacked by the kernel.

use std::path::Path;

use rescue_schema::credentials::{Document, MAX_DOCUMENT};
use rescue_schema::paths;

use super::{APPENDED, Said, below};
use crate::sys::secrets;

/// Reads the document, with `root` in the place of `/`, and removes it from the file system, the
/// malformed one too.
#[must_use]
pub fn gather(root: &Path) -> Said {
    match secrets::take(&below(root, paths::DEVICE_DOCUMENT), MAX_DOCUMENT) {
        Ok(None) => Said::absent(APPENDED, &format!("no {}", paths::DEVICE_DOCUMENT)),
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            Said::refused(APPENDED, &format!("device.json: over {MAX_DOCUMENT} bytes"))
        }
        Err(error) => Said::refused(APPENDED, &format!("reading {}: {error}", paths::DEVICE_DOCUMENT)),
        Ok(Some(bytes)) => match Document::parse(&bytes) {
            Err(error) => Said::refused(APPENDED, &error.to_string()),
            Ok(document) => Said::found(APPENDED, "", document, Vec::new()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::{Session, merge};
    use super::super::seed;

    fn gather(root: &std::path::Path) -> Session {
        merge(&[super::gather(root)])
    }

    fn root_with(content: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/rescue")).unwrap();
        std::fs::write(root.path().join("etc/rescue/device.json"), content).unwrap();
        root
    }

    #[test]
    fn a_document_is_read_once() {
        let root = root_with(
            br#"{"version":1,"device":{"id":"srv-1"},"logins":[{"name":"root","authorized_keys":["ssh-ed25519 A"]}]}"#,
        );
        let all = gather(root.path());
        assert_eq!(all.closed(), None);
        assert_eq!(all.sources[0].text, "device srv-1, logins root, 0 host key(s), 0 link(s)");
        assert!(!root.path().join("etc/rescue/device.json").exists());
        let again = gather(root.path());
        assert_eq!(again.document, Default::default());
        assert!(again.closed().unwrap().starts_with("no credentials were injected"));
    }

    #[test]
    fn every_bad_document_closes_the_door_and_is_removed() {
        let long = vec![b' '; (1 << 20) + 1];
        let cases: [(&[u8], &str); 7] = [
            (b"", "ends too early"),
            (b"\xff\xfe\x00", "is not JSON"),
            (b"{\"version\":1,", "ends too early"),
            (
                br#"{"version":1,"logins":[{"name":"root","password_hash":"hunter2"}]}"#,
                "logins[0].password_hash",
            ),
            (br#"{"version":1,"logins":{"root":"hunter2"}}"#, "logins"),
            (br#"{"version":1,"logins":[]}"#, "names nobody"),
            (&long, "over 1048576 bytes"),
        ];
        for (content, message) in cases {
            let root = root_with(content);
            let all = gather(root.path());
            let closed = all.closed().unwrap();
            assert!(closed.contains(message), "{closed}");
            assert!(!format!("{all:?}{closed}").contains("hunter2"), "{closed}");
            assert!(!root.path().join("etc/rescue/device.json").exists(), "{message}");
        }
    }

    #[test]
    fn a_seed_is_taken_within_its_bounds() {
        let root = root_with(b"");
        let path = root.path().join("etc/rescue/seed");
        assert!(seed(root.path()).is_none());
        for (content, taken) in [(vec![1; 64], true), (vec![], false), (vec![1; 4097], false)] {
            std::fs::write(&path, &content).unwrap();
            assert_eq!(seed(root.path()).is_some(), taken, "{} bytes", content.len());
            assert!(!path.exists());
        }
    }
}
