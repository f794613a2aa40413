//! Bytes between a channel and a process, with backpressure both ways and bounded memory.
//!
//! Towards the process: what the client sends is written at once where the process reads, and kept
//! otherwise; the client's window grows only by what the process has taken, so at most
//! [`policy::WINDOW`] bytes are kept. From the process: it is read only when the client's window has
//! room. Neither direction ever waits for the other, nor one channel for another.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use russh::ChannelWriteHalf;
use russh::server::{Handle, Msg};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::policy;

/// Bytes read at once: two packets of the largest size.
const CHUNK: usize = 64 << 10;
/// A shorter read is copied, so that a keystroke does not hold a whole chunk.
const SMALL: usize = 8 << 10;
/// Window is given back in steps of this many bytes: an adjustment costs a packet.
const STEP: u32 = policy::WINDOW / 8;

/// The writing half of a channel.
pub(super) type Writer = Arc<ChannelWriteHalf<Msg>>;

/// What the client has sent to a process.
pub(super) struct Input {
    state: Mutex<State>,
    wake: Notify,
    kind: Kind,
}

/// What is at the end of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pipe,
    /// Has no end of input that can be closed.
    Terminal,
    /// Is told of the end, and may go on in the other direction.
    Socket,
}

struct State {
    end: Option<Arc<AsyncFd<OwnedFd>>>,
    /// Whether the end is still to come.
    expected: bool,
    waiting: BytesMut,
    ended: bool,
    /// Bytes taken by the process for which no window was given back yet.
    credit: u32,
}

impl State {
    /// Window to give back now.
    fn take_credit(&mut self, taken: usize) -> u32 {
        self.credit = self.credit.saturating_add(u32::try_from(taken).unwrap_or(u32::MAX));
        if self.credit < STEP { 0 } else { std::mem::take(&mut self.credit) }
    }
}

impl Input {
    pub(super) fn new(end: Arc<AsyncFd<OwnedFd>>, kind: Kind) -> Self {
        let input = Self::without_end(kind);
        input.attach(end);
        input
    }

    /// One whose end comes later; what the client sends until then is kept.
    pub(super) fn without_end(kind: Kind) -> Self {
        let state = State { end: None, expected: true, waiting: BytesMut::new(), ended: false, credit: 0 };
        Self { state: Mutex::new(state), wake: Notify::new(), kind }
    }

    /// Gives it its end, unless it was closed meanwhile.
    pub(super) fn attach(&self, end: Arc<AsyncFd<OwnedFd>>) {
        let mut state = self.lock();
        if std::mem::take(&mut state.expected) {
            state.end = Some(end);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes data from the client; returns the window to give back.
    pub(super) fn feed(&self, data: &[u8]) -> u32 {
        let mut state = self.lock();
        let mut taken = 0;
        match &state.end {
            None if state.expected => {}
            // The process has closed its input: the data has nowhere to go, as with a closed pipe.
            None => taken = data.len(),
            Some(end) if state.waiting.is_empty() => match rustix::io::write(end.get_ref(), data) {
                Ok(n) => taken = n,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => {
                    state.end = None;
                    taken = data.len();
                    self.wake.notify_one();
                }
            },
            Some(_) => {}
        }
        if let Some(rest) = data.get(taken..).filter(|rest| !rest.is_empty()) {
            state.waiting.extend_from_slice(rest);
            self.wake.notify_one();
        }
        state.take_credit(taken)
    }

    /// The client sends no more.
    pub(super) fn end(&self) {
        if self.kind != Kind::Terminal {
            self.lock().ended = true;
            self.wake.notify_one();
        }
    }

    /// Whether the client has said that it sends no more.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Drops the process's input and what waits for it.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.end = None;
        state.expected = false;
        state.waiting = BytesMut::new();
        self.wake.notify_one();
    }

    /// Writes what waits, until the input has ended or is closed.
    pub(super) async fn pump(&self, handle: &Handle, writer: &Writer) {
        loop {
            let end = {
                let mut state = self.lock();
                if state.waiting.is_empty() && state.ended {
                    if let (Kind::Socket, Some(end)) = (self.kind, &state.end) {
                        let _ = rustix::net::shutdown(end.get_ref(), rustix::net::Shutdown::Write);
                    }
                    state.end = None;
                }
                match &state.end {
                    None => return,
                    Some(end) => (!state.waiting.is_empty()).then(|| Arc::clone(end)),
                }
            };
            let Some(end) = end else {
                self.wake.notified().await;
                continue;
            };
            // Woken also by `close`: nothing holds on to the end of a session that is hung up.
            let ready = tokio::select! {
                ready = end.writable() => ready,
                () = self.wake.notified() => continue,
            };
            let Ok(mut ready) = ready else { return self.close() };
            let mut state = self.lock();
            let (grown, failed) = match ready.try_io(|end| Ok(rustix::io::write(end, &state.waiting)?)) {
                Ok(Ok(n)) => {
                    state.waiting.advance(n);
                    if state.waiting.is_empty() {
                        // Give the memory of a burst back.
                        state.waiting = BytesMut::new();
                    }
                    (state.take_credit(n), false)
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => (0, false),
                Ok(Err(_)) => {
                    let lost = state.waiting.len();
                    (state.take_credit(lost), true)
                }
                Err(_) => (0, false),
            };
            drop(state);
            if failed {
                self.close();
            }
            if grown > 0 {
                let _ = handle.grow_window(writer.id(), grown);
            }
        }
    }
}

/// Sends what a process writes to the client, until its end. `kind` is none for standard output and 1
/// for standard error (RFC 4254 section 5.2).
pub(super) async fn output(end: &AsyncFd<OwnedFd>, writer: &Writer, kind: Option<u32>) {
    let mut buffer = Vec::with_capacity(CHUNK);
    while let Ok(Some(data)) = read(end, &mut buffer).await {
        let sent = match kind {
            None => writer.data_bytes(data).await,
            Some(kind) => writer.extended_data_bytes(kind, data).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Reads and drops what a process writes, until its end.
pub(super) async fn discard(end: &AsyncFd<OwnedFd>) {
    let mut buffer = Vec::new();
    while let Ok(Some(_)) = read(end, &mut buffer).await {}
}

/// The next bytes; none at the end. A terminal whose processes are gone says EIO.
pub(super) async fn read(end: &AsyncFd<OwnedFd>, buffer: &mut Vec<u8>) -> io::Result<Option<Bytes>> {
    loop {
        let mut ready = end.readable().await?;
        buffer.clear();
        buffer.reserve(CHUNK);
        let result = ready.try_io(|end| Ok(rustix::io::read(end, rustix::buffer::spare_capacity(buffer))?));
        match result {
            Ok(Ok(0)) => return Ok(None),
            Ok(Ok(n)) if n < SMALL => return Ok(Some(Bytes::copy_from_slice(buffer))),
            Ok(Ok(_)) => return Ok(Some(Bytes::from(std::mem::take(buffer)))),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(None),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
}
