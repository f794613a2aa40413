//! What an fstab calls a device, found among the devices that are there now.

use rescue_schema::report::{BlockReport, ProbeReport, ProbeResult, SignatureReport};

use super::pool;

mod arrays;
mod names;
#[cfg(test)]
pub(crate) mod tests;

use super::zfs;
pub use arrays::{Array, array};
use names::{TAGS, Tag, by_id, by_path, by_volume, kernel_name, mapped, tag};

/// Why a name stands for no device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Nothing here has that name.
    Nowhere,
    /// Several have, and nothing tells which is meant; or one, of which its signatures do not tell what it
    /// holds, with what they say in brackets. Nothing is mounted then: the journal of one format that is
    /// replayed over another destroys it. Who knows better names the device to `rescue mount`.
    Several(Vec<String>),
}

impl Missing {
    /// What the one hears who named a device so.
    pub fn said(&self, name: &str) -> String {
        match self {
            Self::Nowhere => format!("{name} is not here: `rescue disks` lists what is"),
            Self::Several(which) => format!(
                "{name} is the name of several, name the one that is meant:\n  {}",
                which.join("\n  ")
            ),
        }
    }
}

fn is_damaged(signature: &SignatureReport) -> bool {
    signature.state.as_deref() == Some("damaged")
}

/// Whether it is clear what a device holds: one thing, or one that is whole beside the ruins of others.
pub fn is_clear(probe: &ProbeReport) -> bool {
    match (probe.result, probe.signatures.split_first()) {
        (ProbeResult::Ambivalent, Some((first, others))) => {
            !is_damaged(first) && others.iter().all(is_damaged)
        }
        (ProbeResult::Ambivalent, None) => false,
        _ => true,
    }
}

/// A device of which it is not clear what it holds, and why.
pub fn doubt(block: &BlockReport) -> String {
    let reason = block.probe.notes.iter().find(|note| note.starts_with("more likely"));
    let reason = reason.map_or("several signatures", String::as_str);
    format!("{} ({reason}; `rescue probe {}` says more)", block.path, block.path)
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
    let mut matches: Vec<&BlockReport> = match tag {
        Tag::Id => flat(disks).into_iter().filter_map(|b| by_id(b, &value)).collect(),
        Tag::Place => flat(disks).into_iter().filter_map(|b| by_path(b, &value)).collect(),
        Tag::Volume => disks.iter().filter_map(|b| by_volume(b, &value)).collect(),
        tag => flat(disks).into_iter().filter(|b| is(b, tag, &value)).collect(),
    };
    // What is on a guest's disk is not meant by what this machine's own system calls its devices.
    let own =
        tag != Tag::Path && tag != Tag::Volume && disk_of(disks, beside).is_some_and(|d| d.kind != "zvol");
    matches.retain(|b| !(own && zfs::guest(&b.path, disks).is_some()));
    if matches.is_empty() {
        matches = arrays::named(source, disks);
    }
    if matches.is_empty() {
        let doubtful = flat(disks).into_iter().filter(|b| !is_clear(&b.probe) && may_be(b, tag, &value));
        let doubtful: Vec<String> = doubtful.map(doubt).collect();
        return Err(if doubtful.is_empty() { Missing::Nowhere } else { Missing::Several(doubtful) });
    }
    meant(&matches, disks, beside)
}

/// The encrypted device that `source`, as a crypttab has it, stands for: UUIDs and labels are those of containers.
///
/// # Errors
/// [`Missing`].
pub fn encrypted<'a>(
    source: &str,
    disks: &'a [BlockReport],
    beside: &str,
) -> Result<&'a BlockReport, Missing> {
    let (tag, value) = tag(source);
    let holds = |s: &SignatureReport| s.usage == "crypto" && has(s, tag, &value);
    let is = |b: &&BlockReport| is_clear(&b.probe) && b.probe.signatures.first().is_some_and(holds);
    let matches: Vec<&BlockReport> = flat(disks).into_iter().filter(is).collect();
    if matches.is_empty() { device(source, disks, beside) } else { meant(&matches, disks, beside) }
}

/// The device that a person calls `name`: by its node, or by what it or its content is called; a container by what
/// a crypttab calls it.
///
/// # Errors
/// [`Missing`].
pub fn named<'a>(name: &str, disks: &'a [BlockReport]) -> Result<&'a BlockReport, Missing> {
    if let Some(block) = flat(disks).into_iter().find(|b| b.path == name) {
        return Ok(block);
    }
    match device(name, disks, name) {
        Err(Missing::Nowhere) => encrypted(name, disks, name),
        found => found,
    }
}

/// What an encrypted device shows, where it is open.
pub fn opened(block: &BlockReport) -> Option<&BlockReport> {
    block.children.iter().find(|child| child.kind == "crypt")
}

