//! Who gets in. The protocol asks here and is told yes or no; accounts, hashes and the throttle are
//! behind [`Gate`], which the caller of the server brings.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rescue_schema::account::Account;
use russh::keys::{Algorithm, PublicKey};

use super::authorized_keys::{self, Options};
use super::control::Control;
use super::{host_keys, policy};
use crate::sys::log;

/// Longest password that is looked at, in bytes. crypt(3) stops at 512; a longer one is refused
/// without spending time on it.
const MAX_PASSWORD: usize = 512;
/// Longest login name in bytes (useradd(8): 32).
pub(super) const MAX_NAME: usize = 64;
/// What a refused password takes at the least, the check included: whether the account exists and how
/// strong its hash is cannot be told by a clock.
const REFUSAL: Duration = Duration::from_millis(500);

/// Accounts, password checks and the throttle, as the server needs them. Every call may block.
pub trait Gate: Send + Sync + 'static {
    /// The account that this password opens. Takes the same work for a user that does not exist.
    fn password(&self, user: &str, password: &[u8], source: IpAddr) -> Option<Account>;
    /// The account of this name, for its keys.
    fn account(&self, user: &str) -> Option<Account>;
    /// Keys of authorities whose certificates are accepted for every login, as lines (`type base64`).
    fn authorities(&self) -> Vec<String> {
        Vec::new()
    }
    /// How long this source must wait before its next password is looked at.
    fn delay(&self, source: IpAddr) -> Option<Duration>;
    /// A password from this source was wrong.
    fn failed(&self, source: IpAddr);
    /// Somebody logged in from this source.
    fn succeeded(&self, source: IpAddr);
}

/// A login.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whose.
    pub account: Account,
    /// By what: `password`, or `publickey` with the fingerprint. For the log.
    pub method: String,
    /// What it may do.
    pub options: Options,
}

/// The key's grant, if `user` may log in with it. Whoever calls this for a login, and not for an
/// offer, must have verified that the client holds the key.
pub fn key(
    gate: &dyn Gate,
    user: &str,
    key: &PublicKey,
    algorithm: &Algorithm,
    source: IpAddr,
) -> Option<Grant> {
    if user.len() > MAX_NAME || !policy::signs_well(key, algorithm) {
        return None;
    }
    let account = gate.account(user)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
    for line in &account.authorized_keys {
        match authorized_keys::parse(line) {
            Ok(Some(entry))
                if entry.authority.is_none()
                    && entry.key.key_data() == key.key_data()
                    && entry.options.admit(source, now) =>
            {
                let method = format!("publickey {}", host_keys::fingerprint(key));
                return Some(Grant { account, method, options: entry.options });
            }
            Ok(_) => {}
            Err(why) => {
                log::note("sshd", &format!("a line of authorized_keys of {user} is refused: it {why}"))
            }
        }
    }
    None
}

/// The password's grant. The check runs on a thread of its own, one at a time for a connection, when the
/// listener lets it.
pub(super) async fn password(
    gate: &Arc<dyn Gate>,
    control: &Arc<Control>,
    user: &str,
    password: &str,
    source: IpAddr,
) -> Option<Grant> {
    let start = tokio::time::Instant::now();
    if let Some(wait) = gate.delay(source) {
        tokio::time::sleep(wait).await;
    }
    let account = if password.is_empty() || password.len() > MAX_PASSWORD || user.len() > MAX_NAME {
        None
    } else {
        let (gate, control, user) = (Arc::clone(gate), Arc::clone(control), user.to_string());
        let password = zeroize::Zeroizing::new(password.as_bytes().to_vec());
        let check = move || control.in_turn(|| gate.password(&user, &password, source));
        tokio::task::spawn_blocking(check).await.ok().flatten()
    };
    match account {
        Some(account) => Some(Grant { account, method: "password".into(), options: Options::default() }),
        None => {
            gate.failed(source);
            tokio::time::sleep_until(start + REFUSAL).await;
            None
        }
    }
}
