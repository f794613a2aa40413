//! The listener: synchronous, root, and blind to what clients send but for a look at the first bytes,
//! which stay where they are. It accepts, greets, and chooses who is served ([`admission`]).
//!
//! For each connection whose client says `SSH-` it forks a monitor ([`super::monitor`]), which starts
//! the connection's process. Over a socket pair they speak as [`control`] says until somebody has
//! logged in. Neither needs the other after that, so a listener that dies takes no session along.

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

use super::admission::{self, MAX_PENDING, MIN_AGE, Penalties, source_of};
use super::control::{self, Check};
use super::monitor::{self, Server};
use super::policy;
use crate::sys::{log, process, random, sandbox};

/// Passwords checked at once; fewer on machines with few processors. A hash takes some 16 MiB
/// (yescrypt) and a processor for as long as its cost asks: neither is for strangers to use up.
const MAX_CHECKS: usize = 4;
/// Connections accepted in a row: what their clients say is looked at before more are.
const MAX_ACCEPTED: usize = 32;
/// After what time it is tried again to make room.
const RETRY: Duration = Duration::from_millis(50);
/// How long nothing is accepted when no process can be started.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection that has no process.
struct Waiting {
    socket: TcpStream,
    peer: SocketAddr,
    source: IpAddr,
    since: Instant,
    /// Its client has said what a client says, and may be served from then on.
    from: Option<Instant>,
}

/// A connection that has processes, in which nobody has logged in.
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
    peer: SocketAddr,
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
    let listener = Listener::new(listener, server.login_grace)?;
    ready();
    // The listener's descriptors are closed when `run` returns.
    match listener.run()? {
        None => Ok(()),
        Some(Accepted { socket, peer, control }) => monitor::run(server, socket, peer, control, nowhere),
    }
}

struct Listener {
    socket: TcpListener,
    signals: SignalFd,
    grace: Duration,
    waiting: Vec<Waiting>,
    pending: Vec<Pending>,
    penalties: Penalties,
    /// Nothing is accepted or started until then.
    paused: Option<Instant>,
}

