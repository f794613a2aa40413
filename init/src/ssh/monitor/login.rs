//! Who has logged in, as the monitor knows it: the state of a connection until then, and its checks.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use russh::keys::ssh_encoding::Encode;

use super::exchange;
use super::life::Server;
use super::messages::{Reply, Request};
use crate::ssh::auth::{Grant, MAX_NAME, MAX_PASSWORD};
use crate::ssh::authorized_keys::Options;
use crate::ssh::control::Control;
use crate::ssh::presented::Presented;
use crate::sys::log;

/// Refused passwords and keys after which a connection has no more tries: those of `max_auth_attempts`,
/// at which the connection's process has taken leave already.
const MAX_REFUSALS: u32 = 7;
/// Questions before a login. A client with a full agent asks for some twenty keys.
const MAX_QUESTIONS: u32 = 64;
/// What a refused password takes at the least, the check included: whether the account exists and how
/// strong its hash is cannot be told by a clock.
const REFUSAL: Duration = Duration::from_millis(500);

/// Waits until a time, and says whether the connection's process is still there and silent.
pub(super) type Wait<'a> = &'a dyn Fn(Instant) -> bool;

/// What is known about a login.
pub(super) struct Login<'a> {
    server: &'a Server,
    control: &'a Control,
    source: IpAddr,
    /// For the log: address and port.
    from: String,
    /// The hash of the first exchange that was signed (RFC 4253 section 7.2).
    session_id: Option<Vec<u8>>,
    grant: Option<Grant>,
    /// By what somebody is in, for the log.
    method: String,
    refusals: u32,
    questions: u32,
}

impl<'a> Login<'a> {
    pub(super) fn new(server: &'a Server, control: &'a Control, source: IpAddr, from: String) -> Self {
        Self {
            server,
            control,
            source,
            from,
            session_id: None,
            grant: None,
            method: String::new(),
            refusals: 0,
            questions: 0,
        }
    }

    /// Who is in.
    pub(super) fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    /// By what.
    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// Signs an exchange.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub(super) fn sign(
        &mut self,
        algorithm: &str,
        sha512: bool,
        record: &[u8],
    ) -> Result<Reply, &'static str> {
        // A client may change keys as often as it likes, but no client does so before it is in; and who
        // is in as root can read the host keys.
        if self.session_id.is_some() && self.grant.is_none() {
            return Err("a second exchange before a login");
        }
        let signed = exchange::sign(&self.server.keys, &self.server.certificates, algorithm, sha512, record)?;
        self.session_id.get_or_insert(signed.hash);
        Ok(Reply::Signature { signature: signed.signature })
    }

    /// Answers what may be asked before a login: `Offer`, `PublicKey`, `Password`.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub(super) fn answer(&mut self, request: Request, wait: Wait<'_>) -> Result<Reply, &'static str> {
        if self.grant.is_some() {
            return Err("a login after a login");
        }
        let Some(session_id) = self.session_id.clone() else { return Err("a login before an exchange") };
        self.questions += 1;
        if self.questions > MAX_QUESTIONS || self.refusals >= MAX_REFUSALS {
            return Err("too many tries");
        }
        let (user, method, grant) = match request {
            Request::Offer { user, algorithm, key } => {
                let presented = Presented::decode(&key, &algorithm)?;
                if presented.grant(&*self.server.gate, &user, self.source).is_some() {
                    return Ok(Reply::Accepted {});
                }
                (user, presented.method(), None)
            }
            Request::PublicKey { user, algorithm, key: blob, signature } => {
                let presented = Presented::decode(&blob, &algorithm)?;
                let grant = presented.grant(&*self.server.gate, &user, self.source);
                let signed = request_of(&session_id, &user, &algorithm, &blob);
                let grant = grant.filter(|grant| {
                    signed.is_some_and(|signed| presented.verify(&signed, &signature, &grant.options))
                });
                (user, presented.method(), grant)
            }
            Request::Password { user, password } => {
                let grant = self.password(&user, &password, wait)?;
                (user, "password".to_string(), grant)
            }
            _ => return Err("no login"),
        };
        let Some(grant) = grant else {
            self.refusals += 1;
            log::note("sshd", &format!("refused {user:?} from {}: {method}", self.from));
            return Ok(Reply::Refused {});
        };
        self.method = method;
        self.server.gate.succeeded(self.source);
        self.control.admitted();
        let reply = Reply::Admitted { pty: grant.options.pty };
        self.grant = Some(grant);
        Ok(reply)
    }

    fn password(&self, user: &str, password: &[u8], wait: Wait<'_>) -> Result<Option<Grant>, &'static str> {
        let gone = "it did not wait for the answer";
        let gate = &self.server.gate;
        let start = Instant::now();
        if let Some(delay) = gate.delay(self.source)
            && !wait(start + delay)
        {
            return Err(gone);
        }
        let account = if password.is_empty() || password.len() > MAX_PASSWORD || user.len() > MAX_NAME {
            None
        } else {
            self.control.in_turn(|| gate.password(user, password, self.source))
        };
        if let Some(account) = account {
            return Ok(Some(Grant { account, options: Options::default() }));
        }
        gate.failed(self.source);
        self.control.refused();
        if wait(start + REFUSAL) { Ok(None) } else { Err(gone) }
    }
}

