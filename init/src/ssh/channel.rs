//! One session of a connection: what the client asks for before it starts, and its life once it has.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::Sig;
use russh::server::Handle;
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::auth::Grant;
use super::flow::{self, Input, Kind, Writer};
use super::session::{self, Ends, Start, Terminal};
use super::subsystem::Subsystem;
use crate::sys::{log, pty, ready};

/// Most variables, and the longest name with its value, that a client may set.
const MAX_VARIABLES: usize = 64;
const MAX_VARIABLE: usize = 4096;
/// What `rescue status` may take at a login; the shell is more urgent than the greeting.
const STATUS_LIMIT: Duration = Duration::from_secs(2);
/// How long the last words of a hung-up session are taken.
pub(super) const HANG_UP_LIMIT: Duration = Duration::from_secs(5);

/// A session channel.
pub(super) struct Channel {
    pub(super) writer: Writer,
    pub(super) terminal: Option<Terminal>,
    environment: Vec<(String, String)>,
    running: Option<Arc<Running>>,
}

/// What a client asks to be started.
pub(super) enum Asked<'a> {
    Shell,
    Command(&'a [u8]),
    Subsystem(&'static Subsystem),
}

impl Asked<'_> {
    /// As a forced command finds it in its environment.
    fn original(&self) -> Option<String> {
        match self {
            Self::Shell => None,
            Self::Command(line) => Some(String::from_utf8_lossy(line).into_owned()),
            Self::Subsystem(subsystem) => Some(format!("rescue {}", subsystem.role)),
        }
    }
}

/// A session whose process has been started.
pub(super) struct Running {
    pub(super) input: Input,
    writer: Writer,
    /// None once it is hung up: its last holder's end is what tells the terminal's processes.
    master: Mutex<Option<Arc<AsyncFd<OwnedFd>>>>,
    interactive: bool,
    /// None once it has been waited for: its number may belong to another then.
    child: Mutex<Option<Child>>,
    hung_up: Notify,
    /// Said when the last of it is over.
    over: Notify,
}

impl Channel {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, terminal: None, environment: Vec::new(), running: None }
    }

    pub(super) fn running(&self) -> Option<&Arc<Running>> {
        self.running.as_ref()
    }

    /// Sets a variable if it is one that a client may set: language and colours. Anything else could
    /// change which code the login's programs run.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) -> bool {
        let allowed = matches!(name, "LANG" | "LANGUAGE" | "TERM" | "COLORTERM" | "NO_COLOR")
            || name.strip_prefix("LC_").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            });
        let fits = name.len() + value.len() <= MAX_VARIABLE && self.environment.len() < MAX_VARIABLES;
        if !allowed || !fits || value.contains('\0') || self.running.is_some() {
            return false;
        }
        self.environment.push((name.to_string(), value.to_string()));
        true
    }

    /// Sets a variable of the server's own.
    pub(super) fn tell(&mut self, name: &str, value: String) {
        if self.running.is_none() {
            self.environment.push((name.to_string(), value));
        }
    }

    /// Starts the session's process; false, and a line in the log, when it cannot.
    pub(super) fn start(
        &mut self,
        grant: &Grant,
        asked: &Asked<'_>,
        (peer, local): (SocketAddr, SocketAddr),
        handle: &Handle,
    ) -> bool {
        if self.running.is_some() || matches!(asked, Asked::Command(c) if c.contains(&0)) {
            return false;
        }
        let (client, server) = (peer.ip().to_canonical(), local.ip().to_canonical());
        let mut environment = self.environment.clone();
        environment
            .push(("SSH_CONNECTION".into(), format!("{client} {} {server} {}", peer.port(), local.port())));
        environment.push(("SSH_CLIENT".into(), format!("{client} {} {}", peer.port(), local.port())));
        let forced = grant.options.command.as_deref().map(str::as_bytes);
        let (command, role) = match (forced, asked) {
            (Some(forced), asked) => {
                environment.extend(asked.original().map(|line| ("SSH_ORIGINAL_COMMAND".to_string(), line)));
                (Some(forced), None)
            }
            (None, Asked::Shell) => (None, None),
            (None, Asked::Command(line)) => (Some(*line), None),
            (None, Asked::Subsystem(subsystem)) => (None, Some(subsystem.role)),
        };
        let started = session::start(&Start {
            account: &grant.account,
            command,
            role,
            terminal: self.terminal.as_ref(),
            environment: &environment,
        });
        let running = started.and_then(|s| self.take_over(s, handle));
        match running {
            Ok((running, outputs)) => {
                self.running = Some(Arc::clone(&running));
                let greeting = match (&self.terminal, command, role) {
                    (Some(terminal), None, None) => {
                        session::status(&grant.account, terminal.size.columns).ok()
                    }
                    _ => None,
                };
                tokio::spawn(serve(running, outputs, greeting, handle.clone()));
                true
            }
            Err(error) => {
                log::note("sshd", &format!("starting {}: {error}", grant.account.shell.display()));
                false
            }
        }
    }

    fn take_over(
        &self,
        started: session::Started,
        handle: &Handle,
    ) -> std::io::Result<(Arc<Running>, Outputs)> {
        let (input, master, outputs) = match started.ends {
            Ends::Terminal(master) => {
                let master = Arc::new(ready::register(master)?);
                let outputs = Outputs { output: Arc::clone(&master), error: None };
                (Input::new(Arc::clone(&master), Kind::Terminal), Some(master), outputs)
            }
            Ends::Pipes { input, output, error } => {
                let input = Input::new(Arc::new(ready::register(input)?), Kind::Pipe);
                let error = Some(Arc::new(ready::register(error)?));
                (input, None, Outputs { output: Arc::new(ready::register(output)?), error })
            }
        };
        let running = Arc::new(Running {
            input,
            writer: Arc::clone(&self.writer),
            interactive: master.is_some(),
            master: Mutex::new(master),
            child: Mutex::new(Some(started.child)),
            hung_up: Notify::new(),
            over: Notify::new(),
        });
        let (pumped, handle) = (Arc::clone(&running), handle.clone());
        tokio::spawn(async move { pumped.input.pump(&handle, &pumped.writer).await });
        Ok((running, outputs))
    }
}

