//! Writes artifacts whole or not at all: into files without a name, synced, then named all at the
//! end. An interruption or a full disk leaves the previous artifacts as they were.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

/// Artifacts of one folder that appear together.
pub(crate) struct Output {
    folder: PathBuf,
    files: Vec<(PathBuf, tempfile::NamedTempFile)>,
}

impl Output {
    /// Starts in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or has fewer than `needed` bytes free.
    pub(crate) fn new(folder: &Path, needed: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let stat = rustix::fs::statvfs(folder).with_context(|| format!("looking at {}", folder.display()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < needed {
            return Err(no_space(folder, needed));
        }
        Ok(Self { folder: folder.into(), files: Vec::new() })
    }

    /// Adds a file with permission bits `mode` and what `write` puts in it.
    ///
    /// # Errors
    /// What `write` says, and those of the file system.
    pub(crate) fn file<T>(
        &mut self,
        name: &str,
        mode: u32,
        write: impl FnOnce(&mut File) -> Result<T>,
    ) -> Result<T> {
        let path = self.folder.join(name);
        let result = (|| {
            let mut file =
                tempfile::Builder::new().prefix(&format!(".{name}.")).make_in(&self.folder, |p| {
                    OpenOptions::new().write(true).read(true).create_new(true).mode(mode).open(p)
                })?;
            let value = write(file.as_file_mut())?;
            file.as_file_mut().flush()?;
            file.as_file().sync_all()?;
            self.files.push((path.clone(), file));
            Ok(value)
        })();
        result.map_err(|error: anyhow::Error| match is_full(&error) {
            true => no_space(&self.folder, 0),
            false => error.context(format!("writing {}", path.display())),
        })
    }

    /// Gives the files their names.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn commit(self) -> Result<()> {
        for (path, file) in self.files {
            file.persist(&path).map_err(|e| anyhow!("naming {}: {}", path.display(), e.error))?;
        }
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("syncing {}", self.folder.display()))
    }
}

fn is_full(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    })
}

fn no_space(folder: &Path, needed: u64) -> anyhow::Error {
    let needed = match needed {
        0 => String::new(),
        bytes => format!(" ({} MiB are needed)", bytes.div_ceil(1 << 20)),
    };
    anyhow!("no space left in {}{needed}; free some, or choose another folder with -o", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_appears_before_all_is_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "old").unwrap();
        let mut output = Output::new(folder.path(), 1).unwrap();
        output.file("a", 0o600, |f| Ok(f.write_all(b"new")?)).unwrap();
        assert!(output.file("b", 0o600, |_| -> Result<()> { Err(anyhow!("no")) }).is_err());
        drop(output);
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn no_space_is_said_before() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{:#}", Output::new(folder.path(), u64::MAX).err().unwrap());
        assert!(text.contains("no space left") && text.contains("-o"), "{text}");
    }
}
