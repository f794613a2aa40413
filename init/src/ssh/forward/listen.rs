//! Sockets that wait for others: `-R`, and the agent's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::server::Handle;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, getsockname};
use tokio::io::unix::AsyncFd;

use super::open::Open;
use super::{For, Forwards, Listener, MAX_LISTENERS, MAX_STREAMS};
use crate::sys::ready;

/// How long nothing is taken when there is no descriptor or memory for it.
const PAUSE: Duration = Duration::from_millis(500);

/// What a socket is for, and what the client is told of who has come.
#[derive(Debug, Clone)]
enum Place {
    Tcp { address: String, port: u32 },
    Unix(String),
    Agent,
}

impl Forwards {
    /// Listens where the client asks (`tcpip-forward`); returns the port.
    pub(crate) fn listen(
        self: &Arc<Self>,
        address: &str,
        port: u32,
        whom: &For,
        handle: &Handle,
    ) -> Option<u32> {
        let tried = self.try_listen(address, port, whom, handle);
        let at = format!("{address:?}:{port}");
        match tried {
            Ok(port) => {
                whom.note(&format!("listens at {at}, port {port}"));
                Some(port)
            }
            Err(error) => {
                whom.note(&format!("listens at {at}: {error}"));
                None
            }
        }
    }

    fn try_listen(
        self: &Arc<Self>,
        address: &str,
        port: u32,
        whom: &For,
        handle: &Handle,
    ) -> io::Result<u32> {
        if !whom.grant.options.may_listen(address, port) {
            return Err(io::Error::other("the key may not"));
        }
        self.has_room(&(address.to_string(), port))?;
        let mut bound = u16::try_from(port).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (mut sockets, mut failed) = (Vec::new(), io::Error::from(io::ErrorKind::InvalidInput));
        for ip in addresses(address) {
            let opened = self.opener.open(&Open::Listen(SocketAddr::new(ip, bound)));
            match opened.and_then(|socket| Ok((port_of(&socket)?, ready::register(socket)?))) {
                Ok((port, socket)) => {
                    // The second family listens at the same port as the first.
                    bound = port;
                    sockets.push(socket);
                }
                // Half of what was asked for would send the client's peers to somebody else.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
                // A machine without IPv6 has a loopback all the same.
                Err(error) => failed = error,
            }
        }
        if sockets.is_empty() {
            return Err(failed);
        }
        let port = u32::from(bound);
        let place = Place::Tcp { address: address.to_string(), port };
        self.keep((address.to_string(), port), None, sockets, &place, handle, whom);
        Ok(port)
    }

    /// Stops listening; false where that was not done.
    pub(crate) fn unlisten(&self, name: &(String, u32)) -> bool {
        let mut state = self.lock();
        let Some(at) = state.listeners.iter().position(|l| l.name == *name) else { return false };
        let listener = state.listeners.swap_remove(at);
        self.stop(&listener);
        true
    }

    /// Listens at a path (`streamlocal-forward@openssh.com`).
    pub(crate) fn listen_unix(self: &Arc<Self>, path: &str, whom: &For, handle: &Handle) -> bool {
        let name = (path.to_string(), 0);
        let tried = match whom.grant.options.may_listen_unix() {
            false => Err(io::Error::other("the key may not")),
            true => self
                .has_room(&name)
                .and_then(|()| self.opener.open(&Open::ListenUnix(PathBuf::from(path))))
                .and_then(ready::register),
        };
        match tried {
            Ok(socket) => {
                whom.note(&format!("listens at {path:?}"));
                let place = Place::Unix(path.to_string());
                self.keep(name, Some(PathBuf::from(path)), vec![socket], &place, handle, whom);
                true
            }
            Err(error) => {
                whom.note(&format!("listens at {path:?}: {error}"));
                false
            }
        }
    }

    /// Where the client's agent answers, from now on; none when it may not.
    pub(crate) fn agent(self: &Arc<Self>, whom: &For, handle: &Handle) -> Option<PathBuf> {
        if !whom.grant.options.agent_forwarding {
            return None;
        }
        if let Some(path) = &self.lock().agent {
            return Some(path.clone());
        }
        let opened = self.opener.agent().and_then(|(socket, path)| Ok((ready::register(socket)?, path)));
        match opened {
            Ok((socket, path)) => {
                whom.note("forwards its agent");
                self.lock().agent = Some(path.clone());
                self.keep((String::new(), 0), None, vec![socket], &Place::Agent, handle, whom);
                Some(path)
            }
            Err(error) => {
                whom.note(&format!("forwards its agent: {error}"));
                None
            }
        }
    }

