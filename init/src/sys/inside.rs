//! More of what can be asked of a file system that is not to be trusted: found as a process with that root
//! would find it, so that no symlink leads out.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};

use super::mounts::{folder_inside, inside, regular_inside};

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its inode; 256 is the root of a btrfs subvolume.
    pub inode: u64,
    /// When it was last written, in seconds since 1970.
    pub modified: i64,
    /// Whether it is a folder.
    pub folder: bool,
    /// Whether it is a regular file.
    pub regular: bool,
    /// Bytes.
    pub size: u64,
}

/// Looks at a file below `root`.
///
/// # Errors
/// Those of the file system.
pub fn known(root: BorrowedFd<'_>, path: &str) -> io::Result<Known> {
    let file = inside(root, path, OFlags::PATH)?;
    let stat = statat(&file, "", AtFlags::EMPTY_PATH)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(Known {
        inode: stat.st_ino,
        modified: stat.st_mtime,
        folder: kind == FileType::Directory,
        regular: kind == FileType::RegularFile,
        size: u64::try_from(stat.st_size).unwrap_or(0),
    })
}

/// A regular file below `root`, and its size, to read parts of it.
///
/// # Errors
/// Those of the file system; `InvalidInput` for what is no regular file.
pub fn open_file(root: BorrowedFd<'_>, path: &str) -> io::Result<(File, u64)> {
    let file = regular_inside(root, path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// The first bytes of a regular file below `root`, at most `limit`.
///
/// # Errors
/// As [`open_file`].
pub fn head(root: BorrowedFd<'_>, path: &str, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(root, path)?.0.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file of any kind below `root`, to mount something on.
///
/// # Errors
/// Those of the file system.
pub fn place(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    inside(root, path, OFlags::PATH)
}

/// Where a symlink below `root` points; the folder that it is in is found as by
/// [`folder_inside`](super::mounts::folder_inside).
///
/// # Errors
/// Those of the file system; `InvalidInput` for what is no symlink.
pub fn link(root: BorrowedFd<'_>, folder: &str, name: &str) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let folder = folder_inside(root, folder)?;
    let target = readlinkat(&folder, name, Vec::new())?;
    Ok(std::ffi::OsString::from_vec(target.into_bytes()).into())
}

/// Makes folders below `root` where they are not there.
///
/// # Errors
/// Those of the file system.
pub fn make_folders(root: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let mut done = String::new();
    for part in path.split('/').filter(|p| !p.is_empty()) {
        let parent = folder_inside(root, if done.is_empty() { "." } else { &done })?;
        match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        done = if done.is_empty() { part.into() } else { format!("{done}/{part}") };
    }
    Ok(())
}

/// Makes a file below `root` that is not there yet.
///
/// # Errors
/// Those of the file system.
pub fn create(root: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(File::from(openat2(root, path, flags, Mode::from_raw_mode(0o644), resolve)?))
}

/// `struct btrfs_ioctl_ino_lookup_args` (`include/uapi/linux/btrfs.h`).
#[repr(C)]
struct InodeLookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

mod ioctl {
    nix::ioctl_readwrite!(inode_lookup, 0x94, 18, super::InodeLookup);
}

/// The id of the btrfs subvolume that a folder is in: 5 is the top level.
///
/// # Errors
/// Those of the file system: `ENOTTY` when it is no btrfs.
pub fn subvolume(root: BorrowedFd<'_>, path: &str) -> io::Result<u64> {
    /// `BTRFS_FIRST_FREE_OBJECTID`: with it the answer is the tree alone.
    const FIRST: u64 = 256;
    let folder = inside(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut question = InodeLookup { tree: 0, object: FIRST, name: [0; 4080] };
    // SAFETY: the kernel reads and writes one such structure, which lives across the call.
    unsafe { ioctl::inode_lookup(folder.as_raw_fd(), &mut question) }?;
    Ok(question.tree)
}
