//! Sockets that wait for others: `-R`, and the agent's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use russh::server::Handle;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;

use super::super::monitor::messages::{Reply, Request};
use super::{Forwards, Listener, MAX_LISTENERS, MAX_STREAMS, Open};
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
    /// Listens where the client asks (`tcpip-forward`); returns the port. The log says why it cannot.
    pub(crate) async fn listen(self: &Arc<Self>, address: &str, port: u32, handle: &Handle) -> Option<u32> {
        self.try_listen(address, port, handle).await.ok()
    }

    async fn try_listen(self: &Arc<Self>, address: &str, port: u32, handle: &Handle) -> io::Result<u32> {
        self.has_room(&(address.to_string(), port))?;
        let mut bound = u16::try_from(port).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (mut sockets, mut names) = (Vec::new(), Vec::new());
        let mut failed = io::Error::from(io::ErrorKind::InvalidInput);
        for ip in addresses(address) {
            let open = Open::Listen { host: address.to_string(), address: SocketAddr::new(ip, bound) };
            let opened = self.open(open).await;
            match opened.and_then(|(socket, port)| Ok((port, ready::register(socket)?))) {
                Ok((port, socket)) => {
                    // The second family listens at the same port as the first.
                    bound = port;
                    names.push(SocketAddr::new(ip, port).to_string());
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
        self.keep((address.to_string(), port), names, sockets, &place, handle);
        Ok(port)
    }

    /// Stops listening; false where that was not done.
    pub(crate) fn unlisten(&self, name: &(String, u32)) -> bool {
        let listener = {
            let mut state = self.lock();
            let Some(at) = state.listeners.iter().position(|l| l.name == *name) else { return false };
            state.listeners.swap_remove(at)
        };
        listener.tasks.iter().for_each(tokio::task::AbortHandle::abort);
        for name in listener.sockets {
            self.monitor.tell(&Request::Remove { name });
        }
        true
    }

    /// Listens at a path (`streamlocal-forward@openssh.com`).
    pub(crate) async fn listen_unix(self: &Arc<Self>, path: &str, handle: &Handle) -> bool {
        let name = (path.to_string(), 0);
        if self.has_room(&name).is_err() {
            return false;
        }
        let opened = self.open(Open::ListenUnix(path.to_string())).await;
        let Ok(socket) = opened.and_then(|(socket, _)| ready::register(socket)) else { return false };
        self.keep(name, vec![path.to_string()], vec![socket], &Place::Unix(path.to_string()), handle);
        true
    }

    /// Has the client's agent answer here from now on; false when it may not.
    pub(crate) async fn agent(self: &Arc<Self>, handle: &Handle) -> bool {
        if self.lock().agent {
            return true;
        }
        let opened = self.open(Open::Agent).await;
        let Ok(socket) = opened.and_then(|(socket, _)| ready::register(socket)) else { return false };
        self.lock().agent = true;
        self.keep((String::new(), 0), Vec::new(), vec![socket], &Place::Agent, handle);
        true
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
        names: Vec<String>,
        sockets: Vec<AsyncFd<OwnedFd>>,
        place: &Place,
        handle: &Handle,
    ) {
        let task = |(at, socket)| {
            // The agent's has none.
            let name = names.get(at).cloned();
            let accepting = Arc::clone(self).accept(socket, name, place.clone(), handle.clone());
            tokio::spawn(accepting).abort_handle()
        };
        let tasks = sockets.into_iter().enumerate().map(task).collect();
        self.lock().listeners.push(Listener { name, sockets: names, tasks });
    }

    async fn accept(
        self: Arc<Self>,
        socket: AsyncFd<OwnedFd>,
        name: Option<String>,
        place: Place,
        handle: Handle,
    ) {
        loop {
            let Ok(mut ready) = socket.readable().await else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match ready.try_io(|socket| Ok(acceptfrom_with(socket, flags)?)) {
                Ok(Ok((accepted, peer))) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    let came = Request::Came { to: name.clone(), from: peer };
                    self.take(accepted, (came, peer), &place, &handle);
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
        (came, peer): (Request, Option<SocketAddr>),
        place: &Place,
        handle: &Handle,
    ) {
        {
            let mut state = self.lock();
            if state.streams.len() + state.coming >= MAX_STREAMS {
                return;
            }
            state.coming += 1;
        }
        let (forwards, place, handle) = (Arc::clone(self), place.clone(), handle.clone());
        tokio::spawn(async move {
            // Asked and not told: whoever comes by the thousand waits for the monitor's pen.
            if !matches!(forwards.monitor.ask(&came).await, Ok((Reply::Accepted {}, _))) {
                forwards.lock().coming -= 1;
                return;
            }
            let opened = match &place {
                Place::Tcp { address, port } => {
                    let (from, from_port) = peer.map_or_else(
                        || (String::from("UNKNOWN"), 0),
                        |peer| (peer.ip().to_string(), u32::from(peer.port())),
                    );
                    handle.channel_open_forwarded_tcpip(address.as_str(), *port, from, from_port).await
                }
                Place::Unix(path) => handle.channel_open_forwarded_streamlocal(path.as_str()).await,
                Place::Agent => handle.channel_open_agent().await,
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

/// The addresses that a client means (RFC 4254 section 7.1). One that names none means the loopback alone:
/// OpenSSH's client says `localhost` unless it is given another.
fn addresses(text: &str) -> Vec<IpAddr> {
    match text {
        "" | "*" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        text => text.parse().into_iter().collect(),
    }
}