impl Running {
    /// Signals the session's process group, if its first process is still there.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            session::signal(child, signal);
        }
    }

    /// Tells the terminal its new size.
    pub(super) fn resize(&self, size: pty::Size) {
        if let Some(master) = self.master.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let _ = pty::resize(master.get_ref(), size);
        }
    }

    /// Whether a person sits at it.
    pub(super) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Writes a last line of the server's own to the client and closes the channel. The client shows
    /// it before it acts on the close; a disconnect in the place of that would overtake the line.
    pub(super) async fn part(&self, text: &'static str) {
        let _ = self.writer.data_bytes(text.as_bytes()).await;
        let _ = self.writer.close().await;
    }

    /// The client is gone: what runs is told so, as by a line that is cut.
    pub(super) fn hang_up(&self) {
        self.signal(Signal::HUP);
        // A stopped process takes the signal only once it goes on.
        self.signal(Signal::CONT);
        self.input.close();
        self.master.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.hung_up.notify_one();
    }

    /// Waits until the session is over: its process has ended, or has been left to itself.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }

    /// Waits until the first process has ended, and reaps it.
    async fn exit(&self) -> Option<std::process::ExitStatus> {
        let watch = {
            let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            ready::register(session::watch(child.as_ref()?).ok()?).ok()?
        };
        let _ = watch.readable().await;
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = child.as_mut().and_then(|c| c.wait().ok());
        *child = None;
        status
    }
}

struct Outputs {
    output: Arc<AsyncFd<OwnedFd>>,
    error: Option<Arc<AsyncFd<OwnedFd>>>,
}

/// A session from its start to its end. The exit status is said when the first process ends, and the
/// channel is closed when nobody holds its outputs any more. The end of the outputs is said after the
/// status: a client (dropbear's) may close at the first and would never learn the second.
async fn serve(running: Arc<Running>, outputs: Outputs, greeting: Option<(Child, OwnedFd)>, handle: Handle) {
    let writer = &running.writer;
    let life = async {
        if let Some((child, output)) = greeting {
            greet(child, output, writer).await;
        }
        let drained = async {
            let error = async {
                if let Some(error) = &outputs.error {
                    flow::output(error, writer, Some(1)).await;
                }
            };
            tokio::join!(flow::output(&outputs.output, writer, None), error);
        };
        let ended = async {
            if let Some(status) = running.exit().await {
                tell(status, &handle, writer).await;
            }
        };
        tokio::join!(drained, ended);
        let _ = writer.eof().await;
        let _ = writer.close().await;
    };
    tokio::select! {
        () = life => running.input.close(),
        () = running.hung_up.notified() => {
            let _ = tokio::time::timeout(HANG_UP_LIMIT, discard(&running, outputs)).await;
            // One that lives on learns from its next write that nobody listens.
            running.exit().await;
        }
    }
    running.over.notify_one();
}

/// Takes what a hung-up process still says, until it has ended: one that cleans up after SIGHUP, or
/// whose shell reports the jobs that it killed, would otherwise die of SIGPIPE on the way. A terminal
/// is closed instead, which is no signal to those that write to it.
async fn discard(running: &Running, outputs: Outputs) {
    let Some(error) = &outputs.error else {
        drop(outputs);
        running.exit().await;
        return;
    };
    let drained = async {
        tokio::join!(flow::discard(&outputs.output), flow::discard(error));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drained => {}
        _ = running.exit() => {}
    }
}

async fn tell(status: std::process::ExitStatus, handle: &Handle, writer: &Writer) {
    if let Some(code) = status.code() {
        let _ = writer.exit_status(code.cast_unsigned()).await;
    } else if let Some(number) = status.signal() {
        let name = nix::sys::signal::Signal::try_from(number)
            .map_or_else(|_| number.to_string(), |s| s.as_str().trim_start_matches("SIG").to_string());
        let _ = handle
            .exit_signal_request(
                writer.id(),
                Sig::Custom(name),
                status.core_dumped(),
                String::new(),
                String::new(),
            )
            .await;
    }
}

/// Shows `rescue status`, if it succeeds in time. The shell has started already; what it writes
/// meanwhile waits in its terminal.
async fn greet(mut child: Child, output: OwnedFd, writer: &Writer) {
    let collect = async {
        let output = ready::register(output).ok()?;
        let (mut text, mut buffer) = (Vec::new(), Vec::new());
        while let Some(data) = flow::read(&output, &mut buffer).await.ok()? {
            text.extend_from_slice(&data);
            if text.len() > (64 << 10) {
                return None;
            }
        }
        let watch = ready::register(session::watch(&child).ok()?).ok()?;
        let _ = watch.readable().await;
        Some(text)
    };
    let text = tokio::time::timeout(STATUS_LIMIT, collect).await.ok().flatten();
    if text.is_none() {
        let _ = child.kill();
    }
    let succeeded = child.wait().is_ok_and(|status| status.success());
    if let Some(text) = text.filter(|_| succeeded) {
        // No terminal driver adds the carriage returns to what does not pass through it.
        let lines = String::from_utf8_lossy(&text).replace('\n', "\r\n");
        let _ = writer.data_bytes(lines.into_bytes()).await;
    }
}
