//! Small files, read with a limit and replaced whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Those of the file system, and `FileTooLarge` past the limit (files in /proc have no size to ask
/// for beforehand).
pub fn read_capped(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("over {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads a small text file without its final newline; `None` when it is not there, not readable or
/// over 4 KiB: for attributes in /sys and /proc, where absent and unknown are one.
pub fn read_trimmed(path: &Path) -> Option<String> {
    let bytes = read_capped(path, 4096).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_string())
}

/// Replaces a file whole: a reader sees the old or the new content, and the mode is right from the
/// first byte on.
///
/// # Errors
/// Those of the file system.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = Path::new(&name);
    let result = (|| {
        let _ = std::fs::remove_file(temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
        file.write_all(content)?;
        std::fs::rename(temporary, path)
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(temporary);
    }
    result
}

/// Makes the node of a device, for root alone.
///
/// # Errors
/// mknod(2); `AlreadyExists` where anything of that name is there.
pub fn make_node(path: &Path, block: bool, major: u32, minor: u32) -> io::Result<()> {
    let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), makedev(major, minor))?;
    Ok(())
}
