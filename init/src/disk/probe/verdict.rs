//! What several signatures on one device come to: pure, from what the probes said.
//!
//! A new format does not erase all of what was there before, so a device often carries two. Some pairs
//! belong together (a RAID member whose superblock is at its end shows its content at the front; a disc with
//! ISO 9660 and UDF). The others contradict one another: all are listed, the likelier first, with the reason.

use std::cmp::Reverse;

use rescue_schema::report::{PartitionReport, ProbeReport, ProbeResult, Proof, SignatureReport};

/// Disc formats that share one medium on purpose, each with its own superblock.
const TOGETHER: &[&str] = &["iso9660", "udf", "hfs", "hfsplus"];
/// Most reasons for which something was unreadable that are told.
const REASONS: usize = 6;

fn is_container(s: &SignatureReport) -> bool {
    matches!(s.usage.as_str(), "raid" | "crypto")
}

fn is_table(s: &SignatureReport) -> bool {
    s.usage == "partition-table"
}

fn is_damaged(s: &SignatureReport) -> bool {
    s.state.as_deref() == Some("damaged")
}

/// Whether it lies at the end, where it leaves the front to what it holds.
fn shows_its_content(s: &SignatureReport, size: u64) -> bool {
    is_container(s) && s.offset >= size / 2 && s.offset > 0
}

fn contradict(a: &SignatureReport, b: &SignatureReport, size: u64) -> bool {
    // A disc image made to boot from a USB stick has a partition table on purpose.
    let disc = |s: &SignatureReport| TOGETHER.contains(&s.kind.as_str());
    let together =
        disc(a) && disc(b) || a.kind == "iso9660" && is_table(b) || b.kind == "iso9660" && is_table(a);
    let holds = shows_its_content(a, size) != shows_its_content(b, size);
    !(together || holds)
}

/// Whether any two of them cannot both be meant.
pub(super) fn contradictory<'a>(
    signatures: impl Iterator<Item = &'a SignatureReport> + Clone,
    size: u64,
) -> bool {
    let mut rest = signatures;
    while let Some(a) = rest.next() {
        if rest.clone().any(|b| contradict(a, b, size)) {
            return true;
        }
    }
    false
}

/// Whether a partition table in the sector of another format's boot code is but that code: a table that was
/// written on purpose has partitions that lie on the device beside one another.
pub(super) fn is_boot_code(
    signatures: &[&SignatureReport],
    partitions: &[PartitionReport],
    size: u64,
) -> bool {
    let boots =
        |s: &&&SignatureReport| matches!(s.kind.as_str(), "vfat" | "ntfs" | "exfat" | "BitLocker" | "ReFS");
    let mut places: Vec<(u64, u64)> =
        partitions.iter().map(|p| (p.start, p.start.saturating_add(p.size))).collect();
    places.sort_unstable();
    let apart = places.iter().zip(places.iter().skip(1)).all(|(a, b)| a.1 <= b.0);
    let inside = places.iter().all(|(start, end)| *start > 0 && *end <= size);
    let boots = signatures.iter().filter(boots).any(|s| s.proof > Proof::Magic && s.offset < 512);
    // UDF on a hard disk may have a table whose one partition is all of the disk, itself included (`mkudffs
    // --bootarea=mbr`).
    let around = places.iter().any(|(start, _)| *start == 0) && signatures.iter().any(|s| s.kind == "udf");
    (boots && !(apart && inside)) || around
}

/// Whether a signature at the front of a disk is that of a partition which begins where the disk does, as the
/// first one of BSD and Sun labels may: the label is in sectors that its file system leaves free.
pub(super) fn is_of_a_partition(signature: &SignatureReport, partitions: &[PartitionReport]) -> bool {
    partitions
        .iter()
        .filter(|p| p.start == 0)
        .any(|p| signature.offset < p.size && signature.size.is_none_or(|own| own <= p.size))
}

/// What looking at more than the superblock told.
pub(super) fn confirmed(signature: &mut SignatureReport, alive: bool) {
    if alive {
        signature.proof = Proof::Structure;
    } else {
        signature.state = Some("damaged".into());
        signature.notes.push(format!("what the {} superblock points to is not there", signature.kind));
    }
}

/// A table whose partitions hold something. mkfs on a whole disk wipes the table that was there, while
/// partitioning leaves the superblock of what the disk was before: so the table is younger.
fn is_used_table(s: &SignatureReport) -> bool {
    is_table(s) && s.proof == Proof::Structure
}

/// Higher is likelier.
fn likelihood(s: &SignatureReport, size: u64) -> (bool, bool, bool, Proof, bool) {
    let fits = s.size.is_none_or(|own| own <= size);
    (shows_its_content(s, size), !is_damaged(s), is_used_table(s), s.proof, fits)
}

/// Why `a` is likelier than `b`.
fn reason(a: &SignatureReport, b: &SignatureReport, size: u64) -> String {
    let beyond = |s: &SignatureReport| s.size.is_some_and(|own| own > size);
    let proof = |s: &SignatureReport| match s.proof {
        Proof::Magic => "shows its magic number alone",
        Proof::Fields => "has fields that agree with one another",
        Proof::Checksum => "has a superblock whose checksum holds",
        Proof::Structure => "has its structures where its superblock says",
    };
    match () {
        () if is_damaged(b) && !is_damaged(a) => format!("{} is damaged", b.kind),
        () if is_used_table(a) => format!("partitions of the {} table hold something", a.kind),
        () if a.proof != b.proof => format!("{} {}, {} {}", a.kind, proof(a), b.kind, proof(b)),
        () if beyond(b) && !beyond(a) => format!("{} says to be larger than the device", b.kind),
        () => format!("{} and {} look equally whole", a.kind, b.kind),
    }
}

