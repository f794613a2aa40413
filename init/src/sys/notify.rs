//! What PID 1 is told: one short datagram a fact or order, on a socket that only root can write to.
//! Datagrams, because a peer that connects and then says nothing cannot hold PID 1 up.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;

use rescue_schema::paths;

/// How the machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// Boot again.
    Reboot,
    /// Off.
    PowerOff,
    /// Stopped, with power.
    Halt,
}

impl Down {
    /// The word for it, which is also the verb that asks for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "poweroff",
            Self::Halt => "halt",
        }
    }

    /// The way that a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Reboot, Self::PowerOff, Self::Halt].into_iter().find(|way| way.word() == word)
    }
}

/// A fact about a service, or an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `modules`: every device that was there at the start has its driver, or none exists for it.
    ModulesSettled {
        /// Modules that were loaded.
        loaded: u32,
        /// Modules that would not load.
        failed: u32,
    },
    /// `netd`: the machine is reachable at this address.
    Address(IpAddr),
    /// `netd`: it has no address any more.
    AddressLost,
    /// `sshd`: it accepts connections.
    Listening {
        /// TCP port.
        port: u16,
        /// Fingerprint of the first host key, `SHA256:…`.
        hostkey: String,
    },
    /// `sshd`, a console: somebody has logged in.
    LoggedIn,
    /// `sources`: what it has found lies at [`paths::SOURCES_FOUND`].
    Sources {
        /// Every place that can be looked at without a network has been.
        looked: bool,
    },
    /// An engineer: end everything in order and go down.
    GoDown(Down),
}

impl Notice {
    /// Sends it to PID 1. Quietly does nothing where no PID 1 of ours listens (a service that an
    /// engineer runs by hand).
    pub fn send(&self) {
        let _ = self.deliver();
    }

    /// Sends it to PID 1.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` where no PID 1 of ours listens, `PermissionDenied` for all
    /// but root, `WouldBlock` when its queue is full.
    pub fn deliver(&self) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(self.to_string().as_bytes(), paths::NOTIFY).map(drop)
    }

    /// Reads a datagram; `None` for anything that is not a notice.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(datagram).ok()?;
        let mut words = text.split(' ');
        let notice = match words.next()? {
            "modules-settled" => Self::ModulesSettled {
                loaded: words.next()?.parse().ok()?,
                failed: words.next()?.parse().ok()?,
            },
            "address" => Self::Address(words.next()?.parse().ok()?),
            "address-lost" => Self::AddressLost,
            "listening" => {
                Self::Listening { port: words.next()?.parse().ok()?, hostkey: words.next()?.to_string() }
            }
            "logged-in" => Self::LoggedIn,
            "sources" => match words.next()? {
                "looked" => Self::Sources { looked: true },
                "looking" => Self::Sources { looked: false },
                _ => return None,
            },
            "go-down" => Self::GoDown(Down::from_word(words.next()?)?),
            _ => return None,
        };
        words.next().is_none().then_some(notice)
    }
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ModulesSettled { loaded, failed } => write!(f, "modules-settled {loaded} {failed}"),
            Self::Address(address) => write!(f, "address {address}"),
            Self::AddressLost => f.write_str("address-lost"),
            Self::Listening { port, hostkey } => write!(f, "listening {port} {hostkey}"),
            Self::LoggedIn => f.write_str("logged-in"),
            Self::Sources { looked: true } => f.write_str("sources looked"),
            Self::Sources { looked: false } => f.write_str("sources looking"),
            Self::GoDown(way) => write!(f, "go-down {}", way.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_read_back() {
        for notice in [
            Notice::ModulesSettled { loaded: 3, failed: 0 },
            Notice::Address("2001:db8::1".parse().unwrap()),
            Notice::AddressLost,
            Notice::Listening { port: 22, hostkey: "SHA256:x".into() },
            Notice::LoggedIn,
            Notice::Sources { looked: true },
            Notice::Sources { looked: false },
            Notice::GoDown(Down::Halt),
        ] {
            assert_eq!(Notice::parse(notice.to_string().as_bytes()), Some(notice));
        }
        for junk in [
            "",
            "address",
            "address x",
            "listening 99999 x",
            "address 1.2.3.4 5",
            "go-down",
            "go-down x",
            "sources",
            "\u{fffd}",
        ] {
            assert_eq!(Notice::parse(junk.as_bytes()), None, "{junk}");
        }
    }
}
