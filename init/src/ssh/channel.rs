//! One session of a connection: what the client asks for before it starts, and its life once it has.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::Sig;
use russh::server::Handle;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::flow::{self, Input, Kind, Writer};
use super::monitor::Client;
use super::monitor::messages::{Ended, List, Request, What};
use super::session::Terminal;
use crate::sys::{pty, ready};

/// Most variables, and the longest name with its value, that a client may set.
const MAX_VARIABLES: usize = 64;
const MAX_VARIABLE: usize = 4096;
/// What `rescue status` may take at a login; the shell is more urgent than the greeting.
const STATUS_LIMIT: Duration = Duration::from_secs(2);
/// How long the last words of a hung-up session are taken.
pub(super) const HANG_UP_LIMIT: Duration = Duration::from_secs(5);
/// How long a terminal whose first process has ended may take to bring the next of what was written to it: the
/// kernel passes that on in its own time.
const TERMINAL_QUIET: Duration = Duration::from_millis(250);

/// A session channel.
pub(super) struct Channel {
    pub(super) writer: Writer,
    pub(super) terminal: Option<Terminal>,
    /// Whether the client's agent is to answer its programs.
    pub(super) agent: bool,
    environment: Vec<(String, String)>,
    running: Option<Arc<Running>>,
}

/// A session whose process has been started.
pub(super) struct Running {
    pub(super) input: Input,
    writer: Writer,
    /// None once it is hung up: its last holder's end is what tells the terminal's processes.
    master: Mutex<Option<Arc<AsyncFd<OwnedFd>>>>,
    interactive: bool,
    monitor: Arc<Client>,
    /// Its number, as the monitor knows it.
    session: u32,
    /// Through which its end is told; none once that has been.
    end: tokio::sync::Mutex<Option<AsyncFd<OwnedFd>>>,
    hung_up: Notify,
    /// Said when the last of it is over.
    over: Notify,
    done: AtomicBool,
}

impl Channel {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, terminal: None, agent: false, environment: Vec::new(), running: None }
    }

    pub(super) fn running(&self) -> Option<&Arc<Running>> {
        self.running.as_ref()
    }

    /// Sets a variable if it is one that a client may set.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) -> bool {
        if !may_set(name, value) || self.environment.len() >= MAX_VARIABLES || self.running.is_some() {
            return false;
        }
        self.environment.push((name.to_string(), value.to_string()));
        true
    }

    /// The order to start this session's process; none when there is one.
    pub(super) fn order(&self, what: What) -> Option<Request> {
        if self.running.is_some() || matches!(&what, What::Command(line) if line.contains(&0)) {
            return None;
        }
        let environment = List(self.environment.clone());
        Some(Request::Start { what, terminal: self.terminal.clone(), agent: self.agent, environment })
    }

    /// Takes over the process that the monitor has started for it.
    ///
    /// # Errors
    /// When its descriptors are not those that it must have, or cannot be waited for.
    pub(super) fn take_over(
        &mut self,
        (session, greeting): (u32, bool),
        descriptors: Vec<OwnedFd>,
        monitor: &Arc<Client>,
        handle: &Handle,
    ) -> std::io::Result<()> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or(std::io::ErrorKind::UnexpectedEof);
        let (input, master, outputs) = match self.terminal {
            Some(_) => {
                let master = Arc::new(ready::register(next()?)?);
                let outputs = Outputs { output: Arc::clone(&master), error: None };
                (Input::new(Arc::clone(&master), Kind::Terminal), Some(master), outputs)
            }
            None => {
                let input = Input::new(Arc::new(ready::register(next()?)?), Kind::Pipe);
                let output = Arc::new(ready::register(next()?)?);
                (input, None, Outputs { output, error: Some(Arc::new(ready::register(next()?)?)) })
            }
        };
        let running = Arc::new(Running {
            input,
            writer: Arc::clone(&self.writer),
            interactive: master.is_some(),
            master: Mutex::new(master),
            monitor: Arc::clone(monitor),
            session,
            end: tokio::sync::Mutex::new(Some(ready::register(next()?)?)),
            hung_up: Notify::new(),
            over: Notify::new(),
            done: AtomicBool::new(false),
        });
        let greeting = if greeting { Some((next()?, next()?)) } else { None };
        self.running = Some(Arc::clone(&running));
        let (pumped, pump) = (Arc::clone(&running), handle.clone());
        tokio::spawn(async move { pumped.input.pump(&pump, &pumped.writer).await });
        tokio::spawn(serve(running, outputs, greeting, handle.clone()));
        Ok(())
    }
}

/// Whether a client may set this variable: language, colours, and whether its shell is to outlive it. Anything else could change which code
/// the login's programs run.
pub(super) fn may_set(name: &str, value: &str) -> bool {
    let allowed = matches!(name, "LANG" | "LANGUAGE" | "TERM" | "COLORTERM" | "NO_COLOR" | "RESCUE_NO_TMUX")
        || name.strip_prefix("LC_").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        });
    allowed && name.len() + value.len() <= MAX_VARIABLE && !value.contains('\0')
}

