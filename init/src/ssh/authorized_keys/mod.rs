//! Lines of `authorized_keys` (sshd(8), `AUTHORIZED_KEYS FILE FORMAT`).
//!
//! A line that asks for a restriction that the server does not know is refused whole: a key whose
//! owner wanted it restricted never becomes an unrestricted one.

mod patterns;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub(super) use patterns::from_networks;
use patterns::matches;
use russh::keys::PublicKey;

use crate::sys::time::moment;

/// Longest line in bytes; a 16384-bit RSA key with options is below it.
const MAX_LINE: usize = 8192;

/// A key that may log in, and under which conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: PublicKey,
    /// Its conditions.
    pub options: Options,
    /// For the key of an authority (`cert-authority`), whose certificates log in and not it itself: the
    /// names of which a certificate must have one (`principals=`), empty for the login's own.
    pub authority: Option<Vec<String>>,
}

/// Conditions of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Run instead of what the client asks for (`command=`).
    pub command: Option<String>,
    /// Whether a terminal may be had (`no-pty`, `restrict`).
    pub pty: bool,
    /// Whether connections may be forwarded (`no-port-forwarding`, `restrict`).
    pub port_forwarding: bool,
    /// Whether the agent may be forwarded (`no-agent-forwarding`, `restrict`).
    pub agent_forwarding: bool,
    /// Where connections may go to (`permitopen=`); empty means anywhere.
    pub permit_open: Vec<Permit>,
    /// Where the server may listen (`permitlisten=`); empty means anywhere.
    pub permit_listen: Vec<Permit>,
    /// Seconds since 1970 after which the key opens nothing (`expiry-time=`).
    pub expires: Option<i64>,
    /// Patterns of addresses it may come from (`from=`); empty means from anywhere.
    pub from: Vec<String>,
    /// Whether a security key must have been touched; not with `no-touch-required`.
    pub touch: bool,
    /// Whether a security key must have recognised who touched it (`verify-required`).
    pub verification: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            command: None,
            pty: true,
            port_forwarding: true,
            agent_forwarding: true,
            permit_open: Vec::new(),
            permit_listen: Vec::new(),
            expires: None,
            from: Vec::new(),
            touch: true,
            verification: false,
        }
    }
}

/// A place that a key may reach, or listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Host, as the client names it; none means any (`*`).
    host: Option<String>,
    /// Port; none means any (`*`).
    port: Option<u16>,
}

impl Permit {
    /// `host:port`, `[address]:port`, and a port alone where that `may_be_port`.
    fn parse(text: &str, may_be_port: bool) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None if may_be_port => ("*", text),
            None => return None,
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if host.is_empty() || (bare.is_none() && host.contains(':')) {
            return None;
        }
        let host = (host != "*").then(|| host.to_string());
        let port = match port {
            "*" => None,
            port => Some(port.parse().ok().filter(|port| *port != 0)?),
        };
        Some(Self { host, port })
    }

    fn admits(&self, host: &str, port: u32) -> bool {
        self.host.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(host))
            && self.port.is_none_or(|own| u32::from(own) == port)
    }
}

fn permits(list: &[Permit], host: &str, port: u32) -> bool {
    list.is_empty() || list.iter().any(|permit| permit.admits(host, port))
}

impl Options {
    /// Those that allow nothing but a command: what a certificate starts with.
    pub fn nothing() -> Self {
        Self { pty: false, port_forwarding: false, agent_forwarding: false, ..Self::default() }
    }

    /// What both allow: those of a line of `authorized_keys`, whose places and times hold, and those of a
    /// certificate of its authority. None where they force different commands.
    pub fn and(self, other: Self) -> Option<Self> {
        let command = match (self.command, other.command) {
            (Some(one), Some(other)) if one != other => return None,
            (one, other) => one.or(other),
        };
        Some(Self {
            command,
            pty: self.pty && other.pty,
            port_forwarding: self.port_forwarding && other.port_forwarding,
            agent_forwarding: self.agent_forwarding && other.agent_forwarding,
            touch: self.touch && other.touch,
            verification: self.verification || other.verification,
            permit_open: self.permit_open,
            permit_listen: self.permit_listen,
            expires: self.expires,
            from: self.from,
        })
    }

    /// Whether a connection to a port of a host may be forwarded.
    pub fn may_open(&self, host: &str, port: u32) -> bool {
        self.port_forwarding && permits(&self.permit_open, host, port)
    }

    /// Whether a connection to a Unix socket may be forwarded. No permit names one, so one permit is one
    /// restriction.
    pub fn may_open_unix(&self) -> bool {
        self.port_forwarding && self.permit_open.is_empty()
    }

    /// Whether the server may listen for the client at a port of one of its addresses.
    pub fn may_listen(&self, host: &str, port: u32) -> bool {
        self.port_forwarding && permits(&self.permit_listen, host, port)
    }

    /// Whether the server may listen for the client at a Unix socket.
    pub fn may_listen_unix(&self) -> bool {
        self.port_forwarding && self.permit_listen.is_empty()
    }

    /// Whether a client at `source` may use the key at `now` (seconds since 1970).
    pub fn admit(&self, source: IpAddr, now: i64) -> bool {
        self.expires.is_none_or(|end| now < end) && (self.from.is_empty() || matches(&self.from, source))
    }
}