/// Whether `name` can be nothing but a device's: no system is called so.
pub fn is_name(name: &str) -> bool {
    name.starts_with("/dev/") || name.starts_with("ID=") || TAGS.iter().any(|t| name.starts_with(t.0))
}

/// Which of several with one name is meant.
fn meant<'a>(
    matches: &[&'a BlockReport],
    disks: &'a [BlockReport],
    beside: &str,
) -> Result<&'a BlockReport, Missing> {
    match matches {
        [] => Err(Missing::Nowhere),
        [one] if !is_clear(&one.probe) => Err(Missing::Several(vec![doubt(one)])),
        [one] => Ok(one),
        // The devices of one btrfs have its names together, and any of them stands for it.
        [first, ..] if pool::are_one(matches, disks) => {
            Ok(matches.iter().find(|b| b.path == beside).unwrap_or(first))
        }
        several => {
            let home = disk_of(disks, beside);
            let mut near = several.iter().filter(|b| home.is_some_and(|d| holds(d, &b.path)));
            match (near.next(), near.next()) {
                (Some(one), None) if !is_clear(&one.probe) => Err(Missing::Several(vec![doubt(one)])),
                (Some(one), None) => Ok(one),
                _ => Err(Missing::Several(several.iter().map(|b| b.path.clone()).collect())),
            }
        }
    }
}

fn holds(disk: &BlockReport, path: &str) -> bool {
    flat(std::slice::from_ref(disk)).iter().any(|b| b.path == path)
}

fn disk_of<'a>(disks: &'a [BlockReport], path: &str) -> Option<&'a BlockReport> {
    disks.iter().find(|d| holds(d, path))
}

/// What `source` is called now, when disks had other names in the system itself: one whose fstab says
/// `/dev/sda1` for the root that is on `/dev/vdb1` here means `/dev/vdb5` by `/dev/sda5`, whatever `/dev/sda`
/// is here. Where its root is named otherwise, the first disk of a kind that is not here (`/dev/hda5`,
/// `/dev/xvda5`) is the disk of the root.
pub fn today(source: &str, fstab_root: &str, root: &BlockReport, disks: &[BlockReport]) -> String {
    let now = || {
        let (old, number) = kernel_name(source)?;
        let same = kernel_name(fstab_root)
            .map(|(disk, n)| disk == old && root.partition.as_ref().is_some_and(|p| p.number == n));
        let first = old.ends_with('a') || old.ends_with("0n1p") || old.ends_with("blk0p");
        let gone = !disks.iter().any(|d| d.path == old.trim_end_matches('p'));
        if !same.unwrap_or(first && gone) {
            return None;
        }
        let partitions = &disk_of(disks, &root.path)?.children;
        let found = partitions.iter().find(|c| c.partition.as_ref().is_some_and(|p| p.number == number));
        found.map(|c| c.path.clone())
    };
    now().unwrap_or_else(|| source.into())
}

/// Whether it is no container, which shows what it holds to nobody.
fn holds_itself(signature: &SignatureReport) -> bool {
    signature.usage != "raid" && signature.usage != "crypto"
}

/// Whether one of several signatures has this UUID or label.
fn may_be(block: &BlockReport, tag: Tag, value: &str) -> bool {
    block.probe.signatures.iter().filter(|s| holds_itself(s)).any(|s| has(s, tag, value))
}

/// Whether a signature has this UUID or label.
fn has(signature: &SignatureReport, tag: Tag, value: &str) -> bool {
    !value.is_empty()
        && match tag {
            Tag::Uuid => signature.uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(value)),
            Tag::Label => signature.label.as_deref() == Some(value),
            _ => false,
        }
}

fn is(block: &BlockReport, tag: Tag, value: &str) -> bool {
    let same = |own: Option<&String>| own.is_some_and(|o| !o.is_empty() && o == value);
    let like = |own: Option<&String>| own.is_some_and(|o| !o.is_empty() && o.eq_ignore_ascii_case(value));
    let partition = block.partition.as_ref();
    // A member of an array shows the UUID and label of what the array holds to nobody.
    let ruins = block.probe.result == ProbeResult::Ambivalent;
    let content = matches!(block.probe.result, ProbeResult::Found | ProbeResult::Ambivalent)
        && is_clear(&block.probe)
        && block.probe.signatures.iter().all(|s| ruins && is_damaged(s) || holds_itself(s));
    match tag {
        Tag::Uuid => content && like(block.probe.uuid.as_ref()),
        Tag::Label => content && same(block.probe.label.as_ref()),
        Tag::PartUuid => like(partition.and_then(|p| p.uuid.as_ref())),
        Tag::PartLabel => same(partition.and_then(|p| p.name.as_ref())),
        Tag::Id | Tag::Place | Tag::Volume => false,
        Tag::Path => {
            block.path == value
                || block.path.starts_with("/dev/") && format!("/dev/{}", block.name) == value
                || mapped(value).is_some_and(|m| m == block.path)
        }
    }
}
