//! Mounting and unmounting, and looking into file systems that are not to be trusted.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount as umount2,
};

/// What is mounted, and how.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The kernel's name of the file-system driver.
    pub driver: &'a str,
    /// The device.
    pub device: &'a str,
    /// Options of the driver: `noload`, `subvol=@`.
    pub options: &'a [String],
    /// Whether nothing may be written.
    pub read_only: bool,
    /// Whether devices, set-user-id programs and programs at all are taken for plain data.
    pub inert: bool,
}

/// Mounts a file system where no path leads to it: it is gone as soon as the descriptor is.
///
/// # Errors
/// Those of the kernel, with what its driver says of them.
pub fn detached(wanted: Wanted<'_>) -> io::Result<OwnedFd> {
    let context = fsopen(wanted.driver, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let configured = (|| {
        fsconfig_set_string(&context, "source", wanted.device)?;
        if wanted.read_only {
            fsconfig_set_flag(&context, "ro")?;
        }
        for option in wanted.options {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, option.as_str())?,
            }
        }
        fsconfig_create(&context)
    })();
    if let Err(error) = configured {
        return Err(explained(error, &context));
    }
    let mut attributes = MountAttrFlags::empty();
    if wanted.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    if wanted.inert {
        attributes |= MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    }
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|e| explained(e, &context))
}

/// The driver's own words are queued in the context, a message a read (fsopen(2), "Message log").
fn explained(error: rustix::io::Errno, context: &OwnedFd) -> io::Error {
    let mut words = Vec::new();
    let mut message = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut message) {
        let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default());
        words.push(text.trim_end().get(2..).unwrap_or_default().to_string());
        if words.len() == 8 {
            break;
        }
    }
    let plain = io::Error::from(error);
    if words.is_empty() {
        plain
    } else {
        io::Error::new(plain.kind(), format!("{} ({plain})", words.join("; ")))
    }
}

/// Puts a detached mount on a folder.
///
/// # Errors
/// Those of the kernel.
pub fn attach(mount: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", folder, "", flags)?)
}

/// Unmounts what is mounted last at `target`; never lazily, never through a symlink.
///
/// # Errors
/// Those of the kernel: `ResourceBusy` when somebody holds it.
pub fn unmount(target: &Path) -> io::Result<()> {
    Ok(umount2(target, UnmountFlags::NOFOLLOW)?)
}

/// A file that only one process has at a time, made with its folder where it is not there. Waits for it, and calls
/// `waiting` before.
///
/// # Errors
/// Those of the file system.
pub fn exclusive(path: &Path, waiting: &dyn Fn()) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    use rustix::fs::{FlockOperation, flock};
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            waiting();
            flock(&file, FlockOperation::LockExclusive)?;
        }
        done => done?,
    }
    Ok(file)
}

/// A folder by its path: a root for [`folder_inside`] and [`read_inside`].
///
/// # Errors
/// Those of the file system.
pub fn folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// A folder below `root`, as a process with that root would find it: no symlink leads out.
///
/// # Errors
/// Those of the file system.
pub fn folder_inside(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    inside(root, path, OFlags::PATH | OFlags::DIRECTORY)
}

/// A regular file of at most `limit` bytes below `root`, found as by [`folder_inside`].
///
/// # Errors
/// Those of the file system, `InvalidInput` for what is no regular file, `FileTooLarge`.
pub fn read_inside(root: BorrowedFd<'_>, path: &str, limit: usize) -> io::Result<Vec<u8>> {
    let file = regular_inside(root, path)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("over {limit} bytes")));
    }
    Ok(bytes)
}

/// A regular file below `root`, open to be read. What else is there is not opened: that starts a watchdog, rewinds a
/// tape, and waits at a fifo.
///
/// # Errors
/// Those of the file system, `InvalidInput` for what is no regular file.
pub(super) fn regular_inside(root: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    let kind = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode);
    let place = inside(root, path, OFlags::PATH)?;
    if kind(rustix::fs::fstat(&place)?) == FileType::RegularFile {
        // It may be another by now.
        let file = inside(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if kind(rustix::fs::fstat(&file)?) == FileType::RegularFile {
            return Ok(file.into());
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Names of at most `most` entries of a folder below `root`, found as by [`folder_inside`]; those that
/// are no UTF-8 are left out.
///
/// # Errors
/// Those of the file system.
pub fn names_inside(root: BorrowedFd<'_>, path: &str, most: usize) -> io::Result<Vec<String>> {
    let folder = inside(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(folder)?.take(most) {
        if let Ok(name) = entry?.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_string());
        }
    }
    Ok(names)
}

pub(super) fn inside(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        // EAGAIN: a rename somewhere raced with the look-up (openat2(2)).
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN) => {}
            done => return Ok(done?),
        }
    }
}

mod ioctl {
    // <linux/fs.h>
    nix::ioctl_write_ptr_bad!(blkroset, nix::request_code_none!(0x12, 93), nix::libc::c_int);
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), nix::libc::c_int);
}

/// Makes the kernel refuse every write to a device, or allow them again. Says whether that changed
/// anything.
///
/// # Errors
/// Those of the device.
pub fn protect(device: &Path, protected: bool) -> io::Result<bool> {
    let (file, _) = super::block::open(device)?;
    let fd = file.as_fd().as_raw_fd();
    let mut now = 0;
    // SAFETY: BLKROGET writes one int, and `now` is one that lives across the call.
    unsafe { ioctl::blkroget(fd, &mut now) }?;
    if (now != 0) == protected {
        return Ok(false);
    }
    // SAFETY: BLKROSET reads one int from a pointer that is valid across the call.
    unsafe { ioctl::blkroset(fd, &i32::from(protected)) }?;
    Ok(true)
}
