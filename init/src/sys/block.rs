//! Opening block devices and images to look at them: never to write.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a device or an image for reading. `O_NONBLOCK`, so that an empty drive or a fifo answers at
/// once, and nothing but a block device or a regular file is taken. Gives its size in bytes too.
///
/// # Errors
/// Those of the file system; `InvalidInput` for what is neither.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if !(kind.is_block_device() || kind.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a block device nor an image"));
    }
    let size = file.seek(SeekFrom::End(0))?;
    Ok((file, size))
}

/// Asks the device to write what its own cache holds to the medium.
///
/// # Errors
/// Those of the device.
pub fn flush(path: &Path) -> io::Result<()> {
    open(path)?.0.sync_all()
}
