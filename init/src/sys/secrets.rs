//! Files that carry secrets into the machine: read once and removed.

use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// Reads a regular file of at most `limit` bytes and removes it, whatever is in it. `None` when it
/// is not there. The content is cleared from memory when it is dropped.
///
/// A symbolic link is not followed: it could name a file of a disk. A name that is not a regular file
/// is removed as well, unless it is a directory.
///
/// # Errors
/// Those of the file system; `FileTooLarge` past the limit; `InvalidInput` for what is no regular
/// file. A file that cannot be removed is an error, too: its secret would stay.
pub fn take(path: &Path, limit: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let content = read(path, limit);
    if matches!(&content, Err(e) if e.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let removed = std::fs::remove_file(path);
    let content = content?;
    removed?;
    Ok(Some(content))
}

fn read(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // NONBLOCK: opening a fifo must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(not_a_file("a symbolic link")),
        other => std::fs::File::from(other?),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(not_a_file("a directory or special file"));
    }
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("over {limit} bytes"));
    let size = usize::try_from(metadata.len()).ok().filter(|size| *size <= limit).ok_or_else(too_large)?;
    // Sized once: growing would leave copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(size as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(too_large());
    }
    Ok(bytes)
}

fn not_a_file(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file"))
}

#[cfg(test)]
mod tests {
    use super::take;

    #[test]
    fn what_is_taken_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(take(&path, 10).unwrap().is_none());
        std::fs::write(&path, "hunter2").unwrap();
        assert_eq!(take(&path, 7).unwrap().unwrap().as_slice(), b"hunter2");
        assert!(!path.exists());
        std::fs::write(&path, "hunter22").unwrap();
        assert_eq!(take(&path, 7).unwrap_err().kind(), std::io::ErrorKind::FileTooLarge);
        assert!(!path.exists());
    }

    #[test]
    fn links_and_fifos_are_refused_and_removed_without_harm() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("secret"));
        std::fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(take(&path, 10).unwrap_err().to_string().contains("symbolic link"));
        assert!(target.exists() && std::fs::symlink_metadata(&path).is_err());
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(take(&path, 10).unwrap_err().to_string().contains("regular file"));
        assert!(!path.exists());
        std::fs::create_dir(&path).unwrap();
        assert!(take(&path, 10).is_err());
    }
}
