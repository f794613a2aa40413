//! A monitor from the start of its connection to the end of what that has started.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use russh::keys::{Certificate, PrivateKey};

use super::forwarding::Forwarding;
use super::login::Login;
use super::messages::{Ended, Field, List, MAX_MESSAGE, Reply, Request};
use super::record::Record;
use crate::ssh::auth::Gate;
use crate::ssh::control::Control;
use crate::ssh::forward::Open;
use crate::ssh::policy;
use crate::ssh::session;
use crate::sys::process::{self, How};
use crate::sys::{log, sandbox, seqpacket, signals::Signals, spawn};

/// How long what was hung up may take to end.
const HANG_UP_LIMIT: Duration = Duration::from_secs(5);
/// The same, and what the connection's process may take to say goodbye, when the machine goes.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// What the listener has, and each monitor after it.
pub struct Server {
    /// Private host keys.
    pub keys: Vec<PrivateKey>,
    /// Certificates of those.
    pub certificates: Vec<Certificate>,
    /// Accounts, password checks and the throttle.
    pub gate: Arc<dyn Gate>,
    /// How long a client may take to log in.
    pub login_grace: Duration,
    /// The folder in which it is written who is in; none on an ordinary machine.
    pub records: Option<PathBuf>,
    /// Older algorithms that are offered beside the modern ones.
    pub algorithms: Vec<String>,
}

/// A process that the monitor has started, and where its end is told.
pub(super) struct Running {
    pub(super) session: u32,
    pub(super) end: OwnedFd,
    /// For the record; nothing for what the server itself has started.
    pub(super) what: Option<String>,
}

pub(super) struct Monitor<'a> {
    socket: OwnedFd,
    pub(super) login: Login<'a>,
    pub(super) forwarding: Forwarding,
    pub(super) record: Record,
    from: String,
    /// Its number until it has been waited for.
    connection: Option<u32>,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// By process id.
    pub(super) running: BTreeMap<u32, Running>,
    pub(super) sessions: u32,
    why: Option<String>,
}

