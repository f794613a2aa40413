//! Connections to where the client asks: `-L`, `-D`, `-W` and `-J`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::ChannelOpenFailure;
use russh::server::{ChannelOpenHandle, Handle};
use tokio::io::unix::AsyncFd;

use super::super::flow::Writer;
use super::open::{Open, Opener};
use super::{For, Forwards, resolve};
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

impl std::fmt::Display for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host:?}:{port}"),
            Self::Unix(path) => write!(f, "{path:?}"),
        }
    }
}

impl Forwards {
    /// Opens what the client asks for and answers it; returns at once.
    pub(crate) fn connect(
        self: &Arc<Self>,
        to: To,
        whom: For,
        writer: Writer,
        answer: ChannelOpenHandle,
        handle: Handle,
    ) {
        let options = &whom.grant.options;
        let allowed = match &to {
            To::Tcp { host, port } => options.may_open(host, *port),
            To::Unix(_) => options.may_open_unix(),
        };
        let id = writer.id();
        let stream = if allowed { self.admit(id) } else { None };
        let forwards = Arc::clone(self);
        tokio::spawn(async move {
            let Some(stream) = stream else {
                whom.note(&format!(
                    "may not connect to {to}: {}",
                    if allowed { "too many connections" } else { "its key" }
                ));
                answer
                    .reject(match allowed {
                        true => ChannelOpenFailure::ResourceShortage,
                        false => ChannelOpenFailure::AdministrativelyProhibited,
                    })
                    .await;
                return;
            };
            let reached = tokio::time::timeout(LIMIT, reach(&*forwards.opener, &to)).await;
            match reached.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(socket) => {
                    whom.note(&format!("connects to {to}"));
                    answer.accept().await;
                    stream.carry(Arc::new(socket), &handle, &writer).await;
                }
                Err(error) => {
                    whom.note(&format!("connects to {to}: {error}"));
                    answer.reject(ChannelOpenFailure::ConnectFailed).await;
                }
            }
            forwards.forget(id);
        });
    }
}

async fn reach(opener: &dyn Opener, to: &To) -> io::Result<AsyncFd<OwnedFd>> {
    let (host, port) = match to {
        To::Unix(path) => {
            return made(opener.open(&Open::ConnectUnix(PathBuf::from(path)))?).await;
        }
        To::Tcp { host, port } => (host, port),
    };
    let port = u16::try_from(*port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let addresses = resolve::resolve(opener, host).await?;
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in &addresses {
        let begun = opener.open(&Open::Connect(SocketAddr::new(*address, port)));
        let attempt = async { made(begun?).await };
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

/// Waits until a connection that was begun is made or refused.
async fn made(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let socket = ready::register(socket)?;
    let _ = socket.writable().await?;
    rustix::net::sockopt::socket_error(socket.get_ref())??;
    Ok(socket)
}
