//! A process that gives up everything: user, root directory, privileges, and all system calls but a few.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::seccomp::{self, Rule};

/// A confined process has this uid plus its process id: no two of them share one, so that neither
/// signals, traces nor limits the other. The range (up to 4194304 ids, the most processes that Linux
/// has) lies where neither distributions nor container managers hand out ids.
const FIRST_UID: u32 = 1_870_000_000;
/// `nobody`, where the range is not mapped (user_namespaces(7)).
const NOBODY: u32 = 65534;

/// What a confined process may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory that it may write, in bytes (`RLIMIT_DATA`).
    pub memory: u64,
    /// Descriptors.
    pub descriptors: u64,
}

/// A directory that is empty and stays so: it has been removed, so that nothing can be made in it.
///
/// # Errors
/// When none can be made in `folder`.
pub fn nowhere(folder: &Path) -> io::Result<OwnedFd> {
    let path = folder.join(format!(".nowhere-{}", std::process::id()));
    match rustix::fs::mkdir(&path, Mode::RUSR | Mode::XUSR | Mode::XGRP | Mode::XOTH) {
        // Left behind by one of this number that was killed in between.
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&path, flags, Mode::empty());
    rustix::fs::rmdir(&path)?;
    Ok(opened?)
}

/// Makes the working directory the root directory, and this process one that is nobody, may do
/// nothing, cannot be looked into and dies with its parent. Must be called by root and with one thread.
///
/// What is open stays open. The filter of system calls comes last, by [`bind`].
///
/// # Errors
/// The first step that failed; the process should end then.
pub fn drop_privileges(limits: Limits) -> io::Result<()> {
    let (uid, gid) = own_id();
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    // Not a thread more, no file grows, no core.
    for (what, most) in [
        (Resource::RLIMIT_DATA, limits.memory),
        (Resource::RLIMIT_NOFILE, limits.descriptors),
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ] {
        setrlimit(what, most, most)?;
    }
    // Those that the kernel has and this program does not know of are dropped by their number, too.
    for number in 0..64 {
        if rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number))
            .is_err()
        {
            break;
        }
    }
    rustix::thread::set_no_new_privs(true)?;
    setgroups(&[])?;
    setresgid(Gid::from_raw(gid), Gid::from_raw(gid), Gid::from_raw(gid))?;
    setresuid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid))?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none)?;
    // Both are reset by the change of user.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// The user and group of this process once it is confined.
fn own_id() -> (u32, u32) {
    let mine = FIRST_UID.saturating_add(std::process::id());
    let mapped = std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| {
        map.lines().any(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            let (Some(Ok(first)), _, Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next())
            else {
                return false;
            };
            mine.checked_sub(first).is_some_and(|at| at < count)
        })
    });
    if mapped { (mine, mine) } else { (NOBODY, NOBODY) }
}

/// Raises or lowers the memory that the process `pid` may write (prlimit(2)).
///
/// # Errors
/// Those of prlimit(2).
pub fn set_memory(pid: u32, bytes: u64) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
    rustix::process::prlimit(pid, rustix::process::Resource::Data, limit)?;
    Ok(())
}

/// Leaves this process the calls that moving bytes between open descriptors takes, memory, the clock
/// and random numbers. Those that libraries make in vain fail, every other ends the process: no file
/// is opened, no socket made, no program run, no process seen.
///
/// # Errors
/// Where the kernel has no filters; the process then runs on without.
pub fn bind() -> io::Result<()> {
    let mut rules = Vec::from(FREQUENT);
    #[cfg(target_arch = "x86_64")]
    rules.extend([
        (libc::SYS_epoll_wait, Rule::Allow),
        (libc::SYS_poll, Rule::Allow),
        (libc::SYS_time, Rule::Allow),
        (libc::SYS_open, Rule::Fail(EPERM)),
        (libc::SYS_stat, Rule::Fail(EPERM)),
        (libc::SYS_access, Rule::Fail(EPERM)),
        (libc::SYS_readlink, Rule::Fail(EPERM)),
    ]);
    rules.extend(RARE);
    seccomp::bind(&rules)
}

#[allow(clippy::cast_possible_truncation)]
const EPERM: u16 = libc::EPERM as u16;
#[allow(clippy::cast_possible_truncation)]
const ENOTTY: u16 = libc::ENOTTY as u16;
const EXECUTABLE: u32 = libc::PROT_EXEC.cast_unsigned();
#[allow(clippy::cast_possible_truncation)]
const RESIZE: u32 = libc::TIOCSWINSZ as u32;

