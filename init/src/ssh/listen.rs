//! The listener: synchronous, root, and blind to what clients send. It accepts, starts one process a
//! connection and keeps count of those in which nobody has logged in yet.
//!
//! For each connection it forks a monitor ([`super::monitor`]), which starts the connection's process.
//! Over a socket pair they speak as [`control`] says until somebody has logged in. Neither needs the
//! other after that, so a listener that dies takes no session along.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::control::{self, Check};
use super::monitor::{self, Server};
use crate::sys::{log, process, sandbox};

/// Connections at once in which nobody has logged in. Each is a process of some 4 MiB; 32 of them fit
/// into the smallest machine that can be rescued.
const MAX_PENDING: usize = 32;
/// A pending connection that is younger is not ended to make room: a login takes a fraction of it, so
/// real ones come through even when all places are taken by others that are held open.
const MIN_AGE: Duration = Duration::from_secs(2);
/// Passwords checked at once; fewer on machines with few processors. A hash takes some 16 MiB
/// (yescrypt) and a processor for as long as its cost asks: neither is for strangers to use up.
const MAX_CHECKS: usize = 4;
/// How long nothing is accepted when no process can be started.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection in which nobody has logged in.
struct Pending {
    /// Its monitor's process id.
    pid: u32,
    control: UnixStream,
    source: IpAddr,
    since: Instant,
    check: Check,
}

/// The address to listen on when none is given: IPv6 and IPv4 on one socket, or IPv4 alone where the
/// kernel has no IPv6.
///
/// # Errors
/// When the address cannot be had, with the address.
pub fn bind(address: Option<SocketAddr>, port: u16) -> anyhow::Result<TcpListener> {
    let failed = |address| move |error| anyhow!("listening on {address}: {error}");
    if let Some(address) = address {
        return TcpListener::bind(address).map_err(failed(address));
    }
    let (six, four) =
        (SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    match TcpListener::bind(six) {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(four).map_err(failed(four))
        }
        bound => bound.map_err(failed(six)),
    }
}

/// A connection that was accepted, in the process that is to be its monitor.
struct Accepted {
    socket: TcpStream,
    control: UnixStream,
}

/// Accepts until SIGTERM. `ready` is called once connections are accepted. Returns in the listener when
/// it ends, and in the monitor of each connection when that ends. Must be called with one thread.
///
/// # Errors
/// When the listener cannot be set up; nothing that a client does.
pub fn serve(listener: TcpListener, server: &Server, ready: impl FnOnce()) -> anyhow::Result<()> {
    let nowhere = ["/run", "/tmp", "/"].iter().find_map(|folder| sandbox::nowhere(Path::new(folder)).ok());
    let nowhere = nowhere.context("making an empty folder, in /run, /tmp or /")?;
    match accept_all(listener, ready)? {
        None => Ok(()),
        Some(Accepted { socket, control }) => monitor::run(server, socket, control, nowhere),
    }
}

/// The listener's life; its descriptors are closed when it returns.
fn accept_all(listener: TcpListener, ready: impl FnOnce()) -> anyhow::Result<Option<Accepted>> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block().context("blocking signals")?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("opening a signalfd")?;
    listener.set_nonblocking(true)?;
    ready();

    let mut pending: Vec<Pending> = Vec::new();
    let mut closed_until: Option<Instant> = None;
    loop {
        let now = Instant::now();
        closed_until = closed_until.filter(|until| *until > now);
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(pending.iter().map(|p| PollFd::new(p.control.as_fd(), PollFlags::POLLIN)));
        let timeout = match closed_until {
            Some(until) => {
                PollTimeout::try_from(until - now + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
            None => {
                fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
                PollTimeout::NONE
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for connections"),
        }
        drop(fds);
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                return Ok(None);
            }
        }
        // Before reaping: a child that is no longer pending is not signalled by its number.
        pending.retain_mut(still_pending);
        reap(&mut pending);
        start_checks(&mut pending);
        if closed_until.is_none() {
            match accept(&listener, &mut pending) {
                Next::Accept => {}
                Next::Pause(until) => closed_until = Some(until),
                Next::Monitor(accepted) => return Ok(Some(accepted)),
            }
        }
    }
}

