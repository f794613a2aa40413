//! A terminal that people log in on: opened, taken over, put into a mode, waited for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, QueueSelector, SpecialCodeIndex,
    Winsize, isatty, tcflush, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// How long output may be held up by the other side before the terminal counts as dead.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Who turns keys into lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// This program: each byte comes as it is typed, nothing is echoed, no key is a signal.
    Ours,
    /// The kernel, as a login shell expects it (termios(3), `stty sane`).
    Kernel,
}

/// What [`Tty::wait`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// There is input (or the end of it).
    pub input: bool,
    /// A watched file was replaced.
    pub change: bool,
}

/// An open terminal.
#[derive(Debug)]
pub struct Tty {
    fd: OwnedFd,
    path: PathBuf,
}

impl Tty {
    /// Opens the terminal at `path`, after taking it from whoever has it: processes of a session that
    /// was there before lose it (vhangup(2)), so that nobody reads along. Taking over needs this
    /// process to lead a session without terminal, as a service does; else it is only opened.
    ///
    /// # Errors
    /// Those of open(2), `ENOTTY` for what is no terminal.
    pub fn take_over(path: &Path) -> io::Result<Self> {
        let first = Self::open(path)?;
        if hang_up(first.fd.as_fd()) {
            drop(first);
            return Self::open(path);
        }
        Ok(first)
    }

    fn open(path: &Path) -> io::Result<Self> {
        // NONBLOCK: without it a serial line that has no carrier is waited for.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty())?;
        if !isatty(&fd) {
            return Err(io::Error::from_raw_os_error(libc::ENOTTY));
        }
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// A second descriptor for a session, which must not be in non-blocking mode. To be called after
    /// [`Tty::set_keys`], which tells the line to do without carrier.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn for_session(&self) -> io::Result<OwnedFd> {
        Ok(open(&self.path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Sets every mode anew, whatever the last session left. Speed and stop bits stay as the kernel's
    /// command line set them. A terminal that does not know its size (a serial line) becomes 80×24.
    ///
    /// # Errors
    /// Those of termios(3).
    pub fn set_keys(&self, keys: Keys) -> io::Result<()> {
        let mut modes = tcgetattr(&self.fd)?;
        // ICRNL for both: what is typed ahead of a shell is then lines already when its mode changes.
        modes.input_modes = InputModes::IUTF8 | InputModes::ICRNL;
        modes.output_modes = OutputModes::OPOST | OutputModes::ONLCR;
        modes.control_modes.remove(ControlModes::CSIZE | ControlModes::PARENB);
        modes.control_modes.insert(ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL);
        modes.local_modes = LocalModes::empty();
        if keys == Keys::Kernel {
            modes.input_modes |= InputModes::IXON | InputModes::BRKINT;
            modes.local_modes = LocalModes::ISIG
                | LocalModes::ICANON
                | LocalModes::IEXTEN
                | LocalModes::ECHO
                | LocalModes::ECHOE
                | LocalModes::ECHOK
                | LocalModes::ECHOCTL
                | LocalModes::ECHOKE;
        }
        for (index, byte) in [
            (SpecialCodeIndex::VINTR, 0x03),
            (SpecialCodeIndex::VQUIT, 0x1c),
            (SpecialCodeIndex::VERASE, 0x7f),
            (SpecialCodeIndex::VKILL, 0x15),
            (SpecialCodeIndex::VEOF, 0x04),
            (SpecialCodeIndex::VSTART, 0x11),
            (SpecialCodeIndex::VSTOP, 0x13),
            (SpecialCodeIndex::VSUSP, 0x1a),
            (SpecialCodeIndex::VREPRINT, 0x12),
            (SpecialCodeIndex::VWERASE, 0x17),
            (SpecialCodeIndex::VLNEXT, 0x16),
            (SpecialCodeIndex::VMIN, 1),
            (SpecialCodeIndex::VTIME, 0),
        ] {
            modes.special_codes[index] = byte;
        }
        tcsetattr(&self.fd, OptionalActions::Now, &modes)?;
        let size = tcgetwinsize(&self.fd)?;
        if size.ws_row == 0 || size.ws_col == 0 {
            tcsetwinsize(&self.fd, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })?;
        }
        Ok(())
    }

    /// Drops what was typed and not read.
    pub fn drop_input(&self) {
        let _ = tcflush(&self.fd, QueueSelector::IFlush);
    }

    /// Reads what is there, at least one byte; 0 means nothing is there now.
    ///
    /// # Errors
    /// `UnexpectedEof` or `EIO` when the terminal is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => Ok(n),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// `TimedOut` when the other side takes nothing for 10 s, and those of write(2).
    pub fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.fd, bytes) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
                    if poll_for(&mut fds, Some(WRITE_LIMIT))? == 0 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for input, for a change that `watch` sees, or for `limit` to pass.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(&self, watch: Option<&Watch>, limit: Option<Duration>) -> io::Result<Seen> {
        let terminal = PollFd::new(&self.fd, PollFlags::IN);
        let Some(watch) = watch else {
            let mut fds = [terminal];
            return Ok(Seen { input: poll_for(&mut fds, limit)? > 0, change: false });
        };
        let mut fds = [terminal, PollFd::new(&watch.inotify, PollFlags::IN)];
        poll_for(&mut fds, limit)?;
        let [terminal, changes] = &fds;
        let (input, changed) = (!terminal.revents().is_empty(), !changes.revents().is_empty());
        Ok(Seen { input, change: changed && watch.drain() })
    }
}

/// Makes the terminal this session's own and hangs it up, which takes it from everybody.
fn hang_up(terminal: BorrowedFd<'_>) -> bool {
    // SAFETY: TIOCSCTTY takes an integer; 1 asks to take it from a session that has it.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 1) } != 0 {
        return false;
    }
    // The hang-up reaches this process as well. It is dropped while it is ignored, and a session that
    // is started later must find the default again.
    // SAFETY: neither action runs a handler.
    let ignored = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    // SAFETY: vhangup(2) takes nothing and touches no memory of this process.
    let status = unsafe { libc::vhangup() };
    if let Ok(before) = ignored {
        // SAFETY: puts back what was there.
        let _ = unsafe { signal(Signal::SIGHUP, before) };
    }
    status == 0
}

