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
    /// It stands in a file that comes with the builder, written for the kernels that it names.
    pub(crate) ours: bool,
    /// Its bytes in the file, until [`Word::place`] has turned them into a line.
    span: Range<usize>,
}

impl Word {
    /// A word of the command line.
    pub(crate) fn of_option(option: &str, text: &str) -> Self {
        Self { text: text.into(), at: option.into(), ours: false, span: 0..0 }
    }

    /// Says where in its file the word stands.
    pub(super) fn place(&mut self, lines: &Lines<'_>) {
        self.at = lines.at(self.span.start);
        self.ours = lines.ours;
    }
}

/// A file's name and where its lines end: a file of many words is not counted through for each.
pub(super) struct Lines<'a> {
    file: &'a str,
    ours: bool,
    ends: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Those of `text`, which is all of `file`; `ours` if that comes with the builder.
    pub(super) fn new(file: &'a str, text: &str, ours: bool) -> Self {
        Self { file, ours, ends: text.match_indices('\n').map(|(at, _)| at).collect() }
    }

    /// File and line, from 1, of the byte at `at`.
    pub(super) fn at(&self, at: usize) -> String {
        format!("{}:{}", self.file, 1 + self.ends.partition_point(|end| *end < at))
    }
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
        Ok(Self { text: spanned.into_inner(), at: String::new(), ours: false, span })
    }
}