/// Reads a line. `Ok(None)` for an empty line and a comment.
///
/// # Errors
/// What is wrong with the line, in words that quote nothing but the name of an option.
pub fn parse(line: &str) -> Result<Option<Entry>, String> {
    if line.len() > MAX_LINE {
        return Err(format!("longer than {MAX_LINE} bytes"));
    }
    let line = line.trim_matches([' ', '\t', '\r', '\n']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.chars().any(char::is_control) {
        return Err("has a control character".into());
    }
    if let Some(key) = key_of(line) {
        return Ok(Some(Entry { key, options: Options::default(), authority: None }));
    }
    let end = end_of_options(line).ok_or("neither a key nor options and a key")?;
    let (options, rest) = line.split_at_checked(end).ok_or("neither a key nor options and a key")?;
    let key = key_of(rest.trim_start_matches([' ', '\t'])).ok_or("no key that this server knows")?;
    let (options, authority) = parse_options(options)?;
    Ok(Some(Entry { key, options, authority }))
}

/// What is wrong with those of `lines` that open nothing, each with its number, from 1.
pub fn refused(lines: &[String]) -> Vec<(usize, String)> {
    lines.iter().zip(1..).filter_map(|(line, number)| Some((number, parse(line).err()?))).collect()
}

/// `type base64 [comment]`; the type within the key must be the one that is written.
pub(super) fn key_of(text: &str) -> Option<PublicKey> {
    let mut words = text.split([' ', '\t']).filter(|w| !w.is_empty());
    let (kind, data) = (words.next()?, words.next()?);
    PublicKey::from_openssh(&format!("{kind} {data}")).ok()
}

/// The first blank outside quotes.
fn end_of_options(line: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn parse_options(text: &str) -> Result<(Options, Option<Vec<String>>), String> {
    let mut options = Options::default();
    let (mut authority, mut principals) = (false, None);
    for word in split(text)? {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(unquote(value).ok_or("has a value without quotes")?)),
            None => (word, None),
        };
        match (name.to_ascii_lowercase().as_str(), value) {
            ("restrict", None) => {
                options.pty = false;
                options.port_forwarding = false;
                options.agent_forwarding = false;
            }
            ("pty", None) => options.pty = true,
            ("no-pty", None) => options.pty = false,
            ("no-port-forwarding", None) => options.port_forwarding = false,
            ("port-forwarding", None) => options.port_forwarding = true,
            ("no-agent-forwarding", None) => options.agent_forwarding = false,
            ("agent-forwarding", None) => options.agent_forwarding = true,
            // There is no ~/.ssh/rc here to run or not to run, and no X11.
            ("no-user-rc" | "user-rc" | "no-x11-forwarding" | "x11-forwarding", None) => {}
            ("permitopen", Some(value)) => options
                .permit_open
                .push(Permit::parse(&value, false).ok_or("has a permitopen that is no host and port")?),
            ("permitlisten", Some(value)) => options.permit_listen.push(
                Permit::parse(&value, true).ok_or("has a permitlisten that is no port, or host and port")?,
            ),
            ("command", Some(value)) if options.command.is_none() => options.command = Some(value),
            ("no-touch-required", None) => options.touch = false,
            ("touch-required", None) => options.touch = true,
            ("verify-required", None) => options.verification = true,
            // As OpenSSH does unless it is told otherwise: what a key's line sets could change which code
            // the login's programs run.
            ("environment", Some(_)) => {}
            ("cert-authority", None) => authority = true,
            ("principals", Some(value)) if principals.is_none() => {
                let names: Vec<String> = value.split(',').map(|p| p.trim().to_string()).collect();
                if names.iter().any(String::is_empty) {
                    return Err("has an empty name in principals=".into());
                }
                principals = Some(names);
            }
            ("expiry-time", Some(value)) => {
                let end = timestamp(&value).ok_or("has an expiry-time that is no date")?;
                options.expires = Some(options.expires.map_or(end, |other| other.min(end)));
            }
            ("from", Some(value)) if options.from.is_empty() => {
                options.from = value.split(',').map(|p| p.trim().to_string()).collect();
                if options.from.iter().any(String::is_empty) {
                    return Err("has an empty pattern in from=".into());
                }
            }
            (name, _) => {
                let name: String =
                    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(32).collect();
                return Err(format!("asks for {name:?}, which this server does not do"));
            }
        }
    }
    if principals.is_some() && !authority {
        return Err("has principals= without cert-authority".into());
    }
    Ok((options, authority.then(|| principals.unwrap_or_default())))
}

/// Splits at commas outside quotes.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut words, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                words.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(text.get(start..).unwrap_or_default());
    if quoted || words.iter().any(|w| w.is_empty()) {
        return Err("has options that do not end".into());
    }
    Ok(words)
}

/// `"…"` with `\"` for a quote; every other backslash stands for itself, as in OpenSSH.
fn unquote(value: &str) -> Option<String> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'"') => {
                text.push('"');
                chars.next();
            }
            '"' => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

/// `YYYYMMDD[HHMM[SS]][Z]`, in UTC: a rescue has no time zone of its own.
fn timestamp(text: &str) -> Option<i64> {
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let field = |range: std::ops::Range<usize>| digits.get(range).map_or(Some(0), |d| d.parse::<u64>().ok());
    let (hour, minute, second) = (field(8..10)?, field(10..12)?, field(12..14)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = (hour * 60 + minute) * 60 + second;
    i64::try_from(moment(field(0..4)?, field(4..6)?, field(6..8)?, seconds)?).ok()
}
