//! The kernel's source, as Debian packages it: an archive inside a package, unpacked once into the cache.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::apt::Package;
use crate::packages::Cache;
use crate::progress;

/// How much of the source is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Enough to configure it: a fiftieth of the files.
    Kconfig,
    /// All of it.
    Whole,
}

impl Extent {
    fn has(self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let below = || path.components().nth(1).is_some_and(|part| part.as_os_str() == "scripts");
        self == Self::Whole
            || ["Kconfig", "Makefile", "Kbuild"].iter().any(|k| name.starts_with(k))
            || below()
    }
}

/// Unpacks it, where it is not in the cache.
///
/// # Errors
/// When apt cannot bring the package, or it holds no source.
pub(super) fn unpacked(cache: &Cache, package: &Package, extent: Extent) -> Result<PathBuf> {
    let place = cache.folder("sources")?.join(match extent {
        Extent::Kconfig => format!("{}-kconfig", package.sha256),
        Extent::Whole => package.sha256.clone(),
    });
    if place.is_dir() {
        return Ok(place);
    }
    let packs = cache.fetch(&[package])?;
    let pack = packs.get(&package.name).with_context(|| format!("package {}", package.name))?;
    let inside = |path: &&String| path.starts_with("usr/src/linux-source-") && path.ends_with(".tar.xz");
    let archive = pack.entries().keys().find(inside);
    let archive = archive.with_context(|| format!("package {} holds no source", package.name))?;
    let bytes = pack.read(archive)?;
    let folder = cache.temporary()?;
    let bar = progress::bytes("unpacking the source", bytes.len() as u64);
    let reader = BufReader::with_capacity(1 << 20, liblzma::read::XzDecoder::new(bar.wrap_read(&bytes[..])));
    let mut tar = tar::Archive::new(reader);
    let mut count = 0_u64;
    for entry in tar.entries().context("reading the source")? {
        let mut entry = entry.context("reading the source")?;
        let path = entry.path()?.into_owned();
        if extent.has(&path) {
            // Never outside the folder; what would leave it is left out.
            count +=
                u64::from(entry.unpack_in(folder.path()).with_context(|| format!("{}", path.display()))?);
        }
    }
    bar.finish_and_clear();
    ensure!(count > 1000, "package {}: {count} files of source", package.name);
    let top = std::fs::read_dir(folder.path())?.flatten().find(|e| e.path().join("Kconfig").is_file());
    let top = top.with_context(|| format!("package {} holds no kernel", package.name))?;
    if let Err(error) = std::fs::rename(top.path(), &place) {
        ensure!(place.is_dir(), "moving the source into the cache: {error}");
    }
    Ok(place)
}