/// What a client signs to log in (RFC 4252 section 7).
fn request_of(session_id: &[u8], user: &str, algorithm: &str, key: &[u8]) -> Option<Vec<u8>> {
    /// `SSH_MSG_USERAUTH_REQUEST`.
    const REQUEST: u8 = 50;
    let mut bytes = Vec::new();
    session_id.encode(&mut bytes).ok()?;
    bytes.push(REQUEST);
    for field in [user, "ssh-connection", "publickey"] {
        field.encode(&mut bytes).ok()?;
    }
    bytes.push(1);
    algorithm.encode(&mut bytes).ok()?;
    key.encode(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rescue_schema::account::Account;
    use russh::keys::PrivateKey;
    use russh::keys::signature::Signer;
    use russh::keys::ssh_key::Signature;

    use super::*;
    use crate::ssh::{auth, host_keys};

    /// An account, `root`, which a key and the password `right` open.
    pub(crate) struct Gate {
        key: String,
        failures: AtomicU32,
    }

    impl auth::Gate for Gate {
        fn password(&self, user: &str, password: &[u8], _: IpAddr) -> Option<Account> {
            self.account(user).filter(|_| password == b"right")
        }
        fn account(&self, user: &str) -> Option<Account> {
            (user == "root").then(|| Account {
                name: "root".into(),
                uid: 0,
                gid: 0,
                home: "/".into(),
                shell: "/bin/sh".into(),
                password_hash: None,
                authorized_keys: vec![self.key.clone()],
            })
        }
        fn delay(&self, _: IpAddr) -> Option<Duration> {
            None
        }
        fn failed(&self, _: IpAddr) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        fn succeeded(&self, _: IpAddr) {}
    }

    struct Play {
        server: Server,
        control: Control,
        user_key: PrivateKey,
    }

    impl Play {
        fn new() -> Self {
            let user_key = host_keys::generate().unwrap();
            let key = user_key.public_key().to_openssh().unwrap();
            let gate = Arc::new(Gate { key, failures: AtomicU32::new(0) });
            let keys = vec![host_keys::generate().unwrap()];
            let (control, listener) = UnixStream::pair().unwrap();
            drop(listener);
            let login_grace = Duration::from_secs(60);
            Self {
                server: Server {
                    keys,
                    certificates: vec![],
                    gate,
                    login_grace,
                    algorithms: vec![],
                    records: None,
                },
                control: Control::new(control),
                user_key,
            }
        }

        fn login(&self) -> Login<'_> {
            Login::new(&self.server, &self.control, IpAddr::from([192, 0, 2, 1]), "192.0.2.1:1".into())
        }

        fn record(&self, secret: u8) -> Vec<u8> {
            exchange::tests::record(&self.server.keys[0], |fields| fields[7] = vec![secret; 32])
        }

        /// The signature that a client which is in the session `id` would send.
        fn signature(&self, id: &[u8], user: &str) -> Vec<u8> {
            let blob = self.user_key.public_key().to_bytes().unwrap();
            let signed = request_of(id, user, "ssh-ed25519", &blob).unwrap();
            let signature: Signature = self.user_key.key_data().try_sign(&signed).unwrap();
            signature.encode_vec().unwrap()
        }

        fn key(&self, user: &str, signature: Vec<u8>) -> Request {
            let key = self.user_key.public_key().to_bytes().unwrap();
            Request::PublicKey { user: user.into(), algorithm: "ssh-ed25519".into(), key, signature }
        }
    }

    fn hash(record: &[u8]) -> Vec<u8> {
        use sha2::Digest;
        sha2::Sha256::digest(record).to_vec()
    }

    const STAY: Wait<'_> = &|_| true;

    #[test]
    fn a_signature_over_the_own_session_logs_in_once() {
        let play = Play::new();
        let mut login = play.login();
        login.sign("ssh-ed25519", false, &play.record(1)).unwrap();
        let signature = play.signature(&hash(&play.record(1)), "root");
        let reply = login.answer(play.key("root", signature.clone()), STAY).unwrap();
        assert!(matches!(reply, Reply::Admitted { pty: true, .. }));
        assert_eq!(login.grant().unwrap().account.name, "root");
        assert!(login.answer(play.key("root", signature), STAY).is_err(), "twice");
        // A change of keys leaves the session its id.
        login.sign("ssh-ed25519", false, &play.record(2)).unwrap();
        assert_eq!(login.session_id.unwrap(), hash(&play.record(1)));
    }

    #[test]
    fn a_signature_from_elsewhere_logs_nobody_in() {
        let play = Play::new();
        for (id, user) in [
            (hash(&play.record(2)), "root"),
            (hash(b""), "root"),
            (vec![], "root"),
            (hash(&play.record(1)), "admin"),
        ] {
            let mut login = play.login();
            login.sign("ssh-ed25519", false, &play.record(1)).unwrap();
            let reply = login.answer(play.key("root", play.signature(&id, user)), STAY).unwrap();
            assert!(matches!(reply, Reply::Refused {}), "{id:?}");
            assert!(login.grant().is_none());
        }
        let mut login = play.login();
        login.sign("ssh-ed25519", false, &play.record(1)).unwrap();
        let mut signature = play.signature(&hash(&play.record(1)), "root");
        signature.push(0);
        assert!(matches!(login.answer(play.key("root", signature), STAY), Ok(Reply::Refused {})));
    }

    #[test]
    fn what_is_out_of_order_is_an_error() {
        let play = Play::new();
        let password = || Request::Password { user: "root".into(), password: b"right".to_vec().into() };
        assert!(play.login().answer(password(), STAY).is_err(), "before an exchange");
        let mut login = play.login();
        login.sign("ssh-ed25519", false, &play.record(1)).unwrap();
        assert!(login.sign("ssh-ed25519", false, &play.record(2)).is_err(), "a second exchange");
        assert!(matches!(login.answer(password(), STAY), Ok(Reply::Admitted { .. })));
        assert!(login.answer(password(), STAY).is_err(), "twice");
    }

    #[test]
    fn tries_are_counted() {
        let play = Play::new();
        let mut login = play.login();
        login.sign("ssh-ed25519", false, &play.record(1)).unwrap();
        let wrong = || Request::Password { user: "root".into(), password: b"wrong".to_vec().into() };
        for _ in 0..MAX_REFUSALS {
            assert!(matches!(login.answer(wrong(), STAY), Ok(Reply::Refused {})));
        }
        assert!(login.answer(wrong(), STAY).is_err());
        let mut login = play.login();
        login.sign("ssh-ed25519", false, &play.record(1)).unwrap();
        let long = Request::Password { user: "root".into(), password: vec![b'x'; 513].into() };
        assert!(matches!(login.answer(long, STAY), Ok(Reply::Refused {})));
        assert!(login.answer(wrong(), &|_| false).is_err(), "a client that has left is not waited for");
    }
}
