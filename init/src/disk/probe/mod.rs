//! What is on a device: one file a format, one row in [`CONTAINERS`] or [`FILE_SYSTEMS`].
//!
//! A probe takes a bounded reader and answers this, not mine, or unreadable. All of them are asked, and
//! [`verdict`] makes one report of what they say. To add a format: write `probe/<format>.rs` with a
//! `probe` function and add its row. A probe answers for its own format alone: whether another one's
//! signature is likelier is no question for it.

mod apfs;
mod bcachefs;
mod befs;
mod btrfs;
mod container;
mod cramfs;
mod erofs;
mod exfat;
mod ext;
mod f2fs;
mod gfs2;
mod hash;
mod hfs;
mod iso9660;
mod jfs;
mod minix;
mod named;
mod nilfs2;
mod ntfs;
mod ntfs_files;
mod ocfs2;
mod refs;
mod reiserfs;
mod romfs;
mod squashfs;
mod swap;
mod udf;
mod ufs;
mod verdict;
mod vfat;
mod xfs;
mod xfs_log;

use rescue_schema::report::{ProbeReport, ProbeResult, Proof, SignatureReport};

use super::source::{Answer, Reader, Unreadable};
use super::table;

type Probe = fn(&Reader<'_>) -> Answer<SignatureReport>;
/// Whether what a superblock points to is where it says; `None` when that cannot be told.
type Confirm = fn(&Reader<'_>, &SignatureReport) -> Answer<bool>;

/// A format.
pub struct Format {
    /// Its name, for messages and tests.
    pub name: &'static str,
    probe: Probe,
    remains: Option<Probe>,
    confirm: Option<Confirm>,
    of_disks: bool,
}

impl Format {
    const fn new(name: &'static str, probe: Probe) -> Self {
        Self { name, probe, remains: None, confirm: None, of_disks: false }
    }

    /// What finds the backups of a superblock that is gone. Asked only where nothing at all was found,
    /// since the backups of an older format survive most reformatting.
    const fn remains(self, remains: Probe) -> Self {
        Self { remains: Some(remains), ..self }
    }

    /// It is on whole disks alone. Looked for in a dozen places, which nothing else is near, so that each of them
    /// is a read.
    const fn of_disks(self) -> Self {
        Self { of_disks: true, ..self }
    }

    /// What tells a living file system from a superblock that was left behind. Asked only when
    /// signatures contradict one another.
    const fn confirm(self, confirm: Confirm) -> Self {
        Self { confirm: Some(confirm), ..self }
    }
}

/// What holds others. Where a member of one looks like its own content, the container comes first.
const CONTAINERS: &[Format] = container::FORMATS;

/// File systems and swap; those with long magic numbers before those whose proof is weaker.
const FILE_SYSTEMS: &[Format] = &[
    Format::new("swap", swap::probe),
    Format::new("xfs", xfs::probe).remains(xfs::remains).confirm(xfs::confirm),
    Format::new("xfs_external_log", xfs::log).remains(xfs::log_remains),
    Format::new("btrfs", btrfs::probe).remains(btrfs::remains).confirm(btrfs::confirm),
    Format::new("ext", ext::probe).remains(ext::remains).confirm(ext::confirm),
    Format::new("f2fs", f2fs::probe),
    Format::new("bcachefs", bcachefs::probe).remains(bcachefs::remains),
    Format::new("ntfs", ntfs::probe).remains(ntfs::remains),
    Format::new("exfat", exfat::probe).remains(exfat::remains),
    Format::new("refs", refs::probe).remains(refs::remains),
    Format::new("udf", udf::probe),
    Format::new("iso9660", iso9660::probe),
    Format::new("hfsplus", hfs::hfsplus).remains(hfs::remains),
    Format::new("hfs", hfs::hfs),
    Format::new("apfs", apfs::probe).remains(apfs::remains),
    Format::new("ufs", ufs::probe).remains(ufs::remains),
    Format::new("jfs", jfs::probe).remains(jfs::remains),
    Format::new("reiserfs", reiserfs::third),
    Format::new("reiser4", reiserfs::fourth),
    Format::new("nilfs2", nilfs2::probe),
    Format::new("ocfs2", ocfs2::probe).remains(ocfs2::remains),
    Format::new("gfs2", gfs2::probe),
    Format::new("squashfs", squashfs::probe),
    Format::new("erofs", erofs::probe),
    Format::new("cramfs", cramfs::probe),
    Format::new("romfs", romfs::probe),
    Format::new("befs", befs::probe),
    Format::new("minix", minix::probe),
    Format::new("named", named::probe),
    Format::new("vfat", vfat::probe).remains(vfat::remains).confirm(vfat::confirm),
];

/// Partitions that are looked into to tell whether a table is in use that contradicts something else.
const TRIED: usize = 4;

/// Every format, in the order in which it is asked.
pub fn formats() -> impl Iterator<Item = &'static Format> {
    CONTAINERS.iter().chain(FILE_SYSTEMS)
}

/// What one format says of a device: its signature, and its backups where the superblock is lost.
pub fn ask_one(name: &str, reader: &Reader<'_>) -> Vec<SignatureReport> {
    let mut found = Vec::new();
    for format in formats().filter(|format| format.name == name) {
        found.extend(ask(reader, format.probe).ok().flatten());
        if let (Some(confirm), Some(signature)) = (format.confirm, found.first()) {
            let _ = ask(reader, |reader| confirm(reader, signature));
        }
        found.extend(format.remains.and_then(|remains| ask(reader, remains).ok().flatten()));
    }
    found
}

/// A signature to fill in; `usage` is `filesystem`, `raid`, `crypto` or `other`.
fn signature(kind: &str, usage: &str, offset: u64, proof: Proof) -> SignatureReport {
    SignatureReport { kind: kind.into(), usage: usage.into(), offset, proof, ..SignatureReport::default() }
}

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
    let mut findings = Vec::new();
    let mut unreadable = Vec::new();
    let mut note = |why: Unreadable| unreadable.push(why.0);
    for format in formats().filter(|format| reader.is_disk() || !format.of_disks) {
        match ask(reader, format.probe) {
            Ok(Some(signature)) => findings.push((signature, format.confirm)),
            Ok(None) => {}
            Err(why) => note(why),
        }
    }
    let mut partitions = Vec::new();
    if whole {
        match ask(reader, table::probe) {
            Ok(Some((signature, found))) => {
                let others: Vec<&SignatureReport> = findings.iter().map(|(s, _)| s).collect();
                let code = signature.kind == "dos" && verdict::is_boot_code(&others, &found, reader.size());
                if !code {
                    findings.retain(|(other, _)| !verdict::is_of_a_partition(other, &found));
                    findings.push((signature, None));
                    partitions = found;
                }
            }
            Ok(None) => {}
            Err(why) => note(why),
        }
    }
    if findings.is_empty() {
        for remains in formats().filter_map(|format| format.remains) {
            match ask(reader, remains) {
                Ok(Some(signature)) => findings.push((signature, None)),
                Ok(None) => {}
                Err(why) => note(why),
            }
        }
    }
    let contradictory =
        verdict::contradictory(findings.iter().map(|(signature, _)| signature), reader.size());
    if contradictory {
        for (signature, confirm) in &mut findings {
            // What cannot be read here proves nothing, and is no reason to doubt what was found.
            if let Some(confirm) = confirm
                && let Ok(Some(alive)) = ask(reader, |reader| confirm(reader, signature))
            {
                verdict::confirmed(signature, alive);
            }
        }
    }
    let mut signatures: Vec<SignatureReport> = findings.into_iter().map(|(signature, _)| signature).collect();
    if contradictory && let Some(table) = signatures.iter_mut().find(|s| s.usage == "partition-table") {
        // A table whose partitions hold something is in use, whatever lies beside it.
        let parts = partitions.iter().take(TRIED).map(|p| reader.part(p.start, p.size));
        if parts.into_iter().any(|part| contents(&part, false).result == ProbeResult::Found) {
            verdict::confirmed(table, true);
        }
    }
    verdict::report(signatures, partitions, unreadable, reader.size())
}

fn ask<T>(reader: &Reader<'_>, probe: impl FnOnce(&Reader<'_>) -> Answer<T>) -> Answer<T> {
    reader.refill();
    probe(reader)
}
