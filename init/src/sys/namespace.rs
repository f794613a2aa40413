//! Namespaces: a prepared chroot is one of mounts and one of processes, so that its end is their end.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount_change, open_tree};

use super::process::How;

/// The next child of this process is the first of a namespace of processes: all of them end with it.
///
/// # Errors
/// Those of unshare(2).
pub fn next_child_is_first() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWPID)?)
}

/// This process gets mounts of its own, of which nothing reaches the others.
///
/// # Errors
/// Those of unshare(2) and mount(2).
pub fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?)
}

/// A second view of what is at `path` with all that is mounted below it, to be attached elsewhere.
///
/// # Errors
/// Those of open_tree(2).
pub fn again(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

/// As [`again`], of a place that is open, with what is mounted below it only when `deep`.
///
/// # Errors
/// Those of open_tree(2).
pub fn again_at(place: impl AsFd, deep: bool) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let flags = if deep { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
    Ok(open_tree(place, "", flags)?)
}

/// Makes a detached mount and what is mounted below it read-only.
///
/// # Errors
/// Those of mount_setattr(2).
pub fn read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = nix::libc::mount_attr {
        attr_set: nix::libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is empty and the structure lives across the call, of the size that is said.
    let done = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            nix::libc::AT_EMPTY_PATH | nix::libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<nix::libc::mount_attr>(),
        )
    };
    Errno::result(done)?;
    Ok(())
}

/// Takes a mount out of this namespace, whoever uses it; it ends for the others when they unmount it.
///
/// # Errors
/// Those of umount2(2).
pub fn leave(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// Makes `command` end by SIGKILL when the process that starts it dies in whatever way. The first
/// process of a namespace is deaf to any other signal.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and nothing else is called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(())
        });
    }
}

/// Makes `command` start with that root, in a process group of its own, which the terminal on its
/// standard input (if that is one) listens to.
pub fn rooted(command: &mut Command, root: OwnedFd) {
    // SAFETY: only async-signal-safe calls are made between fork and exec: fchdir, chroot, setpgid,
    // ioctl, rt_sigaction, rt_sigprocmask. Nothing allocates or takes a lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::fchdir(&root)?;
            rustix::process::chroot(c".")?;
            rustix::process::setpgid(None, None)?;
            take_terminal();
            for number in [Signal::SIGTTOU, Signal::SIGPIPE, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP]
            {
                signal(number, SigHandler::SigDfl)?;
            }
            nix::sys::signal::SigSet::empty().thread_set_mask()?;
            Ok(())
        });
    }
}

/// Makes this process's group the one that the terminal on its standard input listens to.
pub fn take_terminal() {
    // SAFETY: ignores a signal; no handler runs.
    let _ = unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) };
    let _ = rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpgrp());
}

/// Leaves the signals of the keyboard to the program that is run meanwhile.
pub fn deaf_to_keyboard() {
    for number in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP] {
        // SAFETY: ignores a signal; no handler runs.
        let _ = unsafe { signal(number, SigHandler::SigIgn) };
    }
}

/// As the first process of a namespace: waits for one child's end, and reaps whatever else ends
/// meanwhile. A child that stops itself is continued, because nobody else could.
///
/// # Errors
/// Those of waitpid(2).
pub fn wait(child: u32) -> io::Result<How> {
    let child = Pid::from_raw(child.cast_signed());
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => return Ok(How::Exit(status)),
            Ok(WaitStatus::Signaled(pid, number, _)) if pid == child => {
                return Ok(How::Signal(number as i32));
            }
            Ok(WaitStatus::Stopped(pid, _)) if pid == child => drop(kill(pid, Signal::SIGCONT)),
            // EINVAL: a real-time signal, which nix has no name for.
            Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