impl Running {
    /// Signals the session's process group, if its first process is still there.
    pub(super) fn signal(&self, name: String) {
        self.monitor.tell(&Request::Signal { session: self.session, name });
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

    /// The client has closed the channel. One that has said before that it sends no more has left a command to
    /// itself, which takes what was sent; any other has hung up.
    pub(super) fn closed(&self) {
        match !self.interactive && self.input.has_ended() {
            true => self.hung_up.notify_one(),
            false => self.hang_up(),
        }
    }

    /// The client is gone: what runs is told so, as by a line that is cut.
    pub(super) fn hang_up(&self) {
        self.monitor.tell(&Request::HangUp { session: self.session });
        self.input.close();
        self.master.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.hung_up.notify_one();
    }

    /// Whether the session is over.
    pub(super) fn is_over(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Waits until the session is over: its process has ended, or has been left to itself.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }

    /// Waits until the first process has ended; none when that was told before, or never will be.
    async fn exit(&self) -> Option<Ended> {
        let mut end = self.end.lock().await;
        let ended = ended(end.as_ref()?).await;
        *end = None;
        ended
    }
}

/// How a process ended, once it has.
async fn ended(end: &AsyncFd<OwnedFd>) -> Option<Ended> {
    loop {
        let mut ready = end.readable().await.ok()?;
        let mut bytes = [0u8; 16];
        if let Ok(read) = ready.try_io(|end| Ok(rustix::io::read(end, &mut bytes)?)) {
            return Ended::decode(bytes.get(..read.ok()?)?);
        }
    }
}

struct Outputs {
    output: Arc<AsyncFd<OwnedFd>>,
    error: Option<Arc<AsyncFd<OwnedFd>>>,
}

/// A session from its start to its end. The exit status is said when the first process ends, and the
/// channel is closed when nobody holds its outputs any more. The end of the outputs is said after the
/// status: a client (dropbear's) may close at the first and would never learn the second.
async fn serve(
    running: Arc<Running>,
    outputs: Outputs,
    greeting: Option<(OwnedFd, OwnedFd)>,
    handle: Handle,
) {
    let writer = &running.writer;
    let life = async {
        if let Some((output, end)) = greeting {
            greet(output, end, writer).await;
        }
        let left = Left::default();
        let drained = async {
            match &outputs.error {
                Some(error) => {
                    let error = flow::output(error, writer, Some(1));
                    tokio::join!(flow::output(&outputs.output, writer, None), error);
                }
                None => left.output(&outputs.output, writer).await,
            }
        };
        let ended = async {
            if let Some(end) = running.exit().await {
                tell(end, &handle, writer).await;
            }
            left.say();
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
    running.done.store(true, Ordering::Release);
    running.over.notify_one();
}

/// Whether the first process on a terminal has ended. The kernel has hung the terminal up then: whoever else holds
/// it can write no more to it, and would keep the client waiting for nothing.
#[derive(Default)]
struct Left {
    ended: AtomicBool,
    wake: Notify,
}

impl Left {
    fn say(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// As [`flow::output`], until what was written before has come through.
    async fn output(&self, end: &AsyncFd<OwnedFd>, writer: &Writer) {
        let mut buffer = Vec::new();
        loop {
            let data = if self.ended.load(Ordering::Acquire) {
                tokio::time::timeout(TERMINAL_QUIET, flow::read(end, &mut buffer)).await.ok()
            } else {
                tokio::select! {
                    data = flow::read(end, &mut buffer) => Some(data),
                    () = self.wake.notified() => continue,
                }
            };
            let Some(Ok(Some(data))) = data else { return };
            if writer.data_bytes(data).await.is_err() {
                return;
            }
        }
    }
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

async fn tell(end: Ended, handle: &Handle, writer: &Writer) {
    match end {
        Ended::Exit(status) => drop(writer.exit_status(status).await),
        Ended::Signal(number, core) => {
            let signal = i32::try_from(number).ok().and_then(|n| nix::sys::signal::Signal::try_from(n).ok());
            let name = signal
                .map_or_else(|| number.to_string(), |s| s.as_str().trim_start_matches("SIG").to_string());
            let request = handle.exit_signal_request(
                writer.id(),
                Sig::Custom(name),
                core,
                String::new(),
                String::new(),
            );
            let _ = request.await;
        }
    }
}

/// Shows `rescue status`, if it succeeds in time. The shell has started already; what it writes
/// meanwhile waits in its terminal.
async fn greet(output: OwnedFd, end: OwnedFd, writer: &Writer) {
    let collect = async {
        let (output, end) = (ready::register(output).ok()?, ready::register(end).ok()?);
        let (mut text, mut buffer) = (Vec::new(), Vec::new());
        while let Some(data) = flow::read(&output, &mut buffer).await.ok()? {
            text.extend_from_slice(&data);
            if text.len() > (64 << 10) {
                return None;
            }
        }
        (ended(&end).await == Some(Ended::Exit(0))).then_some(text)
    };
    if let Some(text) = tokio::time::timeout(STATUS_LIMIT, collect).await.ok().flatten() {
        // No terminal driver adds the carriage returns to what does not pass through it.
        let lines = String::from_utf8_lossy(&text).replace('\n', "\r\n");
        let _ = writer.data_bytes(lines.into_bytes()).await;
    }
}
