//! The monitor of a connection: the one process of it that holds secrets and may start anything.
//!
//! ```text
//! rescue sshd (listener) ── fork ──► monitor (root, synchronous: this folder)
//!                                       ├─ exec ──► sshd-connection (nobody, confined): speaks SSH
//!                                       └─ exec ──► shells, commands, subsystems
//! ```
//!
//! It is a fork of the listener, so host keys and accounts are there without being read or sent once
//! more, in memory that the processes share until one writes to it: a connection costs one program
//! start, as it did without a monitor, and some pages. One for each connection and not the listener
//! itself: it may then wait (for a password's hash, for a penalty to pass) without anybody else
//! waiting, a shell outlives the listener, and what a monitor does wrong ends one connection.
//!
//! It trusts nothing that the connection's process says ([`messages`]): who is there follows from a
//! signature over the hash of the key exchange that the monitor signed itself ([`exchange`]), or from
//! a password that it checked itself ([`login`]). A message that is malformed or comes out of order ends
//! the connection with a line in the log; nobody honest sends one.

mod client;
mod exchange;
mod forwarding;
mod life;
mod login;
pub mod messages;
mod ration;
mod record;
#[doc(hidden)]
pub mod rehearsal;
mod start;

pub(super) use client::Client;
pub use life::Server;
pub(super) use life::run;
