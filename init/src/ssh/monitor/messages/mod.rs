//! What a connection's process may ask of its monitor, and what it is told.
//!
//! One message is one packet of a `SOCK_SEQPACKET` pair (unix(7)), so none is ever half there: a tag
//! byte, then the fields in their order. Numbers are big endian, texts and bytes have their length
//! before them in 4 bytes. A packet over [`MAX_MESSAGE`], an unknown tag, a field that ends early and
//! a byte too many are all malformed, and the monitor ends a connection that sends such a thing.
//!
//! To add a request: its variant here, and its arm in `Monitor::answer`.

mod field;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use zeroize::Zeroizing;

use field::put_list;
pub(crate) use field::{Field, List, Rest};

use crate::ssh::forward::Open;
use crate::ssh::session::Terminal;
use crate::sys::pty;

/// Longest message in bytes. The longest that is needed is a command: the kernel takes 128 KiB for one
/// argument (execve(2), `MAX_ARG_STRLEN`).
pub(crate) const MAX_MESSAGE: usize = 160 << 10;

impl Field for pty::Size {
    fn put(&self, to: &mut Vec<u8>) {
        [self.columns, self.rows, self.width, self.height].iter().for_each(|n| n.put(to));
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        let mut next = || u32::take(from);
        Some(Self { columns: next()?, rows: next()?, width: next()?, height: next()? })
    }
}

/// Makes an enum of messages: variants with their tags and fields, and their code.
macro_rules! messages {
    ($(#[$about:meta])* $name:ident { $(
        $(#[$says:meta])* $tag:literal $variant:ident { $($field:ident: $kind:ty),* $(,)? }
    )* }) => {
        $(#[$about])*
        #[allow(missing_docs)]
        pub(crate) enum $name { $( $(#[$says])* $variant { $($field: $kind),* } ),* }

        impl $name {
            /// Its name, for the log: a message may hold secrets, so there is no `Debug`.
            pub(crate) fn name(&self) -> &'static str {
                match self { $( Self::$variant { .. } => stringify!($variant) ),* }
            }

            /// As it goes over the socket.
            pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
                // Room for a password at once: growing would leave a copy of it behind.
                let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
                match self { $( Self::$variant { $($field),* } => {
                    bytes.push($tag);
                    $( $field.put(&mut bytes); )*
                } )* }
                bytes
            }

            /// Reads it; none when it is malformed.
            pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
                if bytes.len() > MAX_MESSAGE {
                    return None;
                }
                let mut rest = Rest::new(bytes);
                let message = match u8::take(&mut rest)? {
                    $( $tag => Self::$variant { $($field: Field::take(&mut rest)?),* }, )*
                    _ => return None,
                };
                rest.is_empty().then_some(message)
            }
        }
    };
}

messages! {
/// From the connection's process to the monitor. What is answered is answered in order, one at a time.
Request {
    /// Sign an exchange: before anybody has logged in once, which makes its hash the session id.
    /// Answered by `Signature`.
    1 Sign {
        // The host key's algorithm, such as `rsa-sha2-512`.
        algorithm: String,
        // Whether the exchange is hashed with SHA-512, and not with SHA-256.
        sha512: bool,
        // What the exchange hash is a hash of (RFC 4253 section 8): the monitor hashes it itself.
        exchange: Vec<u8>,
    }
    /// Might this key log in? Answered by `Accepted` or `Refused`.
    2 Offer { user: String, algorithm: String, key: Vec<u8> }
    /// Log in by this signature (RFC 4252 section 7) over the session id. Answered by `Admitted` or
    /// `Refused`.
    3 PublicKey { user: String, algorithm: String, key: Vec<u8>, signature: Vec<u8> }
    /// Log in by password. Answered by `Admitted` or `Refused`.
    4 Password { user: String, password: Zeroizing<Vec<u8>> }
    /// Start a session's process. Answered by `Started` or `Failed`.
    5 Start {
        what: What,
        terminal: Option<Terminal>,
        // Whether its programs may ask the client's agent.
        agent: bool,
        environment: List<(String, String)>,
    }
    /// Signal the process group of a session. Not answered.
    6 Signal { session: u32, name: String }
    /// The client has closed a session: its processes are told so. Not answered.
    7 HangUp { session: u32 }
    /// Why the connection ends, for the log. Not answered.
    8 Farewell { why: String }
    /// What is known of a host that the client wants to reach. Answered by `Found` or `NotOpened`.
    9 Find { host: String, port: u32 }
    /// Open a socket. Answered by `Opened` or `NotOpened`.
    10 Open { what: Open }
    /// A socket listens no more, by its address or its path; a file that was made for it is removed. Not
    /// answered.
    11 Remove { name: String }
    /// Somebody has come to a socket that listens, the agent's where it has no name, and is to be led to the
    /// client: for the log. Answered by `Accepted`, or by `Refused` where it listens no more.
    12 Came {
        to: Option<String>,
        // Where from, if that has an address.
        from: Option<SocketAddr>,
    }
} }

messages! {
/// From the monitor to the connection's process.
Reply {
    /// The first, before anything is asked: the public host keys, their certificates, and the older algorithms to offer.
    1 Welcome { keys: List<Vec<u8>>, certificates: List<Vec<u8>>, algorithms: List<String> }
    /// A host key's signature: `string algorithm, string signature`.
    2 Signature { signature: Vec<u8> }
    /// Yes.
    3 Accepted {}
    /// No.
    4 Refused {}
    /// Somebody is in.
    5 Admitted { pty: bool }
    /// A process runs. Descriptors: the terminal, or its input, output and errors; then what is
    /// written when it has ended; then, with a greeting, that one's output and its end.
    6 Started { session: u32, greeting: bool }
    /// It cannot be done; the log says why.
    7 Failed {}
    /// A host's addresses by hosts(5); where there are none, the name servers to ask and the domains in
    /// which to look (resolv.conf(5)).
    8 Found { addresses: List<String>, servers: List<String>, search: List<String> }
    /// A socket, which comes with it; where it listens, its port.
    9 Opened { port: u16 }
    /// No socket; the error of the kernel (errno(3)), `EPERM` where the login may not.
    10 NotOpened { error: u32 }
} }

impl Field for SocketAddr {
    fn put(&self, to: &mut Vec<u8>) {
        self.to_string().put(to);
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        let text = String::take(from)?;
        // Written in one way alone.
        text.parse().ok().filter(|address: &Self| address.to_string() == text)
    }
}

impl Field for Open {
    fn put(&self, to: &mut Vec<u8>) {
        match self {
            Self::Connect { host, address } => {
                0u8.put(to);
                host.put(to);
                address.put(to);
            }
            Self::ConnectUnix(path) => {
                1u8.put(to);
                path.put(to);
            }
            Self::Ask(server) => {
                2u8.put(to);
                server.put(to);
            }
            Self::Listen { host, address } => {
                3u8.put(to);
                host.put(to);
                address.put(to);
            }
            Self::ListenUnix(path) => {
                4u8.put(to);
                path.put(to);
            }
            Self::Agent => 5u8.put(to),
        }
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(Self::Connect { host: Field::take(from)?, address: Field::take(from)? }),
            1 => Some(Self::ConnectUnix(Field::take(from)?)),
            2 => Some(Self::Ask(Field::take(from)?)),
            3 => Some(Self::Listen { host: Field::take(from)?, address: Field::take(from)? }),
            4 => Some(Self::ListenUnix(Field::take(from)?)),
            5 => Some(Self::Agent),
            _ => None,
        }
    }
}

