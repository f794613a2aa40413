//! The folder that a kernel is compiled in: gigabytes, so that those of builds that were interrupted are removed
//! by the next one. A build holds a lock on its own for as long as it runs.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result};

/// A folder to compile in; it goes with its value.
pub(super) struct Place {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Place {
    /// Makes one below `all`, and removes those there that nobody holds.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn new(all: &Path) -> Result<Self> {
        let making = || format!("making a folder in {}", all.display());
        // One that was made and is not locked yet is nobody's to remove.
        let door = File::open(all).with_context(making)?;
        door.lock().with_context(making)?;
        for entry in std::fs::read_dir(all).with_context(making)?.flatten() {
            let held = File::open(entry.path()).map(|folder| folder.try_lock());
            if !matches!(held, Ok(Err(TryLockError::WouldBlock))) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let folder = tempfile::tempdir_in(all).with_context(making)?;
        let lock = File::open(folder.path()).with_context(making)?;
        lock.lock().with_context(making)?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interrupted_build_left_is_removed_and_what_another_uses_is_not() {
        let all = tempfile::tempdir().unwrap();
        let left = all.path().join("left");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("vmlinux.o"), "x").unwrap();
        let first = Place::new(all.path()).unwrap();
        assert!(!left.exists());
        std::fs::write(first.path().join("vmlinux.o"), "x").unwrap();
        let second = Place::new(all.path()).unwrap();
        assert!(first.path().join("vmlinux.o").exists() && second.path().is_dir());
        drop((first, second));
        assert_eq!(std::fs::read_dir(all.path()).unwrap().count(), 0);
    }
}