/// Serves a connection until it and what it started have ended. `nowhere` becomes the root directory of
/// its process.
///
/// # Errors
/// What keeps it from being served at all.
pub(in crate::ssh) fn run(
    server: &Server,
    socket: TcpStream,
    peer: SocketAddr,
    control: UnixStream,
    nowhere: OwnedFd,
) -> anyhow::Result<()> {
    let _ = rustix::thread::set_name(c"sshd-monitor");
    let mut signals = Signals::open(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;
    let local = socket.local_addr()?;
    let (ours, theirs) = seqpacket::pair().context("making a socket pair")?;
    let connection = start_connection(socket, theirs, nowhere).context("starting a connection's process")?;
    let control = Control::new(control);
    let from = format!("{}:{}", peer.ip().to_canonical(), peer.port());
    let mut monitor = Monitor {
        socket: ours,
        forwarding: Forwarding::new(from.clone()),
        record: Record::new(server.records.as_deref()),
        from: from.clone(),
        login: Login::new(server, &control, peer.ip().to_canonical(), from.clone()),
        connection: Some(connection),
        peer,
        local,
        running: BTreeMap::new(),
        sessions: 0,
        why: None,
    };
    let keys = server.keys.iter().filter_map(|key| key.public_key().to_bytes().ok()).collect();
    let certificates = server.certificates.iter().filter_map(|it| it.to_bytes().ok()).collect();
    let (keys, certificates) = (List(keys), List(certificates));
    monitor.say(&Reply::Welcome { keys, certificates, algorithms: List(server.algorithms.clone()) }, &[]);
    let grace = Instant::now() + server.login_grace;
    let mut patience = HANG_UP_LIMIT;
    let mut end: Option<Instant> = None;
    let mut open = true;
    loop {
        let deadline = match (end, monitor.login.grant()) {
            (Some(end), _) => Some(end),
            (None, None) if open => Some(grace),
            _ => None,
        };
        let readable = wait(open.then(|| monitor.socket.as_fd()), &signals, deadline)?;
        let now = Instant::now();
        while let Some(signal) = signals.pending() {
            if signal == Signal::SIGHUP {
                monitor.why.get_or_insert_with(|| "ended by `rescue who --kick`".into());
                monitor.kill_connection(Signal::SIGKILL);
            } else if signal != Signal::SIGCHLD {
                patience = GOODBYE_LIMIT;
                end = end.or(Some(now + GOODBYE_LIMIT));
                monitor.kill_connection(Signal::SIGTERM);
            }
        }
        monitor.reap();
        if open && readable {
            match monitor.hear() {
                Ok(true) => {}
                Ok(false) => open = false,
                Err(why) => {
                    log::note(
                        "sshd",
                        &format!("the process of the connection from {from} {why}: it is ended"),
                    );
                    monitor.why = Some("its process did what it must not".into());
                    monitor.kill_connection(Signal::SIGKILL);
                    open = false;
                }
            }
            if !open {
                end = Some(now + patience);
                monitor.hang_up(None);
            }
        }
        if open && monitor.login.grant().is_none() && now >= grace {
            monitor.why = Some(format!("no login within {} s", server.login_grace.as_secs()));
            monitor.kill_connection(Signal::SIGKILL);
        }
        if !open && (monitor.connection.is_none() && monitor.running.is_empty()) {
            break;
        }
        if end.is_some_and(|end| now >= end) {
            if monitor.connection.is_none() || !open {
                break;
            }
            // It was asked to go and has not gone.
            monitor.kill_connection(Signal::SIGKILL);
            end = Some(now + GOODBYE_LIMIT);
        }
    }
    monitor.kill_connection(Signal::SIGKILL);
    monitor.forwarding.end();
    let who = monitor.login.grant().map_or(String::new(), |g| format!(" of {}", g.account.name));
    let why = monitor.why.unwrap_or_else(|| "closed".into());
    log::note("sshd", &format!("connection{who} from {from} ended: {why}"));
    Ok(())
}

/// Waits for a message, a signal or a time; says whether there is a message.
fn wait(socket: Option<BorrowedFd<'_>>, signals: &Signals, until: Option<Instant>) -> anyhow::Result<bool> {
    let timeout = match until {
        None => PollTimeout::NONE,
        Some(until) => {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
    };
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    fds.extend(socket.map(|socket| PollFd::new(socket, PollFlags::POLLIN)));
    match poll(&mut fds, timeout) {
        Ok(_) => {}
        Err(nix::errno::Errno::EINTR) => return Ok(false),
        Err(error) => return Err(error).context("waiting for the connection's process"),
    }
    Ok(fds.get(1).is_some_and(|fd| fd.any().unwrap_or(true)))
}

fn start_connection(socket: TcpStream, theirs: OwnedFd, nowhere: OwnedFd) -> std::io::Result<u32> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("rescue").arg("sshd-connection").env_clear();
    command.stdin(Stdio::from(OwnedFd::from(socket))).stdout(Stdio::from(theirs));
    spawn::as_service(&mut command, false);
    spawn::within(&mut command, nowhere);
    Ok(command.spawn()?.id())
}

impl Monitor<'_> {
    /// Takes what the connection's process says, and answers. False at its end.
    fn hear(&mut self) -> Result<bool, String> {
        loop {
            let message = match seqpacket::receive(&self.socket, MAX_MESSAGE, false) {
                Ok(Some((message, _))) => message,
                Ok(None) => return Ok(false),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                    return Err(format!("sent a message of over {MAX_MESSAGE} bytes"));
                }
                Err(error) => return Err(format!("cannot be heard: {error}")),
            };
            let request = Request::decode(&message).ok_or("sent a malformed message")?;
            let name = request.name();
            drop(message);
            self.answer(request).map_err(|why| format!("asked for {why} ({name})"))?;
        }
    }

    /// One arm a request.
    fn answer(&mut self, request: Request) -> Result<(), &'static str> {
        let reply = match request {
            Request::Sign { algorithm, sha512, exchange } => {
                self.login.sign(&algorithm, sha512, &exchange)?
            }
            Request::Offer { .. } | Request::PublicKey { .. } | Request::Password { .. } => {
                let (login, socket) = (&mut self.login, &self.socket);
                let reply = login.answer(request, &|until| silent(socket, until))?;
                if let (Reply::Admitted { .. }, Some(pid)) = (&reply, self.connection) {
                    let _ = sandbox::set_memory(pid, policy::MEMORY);
                }
                if let Some(grant) = login.grant() {
                    self.record.begin(&grant.account.name, &self.from, login.method());
                }
                reply
            }
            Request::Start { what, terminal, agent, environment } => {
                return self.start(what, terminal, agent, environment.0);
            }
            Request::Signal { session, name } => {
                if let Some(signal) = session::signal_by_name(&name) {
                    self.signal(session, signal)?;
                }
                return Ok(());
            }
            Request::HangUp { session } => {
                self.login.grant().ok_or("a session before a login")?;
                self.hang_up(Some(session));
                return Ok(());
            }
            Request::Find { host, port } => {
                let grant = self.login.grant().ok_or("a host before a login")?;
                self.forwarding.find(grant, &host, port)
            }
            Request::Open { what } => {
                let grant = self.login.grant().ok_or("a socket before a login")?;
                let (reply, socket) = self.forwarding.open(grant, &what);
                if let (Reply::Opened { .. }, Open::Listen { .. } | Open::ListenUnix(_)) = (&reply, &what) {
                    self.record.listening(self.forwarding.listening());
                }
                let socket: Vec<BorrowedFd<'_>> = socket.iter().map(AsFd::as_fd).collect();
                self.say(&reply, &socket);
                return Ok(());
            }
            Request::Remove { name } => {
                self.login.grant().ok_or("a socket's end before a login")?;
                self.forwarding.remove(&name);
                self.record.listening(self.forwarding.listening());
                return Ok(());
            }
            Request::Came { to, from } => {
                let grant = self.login.grant().ok_or("a visitor before a login")?;
                match self.forwarding.came(grant, to.as_deref(), from) {
                    true => Reply::Accepted {},
                    false => Reply::Refused {},
                }
            }
            Request::Farewell { why } => {
                self.why = Some(why.chars().take(200).collect());
                return Ok(());
            }
        };
        self.say(&reply, &[]);
        Ok(())
    }

    /// A reply that cannot be sent is for nobody: the process is gone, or does not read.
    pub(super) fn say(&self, reply: &Reply, descriptors: &[BorrowedFd<'_>]) {
        let _ = seqpacket::send(&self.socket, &reply.encode(), descriptors);
    }

    fn signal(&self, session: u32, signal: rustix::process::Signal) -> Result<(), &'static str> {
        self.login.grant().ok_or("a session before a login")?;
        // One that has ended, or never was, is nobody's: its number is not used again.
        for (pid, _) in self.running.iter().filter(|(_, running)| running.session == session) {
            session::signal(*pid, signal);
        }
        Ok(())
    }

    /// Tells a session's processes, or those of all, that the line is cut.
    fn hang_up(&self, session: Option<u32>) {
        for (pid, running) in &self.running {
            if session.is_none_or(|session| session == running.session) {
                session::signal(*pid, rustix::process::Signal::HUP);
                // A stopped process takes the signal only once it goes on.
                session::signal(*pid, rustix::process::Signal::CONT);
            }
        }
    }

    fn kill_connection(&self, signal: Signal) {
        if let Some(pid) = self.connection.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }

    /// Takes note of the processes that have ended.
    fn reap(&mut self) {
        while let Some(ended) = process::reap() {
            let Ok(pid) = u32::try_from(ended.pid) else { continue };
            if self.connection == Some(pid) {
                self.connection = None;
                match ended.how {
                    How::Signal(number) => {
                        self.why.get_or_insert(format!("its process ended by signal {number}"));
                    }
                    How::Exit(0) => {}
                    How::Exit(status) => {
                        self.why.get_or_insert(format!("its process ended with status {status}"));
                    }
                }
            } else if let Some(running) = self.running.remove(&pid) {
                let end = match ended.how {
                    How::Exit(status) => Ended::Exit(status.cast_unsigned()),
                    How::Signal(number) => Ended::Signal(number.cast_unsigned(), ended.core),
                };
                let mut bytes = Vec::new();
                end.put(&mut bytes);
                // A pipe that is empty takes six bytes at once.
                let _ = rustix::io::write(&running.end, &bytes);
                self.note_running();
            }
        }
    }
}

/// Waits until then; false when the process on the other side says something or goes.
fn silent(socket: &OwnedFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            _ => return false,
        }
    }
}
