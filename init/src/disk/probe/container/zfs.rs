//! ZFS members (module/zfs/vdev_label.c of OpenZFS): four labels, two at each end, each with the same list of
//! names and values in XDR.

use std::collections::BTreeMap;

use rescue_schema::report::{Proof, SignatureReport};

use super::signature;
use crate::disk::source::{Answer, Bytes, Reader};

const LABEL: u64 = 256 << 10;
/// Where the list stands in a label, and how much of it is read; it has some 2 KiB, and up to 112.
const LIST: u64 = 16 << 10;
const READ: usize = 8 << 10;
/// Smaller devices are refused by `zpool create`.
const SMALLEST: u64 = 64 << 20;
/// Most pairs and deepest nesting.
const PAIRS: usize = 512;
const DEPTH: usize = 8;

fn places(size: u64) -> [u64; 4] {
    let end = size - size % LABEL;
    [0, LABEL, end.saturating_sub(2 * LABEL), end.saturating_sub(LABEL)].map(|at| at + LIST)
}

/// What a label says, by name; of the tree of devices the values that belong to a leaf.
type Values = BTreeMap<String, Value>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
}

fn label(reader: &Reader<'_>, at: u64) -> Answer<Values> {
    let Some(head) = reader.get(at, 64)? else { return Ok(None) };
    // XDR, in either order of the host, version 0, and a first pair that is not the end.
    if !head.is(0, &[1]) || head.u8(1) > Some(1) || head.be32(12).is_none_or(|size| size == 0) {
        return Ok(None);
    }
    let Some(bytes) = reader.get(at, READ)? else { return Ok(None) };
    let values = list(&bytes);
    let number = |name: &str| matches!(values.get(name), Some(Value::Number(1..)));
    Ok((number("guid") && values.contains_key("state")).then_some(values))
}

/// The pairs of a list: size, decoded size, name, type, count, value (libnvpair's xdr). A nested list
/// follows its pair, and ends in eight zeros as the outer one does.
fn list(bytes: &Bytes) -> Values {
    let mut values = Values::new();
    let (mut at, mut depth) = (12usize, 0usize);
    for _ in 0..PAIRS {
        let Some(size) = bytes.be32(at).and_then(|n| usize::try_from(n).ok()) else { break };
        if size == 0 {
            if depth == 0 {
                break;
            }
            depth -= 1;
            at += 8;
            continue;
        }
        let length = bytes.be32(at + 8).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        if length > 256 {
            break;
        }
        let value = at + 12 + length.next_multiple_of(4);
        let name = bytes.slice(at + 12, length).map(|n| String::from_utf8_lossy(n).into_owned());
        let (Some(name), Some(kind)) = (name, bytes.be32(value)) else { break };
        match kind {
            8 if depth == 0 || name == "ashift" => {
                if let Some(number) = bytes.be64(value + 8) {
                    values.entry(name).or_insert(Value::Number(number));
                }
            }
            9 if depth == 0 || name == "type" => {
                let length = bytes.be32(value + 8).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                if let Some(text) = bytes.text(value + 12, length.min(1024)) {
                    values.entry(name).or_insert(Value::Text(text));
                }
            }
            19 if depth < DEPTH => {
                depth += 1;
                at = value + 16;
                continue;
            }
            _ => {}
        }
        let Some(next) = at.checked_add(size) else { break };
        at = next;
    }
    values
}

pub(super) fn probe(reader: &Reader<'_>) -> Answer<SignatureReport> {
    if reader.size() < SMALLEST {
        return Ok(None);
    }
    // Only the first lies where every device is read anyway; it is the one that lives longest, too.
    match label(reader, LIST)? {
        Some(first) => Ok(Some(describe(reader, first))),
        None => Ok(None),
    }
}

/// A member whose first label is gone: any other is as good.
pub(super) fn remains(reader: &Reader<'_>) -> Answer<SignatureReport> {
    if reader.size() < SMALLEST {
        return Ok(None);
    }
    for at in places(reader.size()).into_iter().skip(1) {
        if let Ok(Some(values)) = label(reader, at) {
            return Ok(Some(describe(reader, values)));
        }
    }
    Ok(None)
}

fn describe(reader: &Reader<'_>, mut values: Values) -> SignatureReport {
    let number = |values: &Values, name: &str| match values.get(name) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    };
    let mut whole = Vec::new();
    for at in places(reader.size()) {
        let Ok(Some(other)) = label(reader, at) else { continue };
        whole.push(at);
        // A label that was written last says what the pool is now.
        let same = other.get("guid") == values.get("guid");
        if same && number(&other, "txg") > number(&values, "txg") {
            values = other;
        }
    }
    let text = |name: &str| match values.get(name) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let number = |name: &str| number(&values, name);
    let mut found = SignatureReport {
        label: text("name"),
        uuid: number("pool_guid").map(|guid| guid.to_string()),
        version: number("version").map(|v| v.to_string()),
        block_size: number("ashift").filter(|shift| (9..=16).contains(shift)).map(|shift| 1 << shift),
        ..signature("zfs_member", "filesystem", whole.first().copied().unwrap_or(LIST), Proof::Structure)
    };
    let name = text("name").unwrap_or_else(|| "of unknown name".into());
    // A disk that is its own device has no other to be a part of.
    let kind = text("type").filter(|kind| !matches!(kind.as_str(), "disk" | "file"));
    let (state, words) = match number("state") {
        Some(0) => {
            let host = text("hostname").map(|host| format!(" by {host}")).unwrap_or_default();
            (
                "clean",
                format!(
                    "pool {name} was not exported{host}: `zpool import -f -o readonly=on -R /mnt {name}`"
                ),
            )
        }
        Some(1) => {
            ("clean", format!("pool {name} was exported: `zpool import -o readonly=on -R /mnt {name}`"))
        }
        Some(2) => ("destroyed", format!("pool {name} was destroyed: `zpool import -D` may bring it back")),
        Some(3) => ("clean", "a hot spare".into()),
        Some(4) => ("clean", "a read cache, without data of its own".into()),
        _ => ("clean", format!("pool {name}")),
    };
    found.state = Some(state.into());
    found.notes.push(match kind {
        Some(kind) => format!("{words}; part of a {kind}"),
        None => words,
    });
    if whole.len() < 4 {
        found.state = Some("damaged".into());
        found.notes.push(format!("{} of 4 labels are whole", whole.len()));
    }
    found.backups = whole;
    for (key, name) in [("UUID_SUB", "guid"), ("ZFS_TXG", "txg"), ("ZFS_DEVICES", "vdev_children")] {
        if let Some(value) = number(name) {
            found.more.insert(key.into(), value.to_string());
        }
    }
    let state = match number("state") {
        Some(0) => Some("active"),
        Some(1) => Some("exported"),
        _ => None,
    };
    found.more.extend(state.map(|state| ("ZFS_STATE".to_string(), state.to_string())));
    found.more.extend(text("hostname").map(|host| ("ZFS_HOST".to_string(), host)));
    found
}
