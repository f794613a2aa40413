//! Matching a device's modalias against the patterns of its drivers.

use std::collections::HashMap;

/// Patterns, sorted by what they begin with, so that a device is compared with the few that can match
/// and not with all ten thousand.
#[derive(Debug, Default)]
pub struct Index<'a> {
    /// By the bytes before the first wildcard or escape, cut to [`PREFIX`]; patterns with fewer stand
    /// under what they have.
    by_prefix: HashMap<&'a [u8], Vec<(&'a str, &'a str)>>,
}

/// Bytes of a pattern that sort it: `pci:v00001AF4` tells one vendor from another.
const PREFIX: usize = 13;

impl<'a> Index<'a> {
    /// Adds a pattern and the module that it stands for.
    pub fn insert(&mut self, pattern: &'a str, module: &'a str) {
        let literal = pattern.bytes().position(|b| b"*?[\\".contains(&b)).unwrap_or(pattern.len());
        let prefix = pattern.as_bytes().get(..literal.min(PREFIX)).unwrap_or_default();
        self.by_prefix.entry(prefix).or_default().push((pattern, module));
    }

    /// The modules whose patterns match, each once.
    pub fn matches(&self, name: &str) -> Vec<&'a str> {
        let mut found = Vec::new();
        for length in 0..=PREFIX.min(name.len()) {
            let bucket = name.as_bytes().get(..length).and_then(|prefix| self.by_prefix.get(prefix));
            for (pattern, module) in bucket.into_iter().flatten() {
                if !found.contains(module) && matches(pattern, name) {
                    found.push(*module);
                }
            }
        }
        found
    }
}

/// Whether `name` is what `pattern` describes (fnmatch(3) as kmod uses it: `*`, `?`, `[…]` with ranges
/// and `!`). Takes time proportional to the product of the lengths at the most.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and how much of the name it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class(pattern.get(p + 1..).unwrap_or_default(), *byte).map(|length| length + 1),
            Some(b'\\') => (pattern.get(p + 1) == Some(byte)).then_some(2),
            Some(literal) => (literal == byte).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

/// Length of a class with its `]` when `byte` is in it. `rest` begins behind the `[`; a class that is
/// never closed matches nothing.
fn class(rest: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let start = usize::from(negated);
    let end = start + 1 + rest.get(start + 1..)?.iter().position(|b| *b == b']')?;
    let members = rest.get(start..end)?;
    let mut inside = false;
    let mut at = 0;
    while let Some(low) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some(b'-'), Some(high)) => {
                inside |= (*low..=*high).contains(&byte);
                at += 3;
            }
            _ => {
                inside |= *low == byte;
                at += 1;
            }
        }
    }
    (inside != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_fnmatch_does() {
        for (pattern, name, expected) in [
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000001v*", "virtio:d00000002v00001AF4", false),
            ("pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "axxbxx", false),
            ("input:b*v*p*e*-e*1,*k*r*", "input:b0003v1p2e3-e0,1,4kr", true),
            ("x[0-9a]y", "xay", true),
            ("x[0-9a]y", "xby", false),
            ("x[!0-9]y", "xby", true),
            ("x[]]y", "x]y", true),
            ("x[", "x[", false),
            ("a?c", "abc", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let pattern = "a*".repeat(2000) + "b";
        assert!(!matches(&pattern, &"a".repeat(4000)));
    }

    #[test]
    fn the_index_finds_what_a_scan_would() {
        let lines = [
            ("virtio:d00000001v*", "virtio_net"),
            ("pci:v00001AF4d*", "virtio_pci"),
            ("pci:v*d*sv*sd*bc02*", "any_nic"),
            ("of:N*T*", "of"),
            ("*", "everything"),
            ("esc\\*ape", "escaped"),
            ("ext4", "ext4"),
        ];
        let mut index = Index::default();
        lines.iter().for_each(|(pattern, module)| index.insert(pattern, module));
        let device = "pci:v00001AF4d00001000sv0sd0bc02sc00i00";
        for name in ["virtio:d00000001v00001AF4", device, "ext4", "esc*ape", "", "é"] {
            let mut scan: Vec<_> = lines.iter().filter(|(p, _)| matches(p, name)).map(|(_, m)| *m).collect();
            let mut found = index.matches(name);
            scan.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, scan, "{name}");
        }
    }
}
