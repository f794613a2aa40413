//! Files of sections: systemd.syntax(7), and NetworkManager's keyfiles.

use super::text;

/// Most lines of one file that are read.
const MAX_LINES: usize = 10_000;

/// A section.
#[derive(Debug, Clone, Default)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) entries: Vec<(String, String)>,
}

impl Section {
    /// The last value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Every value of a key; an empty one forgets those before it (systemd.syntax(7)).
    pub(super) fn all(&self, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for (_, value) in self.entries.iter().filter(|(k, _)| k == key) {
            match value.as_str() {
                "" => values.clear(),
                value => values.push(value),
            }
        }
        values
    }
}

/// The sections, in order. Lines that are neither section, assignment nor comment are skipped; a
/// backslash at its end joins a line with the next.
pub(super) fn parse(bytes: &[u8]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut joined = String::new();
    for (_, line) in text::lines(bytes).into_iter().take(MAX_LINES) {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(begun) = line.strip_suffix('\\') {
            joined.push_str(begun);
            joined.push(' ');
            continue;
        }
        joined.push_str(line);
        let whole = std::mem::take(&mut joined);
        let whole = whole.trim();
        if let Some(name) = whole.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            sections.push(Section { name: name.into(), entries: Vec::new() });
        } else if let Some((key, value)) = whole.split_once('=')
            && let Some(section) = sections.last_mut()
        {
            section.entries.push((key.trim().into(), value.trim().into()));
        }
    }
    sections
}

/// All sections of one name as one.
pub(super) fn section(sections: &[Section], names: &[&str]) -> Section {
    let same = sections.iter().filter(|s| names.contains(&s.name.as_str()));
    Section {
        name: names.first().map(|n| (*n).into()).unwrap_or_default(),
        entries: same.flat_map(|s| s.entries.iter().cloned()).collect(),
    }
}
