//! Addresses of pages (RFC 3986), as far as an engineer or a platform writes them.

/// An `http://` or `https://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    https: bool,
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// What is none, has a fragment, or a user: a password has no place where everybody reads it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("neither an http:// nor an https:// address"),
        };
        if !rest.bytes().all(|b| b.is_ascii_graphic()) || rest.contains(['#', '\\']) {
            return Err("an address with characters that are none of one");
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("an address with a user in it");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(six) => {
                let (host, port) = six.split_once(']').ok_or("an address without the end of its host")?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| "an address with a wrong host")?;
                (host, port)
            }
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or("an address with a wrong port")?
            }
            _ => return Err("an address with a wrong port"),
        };
        if !is_host(host) {
            return Err("an address with a wrong host");
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { https, host: host.into(), port, path: format!("{slash}{path}") })
    }

    /// Whether it is to be asked by TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Whom to ask: a name, or an address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of TCP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path and what follows it, as it goes into a request.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of `Host:` (RFC 9110, section 7.2).
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// Whether it is an address, or a host name (RFC 1123, section 2.1).
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    text.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_garbage_is_refused() {
        for (text, host, port, path) in [
            ("http://portal.example", "portal.example", 80, "/"),
            ("http://192.0.2.1:8080/d", "192.0.2.1", 8080, "/d"),
            ("https://portal.example", "portal.example", 443, "/"),
            ("https://portal.example:8443/a/b?c=d", "portal.example", 8443, "/a/b?c=d"),
            ("https://192.0.2.1?x", "192.0.2.1", 443, "/?x"),
            ("https://[2001:db8::1]:1/", "2001:db8::1", 1, "/"),
        ] {
            let url = Url { https: text.starts_with("https"), host: host.into(), port, path: path.into() };
            assert_eq!(Url::parse(text), Ok(url), "{text}");
        }
        for text in [
            "",
            "ftp://portal.example/",
            "HTTPS",
            "https://",
            "https:///x",
            "https://a b/",
            "https://a/\r\nX: y",
            "https://u:p@host/",
            "https://host:0/",
            "https://host:99999/",
            "https://host:+1/",
            "https://host:/",
            "https://[::1/",
            "https://[::1]x/",
            "https://[portal]/",
            "https://é/",
            "https://a/#b",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
