//! crypttab(5), as bytes from a disk that is not to be trusted: by which names a system calls its encrypted
//! devices once they are open. Here they are open under other names.

use rescue_schema::report::BlockReport;

use super::mountinfo::unescape;
use super::resolve;

/// Most lines that are read.
const LINES: usize = 1024;

/// Names below `/dev/mapper`, and what is opened as each: `UUID=…`, `/dev/sda3`.
pub fn parse(crypttab: &[u8]) -> Vec<(String, String)> {
    let lines = crypttab.split(|b| *b == b'\n').take(LINES).filter_map(|line| {
        let mut fields = line.split(|b| b.is_ascii_whitespace()).filter(|f| !f.is_empty());
        let mut field = || Some(String::from_utf8_lossy(&unescape(fields.next()?)).into_owned());
        let (name, source) = (field()?, field()?.replace('"', ""));
        (!name.starts_with('#') && !name.contains('/')).then_some((name, source))
    });
    lines.collect()
}

/// Where a name of fstab stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// This device.
    As(String),
    /// Nothing: this device is encrypted, and not open.
    Not(String),
}

/// What `source` stands for, where it is a name below `/dev/mapper` that the crypttab has, of an encrypted
/// device that is here.
pub fn opened(source: &str, crypttab: &[u8], disks: &[BlockReport], beside: &str) -> Option<Opened> {
    let name = ["/dev/mapper/", "/dev/disk/by-id/dm-name-"].iter().find_map(|p| source.strip_prefix(p))?;
    let (_, below) = parse(crypttab).into_iter().find(|(known, _)| known == name)?;
    let below = resolve::encrypted(&below, disks, beside).ok()?;
    Some(match resolve::opened(below) {
        Some(open) => Opened::As(open.path.clone()),
        None => Opened::Not(below.path.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::resolve::tests::disk;

    const TABLE: &[u8] = b"# name source key options\r\ncryptroot UUID=aa none luks,discard\r\n\
        home \"/dev/vda2\" /etc/keys/home\nalone\n../../etc UUID=bb\n\xff\xfe \x1b\n";

    #[test]
    fn names_are_those_of_what_is_open_now() {
        let mut disks = [disk("vda", &[("crypto_LUKS", "aa"), ("crypto_LUKS", "bb")])];
        let container = rescue_schema::report::SignatureReport {
            usage: "crypto".into(),
            uuid: Some("aa".into()),
            ..Default::default()
        };
        disks[0].children[0].probe.signatures = vec![container];
        let now = |disks: &[BlockReport], name: &str| opened(name, TABLE, disks, "/dev/vda1");
        assert_eq!(now(&disks, "/dev/mapper/cryptroot"), Some(Opened::Not("/dev/vda1".into())));
        disks[0].children[0].children = vec![BlockReport {
            kind: "crypt".into(),
            path: "/dev/mapper/luks-aa".into(),
            ..BlockReport::default()
        }];
        for name in ["/dev/mapper/cryptroot", "/dev/disk/by-id/dm-name-cryptroot"] {
            assert_eq!(now(&disks, name), Some(Opened::As("/dev/mapper/luks-aa".into())));
        }
        assert_eq!(now(&disks, "/dev/mapper/home"), Some(Opened::Not("/dev/vda2".into())));
        for none in ["/dev/mapper/other", "UUID=aa", "/dev/mapper/", "/dev/mapper/alone", "cryptroot"] {
            assert_eq!(now(&disks, none), None, "{none}");
        }
    }

    #[test]
    fn garbage_is_no_name() {
        assert_eq!(parse(TABLE).len(), 3);
        assert_eq!(parse(&[b'x'; 100_000]), []);
        assert!(parse(&b"a b\n".repeat(9999)).len() <= LINES);
    }
}
