//! `rescue sshd` as an ordinary program on loopback, against real clients. A client that is not installed
//! fails its test, and says what installs it.

mod clients;
mod forward;
mod libraries;
mod life;
mod login;
mod security_keys;
mod server;
mod sessions;
mod transfer;