    fn has_room(&self, name: &(String, u32)) -> io::Result<()> {
        let state = self.lock();
        if name.1 != 0 && state.listeners.iter().any(|l| l.name == *name) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if state.listeners.len() >= MAX_LISTENERS {
            return Err(io::Error::other("too many listening sockets"));
        }
        Ok(())
    }

    fn keep(
        self: &Arc<Self>,
        name: (String, u32),
        path: Option<PathBuf>,
        sockets: Vec<AsyncFd<OwnedFd>>,
        place: &Place,
        handle: &Handle,
        whom: &For,
    ) {
        let task = |socket| {
            let accepting = Arc::clone(self).accept(socket, place.clone(), handle.clone(), whom.clone());
            tokio::spawn(accepting).abort_handle()
        };
        let tasks = sockets.into_iter().map(task).collect();
        self.lock().listeners.push(Listener { name, path, tasks });
    }

    async fn accept(self: Arc<Self>, socket: AsyncFd<OwnedFd>, place: Place, handle: Handle, whom: For) {
        loop {
            let Ok(mut ready) = socket.readable().await else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match ready.try_io(|socket| Ok(acceptfrom_with(socket, flags)?)) {
                Ok(Ok((accepted, peer))) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.take(accepted, peer, &place, &handle, &whom);
                }
                Ok(Err(error)) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR | Errno::CONNABORTED) => {}
                    _ => tokio::time::sleep(PAUSE).await,
                },
                Err(_) => {}
            }
        }
    }

    /// Offers somebody who has come to the client.
    fn take(
        self: &Arc<Self>,
        accepted: OwnedFd,
        peer: Option<SocketAddr>,
        place: &Place,
        handle: &Handle,
        whom: &For,
    ) {
        {
            let mut state = self.lock();
            if state.streams.len() + state.coming >= MAX_STREAMS {
                return;
            }
            state.coming += 1;
        }
        let (forwards, place, handle, whom) = (Arc::clone(self), place.clone(), handle.clone(), whom.clone());
        tokio::spawn(async move {
            let opened = match &place {
                Place::Tcp { address, port } => {
                    let _ = rustix::net::sockopt::set_tcp_nodelay(&accepted, true);
                    let (from, from_port) = peer.map_or_else(
                        || (String::from("UNKNOWN"), 0),
                        |peer| (peer.ip().to_string(), u32::from(peer.port())),
                    );
                    whom.note(&format!("is sent a connection from {from}:{from_port} to port {port}"));
                    handle.channel_open_forwarded_tcpip(address.as_str(), *port, from, from_port).await
                }
                Place::Unix(path) => {
                    whom.note(&format!("is sent a connection to {path:?}"));
                    handle.channel_open_forwarded_streamlocal(path.as_str()).await
                }
                Place::Agent => {
                    whom.note("is asked as an agent");
                    handle.channel_open_agent().await
                }
            };
            forwards.lock().coming -= 1;
            let Ok(channel) = opened else { return };
            let (_, writer) = channel.split();
            let writer = Arc::new(writer);
            // None when the client has closed it meanwhile.
            if let (Some(stream), Ok(socket)) = (forwards.stream(writer.id()), ready::register(accepted)) {
                stream.carry(Arc::new(socket), &handle, &writer).await;
            } else {
                let _ = writer.close().await;
            }
            forwards.forget(writer.id());
        });
    }
}

fn port_of(socket: &OwnedFd) -> io::Result<u16> {
    let address = SocketAddr::try_from(getsockname(socket)?).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(address.port())
}

/// The addresses that a client means (RFC 4254 section 7.1). One that names none means the loopback alone:
/// OpenSSH's client says `localhost` unless it is given another.
fn addresses(text: &str) -> Vec<IpAddr> {
    match text {
        "" | "*" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        text => text.parse().into_iter().collect(),
    }
}