/// Hears what the connection says. False once somebody has logged in, and once the process has ended.
fn still_pending(connection: &mut Pending) -> bool {
    loop {
        let mut byte = [0u8; 1];
        match connection.control.read(&mut byte) {
            Ok(1) if byte == [control::ASK] => connection.check = Check::Waits(Instant::now()),
            Ok(1) if byte == [control::REFUSED] => {}
            Ok(1) if byte == [control::DONE] => connection.check = Check::None,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            Ok(_) => return false,
        }
    }
}

/// Lets those check their passwords whose turn it is.
fn start_checks(pending: &mut [Pending]) {
    if !pending.iter().any(|p| matches!(p.check, Check::Waits(_))) {
        return;
    }
    // Half of the processors are left to those who are in.
    let processors = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    let limit = (usize::try_from(processors).unwrap_or(1) / 2).clamp(1, MAX_CHECKS);
    loop {
        let list: Vec<_> = pending.iter().map(|p| (p.source, p.check)).collect();
        let Some(connection) = control::next(&list, limit).and_then(|at| pending.get_mut(at)) else { return };
        connection.check = Check::Runs;
        // One that is gone is found so by its end of file.
        let _ = connection.control.write_all(&[control::GO]);
    }
}

fn reap(pending: &mut Vec<Pending>) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                log::note("sshd", &format!("the process {pid} of a connection ended by {signal}"));
                pending.retain(|p| u32::try_from(pid.as_raw()) != Ok(p.pid));
            }
            Ok(WaitStatus::Exited(pid, _)) => {
                pending.retain(|p| u32::try_from(pid.as_raw()) != Ok(p.pid));
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// What a look at the listener has led to.
enum Next {
    /// Nothing more waits.
    Accept,
    /// Nothing is to be accepted until then.
    Pause(Instant),
    /// This process is the monitor of a connection now.
    Monitor(Accepted),
}

/// Accepts what waits, while there is room.
fn accept(listener: &TcpListener, pending: &mut Vec<Pending>) -> Next {
    loop {
        if pending.len() >= MAX_PENDING
            && let Err(until) = make_room(pending)
        {
            return Next::Pause(until);
        }
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                use std::io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
                return match error.kind() {
                    WouldBlock => Next::Accept,
                    ConnectionAborted | Interrupted => continue,
                    _ => {
                        log::note("sshd", &format!("accepting a connection: {error}"));
                        Next::Pause(Instant::now() + PAUSE)
                    }
                };
            }
        };
        match split(socket) {
            Ok(Split::Listener { pid, control }) => {
                let source = peer.ip().to_canonical();
                pending.push(Pending { pid, control, source, since: Instant::now(), check: Check::None });
            }
            Ok(Split::Monitor(accepted)) => return Next::Monitor(accepted),
            Err(error) => {
                log::note("sshd", &format!("starting the process of a connection from {peer}: {error}"));
                return Next::Pause(Instant::now() + PAUSE);
            }
        }
    }
}

/// Ends the oldest connection of the source that has the most; `Err` with the time at which that may
/// be done. One source that holds connections open thereby takes places from itself alone.
fn make_room(pending: &mut Vec<Pending>) -> Result<(), Instant> {
    let count = |source| pending.iter().filter(|p| p.source == source).count();
    let Some(most) = pending.iter().map(|p| count(p.source)).max() else { return Ok(()) };
    let candidates = pending.iter().enumerate().filter(|(_, p)| count(p.source) == most);
    let Some((at, since)) = candidates.map(|(at, p)| (at, p.since)).min_by_key(|(_, since)| *since) else {
        return Ok(());
    };
    if since.elapsed() < MIN_AGE {
        return Err(since + MIN_AGE);
    }
    let victim = pending.swap_remove(at);
    log::note("sshd", &format!("too many connections without a login; one from {} is closed", victim.source));
    kill(victim.pid);
    Ok(())
}

fn kill(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The two processes after a fork.
enum Split {
    Listener { pid: u32, control: UnixStream },
    Monitor(Accepted),
}

fn split(socket: TcpStream) -> std::io::Result<Split> {
    let (control, theirs) = UnixStream::pair()?;
    control.set_nonblocking(true)?;
    Ok(match process::split()? {
        Some(pid) => Split::Listener { pid, control },
        None => Split::Monitor(Accepted { socket, control: theirs }),
    })
}
