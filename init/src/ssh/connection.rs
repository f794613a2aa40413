//! The process of one connection: it gives up everything but the client's socket and the monitor's,
//! speaks SSH, and ends with it. Nothing that happens in here reaches another connection, and whoever
//! takes it over has what the client of this connection had: a way to ask the monitor.

use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use russh::keys::{Certificate, PublicKey};
use tokio::signal::unix::{SignalKind, signal};

use super::monitor::Client;
use super::monitor::messages::{Reply, Request};
use super::protocol::{Protocol, Shared};
use super::socket::Socket;
use super::{channel, policy, refusal};
use crate::sys::{sandbox, seqpacket};

/// What a person at a terminal reads before the machine goes.
const FAREWELL: &str = "\r\nThe rescue is going down for reboot\r\n";
/// What the farewell may take: a client that does not read delays no shutdown.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);
/// What a disconnect, and then the end of what ran, may take when the machine goes.
const GOODBYE_LIMIT: Duration = Duration::from_millis(200);

/// Takes over the client's socket (standard input) and the monitor's (standard output), gives up every
/// privilege and serves the connection until it ends.
///
/// # Errors
/// When this process was not started by a monitor, or cannot be confined.
pub fn run() -> anyhow::Result<()> {
    let socket: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
    let monitor: OwnedFd = std::io::stdout().as_fd().try_clone_to_owned()?;
    if !seqpacket::is_one(&monitor) {
        bail!("is started by `rescue sshd` alone");
    }
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    // Errors go to the monitor: what is written here could otherwise fill a file.
    rustix::stdio::dup2_stderr(&null)?;
    say_panics(monitor.try_clone()?);
    let limits = sandbox::Limits { memory: policy::MEMORY_BEFORE_LOGIN, descriptors: policy::DESCRIPTORS };
    sandbox::drop_privileges(limits).context("giving up privileges")?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(serve(TcpStream::from(socket), monitor))
}

/// Has a panic, which ends this process alone, say to the monitor where it was.
fn say_panics(monitor: OwnedFd) {
    std::panic::set_hook(Box::new(move |panic| {
        let place =
            panic.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let text = panic.payload().downcast_ref::<&str>().copied().unwrap_or_default();
        let request = Request::Farewell { why: format!("a panic{place}: {text}") };
        let _ = seqpacket::send(&monitor, &request.encode(), &[]);
    }));
}

async fn serve(socket: TcpStream, monitor: OwnedFd) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    let _ = rustix::net::sockopt::set_socket_keepalive(&socket, true);
    let socket = Socket::new(tokio::net::TcpStream::from_std(socket)?, policy::IDENTIFICATION.len() + 2);
    let shared = Shared::new(Client::new(monitor)?);
    let Reply::Welcome { keys, certificates, algorithms } = shared.monitor.hear().await?.0 else {
        bail!("the monitor does not greet")
    };
    let keys: Result<Vec<PublicKey>, _> = keys.0.iter().map(|key| PublicKey::from_bytes(key)).collect();
    let certificates: Result<Vec<Certificate>, _> =
        certificates.0.iter().map(|it| Certificate::from_bytes(it)).collect();
    let keys = keys.context("reading the host keys")?;
    let certificates = certificates.context("reading the host certificates")?;
    let config = Arc::new(policy::config(keys, certificates, &algorithms.0));
    // Nothing of the client's has been read yet. A kernel without filters leaves the other walls.
    if let Err(error) = sandbox::bind() {
        shared
            .monitor
            .tell(&Request::Farewell { why: format!("(without a filter of system calls: {error})") });
    }
    let why = converse(socket, config, &shared, &mut terminated).await;
    shared.monitor.tell(&Request::Farewell { why });
    Ok(())
}

/// Speaks with the client until one of them ends it; says why it ended.
async fn converse(
    socket: Socket,
    config: Arc<russh::server::Config>,
    shared: &Arc<Shared>,
    terminated: &mut tokio::signal::unix::Signal,
) -> String {
    let protocol = Protocol { shared: Arc::clone(shared) };
    let running = tokio::select! {
        running = russh::server::run_stream(config, socket, protocol) => running,
        _ = terminated.recv() => return "the server is going down".into(),
    };
    let mut running = match running {
        Ok(running) => running,
        Err(error) => return refusal::explain(&error),
    };
    let handle = running.handle();
    let mut patience = channel::HANG_UP_LIMIT;
    let end = tokio::select! {
        result = &mut running => result,
        _ = terminated.recv() => {
            let farewell = async {
                for session in shared.running().iter().filter(|s| s.is_interactive()) {
                    session.part(FAREWELL).await;
                }
                // A client whose last session was closed leaves by itself.
                let _ = (&mut running).await;
            };
            let _ = tokio::time::timeout(FAREWELL_LIMIT, farewell).await;
            let goodbye = async {
                let _ = handle.disconnect(russh::Disconnect::ByApplication, "going down".into(), String::new()).await;
                let _ = (&mut running).await;
            };
            let _ = tokio::time::timeout(GOODBYE_LIMIT, goodbye).await;
            patience = GOODBYE_LIMIT;
            Err(anyhow!("the server is going down"))
        }
    };
    let sessions = shared.running();
    for session in &sessions {
        session.hang_up();
    }
    let over = async {
        for session in &sessions {
            session.over().await;
        }
    };
    let _ = tokio::time::timeout(patience, over).await;
    end.map_or_else(|error| refusal::explain(&error), |()| "closed".into())
}