impl Listener {
    fn new(socket: TcpListener, grace: Duration) -> anyhow::Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
            signals.add(signal);
        }
        signals.thread_block().context("blocking signals")?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("opening a signalfd")?;
        socket.set_nonblocking(true)?;
        let (waiting, pending, penalties) = (Vec::new(), Vec::new(), Penalties::default());
        Ok(Self { socket, signals, grace, waiting, pending, penalties, paused: None })
    }

    /// Until SIGTERM in the listener, and until there is one to be served in a monitor.
    fn run(mut self) -> anyhow::Result<Option<Accepted>> {
        loop {
            self.wait().context("waiting for connections")?;
            while let Ok(Some(signal)) = self.signals.read_signal() {
                if signal.ssi_signo != Signal::SIGCHLD as u32 {
                    return Ok(None);
                }
            }
            // Before reaping: a child that is no longer pending is not signalled by its number.
            let (penalties, now) = (&mut self.penalties, Instant::now());
            self.pending.retain_mut(|connection| still_pending(connection, penalties, now));
            self.reap();
            start_checks(&mut self.pending);
            if self.paused.is_none() {
                self.accept();
            }
            self.listen_to_clients();
            if let Some(accepted) = self.serve_next() {
                return Ok(Some(accepted));
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> nix::Result<()> {
        let now = Instant::now();
        self.paused = self.paused.filter(|until| *until > now);
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.pending.iter().map(|p| PollFd::new(p.control.as_fd(), PollFlags::POLLIN)));
        let silent = self.waiting.iter().filter(|w| w.from.is_none());
        fds.extend(silent.map(|w| PollFd::new(w.socket.as_fd(), PollFlags::POLLIN)));
        if self.paused.is_none() {
            fds.push(PollFd::new(self.socket.as_fd(), PollFlags::POLLIN));
        }
        let mut until = self.paused;
        let mut no_later = |at: Instant| until = Some(until.map_or(at, |until| until.min(at)));
        self.waiting.iter().for_each(|w| no_later(w.since + self.grace));
        if self.paused.is_none() {
            // Those that wait for a place are woken by the end that makes one, or when one may be made.
            let room = (self.pending.len() >= MAX_PENDING)
                .then(|| self.pending.iter().map(|p| p.since + MIN_AGE).min())
                .flatten();
            let ready = self.waiting.iter().filter_map(|w| w.from);
            ready.for_each(|from| no_later(room.map_or(from, |room| room.max(now + RETRY).max(from))));
        }
        let timeout = match until {
            None => PollTimeout::NONE,
            Some(until) => {
                let left = until.saturating_duration_since(now) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self) {
        loop {
            let pid = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    log::note("sshd", &format!("the monitor {pid} of a connection ended by {signal}"));
                    pid
                }
                Ok(WaitStatus::Exited(pid, _)) => pid,
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            self.pending.retain(|p| u32::try_from(pid.as_raw()) != Ok(p.pid));
        }
    }

    /// Accepts what waits, and greets it.
    fn accept(&mut self) {
        for _ in 0..MAX_ACCEPTED {
            let (mut socket, peer) = match self.socket.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    use std::io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
                    match error.kind() {
                        WouldBlock => return,
                        ConnectionAborted | Interrupted => continue,
                        _ => {
                            log::note("sshd", &format!("accepting a connection: {error}"));
                            self.paused = Some(Instant::now() + PAUSE);
                            return;
                        }
                    }
                }
            };
            let greeting = format!("{}\r\n", policy::IDENTIFICATION);
            // A new connection's buffer takes it whole.
            if socket.set_nonblocking(true).is_err() || socket.write_all(greeting.as_bytes()).is_err() {
                continue;
            }
            let source = source_of(peer.ip());
            self.waiting.push(Waiting { socket, peer, source, since: Instant::now(), from: None });
        }
    }

    /// Looks at what the clients say first, and closes those that say something else, or nothing for
    /// too long.
    fn listen_to_clients(&mut self) {
        let (penalties, now, grace) = (&mut self.penalties, Instant::now(), self.grace);
        self.waiting.retain_mut(|connection| {
            let mut start = [0u8; admission::LOOK];
            let fits = match (connection.from, connection.socket.peek(&mut start)) {
                (Some(_), _) => true,
                (None, Ok(count)) if start.get(..count).is_some_and(admission::is_client) => {
                    connection.from = Some(connection.since + penalties.delay(connection.source, now));
                    true
                }
                (None, Err(error)) => error.kind() == std::io::ErrorKind::WouldBlock,
                (None, Ok(_)) => false,
            };
            let stays = fits && now < connection.since + grace;
            if !stays {
                penalties.failed(connection.source, now);
            }
            stays
        });
        // Those that have said nothing cost their like a place, and so do those that have.
        for spoken in [false, true] {
            let of_kind = || self.waiting.iter().enumerate().filter(|(_, w)| w.from.is_some() == spoken);
            let (places, sources): (Vec<usize>, Vec<IpAddr>) =
                of_kind().map(|(at, w)| (at, w.source)).unzip();
            let mut victims = admission::victims(&sources, random::unguarded);
            victims.sort_unstable();
            for at in victims.iter().rev().filter_map(|at| places.get(*at)) {
                self.waiting.swap_remove(*at);
            }
        }
    }

    /// Gives processes to those whose turn it is. Returns the connection in its monitor.
    fn serve_next(&mut self) -> Option<Accepted> {
        while self.paused.is_none() {
            let (now, sources) = (Instant::now(), self.pending.iter().map(|p| p.source).collect::<Vec<_>>());
            let ready =
                self.waiting.iter().enumerate().filter(|(_, w)| w.from.is_some_and(|from| from <= now));
            let at = admission::next(ready.map(|(at, w)| (at, w.source, w.since)), &sources)?;
            if self.pending.len() >= MAX_PENDING && !self.make_room() {
                return None;
            }
            let Waiting { socket, peer, source, .. } = self.waiting.swap_remove(at);
            match split(socket, peer) {
                Ok(Split::Listener { pid, control }) => {
                    self.pending.push(Pending { pid, control, source, since: now, check: Check::None });
                }
                Ok(Split::Monitor(accepted)) => return Some(accepted),
                Err(error) => {
                    log::note(
                        "sshd",
                        &format!("starting the processes of a connection from {peer}: {error}"),
                    );
                    self.paused = Some(now + PAUSE);
                }
            }
        }
        None
    }

    /// Ends the oldest connection of the source that has the most, if that is old enough. One source
    /// that holds connections open thereby takes places from itself alone.
    fn make_room(&mut self) -> bool {
        let count = |source| self.pending.iter().filter(|p| p.source == source).count();
        let Some(most) = self.pending.iter().map(|p| count(p.source)).max() else { return true };
        let candidates = self.pending.iter().enumerate().filter(|(_, p)| count(p.source) == most);
        let Some((at, since)) = candidates.map(|(at, p)| (at, p.since)).min_by_key(|(_, since)| *since)
        else {
            return true;
        };
        if since.elapsed() < MIN_AGE {
            return false;
        }
        let victim = self.pending.swap_remove(at);
        self.penalties.failed(victim.source, Instant::now());
        let text = format!("too many connections without a login; one from {} is closed", victim.source);
        log::note("sshd", &text);
        kill(victim.pid);
        true
    }
}

/// Hears what the connection's monitor says. False once somebody has logged in, and once it has ended.
fn still_pending(connection: &mut Pending, penalties: &mut Penalties, now: Instant) -> bool {
    loop {
        let mut byte = [0u8; 1];
        match connection.control.read(&mut byte) {
            Ok(1) => match byte {
                [control::ASK] => connection.check = Check::Waits(now),
                [control::DONE] => connection.check = Check::None,
                [control::REFUSED] => penalties.failed(connection.source, now),
                _ => {
                    penalties.forgive(connection.source);
                    return false;
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
            // It ended without a login.
            _ => {
                penalties.failed(connection.source, now);
                return false;
            }
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

fn split(socket: TcpStream, peer: SocketAddr) -> std::io::Result<Split> {
    let (control, theirs) = UnixStream::pair()?;
    control.set_nonblocking(true)?;
    Ok(match process::split()? {
        Some(pid) => Split::Listener { pid, control },
        None => Split::Monitor(Accepted { socket, peer, control: theirs }),
    })
}
