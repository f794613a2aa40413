//! The connection's side of the socket to its monitor.

use std::os::fd::OwnedFd;

use anyhow::{Context, bail};
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use super::messages::{MAX_MESSAGE, Reply, Request};
use crate::sys::{ready, seqpacket};

/// The monitor, as a connection's process asks it.
pub(in crate::ssh) struct Client {
    socket: AsyncFd<OwnedFd>,
    /// One question at a time: answers come in order.
    turn: Mutex<()>,
}

impl Client {
    /// Takes the socket over, within the runtime.
    ///
    /// # Errors
    /// Those of epoll(7).
    pub(in crate::ssh) fn new(socket: OwnedFd) -> std::io::Result<Self> {
        Ok(Self { socket: ready::register(socket)?, turn: Mutex::new(()) })
    }

    /// What the monitor says next, with its descriptors.
    ///
    /// # Errors
    /// When it is gone.
    pub(in crate::ssh) async fn hear(&self) -> anyhow::Result<(Reply, Vec<OwnedFd>)> {
        loop {
            let mut ready = self.socket.readable().await?;
            let received = ready.try_io(|socket| seqpacket::receive(socket, MAX_MESSAGE, true));
            let Ok(received) = received else { continue };
            let Some((bytes, descriptors)) = received.context("hearing the monitor")? else {
                bail!("the monitor has gone");
            };
            let reply = Reply::decode(&bytes).context("the monitor's answer is malformed")?;
            return Ok((reply, descriptors));
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the monitor is gone, or the question is longer than one may be.
    pub(in crate::ssh) async fn ask(&self, request: &Request) -> anyhow::Result<(Reply, Vec<OwnedFd>)> {
        let _turn = self.turn.lock().await;
        seqpacket::send(self.socket.get_ref(), &request.encode(), &[])
            .with_context(|| format!("asking the monitor ({})", request.name()))?;
        self.hear().await
    }

    /// Says what is not answered.
    pub(in crate::ssh) fn tell(&self, request: &Request) {
        let _ = seqpacket::send(self.socket.get_ref(), &request.encode(), &[]);
    }
}
