//! A small file that several processes change, one after the other.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

/// Opens the file, made with mode 0600 where it is missing, locks it, hands its content to `change`
/// and writes back what that returns, if anything. Content over `limit` bytes is handed over cut at
/// `limit`.
///
/// It is rewritten in place, for a renamed file would leave the next process with a lock on the old
/// one: a process that dies in between leaves part of the content, which the reader must tell.
///
/// # Errors
/// Those of the file system, and `InvalidInput` where the path is not a regular file.
pub fn update<R>(
    path: &Path,
    limit: usize,
    change: impl FnOnce(&[u8]) -> (Option<Vec<u8>>, R),
) -> io::Result<R> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
    let mut bytes = Vec::new();
    (&file).take(limit as u64).read_to_end(&mut bytes)?;
    let (replacement, result) = change(&bytes);
    if let Some(content) = replacement {
        file.rewind()?;
        file.write_all(&content)?;
        file.set_len(content.len() as u64)?;
    }
    Ok(result)
}
