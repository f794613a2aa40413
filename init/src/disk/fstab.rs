//! fstab(5), as bytes from a disk that is not to be trusted.

use super::mountinfo::unescape;

/// Most lines that are read.
const LINES: usize = 4096;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line number, from 1.
    pub line: usize,
    /// First field, its quotes taken off: `UUID=…`, `/dev/sda1`.
    pub source: String,
    /// Where it goes, or `none`.
    pub target: String,
    /// File-system type.
    pub kind: String,
    /// Options.
    pub options: Vec<String>,
}

/// The entries in order, and the numbers of the lines that are none and were skipped.
pub fn parse(fstab: &[u8]) -> (Vec<Entry>, Vec<usize>) {
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    for (line, bytes) in (1..).zip(fstab.split(|b| *b == b'\n')).take(LINES) {
        let fields: Vec<String> = bytes
            .split(|b| b.is_ascii_whitespace())
            .filter(|f| !f.is_empty())
            .map(|f| String::from_utf8_lossy(&unescape(f)).into_owned())
            .collect();
        match fields.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            [source, target, kind, rest @ ..]
                if target.starts_with('/') || target == "none" || kind == "swap" =>
            {
                entries.push(Entry {
                    line,
                    source: source.replace('"', ""),
                    target: target.clone(),
                    kind: kind.clone(),
                    options: rest.first().map_or("defaults", |o| o).split(',').map(Into::into).collect(),
                });
            }
            _ => skipped.push(line),
        }
    }
    (entries, skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_quotes_escapes_and_garbage() {
        let text = b"# c\r\nUUID=\"a-b\" / ext4 ro,noatime 0 1\r\n\r\n/dev/sda2 /my\\040data vfat\ngarbage\n\xff \xfe x\n";
        let (entries, skipped) = parse(text);
        assert_eq!(skipped, [5, 6]);
        assert_eq!((entries[0].line, entries[0].source.as_str()), (2, "UUID=a-b"));
        assert_eq!(entries[0].options, ["ro", "noatime"]);
        assert_eq!(entries[1].target, "/my data");
        assert_eq!(entries[1].options, ["defaults"]);
    }
}
