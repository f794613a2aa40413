//! Formats that are only named, so that nothing of them looks unformatted: a magic number at its place.

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Reader};

struct Name {
    kind: &'static str,
    at: u64,
    magic: &'static [u8],
    /// Where a label stands, and its length.
    label: Option<(u64, usize)>,
}

const fn name(kind: &'static str, at: u64, magic: &'static [u8]) -> Name {
    Name { kind, at, magic, label: None }
}

const NAMES: &[Name] = &[
    // SCO's boot file system, with its three words of zeros or sizes behind.
    name("bfs", 0, b"\xce\xfa\xad\x1b"),
    name("vxfs", 1024, b"\xf5\xfc\x01\xa5"),
    name("vxfs", 8192, b"\xa5\x01\xfc\xf5"),
    name("ubifs", 0, b"\x31\x18\x10\x06"),
    name("hpfs", 8192, b"\x49\xe8\x95\xf9"),
    Name { kind: "zonefs", at: 0, magic: b"SFOZ", label: Some((8, 64)) },
    Name { kind: "oracleasm", at: 32, magic: b"ORCLDISK", label: Some((40, 24)) },
    Name { kind: "ocfs", at: 8192 + 8, magic: b"OracleCFS", label: None },
];

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    for name in NAMES {
        let there = reader.get(name.at, name.magic.len())?.is_some_and(|b| b.is(0, name.magic));
        if there {
            let label = match name.label {
                Some((at, length)) => reader.get(at, length)?.and_then(|b| b.text(0, length)),
                None => None,
            };
            return Ok(Some(SignatureReport {
                label,
                ..signature(name.kind, "filesystem", name.at, Proof::Magic)
            }));
        }
    }
    Ok(None)
}
