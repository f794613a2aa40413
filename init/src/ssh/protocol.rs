//! russh's handler: what a client says, turned into questions to `auth` and orders to `channel`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Error;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{ChannelId, ChannelOpenFailure, Pty, Sig};

use super::auth::{self, Gate, Grant};
use super::channel::{Asked, Channel, Running};
use super::control::Control;
use super::forward::{Direct, For, Forwards, To};
use super::session::{self, Terminal};
use super::{policy, subsystem};
use crate::sys::{log, pty};

/// Longest `TERM` in bytes; the longest name in terminfo is below 40.
const MAX_TERM: usize = 64;

/// What the handler and the process's main task share.
pub(super) struct Shared {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) forwards: Arc<Forwards>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    grant: Option<Arc<Grant>>,
    channels: HashMap<ChannelId, Channel>,
}

impl Shared {
    pub(super) fn new(peer: SocketAddr, local: SocketAddr) -> Arc<Self> {
        let forwards = Forwards::new(Arc::new(Direct::default()));
        Arc::new(Self { peer, local, forwards, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has logged in.
    pub(super) fn grant(&self) -> Option<Arc<Grant>> {
        self.lock().grant.clone()
    }

    /// The sessions that run.
    pub(super) fn running(&self) -> Vec<Arc<Running>> {
        self.lock().channels.values().filter_map(|c| c.running().cloned()).collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.forwards.end();
    }
}

/// A connection, as russh calls it.
pub(super) struct Protocol {
    pub(super) shared: Arc<Shared>,
    pub(super) gate: Arc<dyn Gate>,
    pub(super) control: Arc<Control>,
}

impl Protocol {
    fn admit(&mut self, user: &str, method: &str, grant: Option<Grant>) -> Auth {
        let peer = self.shared.peer;
        let source = peer.ip().to_canonical();
        match grant {
            Some(grant) => {
                log::note(
                    "sshd",
                    &format!("login of {user} from {source}:{} by {}", peer.port(), grant.method),
                );
                self.gate.succeeded(source);
                self.shared.lock().grant = Some(Arc::new(grant));
                self.control.admitted();
                Auth::Accept
            }
            None => {
                log::note("sshd", &format!("refused {user:?} from {source}:{}: {method}", peer.port()));
                Auth::Reject { proceed_with_methods: Some(policy::methods()), partial_success: false }
            }
        }
    }

    /// For whom something is to be forwarded.
    fn whom(&self) -> Option<For> {
        Some(For { grant: self.shared.grant()?, peer: self.shared.peer })
    }

    fn connect(&self, to: To, channel: russh::Channel<Msg>, answer: ChannelOpenHandle, session: &Session) {
        // An answer that is dropped is a refusal.
        if let Some(whom) = self.whom() {
            let (_, writer) = channel.split();
            self.shared.forwards.connect(to, whom, Arc::new(writer), answer, session.handle());
        }
    }

    fn start(&self, id: ChannelId, asked: &Asked<'_>, session: &mut Session) -> Result<(), Error> {
        let mut state = self.shared.lock();
        let grant = state.grant.clone();
        let started = match (grant, state.channels.get_mut(&id)) {
            (Some(grant), Some(channel)) => {
                channel.start(&grant, asked, (self.shared.peer, self.shared.local), &session.handle())
            }
            _ => false,
        };
        reply(id, started, session)
    }
}

fn reply(id: ChannelId, done: bool, session: &mut Session) -> Result<(), Error> {
    if done {
        session.channel_success(id)?
    } else {
        session.channel_failure(id)?
    }
    Ok(())
}

fn size(columns: u32, rows: u32, width: u32, height: u32) -> pty::Size {
    pty::Size { columns, rows, width, height }
}

impl Handler for Protocol {
    type Error = Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        let source = self.shared.peer.ip().to_canonical();
        match auth::key(&*self.gate, user, offer.public_key, offer.algorithm, source) {
            Some(_) => Ok(Auth::Accept),
            None => {
                let fingerprint = super::host_keys::fingerprint(offer.public_key);
                Ok(self.admit(user, &format!("publickey {fingerprint}"), None))
            }
        }
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        let source = self.shared.peer.ip().to_canonical();
        let grant = auth::key(&*self.gate, user, key.public_key, key.algorithm, source);
        Ok(self.admit(user, "publickey", grant))
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        let source = self.shared.peer.ip().to_canonical();
        let grant = auth::password(&self.gate, &self.control, user, password, source).await;
        Ok(self.admit(user, "password", grant))
    }

    async fn channel_open_session(
        &mut self,
        channel: russh::Channel<Msg>,
        answer: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let (_, writer) = channel.split();
        let full = {
            let mut state = self.shared.lock();
            let full = state.grant.is_none() || state.channels.len() >= policy::MAX_SESSIONS;
            if !full {
                state.channels.insert(writer.id(), Channel::new(Arc::new(writer)));
            }
            full
        };
        if full {
            answer.reject(ChannelOpenFailure::ResourceShortage).await;
        } else {
            answer.accept().await;
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: russh::Channel<Msg>,
        host: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        answer: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.connect(To::Tcp { host: host.to_string(), port }, channel, answer, session);
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: russh::Channel<Msg>,
        path: &str,
        answer: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.connect(To::Unix(path.to_string()), channel, answer, session);
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.shared.forwards.confirmed(id);
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let Some(whom) = self.whom() else { return Ok(false) };
        let bound = self.shared.forwards.listen(address, *port, &whom, &session.handle());
        *port = bound.unwrap_or(*port);
        Ok(bound.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.shared.forwards.unlisten(&(address.to_string(), port)))
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, Error> {
        let Some(whom) = self.whom() else { return Ok(false) };
        Ok(self.shared.forwards.listen_unix(path, &whom, &session.handle()))
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.shared.forwards.unlisten(&(path.to_string(), 0)))
    }

    async fn agent_request(&mut self, id: ChannelId, session: &mut Session) -> Result<bool, Error> {
        let Some(whom) = self.whom() else { return Ok(false) };
        let Some(path) = self.shared.forwards.agent(&whom, &session.handle()) else { return Ok(false) };
        let mut state = self.shared.lock();
        let channel = state.channels.get_mut(&id);
        Ok(channel.map(|c| c.tell("SSH_AUTH_SOCK", path.to_string_lossy().into_owned())).is_some())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        if self.shared.forwards.closed(id) {
            return Ok(());
        }
        let channel = self.shared.lock().channels.remove(&id);
        if let Some(running) = channel.as_ref().and_then(Channel::running) {
            running.hang_up();
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        if let Some(running) = self.shared.lock().channels.get(&id).and_then(Channel::running) {
            running.input.end();
        } else if let Some(stream) = self.shared.forwards.stream(id) {
            stream.input.end();
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Error> {
        let running = self.shared.lock().channels.get(&id).and_then(Channel::running).cloned();
        let grown = match running {
            Some(running) => running.input.feed(data),
            None => match self.shared.forwards.stream(id) {
                Some(stream) => stream.input.feed(data),
                // Nothing runs that could read it.
                None => u32::try_from(data.len())?,
            },
        };
        if grown > 0 {
            session.grow_window(id, grown)?;
        }
        Ok(())
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        _code: u32,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        // No extended data goes towards a server (RFC 4254 section 5.2 has stderr alone).
        Ok(session.grow_window(id, u32::try_from(data.len())?)?)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let done = {
            let mut state = self.shared.lock();
            let allowed = state.grant.as_ref().is_some_and(|g| g.options.pty);
            match state.channels.get_mut(&id) {
                Some(channel) if allowed && channel.running().is_none() => {
                    let fit = term.len() <= MAX_TERM && term.bytes().all(|b| b.is_ascii_graphic());
                    channel.terminal = Some(Terminal {
                        name: if fit { term.to_string() } else { String::new() },
                        size: size(columns, rows, width, height),
                        modes: modes.iter().map(|(mode, value)| (*mode as u8, *value)).collect(),
                    });
                    true
                }
                _ => false,
            }
        };
        reply(id, done, session)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let done = self.shared.lock().channels.get_mut(&id).is_some_and(|c| c.set_variable(name, value));
        reply(id, done, session)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.start(id, &Asked::Shell, session)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(id, &Asked::Command(command), session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        match subsystem::find(name) {
            Some(subsystem) => self.start(id, &Asked::Subsystem(subsystem), session),
            None => reply(id, false, session),
        }
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        reply(id, false, session)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        let done = {
            let mut state = self.shared.lock();
            let channel = state.channels.get_mut(&id);
            channel.is_some_and(|channel| {
                let size = size(columns, rows, width, height);
                match (channel.running().cloned(), &mut channel.terminal) {
                    (Some(running), Some(_)) => running.resize(size),
                    (None, Some(terminal)) => terminal.size = size,
                    _ => return false,
                }
                true
            })
        };
        reply(id, done, session)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Error> {
        let name = match &signal {
            Sig::Custom(name) => name.clone(),
            known => format!("{known:?}"),
        };
        if let (Some(running), Some(signal)) =
            (self.shared.lock().channels.get(&id).and_then(Channel::running), session::signal_by_name(&name))
        {
            running.signal(signal);
        }
        Ok(())
    }
}
