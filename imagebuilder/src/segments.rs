//! How an image is cut into archives, which the kernel unpacks one after the other
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Pure.
//!
//! Each is compressed by itself: a build computes those that have changed and takes the others from the cache,
//! and what is packed already is not compressed a second time.

use std::collections::BTreeMap;

use crate::image::{Entry, Node};
use crate::observe::Content;
use crate::plan::Plan;

/// Bytes of contents after which another archive begins: zstd's window, and enough of them to keep all cores busy.
const SEGMENT_BYTES: u64 = 8 << 20;

/// One archive of an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    /// In the order of their paths.
    pub(crate) entries: Vec<(&'a str, &'a Entry)>,
    /// Whether it is compressed; what is packed file by file is not.
    pub(crate) compressed: bool,
}

/// Cuts an image whose contents have so many bytes.
///
/// First comes what the others lie in: the directories, with the links and what the builder writes itself.
/// Then one for each origin, so that another program or package leaves the others as they were, and last what is
/// not compressed: an archive behind it, such as `device.cpio`, is not either.
pub(crate) fn segments<'a>(plan: &'a Plan, bytes: impl Fn(&str) -> u64) -> Vec<Segment<'a>> {
    let (mut first, mut packed) = (Vec::new(), Vec::new());
    let mut origins: BTreeMap<&str, Vec<Vec<(&str, &Entry)>>> = BTreeMap::new();
    let mut filled: BTreeMap<&str, u64> = BTreeMap::new();
    for (path, entry) in &plan.entries {
        let row = (path.as_str(), entry);
        match &entry.node {
            Node::Directory | Node::Symlink(_) | Node::CharDevice(..) | Node::File(Content::Inline(_)) => {
                first.push(row);
            }
            Node::Zstd(_) => packed.push(row),
            Node::File(_) => {
                let filled = filled.entry(&entry.origin).or_default();
                let archives = origins.entry(&entry.origin).or_default();
                match archives.last_mut() {
                    Some(last) if *filled + bytes(path) <= SEGMENT_BYTES => last.push(row),
                    _ => {
                        *filled = 0;
                        archives.push(vec![row]);
                    }
                }
                *filled += bytes(path);
            }
        }
    }
    let compressed = std::iter::once(first).chain(origins.into_values().flatten());
    let compressed = compressed.map(|entries| Segment { entries, compressed: true });
    let packed = (!packed.is_empty()).then_some(Segment { entries: packed, compressed: false });
    compressed.chain(packed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kmod::Packing;
    use rescue_schema::manifest::ImageInfo;

    fn plan(entries: &[(&str, Node, &str)]) -> Plan {
        let entry =
            |node: &Node, origin: &str| Entry { mode: 0o755, node: node.clone(), origin: origin.into() };
        Plan {
            info: ImageInfo {
                family: "debian".into(),
                profile: "minimal".into(),
                version: String::new(),
                kernel: String::new(),
                guest: Default::default(),
            },
            vmlinuz: Content::Inline(Vec::new()),
            entries: entries.iter().map(|(path, node, from)| ((*path).into(), entry(node, from))).collect(),
            modules: 0,
            pack_level: 1,
            remarks: Vec::new(),
        }
    }

    fn names(segments: &[Segment<'_>]) -> Vec<(Vec<String>, bool)> {
        let paths = |segment: &Segment<'_>| segment.entries.iter().map(|(path, _)| (*path).into()).collect();
        segments.iter().map(|segment| (paths(segment), segment.compressed)).collect()
    }

    #[test]
    fn one_for_each_origin_behind_what_they_lie_in() {
        let host = || Node::File(Content::Host("/x".into(), Packing::Plain));
        let inline = || Content::Inline(b"text".to_vec());
        let plan = plan(&[
            ("bin", Node::Directory, "rescue"),
            ("bin/a", host(), "a=1"),
            ("bin/b", host(), "b=1"),
            ("bin/c", host(), "a=1"),
            ("etc", Node::Directory, "rescue"),
            ("etc/text", Node::File(inline()), "rescue"),
            ("init", host(), "rescue"),
            ("lib", Node::Symlink("usr/lib".into()), "a=1"),
            ("x.zst", Node::Zstd(inline()), "b=1"),
        ]);
        let cut = |bytes: u64| names(&segments(&plan, |_| bytes));
        let row = |paths: &[&str], compressed| (paths.iter().map(|p| (*p).to_string()).collect(), compressed);
        let first = row(&["bin", "etc", "etc/text", "lib"], true);
        let last = row(&["x.zst"], false);
        let (b, init) = (row(&["bin/b"], true), row(&["init"], true));
        let small = [first.clone(), row(&["bin/a", "bin/c"], true), b.clone(), init.clone(), last.clone()];
        assert_eq!(cut(1), small);
        assert_eq!(cut(SEGMENT_BYTES / 2), small);
        let (a, c) = (row(&["bin/a"], true), row(&["bin/c"], true));
        assert_eq!(cut(SEGMENT_BYTES / 2 + 1), [first, a, c, b, init, last]);
    }
}