/// What a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The login's shell.
    Shell,
    /// A command for that shell.
    Command(Vec<u8>),
    /// A subsystem, by its name.
    Subsystem(String),
}

impl Field for What {
    fn put(&self, to: &mut Vec<u8>) {
        match self {
            Self::Shell => 0u8.put(to),
            Self::Command(line) => {
                1u8.put(to);
                line.put(to);
            }
            Self::Subsystem(name) => {
                2u8.put(to);
                name.put(to);
            }
        }
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(Self::Shell),
            1 => Some(Self::Command(Vec::take(from)?)),
            2 => Some(Self::Subsystem(String::take(from)?)),
            _ => None,
        }
    }
}

impl Field for Terminal {
    fn put(&self, to: &mut Vec<u8>) {
        self.name.put(to);
        self.size.put(to);
        put_list(&self.modes, to);
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        Some(Self { name: Field::take(from)?, size: Field::take(from)?, modes: List::take(from)?.0 })
    }
}

/// How a session's first process ended, as it is written to the descriptor that came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this status.
    Exit(u32),
    /// By this signal, and whether it left a core.
    Signal(u32, bool),
}

impl Field for Ended {
    fn put(&self, to: &mut Vec<u8>) {
        let (tag, number, core) = match self {
            Self::Exit(status) => (0u8, *status, false),
            Self::Signal(number, core) => (1u8, *number, *core),
        };
        tag.put(to);
        number.put(to);
        core.put(to);
    }
    fn take(from: &mut Rest<'_>) -> Option<Self> {
        let (tag, number, core) = (u8::take(from)?, u32::take(from)?, bool::take(from)?);
        match tag {
            0 => Some(Self::Exit(number)),
            1 => Some(Self::Signal(number, core)),
            _ => None,
        }
    }
}

impl Ended {
    /// Reads it whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest::new(bytes);
        let ended = Self::take(&mut rest)?;
        rest.is_empty().then_some(ended)
    }
}

/// Reads any bytes as each kind of message; what is accepted is written as it was read.
#[doc(hidden)]
pub fn reread(bytes: &[u8]) {
    if let Some(request) = Request::decode(bytes) {
        assert!(request.encode().as_slice() == bytes, "{} is not written as it was read", request.name());
    }
    if let Some(reply) = Reply::decode(bytes) {
        assert!(reply.encode().as_slice() == bytes, "{} is not written as it was read", reply.name());
    }
    let _ = Ended::decode(bytes);
}
