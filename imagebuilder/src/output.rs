//! Writes artifacts whole or not at all: into files without a name, synced, then named all at the
//! end. An interruption or a full disk leaves the previous artifacts as they were.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// The name of the kernel in a folder of artifacts.
pub(crate) const KERNEL: &str = "vmlinuz";

/// Artifacts of one folder that appear together.
pub(crate) struct Output {
    folder: PathBuf,
    /// The folder itself; locked while the files get their names, so that those of two builds do
    /// not mix.
    lock: File,
    files: Vec<(String, Unnamed)>,
}

/// A file that has no name yet, or on a file system that cannot have those, a temporary one.
enum Unnamed {
    Nameless(File),
    Temporary(tempfile::NamedTempFile),
}

impl Output {
    /// Starts in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made, has fewer than `needed` bytes free, or another build writes to it.
    pub(crate) fn new(folder: &Path, needed: u64) -> Result<Self> {
        let is_file = std::fs::metadata(folder).is_ok_and(|data| !data.is_dir());
        ensure!(!is_file, "{}: a file; -o names the folder that the image goes into", folder.display());
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let lock = File::open(folder).with_context(|| format!("opening {}", folder.display()))?;
        let stat = rustix::fs::fstatvfs(&lock).with_context(|| format!("looking at {}", folder.display()))?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < needed {
            return Err(no_space(folder, needed));
        }
        Ok(Self { folder: folder.into(), lock, files: Vec::new() })
    }

    /// Refuses to put `kernel` beside the images of other families that are there with another one: their modules
    /// would not be those of the kernel that they are started with.
    ///
    /// # Errors
    /// When there are such.
    pub(crate) fn check_neighbours(&self, image: &str, kernel: &[u8]) -> Result<()> {
        let there = std::fs::read(self.folder.join(KERNEL)).unwrap_or_default();
        if there.is_empty() || there == kernel {
            return Ok(());
        }
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_image = |name: &String| name.starts_with("rescue-") && name.ends_with(".img") && name != image;
        let mut others: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_image).collect();
        others.sort();
        ensure!(
            others.is_empty(),
            "{}: {} there was built with another kernel, which this build would replace; choose another folder with -o, \
             or remove what is there",
            self.folder.display(),
            others.join(", ")
        );
        Ok(())
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
        let result = (|| {
            let mut unnamed = self.unnamed(name, mode)?;
            let file = match &mut unnamed {
                Unnamed::Nameless(file) => file,
                Unnamed::Temporary(file) => file.as_file_mut(),
            };
            let value = write(file)?;
            file.sync_all()?;
            self.files.push((name.to_string(), unnamed));
            Ok(value)
        })();
        result.map_err(|error: anyhow::Error| match is_full(&error) {
            true => no_space(&self.folder, 0),
            false => error.context(format!("writing {}", self.folder.join(name).display())),
        })
    }

    fn unnamed(&self, name: &str, mode: u32) -> Result<Unnamed> {
        let mode = Mode::from_raw_mode(mode);
        // What has no name is gone when this program is, however it ends.
        if let Ok(fd) = rustix::fs::open(&self.folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode)
        {
            return Ok(Unnamed::Nameless(File::from(fd)));
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .make_in(&self.folder, |path| Ok(File::from(rustix::fs::open(path, flags, mode)?)))?;
        Ok(Unnamed::Temporary(file))
    }

    /// Gives the files their names.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn commit(self) -> Result<()> {
        let syncing = || format!("naming the files in {}", self.folder.display());
        self.lock.lock().with_context(syncing)?;
        let naming = |name: &str| format!("naming {}", self.folder.join(name).display());
        let mut named = Vec::new();
        for (name, file) in self.files {
            let beside = self.folder.join(format!(".{name}.new"));
            match file {
                Unnamed::Temporary(file) => {
                    drop(file.persist(&beside).map_err(|e| e.error).with_context(|| naming(&name))?);
                }
                Unnamed::Nameless(file) => {
                    let _ = std::fs::remove_file(&beside);
                    let fd = format!("/proc/self/fd/{}", file.as_raw_fd());
                    rustix::fs::linkat(CWD, fd, CWD, &beside, AtFlags::SYMLINK_FOLLOW)
                        .with_context(|| naming(&name))?;
                }
            }
            named.push((name, beside));
        }
        // A link cannot replace a file but a rename can. Nothing but renames is left to do, so that an
        // interruption hardly finds the place between two of them.
        for (name, beside) in named {
            std::fs::rename(&beside, self.folder.join(&name)).with_context(|| naming(&name))?;
        }
        self.lock.sync_all().with_context(|| format!("syncing {}", self.folder.display()))
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
    use std::io::Write;

    #[test]
    fn nothing_appears_before_all_is_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "old").unwrap();
        let mut output = Output::new(folder.path(), 1).unwrap();
        output.file("a", 0o600, |f| Ok(f.write_all(b"new")?)).unwrap();
        assert!(output.file("b", 0o600, |_| -> Result<()> { Err(anyhow!("no")) }).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing while it is written");
        drop(output);
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no leftovers");
        let mut output = Output::new(folder.path(), 1).unwrap();
        output.file("a", 0o600, |f| Ok(f.write_all(b"new")?)).unwrap();
        output.commit().unwrap();
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn images_of_other_families_keep_the_kernel_that_they_were_built_with() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let check = |image: &str, kernel: &[u8]| {
            Output::new(folder.path(), 1).unwrap().check_neighbours(image, kernel).map_err(|e| e.to_string())
        };
        write("rescue-debian.img", "modules of 6.1");
        check("rescue-suse.img", b"6.12").expect("no kernel there yet");
        write(KERNEL, "6.1");
        check("rescue-suse.img", b"6.1").expect("the same kernel");
        check("rescue-debian.img", b"6.12").expect("the same image");
        let error = check("rescue-suse.img", b"6.12").unwrap_err();
        assert!(error.contains("rescue-debian.img there was built with another kernel"), "{error}");
        assert!(error.contains("-o"), "{error}");
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::new(folder.path(), 1).unwrap();
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let text = output.file("a", 0o600, |_| Ok(full.write_all(b"x")?)).unwrap_err().to_string();
        assert!(text.contains("no space left") && text.contains("-o"), "{text}");
    }

    #[test]
    fn no_space_is_said_before() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{:#}", Output::new(folder.path(), u64::MAX).err().unwrap());
        assert!(text.contains("no space left") && text.contains("-o"), "{text}");
    }
}
