//! Starting programs that must not inherit what this process is: its signal mask, its protection
//! from the OOM killer, its controlling terminal.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use rescue_schema::account::Account;

/// Where programs are looked for in a rescue.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether a program is in this image.
pub fn has_program(name: &str) -> bool {
    PATH.split(':').any(|folder| Path::new(folder).join(name).is_file())
}

/// Makes `command` start as a session of its own: new session id, default signals, no OOM
/// protection, and `terminal` (when given) as controlling terminal and as stdin, stdout and stderr.
///
/// # Errors
/// When the terminal's descriptor cannot be duplicated.
pub fn as_session(command: &mut Command, terminal: Option<OwnedFd>) -> std::io::Result<()> {
    let on_terminal = terminal.is_some();
    if let Some(terminal) = terminal {
        command.stdin(Stdio::from(terminal.as_fd().try_clone_to_owned()?));
        command.stdout(Stdio::from(terminal.as_fd().try_clone_to_owned()?));
        command.stderr(Stdio::from(terminal));
    }
    // SAFETY: between fork and exec only async-signal-safe calls are made: rt_sigprocmask, rt_sigaction,
    // open, write, close, setsid, ioctl. Nothing allocates or takes a lock.
    unsafe {
        command.pre_exec(move || {
            default_signals()?;
            expose_to_oom_killer();
            nix::unistd::setsid()?;
            if on_terminal {
                rustix::process::ioctl_tiocsctty(std::io::stdin())?;
            }
            Ok(())
        });
    }
    Ok(())
}

/// Makes `command` start with default signals, for a service of PID 1 (whose signals are blocked).
/// `oom_score_adj` (-1000 to 1000) is set when given; -1000 keeps it from the OOM killer.
pub fn as_service(command: &mut Command, protected: bool) {
    // SAFETY: as in `as_session`.
    unsafe {
        command.pre_exec(move || {
            default_signals()?;
            if protected {
                protect_from_oom_killer()
            } else {
                expose_to_oom_killer()
            }
            nix::unistd::setsid()?;
            Ok(())
        });
    }
}

/// Makes `command` receive SIGHUP when the process that starts it dies in whatever way, kill -9
/// included: a session's first process then ends as when its line is cut. Its own children do not
/// inherit this (prctl(2), `PR_SET_PDEATHSIG`).
pub fn hang_up_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and nothing else is called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::HUP))?;
            Ok(())
        });
    }
}

fn default_signals() -> std::io::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // An ignored signal stays ignored across exec. Rust ignores SIGPIPE at start; nohup, SIGHUP; a
    // shell without job control, the keyboard's in what it runs in the background.
    for signal in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: sets the default action; no handler runs.
        unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl)? };
    }
    Ok(())
}

fn write_oom_score(score: &[u8]) {
    use rustix::fs::{Mode, OFlags, open};
    if let Ok(file) = open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&file, score);
    }
}

/// Keeps this process from the OOM killer (proc(5), `oom_score_adj`).
pub fn protect_from_oom_killer() {
    write_oom_score(b"-1000");
}

fn expose_to_oom_killer() {
    write_oom_score(b"0");
}

/// Where udev listens, if there is one.
const UDEV: &str = "/run/udev/control";

/// The environment that a login starts with: `HOME`, `USER`, `LOGNAME`, `SHELL`, `PATH`. Those that
/// the terminal and the client bring are added by the caller.
pub fn login_environment(account: &Account) -> Vec<(String, String)> {
    // Without udev nobody but the tools themselves (dmsetup, LVM, cryptsetup) makes the nodes in
    // /dev/mapper, and they do it only when told that there is none.
    let alone = (!Path::new(UDEV).exists()).then(|| ("DM_DISABLE_UDEV".to_string(), "1".to_string()));
    let own = [
        ("HOME", account.home.to_string_lossy().into_owned()),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
        ("SHELL", account.shell.to_string_lossy().into_owned()),
        ("PATH", PATH.into()),
    ]
    .map(|(k, v)| (k.to_string(), v));
    own.into_iter().chain(alone).collect()
}

/// Makes `command` start in the directory that is open as `folder`, whatever its name, if it has one.
pub fn within(command: &mut Command, folder: OwnedFd) {
    // SAFETY: fchdir is async-signal-safe and nothing else is called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            rustix::process::fchdir(&folder)?;
            Ok(())
        });
    }
}
