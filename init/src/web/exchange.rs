//! One request and its answer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::dns::{self, Kind};
use super::http::{Answer, Reader};
use super::names;
use super::url::Url;
use crate::sys::files::read_capped;
use crate::sys::random;

/// Longest file that is read, in bytes: all authorities of the web are 0.3 MB.
const MAX_FILE: usize = 2 << 20;
/// What a name server may take.
const ASKING: Duration = Duration::from_secs(2);
/// How often all of them are asked.
const ROUNDS: usize = 2;
/// What one address may take to connect.
const CONNECTING: Duration = Duration::from_secs(10);
/// What a whole exchange may take.
const EXCHANGE: Duration = Duration::from_secs(60);

/// What must be read of the machine before its files are out of reach.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Surroundings {
    /// Name servers.
    servers: Vec<SocketAddr>,
    /// hosts(5).
    hosts: Vec<u8>,
    /// Authorities that the image has beside those of the web, PEM.
    pub(super) roots: Vec<u8>,
    /// Whether those are the only ones.
    pub(super) pinned: bool,
}

impl Surroundings {
    /// Reads them, with `root` in the place of `/`.
    #[must_use]
    pub fn observe(root: &Path) -> Self {
        let read = |path: &str| read_capped(&root.join(path), MAX_FILE).unwrap_or_default();
        Self {
            servers: names::settings(&read("etc/resolv.conf")).servers,
            hosts: read("etc/hosts"),
            roots: read("etc/ssl/certs/ca-certificates.crt"),
            pinned: false,
        }
    }

    /// The same where these authorities alone, PEM, are trusted.
    #[must_use]
    pub fn pinned(self, roots: &str) -> Self {
        Self { roots: roots.into(), pinned: true, ..self }
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST`.
    pub method: &'static str,
    /// Where to.
    pub url: &'a Url,
    /// Beside those that every request has.
    pub headers: &'a [(&'a str, &'a str)],
    /// What it carries.
    pub body: &'a [u8],
}

/// Bytes both ways, plain or not.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Makes a connection a secure one.
pub type Secure = fn(&Surroundings, &Url, Timed) -> Result<Box<dyn Stream>, String>;

/// For programs without TLS.
///
/// # Errors
/// Always.
pub fn none(_: &Surroundings, _: &Url, _: Timed) -> Result<Box<dyn Stream>, String> {
    Err("https:// is not spoken here".into())
}

/// Sends a request, and hears an answer whose body has at most `most` bytes.
///
/// # Errors
/// What is said to people: no such name, nobody there, no trust, no HTTP, too long, too late.
pub fn exchange(
    around: &Surroundings,
    request: Request<'_>,
    secure: Secure,
    most: usize,
) -> Result<Answer, String> {
    let Request { method, url, headers, body } = request;
    let until = Instant::now() + EXCHANGE;
    let connection = Timed { socket: connect(around, url, until)?, until };
    let mut stream: Box<dyn Stream> =
        if url.is_https() { secure(around, url, connection)? } else { Box::new(connection) };
    let mut head = zeroize::Zeroizing::new(format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: rescue\r\nConnection: close\r\nContent-Length: {}\r\n",
        url.path(),
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
pub struct Timed {
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
    let mut failed = format!("{}: has no address", url.host());
    for address in resolve(around, url.host())? {
        let left = until.saturating_duration_since(Instant::now()).min(CONNECTING);
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&SocketAddr::new(address, url.port()), left) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = format!("connecting to {address} port {}: {error}", url.port()),
        }
    }
    Err(failed)
}

/// The addresses of a host, in the order in which they are tried.
fn resolve(around: &Surroundings, host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let known = names::in_hosts(&around.hosts, host);
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
