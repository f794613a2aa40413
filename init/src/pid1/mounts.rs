//! The mounts that everything else stands on, as data.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use rescue_schema::paths;
use rescue_schema::report::StageResult;
use sys_mount::{Mount, MountFlags};

use super::boot::Boot;
use super::stages::Outcome;
use crate::sys::log;

/// One mount of an API file system.
struct ApiMount {
    target: &'static str,
    fs: &'static str,
    flags: MountFlags,
    data: &'static str,
    /// The boot cannot go on without it.
    must: bool,
    /// Mounted only where this path exists: the kernel and the firmware have it.
    when: Option<&'static str>,
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

const fn api(target: &'static str, fs: &'static str, data: &'static str) -> ApiMount {
    ApiMount { target, fs, flags: SAFE, data, must: false, when: None }
}

const fn must(target: &'static str, fs: &'static str, data: &'static str) -> ApiMount {
    ApiMount { must: true, ..api(target, fs, data) }
}

/// In order. `/tmp` may hold programs that an engineer brings along, so it is not `noexec`; its size
/// is what keeps a runaway log from taking the memory that the rescue itself lives in.
const MOUNTS: &[ApiMount] = &[
    must("/proc", "proc", ""),
    must("/sys", "sysfs", ""),
    ApiMount { flags: MountFlags::NOSUID, ..must("/dev", "devtmpfs", "mode=0755") },
    ApiMount {
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        ..api("/dev/pts", "devpts", "gid=5,mode=0620,ptmxmode=0666")
    },
    ApiMount {
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        ..api("/dev/shm", "tmpfs", "mode=1777,size=50%")
    },
    must("/run", "tmpfs", "mode=0755,size=20%"),
    ApiMount {
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        ..api("/tmp", "tmpfs", "mode=1777,size=50%")
    },
    ApiMount { when: Some("/sys/fs/cgroup"), ..api("/sys/fs/cgroup", "cgroup2", "nsdelegate") },
    ApiMount { when: Some("/sys/firmware/efi/efivars"), ..api("/sys/firmware/efi/efivars", "efivarfs", "") },
    ApiMount { when: Some("/sys/kernel/security"), ..api("/sys/kernel/security", "securityfs", "") },
];

/// Links that programs expect in /dev and that devtmpfs does not make.
const LINKS: [(&str, &str); 4] =
    [("/proc/self/fd", "/dev/fd"), ("fd/0", "/dev/stdin"), ("fd/1", "/dev/stdout"), ("fd/2", "/dev/stderr")];

/// Does the mounts; fails when one that is a must does.
pub(super) fn stage(boot: &mut Boot) -> Outcome {
    let mut failed = Vec::new();
    // efivarfs is a module of most kernels, which the kernel asks for when it is mounted.
    answer_the_kernel();
    for mount in MOUNTS {
        match apply(mount) {
            Ok(()) => {}
            Err(why) if mount.must => return (StageResult::Failed, why),
            Err(why) => failed.push(why),
        }
    }
    for (target, link) in LINKS {
        let _ = std::os::unix::fs::symlink(target, link);
    }
    // Userspace may say ten lines in five seconds to kmsg unless told otherwise; a boot says more.
    let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    if let Err(error) = DirBuilder::new().mode(0o755).create(paths::RUN) {
        return (StageResult::Failed, format!("making {}: {error}", paths::RUN));
    }
    boot.mounted();
    match failed.is_empty() {
        true => (StageResult::Ok, String::new()),
        false => {
            failed.iter().for_each(|why| log::note("pid1", why));
            (StageResult::Ok, failed.join("; "))
        }
    }
}

/// Gives the root file system room for what a rescue writes, programs that are unpacked when they are called
/// among it. The kernel gave it half of the memory that was free beside the packed image, which is gone now.
/// Not before somebody has looked whether the image fitted.
pub(super) fn make_room() {
    // A root of ramfs has no size, and takes no notice.
    if let Err(error) = rustix::mount::mount_remount("/", rustix::mount::MountFlags::empty(), c"size=75%") {
        log::note("pid1", &format!("remounting / with more room: {error}"));
    }
}

/// What the kernel calls for a module that it wants (`CONFIG_MODPROBE_PATH`). It is not in the image: before this
/// process runs, a kernel calls it for each cipher that is not built in, in vain, and a tenth of a boot goes by.
fn answer_the_kernel() {
    match std::os::unix::fs::symlink("/init", "/sbin/modprobe") {
        // An image that has one of its own.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => log::note("pid1", &format!("linking /sbin/modprobe: {error}")),
        Ok(()) => {}
    }
}

fn apply(mount: &ApiMount) -> Result<(), String> {
    if mount.when.is_some_and(|path| !Path::new(path).exists()) {
        return Ok(());
    }
    let _ = DirBuilder::new().recursive(true).mode(0o755).create(mount.target);
    match Mount::builder().fstype(mount.fs).flags(mount.flags).data(mount.data).mount(mount.fs, mount.target)
    {
        Ok(_) => Ok(()),
        // The kernel mounts devtmpfs itself where it is told to (CONFIG_DEVTMPFS_MOUNT).
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Ok(()),
        // The file system is not in this kernel: nothing is missing that could have been there.
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) && !mount.must => Ok(()),
        Err(error) => Err(format!("mounting {} on {}: {error}", mount.fs, mount.target)),
    }
}
