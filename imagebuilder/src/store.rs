//! Unpacked packages as the cache keeps them: one blob with the content of all regular files and
//! one index. No path of a package ever becomes a path of this machine, so that a hostile package
//! has nothing to traverse.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Version of the layout in the cache; an older one is unpacked again.
const LAYOUT: u32 = 1;

/// One entry of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Packed {
    /// A regular file: where its content lies in the blob, in bytes, and its permission bits.
    File { offset: u64, len: u64, mode: u32 },
    /// A symbolic link and its target, as the package has it.
    Symlink(String),
}

/// An unpacked package.
#[derive(Debug)]
pub(crate) struct Pack {
    sha256: String,
    index: BTreeMap<String, Packed>,
    data: File,
}

#[derive(Serialize, Deserialize)]
struct Index {
    layout: u32,
    bytes: u64,
    entries: BTreeMap<String, Packed>,
}

impl Pack {
    /// Opens an unpacked package; `None` when it is not there or not of this layout.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        let index: Index = serde_json::from_slice(&std::fs::read(folder.join("index.json")).ok()?).ok()?;
        let data = File::open(folder.join("data")).ok()?;
        let whole = data.metadata().ok()?.len() == index.bytes;
        let sha256 = folder.file_name()?.to_string_lossy().into_owned();
        (index.layout == LAYOUT && whole).then_some(Self { sha256, index: index.entries, data })
    }

    /// Digest of the package, under which the cache keeps it.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Every entry by its path in the package, without a leading slash.
    pub(crate) fn entries(&self) -> &BTreeMap<String, Packed> {
        &self.index
    }

    /// A regular file's content.
    ///
    /// # Errors
    /// When there is no such regular file, or the cache cannot be read.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>> {
        let Some(Packed::File { offset, len, .. }) = self.index.get(path) else {
            anyhow::bail!("{path}: no such file in the package");
        };
        let mut bytes = vec![0; usize::try_from(*len)?];
        self.data.read_exact_at(&mut bytes, *offset).with_context(|| format!("reading {path}"))?;
        Ok(bytes)
    }

    /// Bytes of a regular file.
    ///
    /// # Errors
    /// When there is no such regular file.
    pub(crate) fn size(&self, path: &str) -> Result<u64> {
        match self.index.get(path) {
            Some(Packed::File { len, .. }) => Ok(*len),
            _ => anyhow::bail!("{path}: no such file in the package"),
        }
    }

    /// Bytes of the blob, for a reader that wants only parts of a file.
    pub(crate) fn read_at(&self, at: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        self.data.read_exact_at(bytes, at)
    }
}

/// A package that is being unpacked.
pub(crate) struct PackWriter {
    index: BTreeMap<String, Packed>,
    data: BufWriter<File>,
    bytes: u64,
}

impl PackWriter {
    /// Starts one in an empty folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("data");
        let data = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { index: BTreeMap::new(), data: BufWriter::with_capacity(1 << 20, data), bytes: 0 })
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// When the source cannot be read or the cache not be written.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &mut dyn Read) -> Result<()> {
        let len = std::io::copy(content, &mut self.data).with_context(|| format!("unpacking {path}"))?;
        self.index.insert(path.to_string(), Packed::File { offset: self.bytes, len, mode });
        self.bytes += len;
        Ok(())
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.index.insert(path.to_string(), Packed::Symlink(target.to_string()));
    }

    /// Adds a second name of a file that is already there.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn link(&mut self, path: &str, to: &str) -> Result<()> {
        let entry = self.index.get(to).cloned();
        ensure!(matches!(entry, Some(Packed::File { .. })), "{path}: hard link to {to:?}, which is no file");
        self.index.extend(entry.map(|e| (path.to_string(), e)));
        Ok(())
    }

    /// Number of entries so far.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of content so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the index. The folder is then what [`Pack::open`] takes.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn finish(mut self, folder: &Path) -> Result<()> {
        self.data.flush().context("writing the package cache")?;
        let index = Index { layout: LAYOUT, bytes: self.bytes, entries: self.index };
        std::fs::write(folder.join("index.json"), serde_json::to_vec(&index)?)
            .context("writing the package cache")
    }
}
