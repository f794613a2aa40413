//! The two kinds of TOML files, as they are written. `imagebuilder/families/README.md` explains them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::located::{Lines, Word};

/// `families/<name>.toml`, or a file of the user's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FamilyFile {
    pub(super) name: Word,
    pub(super) about: String,
    /// It is there to be inherited from, and no image is built of it alone.
    #[serde(default, rename = "abstract")]
    pub(super) is_abstract: bool,
    #[serde(default)]
    pub(super) inherits: Vec<Word>,
    #[serde(default)]
    pub(super) guest: GuestFile,
    #[serde(default)]
    pub(super) profile: BTreeMap<String, ProfileFile>,
}

/// What the rescue expects of machines of this family.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GuestFile {
    pub(super) file_systems: Vec<String>,
    pub(super) layouts: Vec<String>,
    pub(super) repairs: Vec<String>,
    pub(super) text: Option<String>,
}

/// A profile of a family.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProfileFile {
    pub(super) kernel: Option<Word>,
    pub(super) kernel_config: Vec<Word>,
    pub(super) toolsets: Vec<Word>,
    pub(super) modules: Vec<Word>,
    pub(super) modules_if_present: Vec<Word>,
    pub(super) modules_without: Vec<Word>,
    pub(super) modules_plain: Vec<Word>,
    pub(super) pack_modules_above_kib: Option<u32>,
    pub(super) pack_programs_above_kib: Option<u32>,
    pub(super) pack_level: Option<PackLevel>,
    pub(super) firmware: Option<bool>,
    pub(super) https: Option<bool>,
    #[serde(rename = "package")]
    pub(super) packages: Vec<Tool>,
    #[serde(rename = "file")]
    pub(super) files: Vec<TextFile>,
    #[serde(rename = "link")]
    pub(super) links: Vec<Link>,
}

/// A level of zstd's; those above 19 want more memory for unpacking.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct PackLevel(pub(super) i32);

impl TryFrom<i64> for PackLevel {
    type Error = &'static str;

    fn try_from(level: i64) -> Result<Self, Self::Error> {
        let level = i32::try_from(level).ok().filter(|level| (1..=19).contains(level));
        level.map(Self).ok_or("pack_level is one of zstd's levels, 1 to 19")
    }
}

/// `toolsets/<name>.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolsetFile {
    pub(super) name: Word,
    pub(super) about: String,
    #[serde(rename = "package")]
    pub(super) packages: Vec<Tool>,
}

/// A package and what is wanted from it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    /// The Debian package.
    pub(crate) name: Word,
    /// Names of programs in its `bin` and `sbin` folders.
    #[serde(default)]
    pub(crate) programs: Vec<Word>,
    /// Globs of other files that its programs read, by their path without a leading slash; each must match.
    #[serde(default)]
    pub(crate) files: Vec<Word>,
    /// Never packed: what every login calls.
    #[serde(default)]
    pub(crate) plain: bool,
    /// Every program of the package (`--add`), in the place of `programs`.
    #[serde(skip)]
    pub(crate) every_program: bool,
}

/// A small file that is written into the image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextFile {
    /// Absolute path.
    pub(crate) path: Word,
    /// What is in it.
    pub(crate) text: String,
    /// May be executed: mode 0755 in the place of 0644.
    #[serde(default)]
    pub(crate) executable: bool,
}

/// A symbolic link that is made in the image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// Absolute path.
    pub(crate) path: Word,
    /// Where it leads.
    pub(crate) to: String,
}

impl FamilyFile {
    /// Says where every word stands.
    pub(super) fn place(&mut self, lines: &Lines<'_>) {
        let own = std::iter::once(&mut self.name).chain(&mut self.inherits);
        let profiles = self.profile.values_mut().flat_map(ProfileFile::words);
        own.chain(profiles).for_each(|word| word.place(lines));
    }
}

impl ProfileFile {
    fn words(&mut self) -> impl Iterator<Item = &mut Word> {
        let lists = [
            &mut self.kernel_config,
            &mut self.toolsets,
            &mut self.modules,
            &mut self.modules_if_present,
            &mut self.modules_without,
            &mut self.modules_plain,
        ];
        (lists.into_iter().flatten())
            .chain(&mut self.kernel)
            .chain(self.packages.iter_mut().flat_map(Tool::words))
            .chain(self.files.iter_mut().map(|file| &mut file.path))
            .chain(self.links.iter_mut().map(|link| &mut link.path))
    }
}

impl ToolsetFile {
    /// As [`FamilyFile::place`].
    pub(super) fn place(&mut self, lines: &Lines<'_>) {
        let words = std::iter::once(&mut self.name).chain(self.packages.iter_mut().flat_map(Tool::words));
        words.for_each(|word| word.place(lines));
    }
}

impl Tool {
    fn words(&mut self) -> impl Iterator<Item = &mut Word> {
        std::iter::once(&mut self.name).chain(&mut self.programs).chain(&mut self.files)
    }
}
