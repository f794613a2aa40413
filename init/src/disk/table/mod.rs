//! Partition tables: one file a format. [`probe`] asks them in the order of the kernel and says which one
//! counts where several stand on one disk.
//!
//! A table that is damaged still tells what is left of it: the report says which copy was used, what is
//! wrong, and the command that repairs it. To add a format: one file here, and its place in [`probe`].

mod bsd;
mod gpt;
mod gpt_copy;
mod gpt_names;
mod ldm;
mod mac;
mod mbr;
mod sgi;
mod sun;

use rescue_schema::report::{PartitionReport, SignatureReport};

use super::source::{Answer, Reader};

/// A table and its partitions.
type Table = (SignatureReport, Vec<PartitionReport>);

/// Most partitions that are reported; the kernel has no numbers for more (`DISK_MAX_PARTS`).
const MOST: usize = 256;
/// Most complaints of one kind that are told one by one.
const TOLD: usize = 8;

/// The table that counts, and what is left of others beside it.
pub(super) fn probe(reader: &Reader<'_>) -> Answer<Table> {
    // A bad sector 0 must not hide a GPT that has all it needs in the sectors after it.
    let mbr = mbr::read(reader);
    let known = mbr.as_ref().ok().and_then(Option::as_ref);
    let gpt = gpt::probe(reader, known);
    if let Ok(Some((mut signature, partitions))) = gpt {
        match known {
            Some(mbr) if !mbr.protective && mbr.is_table() => {
                if let Some((mut dos, partitions)) = mbr::probe(reader, mbr)? {
                    dos.notes.push(
                        "an older GPT is left beside it, which the kernel ignores; `wipefs DEV` shows it"
                            .into(),
                    );
                    return finish(reader, dos, partitions);
                }
            }
            Some(mbr) if mbr.protective => {}
            _ => {
                signature.state = Some("damaged".into());
                signature.notes.push(match (&mbr, &signature.repair) {
                    (Err(why), _) => format!("the protective MBR cannot be read: {}", why.0),
                    (_, Some(_)) => "the protective MBR is gone too".into(),
                    (_, None) => {
                        "the protective MBR is gone: the kernel shows none of these partitions until \
                                  `sgdisk -e DEV` has written it again"
                            .into()
                    }
                });
                signature.repair.get_or_insert("sgdisk -e DEV".into());
            }
        }
        return finish(reader, signature, partitions);
    }
    let dos = match &mbr {
        Ok(Some(mbr)) => mbr::probe(reader, mbr)?,
        Ok(None) => None,
        Err(why) => return Err(why.clone()),
    };
    if let Some((signature, partitions)) = dos {
        return finish(reader, signature, partitions);
    }
    for probe in [sgi::probe, bsd::probe, sun::probe, mac::probe] {
        if let Some((signature, partitions)) = probe(reader)? {
            return finish(reader, signature, partitions);
        }
    }
    gpt.map(|_| None)
}

/// What every table is asked: whether its partitions fit the disk and one another.
fn finish(
    reader: &Reader<'_>,
    mut signature: SignatureReport,
    mut partitions: Vec<PartitionReport>,
) -> Answer<Table> {
    if partitions.len() > MOST {
        signature
            .notes
            .push(format!("{} more partitions, past what the kernel counts", partitions.len() - MOST));
        partitions.truncate(MOST);
    }
    let complaints = complaints(&partitions, reader.size());
    if !complaints.is_empty() && signature.state.as_deref() == Some("clean") {
        signature.state = Some("errors seen".into());
    }
    signature.notes.extend(complaints);
    Ok(Some((signature, partitions)))
}

/// Whether a partition of this type holds a table of others.
fn is_extended(partition: &PartitionReport) -> bool {
    matches!(partition.kind.as_str(), "0x5" | "0xf" | "0x85")
}

fn end(partition: &PartitionReport) -> Option<u64> {
    partition.start.checked_add(partition.size)
}

/// Says which partitions overlap or leave the disk.
fn complaints(partitions: &[PartitionReport], size: u64) -> Vec<String> {
    let mut beyond = Vec::new();
    for p in partitions {
        match end(p) {
            _ if p.start >= size => {
                beyond.push(format!("partition {} starts beyond the end of the disk", p.number))
            }
            Some(end) if end <= size => {}
            Some(end) => {
                beyond.push(format!("partition {} ends {} bytes beyond the disk", p.number, end - size))
            }
            None => beyond.push(format!("partition {} ends beyond the disk", p.number)),
        }
    }
    // What lies in another on purpose (a BSD slice, an extended partition) is no overlap.
    let mut sorted: Vec<_> = partitions.iter().filter(|p| !is_extended(p) && p.size > 0).collect();
    sorted.sort_by_key(|p| p.start);
    let mut overlaps = Vec::new();
    let mut last: Option<&PartitionReport> = None;
    for p in sorted {
        let below = |a: &PartitionReport, b: &PartitionReport| a.parent == Some(b.number);
        if let Some(a) = last.filter(|a| !below(a, p) && !below(p, a))
            && end(a).is_none_or(|end| end > p.start)
        {
            overlaps.push(format!("partitions {} and {} overlap", a.number, p.number));
        }
        if p.parent.is_none() && last.is_none_or(|a| end(a).unwrap_or(u64::MAX) <= end(p).unwrap_or(u64::MAX))
        {
            last = Some(p);
        }
    }
    let mut notes = Vec::new();
    for mut list in [beyond, overlaps] {
        let more = list.len().saturating_sub(TOLD);
        list.truncate(TOLD);
        notes.append(&mut list);
        if more > 0 {
            notes.push(format!("and {more} more like it"));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_partition_overlaps_all_that_start_in_it() {
        let part =
            |number, start, size| PartitionReport { number, start, size, ..PartitionReport::default() };
        let notes = complaints(&[part(1, 0, 100), part(2, 10, 5), part(3, 50, 60), part(4, 110, 10)], 120);
        assert_eq!(notes, ["partitions 1 and 2 overlap", "partitions 1 and 3 overlap"]);
        let slice = PartitionReport { parent: Some(1), ..part(5, 10, 20) };
        assert!(complaints(&[part(1, 0, 100), slice], 120).is_empty());
        assert_eq!(complaints(&[part(1, u64::MAX, 2), part(2, 0, 0)], 9).len(), 1);
        let many: Vec<_> = (1..=50).map(|n| part(n, 200, 0)).collect();
        assert_eq!(complaints(&many, 120).len(), TOLD + 1);
    }
}
