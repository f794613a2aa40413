//! What the kernel knows of devices of btrfs file systems (`include/uapi/linux/btrfs.h`).
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

mod ioctl {
    nix::ioctl_write_ptr!(forget_dev, 0x94, 5, super::VolArgs);
}

/// Makes the kernel forget all devices that were shown to it and are in no mounted file system: a copy of a disk
/// that was looked at before must not be taken for a part of the one that is mounted now.
///
/// # Errors
/// Where there is no btrfs, and `ENOTTY` from a kernel before 5.4.
pub fn forget() -> io::Result<()> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/btrfs-control")?;
    let all = VolArgs { fd: 0, name: [0; 4088] };
    // SAFETY: the kernel reads one such structure, which lives across the call.
    unsafe { ioctl::forget_dev(control.as_raw_fd(), &raw const all) }?;
    Ok(())
}

/// Whether a device is in a mounted file system, be it not the one that is named as its source.
pub fn is_mounted(device: &std::path::Path) -> bool {
    let Ok(device) = device.canonicalize() else { return false };
    let Some(name) = device.file_name() else { return false };
    let all = std::fs::read_dir("/sys/fs/btrfs").into_iter().flatten().flatten();
    all.into_iter().any(|one| one.path().join("devices").join(name).exists())
}
