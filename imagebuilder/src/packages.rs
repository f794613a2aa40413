//! Packages downloaded through the host's own apt, which checks them against its signed lists, and
//! unpacked once, under the SHA-256 that those lists give them; with a warm cache nothing here calls
//! the network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};

use crate::apt::{Package, REFRESH};
use crate::store::Pack;
use crate::{deb, progress};

/// The cache of packages: `debs/<sha256>.deb` and `packs/<sha256>/`.
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$XDG_CACHE_HOME/rescue-kernel`, or `~/.cache/rescue-kernel`.
    ///
    /// # Errors
    /// When there is neither variable, or the folder cannot be made.
    pub(crate) fn open() -> Result<Self> {
        let home = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let base = home("XDG_CACHE_HOME")
            .or_else(|| home("HOME").map(|h| h.join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set; set one, for the package cache")?;
        let root = base.join("rescue-kernel");
        for folder in ["debs", "packs"] {
            let path = root.join(folder);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("making the package cache {}", path.display()))?;
        }
        remove_stale(&root);
        Ok(Self { root })
    }

    /// A folder of the cache, made if it is not there.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// A folder beside the others, so that it can be renamed to be one of them; it goes with its value.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn temporary(&self) -> Result<tempfile::TempDir> {
        tempfile::tempdir_in(&self.root)
            .with_context(|| format!("making a folder in {}", self.root.display()))
    }

    /// Where `apt::Lists` keeps its answers.
    pub(crate) fn answers(&self) -> PathBuf {
        self.root.join("apt-answers.json")
    }

    /// Downloads and unpacks what is not there yet, and opens all of them.
    ///
    /// # Errors
    /// When apt cannot download one, or one is damaged.
    pub(crate) fn fetch(&self, packages: &[&Package]) -> Result<BTreeMap<String, Pack>> {
        let pack = |p: &Package| Pack::open(&self.root.join("packs").join(&p.sha256));
        let missing: Vec<&Package> =
            packages.iter().copied().filter(|p| pack(p).is_none() && !self.deb(p).exists()).collect();
        if !missing.is_empty() {
            self.download(&missing)?;
        }
        let mut packs = BTreeMap::new();
        for package in packages {
            let opened = match pack(package) {
                Some(pack) => pack,
                None => {
                    self.unpack(package)?;
                    pack(package)
                        .with_context(|| format!("package {}: unpacked, and not readable", package.name))?
                }
            };
            packs.insert(package.name.clone(), opened);
        }
        Ok(packs)
    }

    /// A package file of the user's own, unpacked under its digest.
    ///
    /// # Errors
    /// When it cannot be read or is no package.
    pub(crate) fn local(&self, path: &Path) -> Result<(Package, Pack)> {
        let data = std::fs::metadata(path).with_context(|| format!("opening {}", path.display()))?;
        ensure!(data.is_file(), "{}: not a file", path.display());
        let sha256 = hex(&digest_file(path)?);
        let place = self.root.join("packs").join(&sha256);
        if Pack::open(&place).is_none() {
            self.unpack_into(path, &place, &path.display().to_string())?;
        }
        let pack = Pack::open(&place).with_context(|| format!("{}: not readable", path.display()))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let package = Package {
            version: format!("sha256:{sha256}"),
            size: data.len(),
            section: String::new(),
            depends: Vec::new(),
            name,
            sha256,
        };
        Ok((package, pack))
    }

    fn deb(&self, package: &Package) -> PathBuf {
        self.root.join("debs").join(format!("{}.deb", package.sha256))
    }

    fn download(&self, packages: &[&Package]) -> Result<()> {
        let folder = tempfile::tempdir_in(&self.root).context("making a folder for downloads")?;
        let bar = progress::bytes("downloading", packages.iter().map(|p| p.size).sum());
        let errors = tempfile::tempfile()?;
        let mut child = Command::new("apt-get")
            .args(["-q", "-o", "Dpkg::Use-Pty=0", "download", "--"])
            .args(packages.iter().map(|p| format!("{}={}", p.name, p.version)))
            .current_dir(folder.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.try_clone()?)
            .spawn()
            .map_err(|e| anyhow!("running apt-get: {e}; packages come through the host's apt"))?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            bar.set_position(folder_bytes(folder.path()));
            std::thread::sleep(std::time::Duration::from_millis(50));
        };
        bar.finish_and_clear();
        if !status.success() {
            bail!("downloading packages: {}; {REFRESH}, and check the network", first_error(errors));
        }
        for entry in std::fs::read_dir(folder.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "deb") {
                // The file's own digest says which package it is; its name is apt's affair.
                let digest = hex(&digest_file(&path)?);
                if packages.iter().any(|p| p.sha256 == digest) {
                    std::fs::rename(&path, self.root.join("debs").join(format!("{digest}.deb")))
                        .context("moving a package into the cache")?;
                }
            }
        }
        match packages.iter().find(|p| !self.deb(p).exists()) {
            Some(p) => bail!(
                "package {} {}: what was downloaded is not what apt's lists say; {REFRESH}",
                p.name,
                p.version
            ),
            None => Ok(()),
        }
    }

    fn unpack(&self, package: &Package) -> Result<()> {
        let path = self.deb(package);
        let digest = hex(&digest_file(&path)?);
        if digest != package.sha256 {
            let _ = std::fs::remove_file(&path);
            bail!("package {} in the cache was damaged and is removed; run this again", package.name);
        }
        let place = self.root.join("packs").join(&package.sha256);
        self.unpack_into(&path, &place, &format!("package {}", package.name))?;
        // The package itself is not needed any more.
        let _ = std::fs::remove_file(&path);
        Ok(())
    }

    /// Unpacks a package file; `name` is what errors call it.
    fn unpack_into(&self, path: &Path, place: &Path, name: &str) -> Result<()> {
        let folder = tempfile::tempdir_in(&self.root).context("making a folder to unpack into")?;
        let size = std::fs::metadata(path).map(|data| data.len()).unwrap_or(0);
        let bar = progress::bytes(&format!("unpacking {name}"), size);
        deb::unpack_file(path, folder.path(), &bar).with_context(|| name.to_string())?;
        bar.finish_and_clear();
        let _ = std::fs::remove_dir_all(place);
        let made = folder.keep();
        if let Err(error) = std::fs::rename(&made, place) {
            let _ = std::fs::remove_dir_all(&made);
            // Another build may have been first; what it made is as good.
            ensure!(Pack::open(place).is_some(), "moving {name} into the cache: {error}");
        }
        Ok(())
    }
}

/// Removes what interrupted runs left; an hour is longer than any run takes.
fn remove_stale(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let stale = age(&entry).is_some_and(|age| age > std::time::Duration::from_secs(3600));
        if stale && entry.file_name().to_string_lossy().starts_with(".tmp") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// How long ago a file was changed; `None` when that lies in the future.
pub(crate) fn age(entry: &std::fs::DirEntry) -> Option<std::time::Duration> {
    entry.metadata().and_then(|data| data.modified()).ok()?.elapsed().ok()
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

fn first_error(mut file: std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.take(65_536).read_to_string(&mut text));
    let line = text.lines().find(|l| l.starts_with("E: ")).or_else(|| text.lines().next());
    line.unwrap_or("apt-get failed").trim_start_matches("E: ").to_string()
}

fn digest_file(path: &Path) -> Result<[u8; 32]> {
    let mut file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).with_context(|| format!("reading {}", path.display()))?;
    Ok(hash.finalize().into())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
