//! Who may log in, from credentials to the databases that every tool reads, and back.
//!
//! [`plan`] turns a document into tables of passwd(5), group(5) and shadow(5) ([`passwd`], [`group`],
//! [`shadow`]: one file a database) and homes; [`Plan::apply`] writes them. [`Directory`] finds a login
//! in what was written, each time anew, so that `passwd root` within a rescue works; [`verify()`] checks
//! a password; [`Throttle`] slows down those who guess. SSH and console use all three alike.

mod directory;
mod group;
mod passwd;
mod plan;
mod shadow;
mod throttle;
mod verify;

pub use directory::Directory;
pub use plan::{Plan, plan};
pub use throttle::{Throttle, source_of};
pub use verify::{MAX_PASSWORD, verify};

/// What the parsers of this folder make of bytes, for those who feed them hostile ones.
#[doc(hidden)]
pub mod parsers {
    /// The name of the account that is found under `name`, and whether a password may open it.
    pub fn look_up(passwd: &[u8], shadow: &[u8], name: &str) -> Option<(String, bool)> {
        let row = super::passwd::find(passwd, name)?;
        let password = super::shadow::find(shadow, name);
        Some((row.name, matches!(password, super::shadow::Password::Hash(_))))
    }

    /// The throttle's table, read at `now` (milliseconds since the kernel started) and written again.
    pub fn reread_throttle(table: &[u8], now: u64) -> String {
        super::throttle::reread(table, now)
    }
}

/// Whether `text` may stand in a field of these databases: no separator, nothing that ends a line.
fn is_field(text: &str) -> bool {
    !text.bytes().any(|b| b == b':' || b == b'\n' || b == b'\r' || b == 0)
}
