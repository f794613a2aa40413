//! Sockets, as the monitor opens them. What is asked for is a small value and the answer a descriptor.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with,
};

use crate::sys::random;

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;

/// A socket that is asked for. None of them blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// A TCP connection that has been begun, and may be made or refused later.
    Connect {
        /// As the client names it.
        host: String,
        /// One of its addresses.
        address: SocketAddr,
    },
    /// A connection to a Unix socket.
    ConnectUnix(String),
    /// A UDP socket to a name server.
    Ask(SocketAddr),
    /// A TCP socket that listens.
    Listen {
        /// As the client names it.
        host: String,
        /// What that means.
        address: SocketAddr,
    },
    /// A Unix socket that listens, made with mode 0600 where nothing is.
    ListenUnix(String),
    /// The same in a folder that is made for it, for the client's agent.
    Agent,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { host, address } => write!(f, "connect to {host:?} at {address}"),
            Self::ConnectUnix(path) => write!(f, "connect to {path:?}"),
            Self::Ask(server) => write!(f, "ask {server} for names"),
            Self::Listen { host, address } => write!(f, "listen for {host:?} at {address}"),
            Self::ListenUnix(path) => write!(f, "listen at {path:?}"),
            Self::Agent => f.write_str("forward its agent"),
        }
    }
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) socket: OwnedFd,
    /// The port at which it listens, or 0.
    pub(crate) port: u16,
}

/// What a connection has had opened. Files that it made go with it.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    made: Vec<PathBuf>,
    agent: Option<PathBuf>,
}

impl Sockets {
    /// Where the agent answers.
    pub(crate) fn agent(&self) -> Option<&Path> {
        self.agent.as_deref()
    }

    /// Where Unix sockets listen, the agent's apart.
    pub(crate) fn listening(&self) -> impl Iterator<Item = &Path> {
        let agent = self.agent.as_deref();
        let of_agent = move |path: &&PathBuf| agent.is_some_and(|agent| agent.starts_with(path));
        self.made.iter().filter(move |path| !of_agent(path)).map(PathBuf::as_path)
    }

    /// Opens one.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(crate) fn open(&mut self, what: &Open) -> io::Result<Opened> {
        let mut port = 0;
        let socket = match what {
            Open::Connect { address, .. } => {
                let socket = socket(family(address), SocketType::STREAM)?;
                // What goes through has its own idea of when to send.
                let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
                begun(connect(&socket, address))?;
                socket
            }
            Open::ConnectUnix(path) => {
                let socket = socket(AddressFamily::UNIX, SocketType::STREAM)?;
                begun(connect(&socket, &SocketAddrUnix::new(path.as_str())?))?;
                socket
            }
            Open::Ask(address) => {
                let socket = socket(family(address), SocketType::DGRAM)?;
                connect(&socket, address)?;
                socket
            }
            Open::Listen { address, .. } => {
                let socket = socket(family(address), SocketType::STREAM)?;
                rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
                // What is accepted inherits it.
                let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
                if address.is_ipv6() {
                    rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
                }
                bind(&socket, address)?;
                listen(&socket, BACKLOG)?;
                let bound = SocketAddr::try_from(getsockname(&socket)?);
                port = bound.map_err(|_| io::ErrorKind::InvalidData)?.port();
                socket
            }
            Open::ListenUnix(path) => {
                let path = PathBuf::from(path);
                let socket = listen_unix(&path)?;
                self.made.push(path);
                socket
            }
            Open::Agent => {
                if self.agent.is_some() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                let folder = private_folder()?;
                let path = folder.join(format!("agent.{}", std::process::id()));
                self.made.push(folder);
                let socket = listen_unix(&path)?;
                self.made.push(path.clone());
                self.agent = Some(path);
                socket
            }
        };
        Ok(Opened { socket, port })
    }

    /// Removes a Unix socket that was made here.
    pub(crate) fn remove(&mut self, path: &Path) {
        if let Some(at) = self.made.iter().position(|made| made == path) {
            self.made.swap_remove(at);
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // What is in a folder was made after it.
        for path in self.made.iter().rev() {
            if std::fs::remove_file(path).is_err() {
                let _ = std::fs::remove_dir(path);
            }
        }
    }
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn socket(family: AddressFamily, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// A connection that is under way is no error.
fn begun(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::INPROGRESS) => Ok(()),
        other => other,
    }
}

fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM)?;
    // The file gets the mode of the socket (unix(7)), so it never has another.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    bind(&socket, &SocketAddrUnix::new(path.as_os_str().as_bytes())?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn private_folder() -> io::Result<PathBuf> {
    let mut bytes = [0; 8];
    random::fill(&mut bytes)?;
    let folder = PathBuf::from(format!("/tmp/ssh-{:016x}", u64::from_be_bytes(bytes)));
    // Fails where something is: nobody can have put it there for us.
    rustix::fs::mkdir(&folder, Mode::RWXU)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_agents_socket_is_private_and_goes_with_it() {
        let mut sockets = Sockets::default();
        sockets.open(&Open::Agent).unwrap();
        let path = sockets.agent().unwrap().to_path_buf();
        let folder = path.parent().unwrap().to_path_buf();
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(sockets.open(&Open::Agent).is_err());
        sockets.remove(Path::new("/etc/hosts"));
        assert!(Path::new("/etc/hosts").exists());
        drop(sockets);
        assert!(!folder.exists());
    }

    #[test]
    fn what_is_there_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, b"").unwrap();
        let name = || path.to_str().unwrap().to_string();
        let mut sockets = Sockets::default();
        assert!(sockets.open(&Open::ListenUnix(name())).is_err());
        assert!(sockets.open(&Open::ConnectUnix(name())).is_err());
        drop(sockets);
        assert!(path.exists());
    }
}
