//! One request over HTTPS: names by our own resolver, TLS by rustls, bounded in time and size. For processes
//! that have given up everything but the network.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::{Deserialize, Serialize};

use crate::creds::metadata::http::{Answer, Reader};
use crate::ssh::forward::dns::{self, Kind};
use crate::sys::random;

/// What a name server may take.
const ASKING: Duration = Duration::from_secs(2);
/// How often all of them are asked.
const ROUNDS: usize = 2;
/// What one address may take to connect.
const CONNECTING: Duration = Duration::from_secs(10);
/// What a whole exchange may take.
const EXCHANGE: Duration = Duration::from_secs(60);

/// An `https://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("https://").ok_or("not an https:// address")?;
        if !rest.bytes().all(|b| b.is_ascii_graphic()) || rest.contains(['#', '\\']) {
            return Err("an address with characters that are none of one");
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("an address with a user in it; use a token");
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
            None if port.is_empty() => 443,
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or("an address with a wrong port")?
            }
            _ => return Err("an address with a wrong port"),
        };
        if ServerName::try_from(host).is_err() {
            return Err("an address with a wrong host");
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { host: host.into(), port, path: format!("{slash}{path}") })
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

/// What must be read of the machine before its files are out of reach.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Surroundings {
    /// Name servers.
    pub(super) servers: Vec<SocketAddr>,
    /// hosts(5).
    pub(super) hosts: Vec<u8>,
    /// Authorities that the image has beside those of the web, PEM.
    pub(super) roots: Vec<u8>,
}

/// Sends `method` with these headers and this body; the answer has at most `most` bytes.
pub(super) fn exchange(
    around: &Surroundings,
    (method, url): (&str, &Url),
    headers: &[(&str, &str)],
    body: &[u8],
    most: usize,
) -> Result<Answer, String> {
    let until = Instant::now() + EXCHANGE;
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&around.roots).flatten());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(url.host.clone()).map_err(|error| error.to_string())?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let socket = connect(around, url, until)?;
    let mut stream = StreamOwned::new(session, Timed { socket, until });
    let mut head = zeroize::Zeroizing::new(format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
        url.path,
        url.authority(),
        body.len()
    ));
    for (name, value) in headers {
        if value.bytes().any(|b| b.is_ascii_control()) {
            return Err(format!("{name}: has a control character"));
        }
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    sent.and_then(|()| stream.flush()).map_err(|error| format!("sending: {error}"))?;
    let mut reader = Reader::new(most);
    let mut buffer = zeroize::Zeroizing::new([0_u8; 16 << 10]);
    loop {
        match stream.read(buffer.as_mut_slice()) {
            Ok(0) => return reader.end(),
            Ok(length) => {
                if let Some(answer) = reader.add(buffer.get(..length).unwrap_or_default())? {
                    return Ok(answer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("hearing the answer: {error}")),
        }
    }
}

/// A connection with an end: each wait is cut to what is left of the whole.
struct Timed {
    socket: TcpStream,
    until: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long")),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect(around: &Surroundings, url: &Url, until: Instant) -> Result<TcpStream, String> {
    let mut failed = format!("{}: has no address", url.host);
    for address in resolve(around, &url.host)? {
        let left = until.saturating_duration_since(Instant::now()).min(CONNECTING);
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&SocketAddr::new(address, url.port), left) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = format!("connecting to {address} port {}: {error}", url.port),
        }
    }
    Err(failed)
}

/// The addresses of a host, in the order in which they are tried.
fn resolve(around: &Surroundings, host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let known = crate::ssh::forward::resolve::in_hosts(&around.hosts, host);
    if !known.is_empty() {
        return Ok(known);
    }
    let mut failed = format!("{host}: /etc/resolv.conf names no server");
    for _ in 0..ROUNDS {
        for server in &around.servers {
            let mut found = Vec::new();
            let mut answered = true;
            for kind in [Kind::Aaaa, Kind::A] {
                match ask(*server, host, kind) {
                    Ok(dns::Answer::Addresses(more)) => found.extend(more),
                    Ok(dns::Answer::NoName) => {}
                    Ok(dns::Answer::Failed) => answered = false,
                    Err(error) => {
                        answered = false;
                        failed = format!("{host}: asking {server}: {error}");
                    }
                }
            }
            match (found.is_empty(), answered) {
                (false, _) => return Ok(found),
                (true, true) => return Err(format!("{host}: there is no such name")),
                _ => {}
            }
        }
    }
    Err(failed)
}

fn ask(server: SocketAddr, host: &str, kind: Kind) -> io::Result<dns::Answer> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let mut id = [0; 2];
    random::fill(&mut id)?;
    let question = dns::question(u16::from_be_bytes(id), host, kind)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no host name"))?;
    socket.send(&question)?;
    let until = Instant::now() + ASKING;
    let mut buffer = [0; dns::MAX_ANSWER];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if let Some(answer) = dns::answer(buffer.get(..length).unwrap_or_default(), &question, kind) {
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_garbage_is_refused() {
        for (text, host, port, path) in [
            ("https://portal.example", "portal.example", 443, "/"),
            ("https://portal.example:8443/a/b?c=d", "portal.example", 8443, "/a/b?c=d"),
            ("https://192.0.2.1?x", "192.0.2.1", 443, "/?x"),
            ("https://[2001:db8::1]:1/", "2001:db8::1", 1, "/"),
        ] {
            let url = Url { host: host.into(), port, path: path.into() };
            assert_eq!(Url::parse(text), Ok(url), "{text}");
        }
        for text in [
            "",
            "http://portal.example/",
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