/// Sees files of one folder being replaced.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    names: Vec<std::ffi::OsString>,
}

impl Watch {
    /// Watches for files of these paths being moved into place, which is how reports are written.
    /// All lie in the folder of the first.
    ///
    /// # Errors
    /// Those of inotify(7).
    pub fn new(paths: &[PathBuf]) -> io::Result<Self> {
        let folder = paths.first().and_then(|path| path.parent()).ok_or(io::ErrorKind::InvalidInput)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(folder, AddWatchFlags::IN_MOVED_TO)?;
        let names = paths.iter().filter_map(|path| path.file_name()).map(Into::into).collect();
        Ok(Self { inotify, names })
    }

    /// Whether a watched file is among the events, all of which are taken.
    fn drain(&self) -> bool {
        let mut seen = false;
        while let Ok(events) = self.inotify.read_events() {
            seen |= events.iter().any(|event| event.name.as_ref().is_some_and(|n| self.names.contains(n)));
        }
        seen
    }
}

/// Columns of a terminal, and 80 where it does not say; `None` for what is none.
pub fn columns(file: impl AsFd) -> Option<usize> {
    let file = file.as_fd();
    if !isatty(file) {
        return None;
    }
    match tcgetwinsize(file).map_or(0, |size| usize::from(size.ws_col)) {
        0 => Some(80),
        columns => Some(columns.max(20)),
    }
}

/// Waits for `child` for at most `limit`, and kills it then. True when it ended by itself.
///
/// # Errors
/// Those of pidfd_open(2), poll(2) and wait(2).
pub fn wait_for(child: &mut std::process::Child, limit: Duration) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    let in_time = poll_for(&mut [PollFd::new(&fd, PollFlags::IN)], Some(limit))? > 0;
    if !in_time {
        child.kill()?;
    }
    child.wait()?;
    Ok(in_time)
}

/// poll(2), begun again after a signal with what is left of `limit`.
///
/// # Errors
/// Those of poll(2).
pub fn poll_for(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<usize> {
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(fds, left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
