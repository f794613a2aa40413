//! Devices that the kernel is told to refuse writes to, because a read-only mount does not keep ext4
//! from them: it empties its list of orphans and records errors in the superblock all the same.
//!
//! What we protected is noted in a folder on a tmpfs, so that only that is ever given back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::mounts::protect;

/// Where the protected devices are noted.
const NOTES: &str = "/run/rescue/write-protected";

/// `/dev/mapper/root` becomes `dev:mapper:root`.
fn note(device: &str) -> PathBuf {
    Path::new(NOTES).join(device.trim_start_matches('/').replace('/', ":"))
}

/// Protects a device until [`release`]; one that is protected by others stays theirs.
///
/// # Errors
/// Those of the device and of the note.
pub fn hold(device: &str) -> io::Result<()> {
    if protect(Path::new(device), true)? {
        fs::create_dir_all(NOTES)?;
        fs::write(note(device), "")?;
    }
    Ok(())
}

/// Allows writes again, where [`hold`] forbade them.
///
/// # Errors
/// Those of the device.
pub fn release(device: &str) -> io::Result<()> {
    if note(device).exists() {
        protect(Path::new(device), false)?;
        fs::remove_file(note(device))?;
    }
    Ok(())
}
