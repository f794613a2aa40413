//! Opening block devices and images to look at them: never to write.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;

/// Opens a device or an image for reading. `O_NONBLOCK`, so that an empty drive or a fifo answers at
/// once, and nothing but a block device or a regular file is taken. Gives its size in bytes too.
///
/// # Errors
/// Those of the file system; `InvalidInput` for what is neither; `ENOMEDIUM` for an empty drive, which
/// says that it is 1 GiB long and then fails every read.
pub fn open(path: &Path) -> io::Result<(File, u64)> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if !(kind.is_block_device() || kind.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a block device nor an image"));
    }
    if kind.is_block_device() && is_empty_drive(&file) {
        return Err(Errno::ENOMEDIUM.into());
    }
    // What a look reads lies far apart; read-ahead would fetch ten times as much beside it.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random);
    let size = file.seek(SeekFrom::End(0))?;
    // Single places are looked at, and reading ahead of each would cost a dying disk much. Advice that is
    // not taken changes nothing else.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random);
    Ok((file, size))
}

/// Bytes of a logical sector of what [`open`] opened; `None` for a file, which does not say.
#[must_use]
pub fn sector_size(file: &File) -> Option<u64> {
    rustix::fs::ioctl_blksszget(file).ok().map(u64::from)
}

/// `include/uapi/linux/cdrom.h`.
const CDROM_DRIVE_STATUS: u64 = 0x5326;
const CDSL_CURRENT: i32 = i32::MAX;
const CDS_NO_DISC: i32 = 1;
const CDS_TRAY_OPEN: i32 = 2;

/// Longest name of a volume of ZFS, its NUL included (`ZFS_MAX_DATASET_NAME_LEN`).
const VOLUME_NAME: usize = 256;

mod ioctl {
    nix::ioctl_write_int_bad!(drive_status, super::CDROM_DRIVE_STATUS);
    // `BLKZNAME` of include/sys/fs/zfs.h.
    nix::ioctl_read!(volume_name, 0x12, 125, [u8; super::VOLUME_NAME]);
}

/// What a volume of ZFS is called: its pool, and its name there.
///
/// # Errors
/// Those of opening it, and of the kernel where it is none.
pub fn volume_name(path: &Path) -> io::Result<String> {
    let (file, _) = open(path)?;
    let mut name = [0; VOLUME_NAME];
    // SAFETY: the driver fills at most the size that is part of the request, which is that of `name`.
    unsafe { ioctl::volume_name(file.as_raw_fd(), &mut name) }?;
    let end = name.iter().position(|b| *b == 0).unwrap_or(0);
    name.get(..end)
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| io::Error::other("it has no name"))
}

/// Whether this is an optical drive with nothing in it. Any other device does not know the question.
fn is_empty_drive(file: &File) -> bool {
    // SAFETY: the request takes a number and no pointer.
    let status = unsafe { ioctl::drive_status(file.as_raw_fd(), CDSL_CURRENT) };
    matches!(status, Ok(CDS_NO_DISC | CDS_TRAY_OPEN))
}

/// Asks the device to write what its own cache holds to the medium.
///
/// # Errors
/// Those of the device.
pub fn flush(path: &Path) -> io::Result<()> {
    open(path)?.0.sync_all()
}
