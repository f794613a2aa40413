//! russh's handler: what a client says, turned into questions to the monitor and orders to `channel`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Error;
use russh::server::{
    Auth, ChannelOpenHandle, ExchangeToSign, Handler, Msg, PublicKeyOffer, Response, Session, SignedPublicKey,
};
use russh::{ChannelId, ChannelOpenFailure, Pty, Sig};

use super::channel::{Channel, Running};
use super::forward::{Forwards, To};
use super::monitor::Client;
use super::monitor::messages::{Reply, Request, What};
use super::policy;
use super::session::Terminal;
use crate::sys::pty;

/// Longest `TERM` in bytes; the longest name in terminfo is below 40.
const MAX_TERM: usize = 64;

/// What the handler and the process's main task share.
pub(super) struct Shared {
    pub(super) monitor: Arc<Client>,
    pub(super) forwards: Arc<Forwards>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Somebody has logged in, as the monitor says.
    admitted: bool,
    /// Whether a terminal may be had.
    pty: bool,
    channels: HashMap<ChannelId, Channel>,
}

impl Shared {
    pub(super) fn new(monitor: Client) -> Arc<Self> {
        let monitor = Arc::new(monitor);
        let forwards = Forwards::new(Arc::clone(&monitor));
        Arc::new(Self { monitor, forwards, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions that run.
    pub(super) fn running(&self) -> Vec<Arc<Running>> {
        self.lock().channels.values().filter_map(|c| c.running().cloned()).collect()
    }
}

/// A connection, as russh calls it.
pub(super) struct Protocol {
    pub(super) shared: Arc<Shared>,
}

impl Protocol {
    /// Asks the monitor whether somebody is in by what the client has sent.
    async fn log_in(&self, request: &Request) -> Result<Auth, Error> {
        match self.shared.monitor.ask(request).await?.0 {
            Reply::Accepted {} => Ok(Auth::Accept),
            Reply::Admitted { pty } => {
                let mut state = self.shared.lock();
                (state.admitted, state.pty) = (true, pty);
                Ok(Auth::Accept)
            }
            _ => Ok(Auth::Reject { proceed_with_methods: Some(policy::methods()), partial_success: false }),
        }
    }

    /// Whether somebody is in: nothing is forwarded for nobody.
    fn is_admitted(&self) -> bool {
        self.shared.lock().admitted
    }

    fn connect(&self, to: To, channel: russh::Channel<Msg>, answer: ChannelOpenHandle, session: &Session) {
        // An answer that is dropped is a refusal.
        if self.is_admitted() {
            let (_, writer) = channel.split();
            self.shared.forwards.connect(to, Arc::new(writer), answer, session.handle());
        }
    }

    async fn password(&self, user: &str, password: &[u8]) -> Result<Auth, Error> {
        // Longer than any that is right: it is not carried about whole.
        let password = password.get(..super::auth::MAX_PASSWORD + 1).unwrap_or(password);
        let password = zeroize::Zeroizing::new(password.to_vec());
        self.log_in(&Request::Password { user: user.to_string(), password }).await
    }

    async fn start(&self, id: ChannelId, what: What, session: &mut Session) -> Result<(), Error> {
        let order = self.shared.lock().channels.get(&id).and_then(|channel| channel.order(what));
        let Some(order) = order else { return reply(id, false, session) };
        let monitor = &self.shared.monitor;
        let done = match monitor.ask(&order).await? {
            (Reply::Started { session: number, greeting }, descriptors) => {
                let mut state = self.shared.lock();
                let handle = session.handle();
                let taken = state.channels.get_mut(&id).is_some_and(|channel| {
                    channel.take_over((number, greeting), descriptors, monitor, &handle).is_ok()
                });
                if !taken {
                    monitor.tell(&Request::HangUp { session: number });
                }
                taken
            }
            _ => false,
        };
        reply(id, done, session)
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

    async fn sign_exchange(&mut self, exchange: ExchangeToSign<'_>) -> Result<Vec<u8>, Error> {
        let request = Request::Sign {
            algorithm: exchange.algorithm.to_string(),
            sha512: exchange.hash.len() == 64,
            exchange: exchange.hashed.to_vec(),
        };
        match self.shared.monitor.ask(&request).await?.0 {
            Reply::Signature { signature } => Ok(signature),
            _ => Err(anyhow::anyhow!("the monitor has not signed")),
        }
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        let request = Request::Offer {
            user: user.to_string(),
            algorithm: offer.algorithm_name.to_string(),
            key: offer.key_blob.to_vec(),
        };
        self.log_in(&request).await
    }

    async fn auth_publickey_signed(
        &mut self,
        user: &str,
        signed: SignedPublicKey<'_>,
    ) -> Result<Option<Auth>, Error> {
        let request = Request::PublicKey {
            user: user.to_string(),
            algorithm: signed.algorithm_name.to_string(),
            key: signed.key_blob.to_vec(),
            signature: signed.signature.to_vec(),
        };
        self.log_in(&request).await.map(Some)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        self.password(user, password.as_bytes()).await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        // One question, and the same check as that of a password (RFC 4256).
        let Some(mut response) = response else {
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: Cow::Borrowed(&[(Cow::Borrowed("Password: "), false)]),
            });
        };
        let answer = response.next().unwrap_or_default();
        self.password(user, &answer).await
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
            // A session that has ended counts no more; where the server closed first, nothing else tells of it.
            state.channels.retain(|_, channel| !channel.running().is_some_and(|running| running.is_over()));
            let full = !state.admitted || state.channels.len() >= policy::MAX_SESSIONS;
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
        if !self.is_admitted() {
            return Ok(false);
        }
        let bound = self.shared.forwards.listen(address, *port, &session.handle()).await;
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
        Ok(self.is_admitted() && self.shared.forwards.listen_unix(path, &session.handle()).await)
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.shared.forwards.unlisten(&(path.to_string(), 0)))
    }

    async fn agent_request(&mut self, id: ChannelId, session: &mut Session) -> Result<bool, Error> {
        if !self.is_admitted() || !self.shared.forwards.agent(&session.handle()).await {
            return Ok(false);
        }
        Ok(self.shared.lock().channels.get_mut(&id).map(|channel| channel.agent = true).is_some())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        if self.shared.forwards.closed(id) {
            return Ok(());
        }
        let channel = self.shared.lock().channels.remove(&id);
        if let Some(running) = channel.as_ref().and_then(Channel::running) {
            running.closed();
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
            let allowed = state.pty;
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
        self.start(id, What::Shell, session).await
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(id, What::Command(command.to_vec()), session).await
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(id, What::Subsystem(name.to_string()), session).await
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
        if let Some(running) = self.shared.lock().channels.get(&id).and_then(Channel::running) {
            running.signal(name);
        }
        Ok(())
    }
}
