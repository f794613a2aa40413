//! Ceph BlueStore (src/os/bluestore/bluestore_types.h): a label in the first block, as text and then as one
//! of Ceph's encoded structures.

use std::collections::BTreeMap;

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader, crc32};

const MAGIC: &[u8] = b"bluestore block device";
/// Where the structure begins: after two lines of text.
const STRUCTURE: usize = 60;
/// Of the label with its checksum, and most pairs that are looked at.
const LABEL: usize = 4096;
const PAIRS: usize = 64;

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    let Some(head) = reader.get(0, MAGIC.len())? else { return Ok(None) };
    if !head.is(0, MAGIC) {
        return Ok(None);
    }
    let mut found = signature("ceph_bluestore", "other", 0, Proof::Magic);
    if let Some(label) = reader.get(0, LABEL)? {
        describe(&label, &mut found);
    }
    Ok(Some(found))
}

fn describe(label: &Bytes, found: &mut SignatureReport) -> Option<()> {
    // Version, oldest version that can read it, length; then UUID, size, time of birth, what it is.
    let length = usize::try_from(label.u32(STRUCTURE + 2)?).ok()?;
    let end = STRUCTURE + 6 + length;
    let sum = label.slice(0, end).map(|bytes| crc32(0x82F6_3B78, !0, bytes));
    let whole = sum.is_some() && sum == label.u32(end);
    found.state = Some(if whole { "clean" } else { "damaged" }.into());
    if whole {
        found.proof = Proof::Checksum;
    } else {
        found.notes.push("the checksum of the label is wrong".into());
        return None;
    }
    let start = STRUCTURE + 6;
    found.more.insert("CEPH_OSD_UUID".into(), label.uuid(start)?);
    found.size = label.u64(start + 16);
    let mut at = start + 32;
    let role = string(label, &mut at)?;
    let count = label.u32(at)?;
    at += 4;
    let mut pairs = BTreeMap::new();
    for _ in 0..usize::try_from(count).ok()?.min(PAIRS) {
        let (Some(name), Some(value)) = (string(label, &mut at), string(label, &mut at)) else { break };
        pairs.insert(name, value);
    }
    // Among the others is the key of the OSD, which is nobody's business here.
    let who = pairs.get("whoami").map(|id| format!("osd.{id}")).unwrap_or_else(|| "an OSD".into());
    found.notes.push(format!("{who}, {role}"));
    for (key, name) in [("CEPH_FSID", "ceph_fsid"), ("CEPH_OSD", "whoami")] {
        if let Some(value) = pairs.get(name) {
            found.more.insert(key.into(), value.clone());
        }
    }
    Some(())
}

fn string(label: &Bytes, at: &mut usize) -> Option<String> {
    let length = usize::try_from(label.u32(*at)?).ok()?;
    let text = String::from_utf8_lossy(label.slice(*at + 4, length)?).into_owned();
    *at += 4 + length;
    Some(text)
}
