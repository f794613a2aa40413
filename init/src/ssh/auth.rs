//! Who gets in, for the monitor: accounts, hashes and the throttle are behind [`Gate`], which the caller
//! of the server brings.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rescue_schema::account::Account;
use russh::keys::{Algorithm, PublicKey};

use super::authorized_keys::{self, Options};
use super::policy;
use crate::sys::log;

/// Longest password that is looked at, in bytes. crypt(3) stops at 512; a longer one is refused
/// without spending time on it.
pub(super) const MAX_PASSWORD: usize = 512;
/// Longest login name in bytes (useradd(8): 32).
pub(super) const MAX_NAME: usize = 64;
/// Accounts, password checks and the throttle, as the server needs them. Every call may block.
pub trait Gate: Send + Sync + 'static {
    /// The account that this password opens. Takes the same work for a user that does not exist.
    fn password(&self, user: &str, password: &[u8], source: IpAddr) -> Option<Account>;
    /// The account of this name, for its keys.
    fn account(&self, user: &str) -> Option<Account>;
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
    if user.len() > MAX_NAME || !policy::accepts(algorithm) {
        return None;
    }
    let account = gate.account(user)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
    for line in &account.authorized_keys {
        match authorized_keys::parse(line) {
            Ok(Some(entry)) if entry.key.key_data() == key.key_data() && entry.options.admit(source, now) => {
                return Some(Grant { account, options: entry.options });
            }
            Ok(_) => {}
            Err(why) => {
                log::note("sshd", &format!("a line of authorized_keys of {user} is refused: it {why}"))
            }
        }
    }
    None
}
