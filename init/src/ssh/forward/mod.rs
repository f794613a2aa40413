//! Forwarding: connections that go through the client's (RFC 4254 section 7, and OpenSSH's `PROTOCOL` file
//! for Unix sockets and the agent).
//!
//! ```text
//! mod.rs       what a connection forwards, its limits    listen.rs   sockets that wait for others (-R, -A)
//! connect.rs   to where the client asks (-L, -D, -W, -J) resolve.rs  names to addresses; dns.rs its messages
//! stream.rs    one forwarded connection                  open.rs     opening sockets, for the monitor
//! ```
//!
//! Sockets are opened by the monitor, which decides who may have which; all else is in the connection's own
//! process, the answers of name servers above all.

mod connect;
mod listen;
mod open;
mod resolve;
mod stream;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::ChannelId;
use tokio::task::AbortHandle;

use super::monitor::Client;
use super::monitor::messages::{Reply, Request};
pub(super) use connect::To;
pub use open::Open;
pub(super) use open::{Opened, Sockets};
use stream::Stream;

/// Forwarded connections at once: a browser behind `-D` opens some dozens. Each holds two megabytes at
/// the very most, when what it leads to does not read.
const MAX_STREAMS: usize = 128;
/// Sockets that wait for others at once, of a connection.
const MAX_LISTENERS: usize = 32;

/// What a connection forwards.
pub(super) struct Forwards {
    monitor: Arc<Client>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: HashMap<ChannelId, Arc<Stream>>,
    /// Connections that were taken and of which the client has not heard yet.
    coming: usize,
    listeners: Vec<Listener>,
    /// Whether the agent is forwarded.
    agent: bool,
}

/// Sockets that one request of the client has made.
struct Listener {
    /// As the client has named it: address and port, or a path.
    name: (String, u32),
    /// The sockets themselves: addresses and paths, as the monitor knows them.
    sockets: Vec<String>,
    tasks: Vec<AbortHandle>,
}

impl Forwards {
    pub(super) fn new(monitor: Arc<Client>) -> Arc<Self> {
        Arc::new(Self { monitor, state: Mutex::default() })
    }

    /// A socket from the monitor, and the port at which it listens.
    async fn open(&self, what: Open) -> io::Result<(OwnedFd, u16)> {
        let (reply, descriptors) = self.ask(&Request::Open { what }).await?;
        match (reply, descriptors.into_iter().next()) {
            (Reply::Opened { port }, Some(socket)) => Ok((socket, port)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Asks the monitor; its refusal is the error of the kernel.
    async fn ask(&self, request: &Request) -> io::Result<(Reply, Vec<OwnedFd>)> {
        let answer = self.monitor.ask(request).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        match answer.0 {
            Reply::NotOpened { error } => Err(io::Error::from_raw_os_error(error.cast_signed())),
            _ => Ok(answer),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The forwarded connection of a channel, if it is one.
    pub(super) fn stream(&self, id: ChannelId) -> Option<Arc<Stream>> {
        self.lock().streams.get(&id).cloned()
    }

    /// A place for a channel that is being opened by the client; none when there are too many.
    fn admit(&self, id: ChannelId) -> Option<Arc<Stream>> {
        let mut state = self.lock();
        if state.streams.len() + state.coming >= MAX_STREAMS {
            return None;
        }
        let stream = Arc::new(Stream::default());
        state.streams.insert(id, Arc::clone(&stream));
        Some(stream)
    }

    /// The client has confirmed a channel that we have opened; its first bytes may follow at once, before
    /// the task that asked for it runs.
    pub(super) fn confirmed(&self, id: ChannelId) {
        self.lock().streams.entry(id).or_default();
    }

    /// The client has closed a channel. False when it was none of ours.
    pub(super) fn closed(&self, id: ChannelId) -> bool {
        let stream = self.lock().streams.remove(&id);
        if let Some(stream) = &stream {
            stream.hang_up();
        }
        stream.is_some()
    }

    fn forget(&self, id: ChannelId) {
        self.lock().streams.remove(&id);
    }
}
