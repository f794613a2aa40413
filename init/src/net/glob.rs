//! Patterns of names and places, as in glob(7).

/// Whether it is a pattern and not a name.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '!'])
}

/// Whether a pattern with `*`, `?` and `[…]` covers all of a text. Linear in both but for one step back
/// a star.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(byte) = text.get(t) {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'[') => class(pattern.get(p..).unwrap_or_default(), *byte),
            Some(wanted) if *wanted == b'?' || wanted == byte => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// The length of `[a-f0]` where it holds a byte.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().take(64).position(|b| *b == b']')?;
    let inner = pattern.get(1..end)?;
    let (negated, inner) = match inner.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, inner),
    };
    let mut holds = false;
    let mut at = 0;
    while let Some(first) = inner.get(at) {
        match (inner.get(at + 1), inner.get(at + 2)) {
            (Some(b'-'), Some(last)) => {
                holds |= (*first..=*last).contains(&byte);
                at += 3;
            }
            _ => {
                holds |= *first == byte;
                at += 1;
            }
        }
    }
    (holds != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_cover_all() {
        for (pattern, text, fits) in [
            ("pci-*", "pci-0000:01:00.0", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*b", "abab", true),
            ("*b*b", "aba", false),
            ("a", "ab", false),
            ("en*", "ens3", true),
            ("e[!n]*", "ens3", false),
            ("e[a-n]s?", "ens3", true),
            ("[", "[", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        assert!(!glob(&"*a".repeat(5000), &"a".repeat(4000)));
    }
}
