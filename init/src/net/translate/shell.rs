//! Files of shell variables: sysconfig's ifcfg, FreeBSD's rc.conf. Read as data: nothing is expanded.

use super::text;

/// Most lines of one file that are read.
const MAX_LINES: usize = 10_000;

/// The variables of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables(pub(super) Vec<(String, String)>);

impl Variables {
    /// The last value of a variable, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.trim());
        value.filter(|v| !v.is_empty())
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        text::flag(self.get(name)?)
    }

    /// Variables whose name begins so, with the rest of their name.
    pub(super) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let rest = move |(name, value): &'a (String, String)| {
            Some((name.strip_prefix(prefix)?, value.trim())).filter(|(_, value)| !value.is_empty())
        };
        self.0.iter().filter_map(rest)
    }
}

/// Reads assignments. A value may be quoted, and goes on over lines within its quotes or after a
/// backslash.
pub(super) fn parse(bytes: &[u8]) -> Variables {
    let mut variables = Variables::default();
    let mut lines = text::lines(bytes).into_iter().take(MAX_LINES).map(|(_, line)| line);
    while let Some(line) = lines.next() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, begun)) = line.split_once('=') else { continue };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            continue;
        }
        let mut value = String::new();
        let mut quote = None;
        let mut text = begun.to_string();
        'value: loop {
            let mut characters = text.chars();
            while let Some(c) = characters.next() {
                match (c, quote) {
                    ('\\', Some('"') | None) => match characters.next() {
                        Some(escaped) => value.push(escaped),
                        None => {
                            // The line goes on in the next.
                            match lines.next() {
                                Some(next) => text = next,
                                None => break 'value,
                            }
                            continue 'value;
                        }
                    },
                    (c, Some(open)) if c == open => quote = None,
                    ('"' | '\'', None) => quote = Some(c),
                    (' ' | '\t' | ';' | '#', None) => break 'value,
                    (c, _) => value.push(c),
                }
            }
            if quote.is_none() {
                break;
            }
            value.push(' ');
            match lines.next() {
                Some(next) => text = next,
                None => break,
            }
        }
        variables.0.push((name.into(), value));
    }
    variables
}

#[cfg(test)]
mod tests {
    #[test]
    fn values() {
        let text = b"A=b # c\n B='c d'\nexport C=\"e\\\"f\" ; x\nnone\nD=\"one \\\n two\nthree\"\nE=$(rm)\n";
        let variables = super::parse(text);
        assert_eq!(variables.get("A"), Some("b"));
        assert_eq!(variables.get("B"), Some("c d"));
        assert_eq!(variables.get("C"), Some("e\"f"));
        assert_eq!(variables.get("D"), Some("one  two three"));
        assert_eq!(variables.get("E"), Some("$(rm)"));
        assert_eq!(super::parse(b"A=\"open").get("A"), Some("open"));
    }
}