/// One report of all that was found, and of what could not be read.
pub(super) fn report(
    mut signatures: Vec<SignatureReport>,
    partitions: Vec<PartitionReport>,
    unreadable: Vec<String>,
    size: u64,
) -> ProbeReport {
    let mut notes = Vec::new();
    let ambivalent = contradictory(signatures.iter(), size);
    if ambivalent {
        // Stable: of equals the one that is asked first comes first.
        signatures.sort_by_key(|s| Reverse(likelihood(s, size)));
        if let Some((first, others)) = signatures.split_first() {
            let rivals =
                others.iter().filter(|s| contradict(first, s, size) || !shows_its_content(first, size));
            let reasons = rivals
                .map(|s| format!("more likely {} than {}: {}", first.kind, s.kind, reason(first, s, size)));
            notes.extend(reasons);
        }
    }
    let result = match (ambivalent, signatures.is_empty(), unreadable.is_empty()) {
        (true, ..) => ProbeResult::Ambivalent,
        (_, false, _) => ProbeResult::Found,
        (_, true, true) => ProbeResult::Nothing,
        (_, true, false) => ProbeResult::Unreadable,
    };
    for found in signatures.iter_mut().filter(|s| s.usage == "filesystem") {
        if let Some(own) = found.size.filter(|own| *own > size) {
            found.notes.push(format!("it says to have {own} bytes, the device has {size}"));
            found.state = Some("damaged".into());
        }
    }
    let mut report = ProbeReport { result, size, partitions, ..ProbeReport::default() };
    if let Some(first) = signatures.first() {
        report.kind = Some(first.kind.clone());
        report.label = first.label.clone();
        report.uuid = first.uuid.clone();
        report.version = first.version.clone();
        report.state = first.state.clone();
        report.block_size = first.block_size;
        notes.extend(first.notes.iter().cloned());
        if let Some(own) = first.size.filter(|own| first.usage != "filesystem" && *own > size) {
            notes.push(format!("it says to have {own} bytes, the device has {size}"));
        }
    }
    report.signatures = signatures;
    let mut told: Vec<String> = Vec::new();
    for why in unreadable {
        if !told.contains(&why) {
            told.push(why);
        }
    }
    let more = told.len().saturating_sub(REASONS);
    told.truncate(REASONS);
    if more > 0 {
        told.push(format!("{more} more places could not be read"));
    }
    report.notes = notes;
    report.notes.append(&mut told);
    report
}

#[cfg(test)]
mod tests {
    use super::super::signature;
    use super::*;

    fn judged(signatures: Vec<SignatureReport>) -> (ProbeResult, Vec<String>, String) {
        let report = report(signatures, Vec::new(), Vec::new(), 1 << 30);
        let kinds = report.signatures.iter().map(|s| s.kind.clone()).collect();
        (report.result, kinds, report.notes.join("; "))
    }

    #[test]
    fn a_member_with_its_superblock_at_the_end_shows_what_it_holds() {
        let end = signature("linux_raid_member", "raid", (1 << 30) - 8192, Proof::Checksum);
        let ext4 = signature("ext4", "filesystem", 1080, Proof::Checksum);
        let gpt = signature("gpt", "partition-table", 512, Proof::Checksum);
        for content in [ext4, gpt] {
            let (result, kinds, notes) = judged(vec![end.clone(), content]);
            assert_eq!(
                (result, kinds[0].as_str(), notes.as_str()),
                (ProbeResult::Found, "linux_raid_member", "")
            );
        }
    }

    #[test]
    fn what_is_left_of_an_older_format_comes_second_with_the_reason() {
        let luks = signature("crypto_LUKS", "crypto", 16384, Proof::Checksum);
        let mut old = luks.clone();
        old.state = Some("damaged".into());
        let ext4 = signature("ext4", "filesystem", 1080, Proof::Checksum);
        let (result, kinds, notes) = judged(vec![old, ext4.clone()]);
        assert_eq!((result, kinds[0].as_str()), (ProbeResult::Ambivalent, "ext4"));
        assert_eq!(notes, "more likely ext4 than crypto_LUKS: crypto_LUKS is damaged");
        let weak = signature("vfat", "filesystem", 510, Proof::Magic);
        assert_eq!(judged(vec![weak, ext4.clone()]).1[0], "ext4");
        let (.., notes) = judged(vec![luks, ext4]);
        assert!(notes.ends_with("look equally whole"), "{notes}");
    }

    #[test]
    fn a_disc_may_be_several_things_on_purpose() {
        let iso = signature("iso9660", "filesystem", 32769, Proof::Fields);
        let udf = signature("udf", "filesystem", 32769, Proof::Checksum);
        let dos = signature("dos", "partition-table", 510, Proof::Magic);
        assert_eq!(judged(vec![udf, iso.clone()]).0, ProbeResult::Found);
        assert_eq!(judged(vec![iso, dos]).0, ProbeResult::Found);
    }
}
