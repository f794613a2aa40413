//! What is on a device: one file a format, one row in [`PROBES`].
//!
//! A probe takes a bounded reader and answers this, not mine, or unreadable. To add one: write
//! `probe/<format>.rs` with a `probe` function and add its row.

mod ext;
mod others;
mod swap;
mod vfat;

use rescue_schema::report::{ProbeReport, ProbeResult, SignatureReport};

use super::source::{Answer, Reader};
use super::table;

/// Containers stand first, because a member of one may look like its own content; file systems with
/// long magic numbers before vfat and the rest, whose proof is weaker.
const PROBES: &[fn(&Reader<'_>) -> Answer<SignatureReport>] = &[
    others::md,
    others::lvm,
    others::luks,
    swap::probe,
    others::xfs,
    others::btrfs,
    others::windows,
    ext::probe,
    others::iso9660,
    others::squashfs,
    vfat::probe,
];

/// Looks at a whole device or image, and at its partitions where it has a table of them.
pub fn image(reader: &Reader<'_>) -> ProbeReport {
    let mut report = device(reader);
    for partition in &mut report.partitions {
        // An extended partition holds a table, and its first sector is no content.
        if !matches!(partition.kind.as_str(), "0x5" | "0xf" | "0x85") {
            let content = contents(&reader.part(partition.start, partition.size), false);
            partition.content = Some(Box::new(content));
        }
    }
    report
}

/// Looks at a device alone.
pub fn device(reader: &Reader<'_>) -> ProbeReport {
    contents(reader, true)
}

fn contents(reader: &Reader<'_>, whole: bool) -> ProbeReport {
    let mut report = ProbeReport { size: reader.size(), ..ProbeReport::default() };
    let mut unreadable = Vec::new();
    for probe in PROBES {
        match probe(reader) {
            Ok(Some(found)) => report.signatures.push(found),
            Ok(None) => {}
            Err(why) => unreadable.push(why.0),
        }
    }
    if whole {
        match table::probe(reader) {
            Ok(Some((signature, partitions))) => {
                report.signatures.push(signature);
                report.partitions = partitions;
            }
            Ok(None) => {}
            Err(why) => unreadable.push(why.0),
        }
    }
    if report.signatures.is_empty() && unreadable.is_empty() {
        match ext::remains(reader) {
            Ok(found) => report.signatures.extend(found),
            Err(why) => unreadable.push(why.0),
        }
    }
    unreadable.dedup();
    let systems = report.signatures.iter().filter(|s| matches!(s.usage.as_str(), "filesystem" | "other"));
    let container = report.signatures.iter().any(|s| matches!(s.usage.as_str(), "raid" | "crypto"));
    report.result = match (systems.count(), report.signatures.is_empty(), unreadable.is_empty()) {
        (2.., ..) if !container => ProbeResult::Ambivalent,
        (_, false, _) => ProbeResult::Found,
        (_, true, true) => ProbeResult::Nothing,
        (_, true, false) => ProbeResult::Unreadable,
    };
    if let Some(first) = report.signatures.first() {
        report.kind = Some(first.kind.clone());
        report.label = first.label.clone();
        report.uuid = first.uuid.clone();
        report.version = first.version.clone();
        report.state = first.state.clone();
        report.block_size = first.block_size;
        report.notes = first.notes.clone();
    }
    report.notes.append(&mut unreadable);
    report
}
