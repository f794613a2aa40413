//! One forwarded connection: bytes between a channel and a socket, each direction with its own end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use russh::server::Handle;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::super::flow::{self, Input, Kind, Writer};

/// How long the other side may take to read what a client sent that has closed its channel, and to close.
const LINGER: Duration = Duration::from_secs(300);

/// A forwarded connection, from when its channel is known.
pub(crate) struct Stream {
    /// What the client sends; kept until the socket is there.
    pub(crate) input: Input,
    closed: Notify,
}

impl Default for Stream {
    fn default() -> Self {
        Self { input: Input::without_end(Kind::Socket), closed: Notify::new() }
    }
}

impl Stream {
    /// The client has closed the channel: what it sent before is still delivered.
    pub(super) fn hang_up(&self) {
        self.input.end();
        self.closed.notify_one();
    }

    /// Carries bytes until both directions have ended, and closes the channel.
    pub(super) async fn carry(&self, socket: Arc<AsyncFd<OwnedFd>>, handle: &Handle, writer: &Writer) {
        self.input.attach(Arc::clone(&socket));
        let back = async {
            flow::output(&socket, writer, None).await;
            let _ = writer.eof().await;
            // Where the other side is gone altogether, nothing that the client may still send arrives.
            if is_gone(&socket) {
                self.input.close();
            }
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(back, self.input.pump(handle, writer)) } => {}
            () = self.closed.notified() => {
                // What comes back has nowhere to go. It is read until the other side has closed: a socket that is
                // closed with something unread throws away what it still has to send.
                let both = async { tokio::join!(self.input.pump(handle, writer), flow::discard(&socket)) };
                let _ = tokio::time::timeout(LINGER, both).await;
                self.input.close();
                let _ = shutdown(socket.get_ref(), Shutdown::Both);
                return;
            }
        }
        let _ = writer.close().await;
    }
}

fn is_gone(socket: &AsyncFd<OwnedFd>) -> bool {
    let mut fds = [PollFd::new(socket.get_ref(), PollFlags::empty())];
    let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}
