//! Forwarding: connections that go through the client's (RFC 4254 section 7, and OpenSSH's `PROTOCOL` file
//! for Unix sockets and the agent).
//!
//! ```text
//! mod.rs       what a connection forwards, its limits    listen.rs   sockets that wait for others (-R, -A)
//! connect.rs   to where the client asks (-L, -D, -W, -J) resolve.rs  names to addresses; dns.rs its messages
//! stream.rs    one forwarded connection                  open.rs     where sockets come from
//! ```
//!
//! Whoever may open sockets is behind [`Opener`]; nothing else in here touches anything outside of the
//! connection.

mod connect;
pub mod dns;
mod listen;
mod open;
pub mod resolve;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::ChannelId;
use tokio::task::AbortHandle;

use super::auth::Grant;
use crate::sys::log;
pub(super) use connect::To;
pub use open::{Direct, Open, Opener};
use stream::Stream;

/// Forwarded connections at once: a browser behind `-D` opens some dozens. Each holds two megabytes at
/// the very most, when what it leads to does not read.
const MAX_STREAMS: usize = 128;
/// Sockets that wait for others at once, of a connection.
const MAX_LISTENERS: usize = 32;

/// What a connection forwards.
pub(super) struct Forwards {
    opener: Arc<dyn Opener>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: HashMap<ChannelId, Arc<Stream>>,
    /// Connections that were taken and of which the client has not heard yet.
    coming: usize,
    listeners: Vec<Listener>,
    /// Where the agent answers.
    agent: Option<PathBuf>,
}

/// Sockets that one request of the client has made.
struct Listener {
    /// As the client has named it: address and port, or a path.
    name: (String, u32),
    path: Option<PathBuf>,
    tasks: Vec<AbortHandle>,
}

/// For whom something is forwarded.
#[derive(Clone)]
pub(super) struct For {
    pub(super) grant: Arc<Grant>,
    pub(super) peer: SocketAddr,
}

impl For {
    fn note(&self, what: &str) {
        let (user, peer) = (&self.grant.account.name, self.peer);
        log::note("sshd", &format!("{user} from {}:{} {what}", peer.ip().to_canonical(), peer.port()));
    }
}

impl Forwards {
    pub(super) fn new(opener: Arc<dyn Opener>) -> Arc<Self> {
        Arc::new(Self { opener, state: Mutex::default() })
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

    /// Ends everything: the connection is over.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        for (_, stream) in state.streams.drain() {
            stream.hang_up();
        }
        for listener in state.listeners.drain(..) {
            self.stop(&listener);
        }
        if let Some(path) = state.agent.take() {
            self.opener.remove(&path);
        }
    }

    fn stop(&self, listener: &Listener) {
        listener.tasks.iter().for_each(AbortHandle::abort);
        if let Some(path) = &listener.path {
            self.opener.remove(path);
        }
    }
}
