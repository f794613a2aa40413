//! The processes of a session: how they start, and how they are signalled. What a [`Start`] says is all
//! that the protocol side decides.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rescue_schema::account::Account;
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use crate::sys::{pty, spawn};

/// Size of the pipes to and from a command in bytes: fewer switches between it and the server than
/// with the kernel's 64 KiB.
const PIPE: usize = 256 << 10;

/// A terminal, as the client asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminal {
    /// `TERM`.
    pub name: String,
    /// Its size.
    pub size: pty::Size,
    /// Its modes: opcode and argument (RFC 4254 section 8).
    pub modes: Vec<(u8, u32)>,
}

/// What is started.
#[derive(Debug)]
pub struct Start<'a> {
    /// As whom.
    pub account: &'a Account,
    /// A command for the login's shell; none for the shell itself, as a login shell.
    pub command: Option<&'a [u8]>,
    /// A role of this binary to start in the place of a shell: a subsystem's.
    pub role: Option<&'static str>,
    /// On a terminal of its own, or with three pipes.
    pub terminal: Option<&'a Terminal>,
    /// Environment beside that of the login.
    pub environment: &'a [(String, String)],
}

/// What has started.
#[derive(Debug)]
pub struct Started {
    /// The first process, leader of its session and its process group.
    pub child: Child,
    /// The side of the server.
    pub ends: Ends,
}

/// The server's ends, not blocking.
#[derive(Debug)]
pub enum Ends {
    /// The master of the terminal.
    Terminal(OwnedFd),
    /// Pipes.
    Pipes {
        /// To standard input.
        input: OwnedFd,
        /// From standard output.
        output: OwnedFd,
        /// From standard error.
        error: OwnedFd,
    },
}

/// Starts a session's first process.
///
/// # Errors
/// No terminal, no process, or a shell that cannot be executed.
pub fn start(start: &Start<'_>) -> io::Result<Started> {
    let account = start.account;
    let mut command =
        Command::new(start.role.map_or(account.shell.as_path(), |_| Path::new("/proc/self/exe")));
    let shell = account.shell.file_name().unwrap_or(account.shell.as_os_str());
    match (start.role, start.command) {
        (Some(role), _) => {
            command.arg0("rescue").arg(role);
        }
        (None, Some(line)) => {
            command.arg0(shell);
            if is_busybox(&account.shell) {
                command.arg("-l");
            }
            command.arg("-c").arg(std::ffi::OsStr::from_bytes(line));
        }
        (None, None) => {
            let mut name = std::ffi::OsString::from("-");
            name.push(shell);
            command.arg0(name);
        }
    }
    command.env_clear().envs(spawn::login_environment(account)).envs(start.environment.iter().cloned());
    command.current_dir(if account.home.is_dir() { &account.home } else { Path::new("/") });
    if account.uid != rustix::process::geteuid().as_raw() {
        command.uid(account.uid).gid(account.gid);
    }
    let ends = match start.terminal {
        Some(terminal) => on_terminal(&mut command, account, terminal)?,
        None => on_pipes(&mut command)?,
    };
    spawn::hang_up_with_parent(&mut command);
    Ok(Started { child: command.spawn()?, ends })
}

/// Whether it is busybox's shell, which prefers its own `modprobe` and `reboot` to the rescue's. `/etc/profile` tells
/// it not to, and only a login shell reads that.
fn is_busybox(shell: &Path) -> bool {
    shell.canonicalize().is_ok_and(|path| path.file_name().is_some_and(|name| name == "busybox"))
}

fn on_terminal(command: &mut Command, account: &Account, terminal: &Terminal) -> io::Result<Ends> {
    let pair = pty::open()?;
    // Modes and size that the kernel refuses leave a terminal that works.
    let _ = pty::apply_modes(&pair.slave, &terminal.modes);
    let _ = pty::resize(&pair.master, terminal.size);
    if account.uid != 0 {
        let (uid, gid) = (rustix::fs::Uid::from_raw(account.uid), rustix::fs::Gid::from_raw(account.gid));
        rustix::fs::fchown(&pair.slave, Some(uid), Some(gid))?;
    }
    if !terminal.name.is_empty() {
        command.env("TERM", &terminal.name);
    }
    command.env("SSH_TTY", &pair.name);
    spawn::as_session(command, Some(pair.slave))?;
    not_blocking(&pair.master)?;
    Ok(Ends::Terminal(pair.master))
}

fn on_pipes(command: &mut Command) -> io::Result<Ends> {
    let (their_input, input) = pipe_with(PipeFlags::CLOEXEC)?;
    let (output, their_output) = pipe_with(PipeFlags::CLOEXEC)?;
    let (error, their_error) = pipe_with(PipeFlags::CLOEXEC)?;
    for end in [&input, &output] {
        let _ = rustix::pipe::fcntl_setpipe_size(end, PIPE);
    }
    for end in [&input, &output, &error] {
        not_blocking(end)?;
    }
    command
        .stdin(Stdio::from(their_input))
        .stdout(Stdio::from(their_output))
        .stderr(Stdio::from(their_error));
    spawn::as_session(command, None)?;
    Ok(Ends::Pipes { input, output, error })
}

fn not_blocking(end: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&end)?;
    rustix::fs::fcntl_setfl(&end, flags | OFlags::NONBLOCK)?;
    Ok(())
}

/// Starts `rescue status` with its output to a pipe that does not block.
///
/// # Errors
/// No process.
pub fn status(account: &Account, columns: u32) -> io::Result<(Child, OwnedFd)> {
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    not_blocking(&output)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("rescue").arg("status").env_clear().envs(spawn::login_environment(account));
    command.env("COLUMNS", columns.to_string());
    spawn::as_session(&mut command, None)?;
    command.stdin(Stdio::null()).stdout(Stdio::from(theirs)).stderr(Stdio::null());
    Ok((command.spawn()?, output))
}

/// A pipe through which the end of a process is told: what is read, without blocking, and what is
/// written.
///
/// # Errors
/// Those of pipe(2).
pub fn end() -> io::Result<(OwnedFd, OwnedFd)> {
    let (told, end) = pipe_with(PipeFlags::CLOEXEC)?;
    not_blocking(&told)?;
    Ok((told, end))
}

/// Sends a signal to the process group of a session's first process. The caller knows that this has
/// not been waited for, so the number is still its own.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// The signal of this name (RFC 4254 section 6.10, without `SIG`), of those that a client may send.
pub fn signal_by_name(name: &str) -> Option<Signal> {
    Some(match name {
        "ABRT" => Signal::ABORT,
        "ALRM" => Signal::ALARM,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "PIPE" => Signal::PIPE,
        "QUIT" => Signal::QUIT,
        "TERM" => Signal::TERM,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        _ => return None,
    })
}
