//! A login as the rescued machine keeps it, once credentials have become accounts.

use std::path::PathBuf;

use crate::Secret;

/// Somebody who may log in. `root` and `admin` are the two names that exist (design: the
/// contract); both have uid 0, each with its own home, keys and audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// User id; 0 for both accounts of a rescue.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory, absolute.
    pub home: PathBuf,
    /// Login shell, absolute.
    pub shell: PathBuf,
    /// The crypt(5) hash, or none when no password opens this account.
    pub password_hash: Option<Secret>,
    /// Lines of `authorized_keys` (sshd(8)), each with its options.
    pub authorized_keys: Vec<String>,
}
