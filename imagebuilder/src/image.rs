//! What an image is put together in: its entries, each of which has one origin.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use rescue_schema::paths;

use crate::additions::HostFile;
use crate::kmod::Packing;
use crate::observe::Content;

/// The origin of what the builder makes itself.
pub(crate) const OWN: &str = "rescue";

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(Content),
    /// A file that is packed with zstd in the image too.
    Zstd(Content),
    Symlink(String),
    CharDevice(u32, u32),
}

/// One entry of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) node: Node,
    /// `name=version` of a package, `host`, or `rescue`.
    pub(crate) origin: String,
}

/// What an image is put together in.
#[derive(Default)]
pub(crate) struct Image {
    /// By path without leading slash.
    pub(crate) entries: BTreeMap<String, Entry>,
}

impl Image {
    /// Puts an entry in, and the folders that it lies in.
    ///
    /// # Errors
    /// When something else is there already.
    pub(crate) fn put(&mut self, path: &str, mode: u32, node: Node, origin: &str) -> Result<()> {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        for folder in folders {
            let made = Entry { mode: 0o755, node: Node::Directory, origin: OWN.into() };
            let entry = self.entries.entry(folder.to_string()).or_insert(made);
            ensure!(entry.node == Node::Directory, "/{path}: /{folder} is not a directory of the image");
        }
        let entry = Entry { mode, node, origin: origin.to_string() };
        match self.entries.get(path) {
            Some(old) if *old != entry => bail!("/{path} comes from both {} and {origin}", old.origin),
            Some(_) => {}
            None => drop(self.entries.insert(path.to_string(), entry)),
        }
        Ok(())
    }

    /// Packs a file until it is called, or needed by what is (`init/src/commands/packed.rs`); `path` is where it goes.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) fn pack(&mut self, path: &str, content: Content, origin: &str) -> Result<()> {
        let stored = format!("{}/{path}.zst", paths::PACKED_PROGRAMS.trim_start_matches('/'));
        self.put(&stored, 0o644, Node::Zstd(content), origin)
    }

    /// Puts a file of this machine in.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) fn host(&mut self, path: &str, file: &HostFile) -> Result<()> {
        let (mode, node) = match file {
            HostFile::Directory { mode } => {
                if let Some(Entry { node: Node::Directory, .. }) = self.entries.get(path) {
                    return Ok(());
                }
                (*mode, Node::Directory)
            }
            HostFile::Symlink(target) => (0o777, Node::Symlink(target.clone())),
            HostFile::Regular { from, mode, .. } => {
                (*mode, Node::File(Content::Host(from.clone(), Packing::Plain)))
            }
        };
        self.put(path, mode, node, "host")
    }

    /// Puts a text of the builder's own in.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) fn text(&mut self, path: &str, text: String) -> Result<()> {
        self.put(path, 0o644, Node::File(Content::Inline(text.into_bytes())), OWN)
    }
}
