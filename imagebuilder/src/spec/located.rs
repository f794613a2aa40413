//! Words of a file that know where they stand, so that a mistake is told with its file and line.

use std::ops::Range;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// A word of a file, or of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// The word itself.
    pub(crate) text: String,
    /// Where it stands: `families/debian.toml:12`, `--module`.
    pub(crate) at: String,
    /// Its bytes in the file, until [`Word::place`] has turned them into a line.
    span: Range<usize>,
}

impl Word {
    /// A word of the command line.
    pub(crate) fn of_option(option: &str, text: &str) -> Self {
        Self { text: text.into(), at: option.into(), span: 0..0 }
    }

    /// Says which file the word is of; `text` is all of that file.
    pub(super) fn place(&mut self, file: &str, text: &str) {
        self.at = format!("{file}:{}", line(text, self.span.start));
    }
}

/// The line, from 1, of the byte at `at`.
pub(super) fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        let span = spanned.span();
        Ok(Self { text: spanned.into_inner(), at: String::new(), span })
    }
}
