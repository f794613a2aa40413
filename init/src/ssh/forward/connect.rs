//! Connections to where the client asks: `-L`, `-D`, `-W` and `-J`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use russh::ChannelOpenFailure;
use russh::server::{ChannelOpenHandle, Handle};
use tokio::io::unix::AsyncFd;

use super::super::flow::Writer;
use super::{Forwards, Open, resolve};
use crate::sys::ready;

/// What one address may take to answer when there are others.
const ATTEMPT: Duration = Duration::from_secs(10);
/// What all of it may take: clients give up after two minutes.
const LIMIT: Duration = Duration::from_secs(60);

/// Where to.
#[derive(Debug, Clone)]
pub(crate) enum To {
    Tcp { host: String, port: u32 },
    Unix(String),
}

impl Forwards {
    /// Opens what the client asks for and answers it; returns at once.
    pub(crate) fn connect(
        self: &Arc<Self>,
        to: To,
        writer: Writer,
        answer: ChannelOpenHandle,
        handle: Handle,
    ) {
        let id = writer.id();
        let stream = self.admit(id);
        let forwards = Arc::clone(self);
        tokio::spawn(async move {
            let Some(stream) = stream else {
                return answer.reject(ChannelOpenFailure::ResourceShortage).await;
            };
            let reached = tokio::time::timeout(LIMIT, forwards.reach(&to)).await;
            match reached.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(socket) => {
                    answer.accept().await;
                    stream.carry(Arc::new(socket), &handle, &writer).await;
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    answer.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
                }
                Err(_) => answer.reject(ChannelOpenFailure::ConnectFailed).await,
            }
            forwards.forget(id);
        });
    }

    async fn reach(&self, to: &To) -> io::Result<AsyncFd<OwnedFd>> {
        let (host, port) = match to {
            To::Unix(path) => return made(self.open(Open::ConnectUnix(path.clone())).await?.0).await,
            To::Tcp { host, port } => (host, u16::try_from(*port).ok().filter(|port| *port != 0)),
        };
        let port = port.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let addresses: Vec<IpAddr> = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => resolve::resolve(self, host, port).await?,
        };
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in &addresses {
            let open = Open::Connect { host: host.clone(), address: SocketAddr::new(*address, port) };
            let attempt = async { made(self.open(open).await?.0).await };
            let result = match addresses.len() {
                1 => attempt.await,
                _ => tokio::time::timeout(ATTEMPT, attempt)
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            };
            match result {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// Waits until a connection that was begun is made or refused.
async fn made(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let socket = ready::register(socket)?;
    let _ = socket.writable().await?;
    rustix::net::sockopt::socket_error(socket.get_ref())??;
    Ok(socket)
}
