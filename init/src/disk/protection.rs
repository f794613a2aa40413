//! Devices that the kernel is told to refuse writes to, because a read-only mount does not keep ext4
//! from them: it empties its list of orphans and records errors in the superblock all the same.
//!
//! What we protected is noted in a folder on a tmpfs, so that only that is ever given back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::btrfs;
use crate::sys::mounts::protect;

/// Where the protected devices are noted.
const NOTES: &str = "/run/rescue/write-protected";

/// `/dev/mapper/root` becomes `dev:mapper:root`.
fn note(device: &str) -> PathBuf {
    Path::new(NOTES).join(device.trim_start_matches('/').replace('/', ":"))
}

/// Protects a device until [`release`]; one that is protected already stays as it is. Says whether that
/// changed anything. A dataset of a pool is no device, and refuses writes as the pool does.
///
/// # Errors
/// Those of the device and of the note.
pub fn hold(device: &str) -> io::Result<bool> {
    if !device.starts_with("/dev/") {
        return Ok(false);
    }
    let changed = protect(Path::new(device), true)?;
    if changed {
        fs::create_dir_all(NOTES)?;
        fs::write(note(device), device)?;
    }
    Ok(changed)
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

/// Whether it is by us that a device refuses writes.
pub fn is_ours(device: &str) -> bool {
    note(device).exists()
}

/// [`release`]s every device that is no longer `used`: one that somebody unmounted by other means.
pub fn sweep(used: &dyn Fn(&str) -> bool) {
    for entry in fs::read_dir(NOTES).into_iter().flatten().flatten() {
        let device = fs::read_to_string(entry.path()).unwrap_or_default();
        if !used(&device) && !btrfs::is_mounted(Path::new(&device)) {
            let _ = release(&device);
        }
    }
}
