//! Where sockets come from. What is asked for is a small value and the answer a descriptor, so that
//! another process can be the one that may.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::sys::{files, random};

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;
/// Longest file of names that is read, in bytes.
const MAX_NAMES: usize = 1 << 20;

/// A socket that is asked for. None of them blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// A TCP connection that has been begun, and may be made or refused later.
    Connect(SocketAddr),
    /// A connection to a Unix socket.
    ConnectUnix(PathBuf),
    /// A UDP socket to a name server.
    Ask(SocketAddr),
    /// A TCP socket that listens.
    Listen(SocketAddr),
    /// A Unix socket that listens, made with mode 0600 where nothing is.
    ListenUnix(PathBuf),
}

/// Opens sockets.
pub trait Opener: Send + Sync + 'static {
    /// Opens one.
    ///
    /// # Errors
    /// Those of the kernel, and refusals.
    fn open(&self, what: &Open) -> io::Result<OwnedFd>;
    /// Makes a folder that is the login's alone, and a socket in it that listens; returns its path too.
    ///
    /// # Errors
    /// As [`Opener::open`].
    fn agent(&self) -> io::Result<(OwnedFd, PathBuf)>;
    /// Removes a Unix socket that was made here, with its folder if that was made too.
    fn remove(&self, path: &Path);
    /// What hosts(5) and resolv.conf(5) say.
    fn names(&self) -> (Vec<u8>, Vec<u8>);
}

/// Opens them in this process.
#[derive(Debug, Default)]
pub struct Direct {
    /// What was made, to be removed with it.
    made: Mutex<Vec<PathBuf>>,
}

impl Opener for Direct {
    fn open(&self, what: &Open) -> io::Result<OwnedFd> {
        match what {
            Open::Connect(address) => {
                let socket = socket(family(address), SocketType::STREAM)?;
                // What goes through has its own idea of when to send.
                let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
                begun(connect(&socket, address))?;
                Ok(socket)
            }
            Open::ConnectUnix(path) => {
                let socket = socket(AddressFamily::UNIX, SocketType::STREAM)?;
                begun(connect(&socket, &SocketAddrUnix::new(path.as_os_str().as_bytes())?))?;
                Ok(socket)
            }
            Open::Ask(address) => {
                let socket = socket(family(address), SocketType::DGRAM)?;
                connect(&socket, address)?;
                Ok(socket)
            }
            Open::Listen(address) => {
                let socket = socket(family(address), SocketType::STREAM)?;
                rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
                if address.is_ipv6() {
                    rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
                }
                bind(&socket, address)?;
                listen(&socket, BACKLOG)?;
                Ok(socket)
            }
            Open::ListenUnix(path) => {
                let socket = listen_unix(path)?;
                self.made.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
                Ok(socket)
            }
        }
    }

    fn agent(&self) -> io::Result<(OwnedFd, PathBuf)> {
        let folder = private_folder()?;
        let path = folder.join(format!("agent.{}", std::process::id()));
        let socket = listen_unix(&path)?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).extend([path.clone(), folder]);
        Ok((socket, path))
    }

    fn remove(&self, path: &Path) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.iter().any(|p| p == path) {
            return;
        }
        let folder = path.parent().filter(|f| made.iter().any(|p| p == f)).map(Path::to_path_buf);
        made.retain(|p| p != path && Some(p) != folder.as_ref());
        let _ = std::fs::remove_file(path);
        if let Some(folder) = folder {
            let _ = std::fs::remove_dir(folder);
        }
    }

    fn names(&self) -> (Vec<u8>, Vec<u8>) {
        let read = |path| files::read_capped(Path::new(path), MAX_NAMES).unwrap_or_default();
        (read("/etc/hosts"), read("/etc/resolv.conf"))
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        for path in self.made.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_dir(&path);
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
        let direct = Direct::default();
        let (_socket, path) = direct.agent().unwrap();
        let folder = path.parent().unwrap().to_path_buf();
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        direct.remove(Path::new("/etc/hosts"));
        assert!(Path::new("/etc/hosts").exists());
        direct.remove(&path);
        assert!(!folder.exists());
        let (_socket, path) = direct.agent().unwrap();
        drop(direct);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[test]
    fn what_is_there_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, b"").unwrap();
        let direct = Direct::default();
        assert!(direct.open(&Open::ListenUnix(path.clone())).is_err());
        drop(direct);
        assert!(path.exists());
        assert!(Direct::default().open(&Open::ConnectUnix(path)).is_err());
    }
}
