//! The kernel command line, read as the kernel reads it (`lib/cmdline.c`, `next_arg`): words are
//! separated by blanks outside of double quotes, a quote may open before the name or the value, and
//! in names `-` and `_` are one. Junk is kept as what it is: a name that nobody asks for.

use std::path::Path;

use super::files::read_capped;

/// Longest command line that is read, in bytes; x86's kernel limit is 2048.
const MAX: usize = 16 << 10;

/// The parameters, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline(Vec<(String, Option<String>)>);

impl Cmdline {
    /// Reads `<root>/proc/cmdline`; empty when it cannot be read.
    pub fn observe(root: &Path) -> Self {
        read_capped(&root.join("proc/cmdline"), MAX).map(|bytes| Self::parse(&bytes)).unwrap_or_default()
    }

    /// Parses a command line. `--` ends it: what follows is for init, which takes nothing from there.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut parameters = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in text.chars().chain([' ']) {
            match c {
                '"' => {
                    quoted = !quoted;
                    word.push(c);
                }
                c if c.is_ascii_whitespace() && !quoted => {
                    if word == "--" {
                        return Self(parameters);
                    }
                    if !word.is_empty() {
                        parameters.push(split(&word));
                        word.clear();
                    }
                }
                c => word.push(c),
            }
        }
        // A quote that never closed: the kernel takes the rest as its value.
        if !word.is_empty() {
            parameters.push(split(word.trim_end()));
        }
        Self(parameters)
    }

    /// The value of the last parameter of that name, `""` when it stands without a value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().filter(|(n, _)| same_name(n, name)).last().map(|(_, value)| value.unwrap_or_default())
    }

    /// The values of every parameter of that name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(n, _)| same_name(n, name)).map(|(_, value)| value.unwrap_or_default())
    }

    /// Every parameter: name, and value when there is one.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}

fn split(word: &str) -> (String, Option<String>) {
    let (opened, word) = match word.strip_prefix('"') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let bare = |text: &str| -> String {
        let inner = text.strip_prefix('"').unwrap_or(text);
        let closed = opened || inner.len() != text.len();
        if closed { inner.strip_suffix('"').unwrap_or(inner).into() } else { inner.into() }
    };
    match value {
        Some(value) => (name.into(), Some(bare(value))),
        None => (bare(name), None),
    }
}

/// `parameq` of the kernel: `-` and `_` are one.
fn same_name(a: &str, b: &str) -> bool {
    let normal = |c: u8| if c == b'-' { b'_' } else { c };
    a.len() == b.len() && a.bytes().map(normal).eq(b.bytes().map(normal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_the_kernel_does() {
        let line = Cmdline::parse(
            b"quiet console=ttyS0,115200 a=\"b c\" \"d=e f\" rescue.x=1 rescue.x=2 log-level=3 empty= -- not=ours\n",
        );
        assert_eq!(line.get("quiet"), Some(""));
        assert_eq!(line.get("console"), Some("ttyS0,115200"));
        assert_eq!(line.get("a"), Some("b c"));
        assert_eq!(line.get("d"), Some("e f"));
        assert_eq!(line.get("rescue.x"), Some("2"));
        assert_eq!(line.all("rescue.x").count(), 2);
        assert_eq!(line.get("log_level"), Some("3"));
        assert_eq!(line.get("empty"), Some(""));
        assert_eq!(line.get("not"), None);
    }

    #[test]
    fn junk_is_tolerated() {
        for junk in [&b"\"\"\" = == \"= =\""[..], b"\xff\xfe=\x00 x", b"rescue.", b"a=\"unterminated b c"] {
            let _ = Cmdline::parse(junk).iter().count();
        }
        assert_eq!(Cmdline::parse(b"x a=\"open b").get("a"), Some("open b"));
    }
}
