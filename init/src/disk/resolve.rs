//! What an fstab calls a device, found among the devices that are there now.

use rescue_schema::report::{BlockReport, ProbeResult};

/// Why a name stands for no device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Nothing here has that name.
    Nowhere,
    /// Several have, and nothing tells which is meant.
    Several(Vec<String>),
}

/// Every device of the tree once, parents first: one that is built on several stands below each.
pub fn flat(disks: &[BlockReport]) -> Vec<&BlockReport> {
    fn walk<'a>(block: &'a BlockReport, out: &mut Vec<&'a BlockReport>) {
        if !out.iter().any(|o| o.path == block.path) {
            out.push(block);
            for child in &block.children {
                walk(child, out);
            }
        }
    }
    let mut out = Vec::new();
    for disk in disks {
        walk(disk, &mut out);
    }
    out
}

/// The device that `source` (first field of an fstab line) stands for. Of several with the same name,
/// as two copies of a disk have, the one on the same disk as `beside` is meant.
///
/// # Errors
/// [`Missing`].
pub fn device<'a>(source: &str, disks: &'a [BlockReport], beside: &str) -> Result<&'a BlockReport, Missing> {
    let (tag, value) = tag(source);
    let value = value.as_str();
    let matches: Vec<&BlockReport> = flat(disks).into_iter().filter(|b| is(b, tag, value)).collect();
    match matches.as_slice() {
        [] => Err(Missing::Nowhere),
        [one] => Ok(one),
        several => {
            let home = disks.iter().find(|d| flat(std::slice::from_ref(*d)).iter().any(|b| b.path == beside));
            let here = |b: &&&BlockReport| {
                home.is_some_and(|d| flat(std::slice::from_ref(d)).iter().any(|o| o.path == b.path))
            };
            let mut near = several.iter().filter(here);
            match (near.next(), near.next()) {
                (Some(one), None) => Ok(one),
                _ => Err(Missing::Several(several.iter().map(|b| b.path.clone()).collect())),
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Uuid,
    Label,
    PartUuid,
    PartLabel,
    Id,
    Path,
}

fn tag(source: &str) -> (Tag, String) {
    const TAGS: &[(&str, &str, Tag)] = &[
        ("UUID=", "/dev/disk/by-uuid/", Tag::Uuid),
        ("LABEL=", "/dev/disk/by-label/", Tag::Label),
        ("PARTUUID=", "/dev/disk/by-partuuid/", Tag::PartUuid),
        ("PARTLABEL=", "/dev/disk/by-partlabel/", Tag::PartLabel),
    ];
    for (equals, link, tag) in TAGS {
        if let Some(value) = source.strip_prefix(equals) {
            return (*tag, value.into());
        }
        if let Some(value) = source.strip_prefix(link) {
            return (*tag, unescaped(value));
        }
    }
    match source.strip_prefix("/dev/disk/by-id/") {
        Some(id) => (Tag::Id, unescaped(id)),
        None => (Tag::Path, source.into()),
    }
}

/// `\x20` and its kin, as udev writes them in the names of its links.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (first, tail) {
            (b'\\', [b'x', high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(*first),
            },
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is(block: &BlockReport, tag: Tag, value: &str) -> bool {
    let same = |own: Option<&String>| own.is_some_and(|o| !o.is_empty() && o == value);
    let like = |own: Option<&String>| own.is_some_and(|o| !o.is_empty() && o.eq_ignore_ascii_case(value));
    let partition = block.partition.as_ref();
    // A member of an array shows the UUID and label of what the array holds to nobody.
    let content = block.probe.result == ProbeResult::Found
        && block.probe.signatures.iter().all(|s| s.usage != "raid" && s.usage != "crypto");
    match tag {
        Tag::Uuid => content && like(block.probe.uuid.as_ref()),
        Tag::Label => content && same(block.probe.label.as_ref()),
        Tag::PartUuid => like(partition.and_then(|p| p.uuid.as_ref())),
        Tag::PartLabel => same(partition.and_then(|p| p.name.as_ref())),
        Tag::Id => false,
        Tag::Path => block.path == value || format!("/dev/{}", block.name) == value,
    }
}
