//! What a client may start by name instead of by command line (RFC 4254 section 6.5), and the servers of
//! file transfer: programs of their own that speak on standard input and output, with the rights of the
//! login and nothing of the connection.
//!
//! To add a subsystem: its row in [`SUBSYSTEMS`], naming the role of this binary that serves it.

pub mod scp;
pub mod sftp;

/// A subsystem.
#[derive(Debug, PartialEq, Eq)]
pub struct Subsystem {
    /// What the client asks for.
    pub name: &'static str,
    /// The role of this binary that is started.
    pub role: &'static str,
}

/// Every subsystem.
pub const SUBSYSTEMS: &[Subsystem] = &[Subsystem { name: "sftp", role: "sftp-server" }];

/// The subsystem of this name.
pub fn find(name: &str) -> Option<&'static Subsystem> {
    SUBSYSTEMS.iter().find(|subsystem| subsystem.name == name)
}
