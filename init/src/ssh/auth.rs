//! Who gets in, for the monitor: accounts, hashes and the throttle are behind [`Gate`], which the caller
//! of the server brings.

use std::net::IpAddr;
use std::time::Duration;

use rescue_schema::account::Account;

use super::authorized_keys::Options;

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
    /// What it may do.
    pub options: Options,
}
