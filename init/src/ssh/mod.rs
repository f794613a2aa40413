//! The SSH server, as processes: a small listener that parses nothing of what a client sends, and
//! one process a connection, which dies alone.
//!
//! ```text
//! rescue sshd            listen.rs      binds, accepts, limits, forks one monitor a connection
//!   │                    admission.rs   who is served next, and who is not
//!   └─ monitor           monitor/       root: signs, checks who it is, starts what was asked for
//!      │                 control.rs     between it and the listener: logged in, password checks
//!      │                 auth.rs        who gets in: the gate, keys and their options
//!      │                 session.rs     starts and signals the session's processes
//!      │                 subsystem/     file transfer, as programs of their own
//!      │                 presented.rs   keys and certificates that are presented; certificate.rs what the latter allow
//!      └─ sshd-connection  nobody, confined:
//!                        connection.rs  that process's life: what it gives up, orderly end
//!                        refusal.rs     why an old client was turned away
//!                        socket.rs      the client's bytes as russh reads them
//!                        protocol.rs    russh's handler: what the client says
//!                        channel.rs     one session of it: terminal, environment, process, exit
//!                        flow.rs        bytes between a channel and a process, with backpressure
//!                        forward/       other connections through this one: -L, -R, -D, -A, -J
//! ```
//!
//! The protocol side has no rights: what it wants, it asks its monitor for, in the messages of
//! [`monitor::messages`].
//! What is offered, and every limit: `policy.rs`. Host keys: [`host_keys`]. Lines of
//! `authorized_keys`: [`authorized_keys`].

mod admission;
pub mod auth;
pub mod authorized_keys;
pub mod certificate;
mod channel;
pub mod connection;
mod control;
mod flow;
pub mod forward;
pub mod host_keys;
pub mod listen;
pub mod monitor;
pub mod policy;
pub mod presented;
mod protocol;
mod refusal;
pub mod session;
mod short_scalar;
mod socket;
pub mod subsystem;
