//! The process of one connection: it takes over its socket and what it must know, serves, and ends
//! with it. Nothing that happens in here reaches another connection or the listener.

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::auth::Gate;
use super::control::Control;
use super::listen::{Hello, MAX_HELLO};
use super::protocol::{Protocol, Shared};
use super::socket::Socket;
use super::{channel, host_keys, policy};
use crate::sys::log;

/// What a person at a terminal reads before the machine goes.
const FAREWELL: &str = "\r\nThe rescue is going down for reboot\r\n";
/// What the farewell may take: a client that does not read delays no shutdown.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);
/// What a disconnect, and then the end of what ran, may take when the machine goes.
const GOODBYE_LIMIT: Duration = Duration::from_millis(200);

/// What the listener has handed over.
pub struct Handover {
    socket: TcpStream,
    control: UnixStream,
    /// Configuration of this connection.
    pub hello: Hello,
}

/// Takes over the client's socket (standard input) and the listener's (standard output), and reads
/// what the listener says.
///
/// # Errors
/// When this process was not started by the listener.
pub fn take_over() -> anyhow::Result<Handover> {
    let socket: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
    let control: OwnedFd = std::io::stdout().as_fd().try_clone_to_owned()?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    if !rustix::net::sockopt::socket_type(&control).is_ok_and(|t| t == rustix::net::SocketType::STREAM) {
        bail!("is started by `rescue sshd` alone");
    }
    let mut control = UnixStream::from(control);
    control.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut length = [0u8; 4];
    control.read_exact(&mut length).context("reading from the listener")?;
    let length = u32::from_be_bytes(length);
    if length > MAX_HELLO {
        bail!("the listener's message has {length} bytes; at most {MAX_HELLO}");
    }
    let mut text = zeroize::Zeroizing::new(vec![0u8; usize::try_from(length)?]);
    control.read_exact(&mut text).context("reading from the listener")?;
    let hello = serde_json::from_slice(&text).map_err(|_| anyhow!("the listener's message is malformed"))?;
    control.set_read_timeout(None)?;
    Ok(Handover { socket: TcpStream::from(socket), control, hello })
}

/// Serves the connection until it ends.
///
/// # Errors
/// What made it end before anybody had logged in, or keeps it from being served at all.
pub fn serve(handover: Handover, gate: Arc<dyn Gate>) -> anyhow::Result<()> {
    let keys = host_keys::parse_all(&handover.hello.host_keys)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Passwords of one connection are checked one after another.
        .max_blocking_threads(1)
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(run(handover, keys, gate));
    // A password check that still runs is not waited for.
    runtime.shutdown_background();
    result
}

async fn run(
    Handover { socket, control, hello }: Handover,
    keys: Vec<russh::keys::PrivateKey>,
    gate: Arc<dyn Gate>,
) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
    let from = format!("{}:{}", peer.ip().to_canonical(), peer.port());
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    let _ = rustix::net::sockopt::set_socket_keepalive(&socket, true);
    let shared = Shared::new(peer, local);
    let protocol = Protocol { shared: Arc::clone(&shared), gate, control: Arc::new(Control::new(control)) };
    let deadline = tokio::time::Instant::now() + hello.login_grace;
    let grace = || async {
        tokio::time::sleep_until(deadline).await;
        if shared.grant().is_some() {
            std::future::pending::<()>().await;
        }
    };
    let socket = Socket::new(tokio::net::TcpStream::from_std(socket)?);
    let config = Arc::new(policy::config(keys));
    let running = tokio::select! {
        running = russh::server::run_stream(config, socket, protocol) => running,
        () = grace() => Err(anyhow!("no login within {} s", hello.login_grace.as_secs())),
        _ = terminated.recv() => return Ok(()),
    };
    let mut running = match running {
        Ok(running) => running,
        Err(error) => {
            log::note("sshd", &format!("connection from {from} ended: {error:#}"));
            return Ok(());
        }
    };
    let handle = running.handle();
    let mut patience = channel::HANG_UP_LIMIT;
    let end = tokio::select! {
        result = &mut running => result,
        () = grace() => Err(anyhow!("no login within {} s", hello.login_grace.as_secs())),
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
    let who = shared.grant().map_or(String::new(), |g| format!(" of {}", g.account.name));
    let why = end.map_or_else(|error| format!("{error:#}"), |()| "closed".into());
    log::note("sshd", &format!("connection{who} from {from} ended: {why}"));
    let over = async {
        for session in &sessions {
            session.over().await;
        }
    };
    let _ = tokio::time::timeout(patience, over).await;
    Ok(())
}