const FREQUENT: [(libc::c_long, Rule); 16] = [
    (libc::SYS_read, Rule::Allow),
    (libc::SYS_write, Rule::Allow),
    (libc::SYS_epoll_pwait, Rule::Allow),
    (libc::SYS_recvfrom, Rule::Allow),
    (libc::SYS_sendto, Rule::Allow),
    (libc::SYS_writev, Rule::Allow),
    (libc::SYS_readv, Rule::Allow),
    (libc::SYS_recvmsg, Rule::Allow),
    (libc::SYS_sendmsg, Rule::Allow),
    (libc::SYS_epoll_ctl, Rule::Allow),
    (libc::SYS_futex, Rule::Allow),
    (libc::SYS_close, Rule::Allow),
    (libc::SYS_brk, Rule::Allow),
    (libc::SYS_munmap, Rule::Allow),
    (libc::SYS_madvise, Rule::Allow),
    (libc::SYS_mremap, Rule::Allow),
];

const RARE: [(libc::c_long, Rule); 52] = [
    // Memory that is executed is what an intruder would want next.
    (libc::SYS_mmap, Rule::AllowWithout(2, EXECUTABLE)),
    (libc::SYS_mprotect, Rule::AllowWithout(2, EXECUTABLE)),
    // The size of a terminal, and nothing else that an ioctl can do.
    (libc::SYS_ioctl, Rule::AllowIf(1, RESIZE)),
    (libc::SYS_ioctl, Rule::Fail(ENOTTY)),
    (libc::SYS_ppoll, Rule::Allow),
    (libc::SYS_accept4, Rule::Allow),
    (libc::SYS_getsockname, Rule::Allow),
    (libc::SYS_getpeername, Rule::Allow),
    (libc::SYS_getsockopt, Rule::Allow),
    (libc::SYS_setsockopt, Rule::Allow),
    (libc::SYS_shutdown, Rule::Allow),
    (libc::SYS_fcntl, Rule::Allow),
    (libc::SYS_dup, Rule::Allow),
    (libc::SYS_getrandom, Rule::Allow),
    (libc::SYS_clock_gettime, Rule::Allow),
    (libc::SYS_clock_getres, Rule::Allow),
    (libc::SYS_gettimeofday, Rule::Allow),
    (libc::SYS_clock_nanosleep, Rule::Allow),
    (libc::SYS_nanosleep, Rule::Allow),
    (libc::SYS_sched_yield, Rule::Allow),
    (libc::SYS_sched_getaffinity, Rule::Allow),
    (libc::SYS_getpid, Rule::Allow),
    (libc::SYS_gettid, Rule::Allow),
    (libc::SYS_getuid, Rule::Allow),
    (libc::SYS_geteuid, Rule::Allow),
    (libc::SYS_sigaltstack, Rule::Allow),
    (libc::SYS_rt_sigreturn, Rule::Allow),
    (libc::SYS_rt_sigprocmask, Rule::Allow),
    (libc::SYS_rt_sigaction, Rule::Allow),
    (libc::SYS_restart_syscall, Rule::Allow),
    (libc::SYS_membarrier, Rule::Allow),
    (libc::SYS_exit, Rule::Allow),
    (libc::SYS_exit_group, Rule::Allow),
    // A panic aborts: raise(3) signals the process itself, which no other shares its user with.
    (libc::SYS_tgkill, Rule::Allow),
    (libc::SYS_eventfd2, Rule::Allow),
    (libc::SYS_timerfd_settime, Rule::Allow),
    (libc::SYS_statx, Rule::Fail(EPERM)),
    (libc::SYS_newfstatat, Rule::Fail(EPERM)),
    (libc::SYS_fstat, Rule::Allow),
    (libc::SYS_lseek, Rule::Allow),
    (libc::SYS_openat, Rule::Fail(EPERM)),
    (libc::SYS_readlinkat, Rule::Fail(EPERM)),
    (libc::SYS_faccessat, Rule::Fail(EPERM)),
    (libc::SYS_getcwd, Rule::Fail(EPERM)),
    (libc::SYS_uname, Rule::Fail(EPERM)),
    (libc::SYS_sysinfo, Rule::Fail(EPERM)),
    (libc::SYS_prctl, Rule::Fail(EPERM)),
    (libc::SYS_prlimit64, Rule::Fail(EPERM)),
    (libc::SYS_socket, Rule::Fail(EPERM)),
    (libc::SYS_mlock, Rule::Fail(EPERM)),
    (libc::SYS_munlock, Rule::Fail(EPERM)),
    (libc::SYS_clone3, Rule::Fail(EPERM)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nowhere_is_empty_and_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = nowhere(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let made = rustix::fs::mkdirat(&nowhere, "x", Mode::RWXU);
        assert_eq!(made, Err(rustix::io::Errno::NOENT));
    }
}
