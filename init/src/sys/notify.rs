//! What a service tells PID 1: one short datagram a fact, on a socket that only root can write to.

use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;

use rescue_schema::paths;

/// A fact about a service.
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
}

impl Notice {
    /// Sends it to PID 1. Quietly does nothing where no PID 1 of ours listens (a service that an
    /// engineer runs by hand).
    pub fn send(&self) {
        if let Ok(socket) = UnixDatagram::unbound() {
            let _ = socket.set_nonblocking(true);
            let _ = socket.send_to(self.to_string().as_bytes(), paths::NOTIFY);
        }
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
        ] {
            assert_eq!(Notice::parse(notice.to_string().as_bytes()), Some(notice));
        }
        for junk in ["", "address", "address x", "listening 99999 x", "address 1.2.3.4 5", "\u{fffd}"] {
            assert_eq!(Notice::parse(junk.as_bytes()), None, "{junk}");
        }
    }
}
