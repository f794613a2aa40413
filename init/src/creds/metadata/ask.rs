//! Carries the questions of all conversations to the services and back, all at once in one thread: a service
//! that hangs costs its own deadline and nobody else's.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::Dialect;
use super::hints::{Routes, Url};
use super::talk::{Request, Seen, Stop};
use crate::creds::part::Part;
use crate::sys::dial;
use crate::web::http::{Answer, Reader};

/// Most questions of one conversation.
const MAX_QUESTIONS: usize = 64;
/// Most redirections of one question.
const MAX_REDIRECTIONS: u8 = 3;
/// Most services that are asked.
const MAX_ASKED: usize = 64;
/// Waits between attempts: doubled each time, up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(8);

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One question, from the connection to the last byte of the answer.
    pub answer: Duration,
    /// All of it, from the moment at which there was first somebody to ask.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer: Duration::from_secs(5), patience: Duration::from_secs(60) }
    }
}

/// A card that may be asked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's name of it.
    pub name: String,
    /// The kernel's number of it.
    pub index: u32,
    /// Whether it has an IPv4 address, and an IPv6 address beyond the link.
    pub v4: bool,
    /// The same of IPv6.
    pub v6: bool,
}

/// One service at one address.
#[derive(Debug, Clone)]
pub struct Ask {
    dialect: &'static Dialect,
    /// Its place among all: of several answers the least decides.
    rank: (usize, usize),
    address: SocketAddr,
    /// The card that it must go through, where routes do not tell.
    link: Option<String>,
    base: String,
}

impl PartialEq for Ask {
    fn eq(&self, other: &Self) -> bool {
        (self.dialect.name, self.address, &self.link) == (other.dialect.name, other.address, &other.link)
    }
}

impl Ask {
    fn shown(&self) -> String {
        match (self.address.port(), &self.link) {
            (80, None) => format!("{} at {}", self.dialect.title, self.address.ip()),
            (80, Some(link)) => format!("{} at {} on {link}", self.dialect.title, self.address.ip()),
            _ => format!("{} at {}", self.dialect.title, self.address),
        }
    }

    fn authority(&self) -> String {
        match (self.dialect.host, self.address) {
            (Some(host), _) => host.into(),
            (None, SocketAddr::V4(to)) if to.port() == 80 => to.ip().to_string(),
            (None, SocketAddr::V6(to)) if to.port() == 80 => format!("[{}]", to.ip()),
            (None, SocketAddr::V6(to)) => format!("[{}]:{}", to.ip(), to.port()),
            (None, to) => to.to_string(),
        }
    }
}

/// Whom to ask, as far as the network is there: each dialect at each of its addresses (or at the one that
/// was named), by the routes, or through each card where they lead nowhere.
#[must_use]
pub fn places(dialects: &[&'static Dialect], at: Option<&Url>, links: &[Link], routes: &Routes) -> Vec<Ask> {
    let mut asks = Vec::new();
    for (first, dialect) in dialects.iter().enumerate() {
        let mut add = |address: SocketAddr, link: Option<String>, base: &str| {
            let rank = (first, asks.len());
            asks.push(Ask { dialect, rank, address, link, base: base.into() });
        };
        if let Some(url) = at {
            let there = links.iter().any(|link| if url.address.is_ipv4() { link.v4 } else { link.v6 });
            if there || url.address.ip().is_loopback() {
                add(url.address, None, &url.base);
            }
            continue;
        }
        for ip in dialect.addresses {
            match ip {
                IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                    for link in links {
                        let to = SocketAddrV6::new(*ip, 80, 0, link.index);
                        add(SocketAddr::V6(to), Some(link.name.clone()), "");
                    }
                }
                IpAddr::V6(_) if links.iter().any(|link| link.v6) => add(SocketAddr::new(*ip, 80), None, ""),
                IpAddr::V6(_) => {}
                IpAddr::V4(_) if routes.lead_to(*ip) => add(SocketAddr::new(*ip, 80), None, ""),
                IpAddr::V4(_) => {
                    for link in links.iter().filter(|link| link.v4) {
                        add(SocketAddr::new(*ip, 80), Some(link.name.clone()), "");
                    }
                }
            }
        }
    }
    asks.truncate(MAX_ASKED);
    asks
}

/// What came of asking one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It said this.
    Found(Box<Part>),
    /// There is none of this kind, or none that answers.
    Absent(String),
    /// It says what is not taken.
    Refused(String),
}

/// One that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What it is called in `rescue.metadata=`.
    pub name: &'static str,
    /// It and its address, for people.
    pub place: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What the network comes to while services are asked.
pub trait Network {
    /// Whom to ask by now.
    fn places(&mut self) -> Vec<Ask>;

    /// Readable when that may have changed.
    fn changes(&self) -> Option<BorrowedFd<'_>>;
}

/// Asks until the first of them, in the order of [`places`], has answered, or nobody is left who could, or
/// patience has ended. In that order.
pub fn run(network: &mut dyn Network, limits: Limits) -> Vec<Answered> {
    let mut talks: Vec<Talk> = Vec::new();
    let mut until = None;
    loop {
        let known = talks.len();
        for ask in network.places() {
            if talks.len() < MAX_ASKED && !talks.iter().any(|talk| talk.ask == ask) {
                talks.push(Talk::new(ask));
            }
        }
        if talks.len() > known {
            talks.sort_by_key(|talk| talk.ask.rank);
            until = Some(Instant::now() + limits.patience);
        }
        let Some(until) = until else { return Vec::new() };
        loop {
            let now = Instant::now();
            talks.iter_mut().for_each(|talk| talk.tick(now, limits));
            if now >= until || decided(&talks) {
                return talks.into_iter().map(Talk::answered).collect();
            }
            let next = talks.iter().filter_map(Talk::next).min().map_or(until, |next| next.min(until));
            let mut fds: Vec<PollFd<'_>> = Vec::new();
            let mut whose: Vec<usize> = Vec::new();
            for (at, talk) in talks.iter().enumerate() {
                if let Some(stream) = &talk.stream {
                    let sending = talk.sent < talk.out.len();
                    fds.push(PollFd::new(stream, if sending { PollFlags::OUT } else { PollFlags::IN }));
                    whose.push(at);
                }
            }
            let changes = network.changes();
            if let Some(changes) = &changes {
                fds.push(PollFd::new(changes, PollFlags::IN));
            }
            let left = next.saturating_duration_since(now);
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            if !matches!(poll(&mut fds, Some(&timeout)), Ok(_) | Err(rustix::io::Errno::INTR)) {
                return talks.into_iter().map(Talk::answered).collect();
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            for (at, _) in whose.iter().zip(&ready).filter(|(_, ready)| **ready) {
                if let Some(talk) = talks.get_mut(*at) {
                    talk.go_on();
                }
            }
            if changes.is_some() && ready.last() == Some(&true) {
                break;
            }
        }
    }
}

/// Whether it is known who decides: the first that has come to an end, before which nobody may still do so
/// in the first attempt.
fn decided(talks: &[Talk]) -> bool {
    for talk in talks {
        match &talk.over {
            Some(Outcome::Found(_) | Outcome::Refused(_)) => return true,
            Some(Outcome::Absent(_)) => {}
            None if talk.attempts == 0 => return false,
            None => {}
        }
    }
    talks.iter().all(|talk| talk.over.is_some())
}

/// One conversation.
struct Talk {
    ask: Ask,
    seen: Seen,
    /// What is being asked, and where it was redirected to.
    request: Option<Request>,
    path: Option<String>,
    redirections: u8,
    stream: Option<TcpStream>,
    out: Zeroizing<Vec<u8>>,
    sent: usize,
    reader: Reader,
    /// When the question has taken too long, or the next attempt begins.
    due: Option<Instant>,
    attempts: u32,
    /// Why the last attempt has failed.
    why: String,
    /// It answered, though not to the matter.
    answers: bool,
    over: Option<Outcome>,
}

impl Talk {
    fn new(ask: Ask) -> Self {
        Self {
            ask,
            seen: Seen::default(),
            request: None,
            path: None,
            redirections: 0,
            stream: None,
            out: Zeroizing::default(),
            sent: 0,
            reader: Reader::new(0),
            due: None,
            attempts: 0,
            why: "no answer".into(),
            answers: false,
            over: None,
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.filter(|_| self.over.is_none())
    }

    /// Does what is due.
    fn tick(&mut self, now: Instant, limits: Limits) {
        if self.over.is_some() || self.due.is_some_and(|due| now < due) {
            return;
        }
        if self.stream.is_some() {
            self.failed(format!("no answer within {} s", limits.answer.as_secs()));
            return;
        }
        match (self.ask.dialect.step)(&self.seen) {
            Ok(part) => self.over = Some(Outcome::Found(Box::new(part))),
            Err(Stop::Absent(why)) => self.over = Some(Outcome::Absent(why)),
            Err(Stop::Refused(why)) => self.over = Some(Outcome::Refused(why)),
            Err(Stop::Ask(_)) if self.seen.count() >= MAX_QUESTIONS => {
                self.over = Some(Outcome::Refused("it never comes to an end".into()));
            }
            Err(Stop::Ask(request)) => {
                self.put(&request);
                self.reader = Reader::new(request.most);
                self.request = Some(request);
                match dial::begin(self.ask.address, self.ask.link.as_deref()) {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        self.due = Some(now + limits.answer);
                    }
                    Err(error) => self.failed(error.to_string()),
                }
            }
        }
    }

    /// Writes a question.
    fn put(&mut self, request: &Request) {
        let path = self.path.clone().unwrap_or_else(|| format!("{}{}", self.ask.base, request.path));
        let mut text = format!(
            "{} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: rescue\r\nAccept: */*\r\nConnection: close\r\n",
            request.method,
            self.ask.authority()
        );
        if request.method == "PUT" {
            text.push_str("Content-Length: 0\r\n");
        }
        for (name, value) in &request.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.out = Zeroizing::new(text.into_bytes());
        self.sent = 0;
    }

    /// The attempt is over, and another will be made.
    fn failed(&mut self, why: String) {
        self.stream = None;
        self.seen = Seen::default();
        (self.path, self.redirections) = (None, 0);
        let wait = FIRST_WAIT.saturating_mul(1 << self.attempts.min(10)).min(LAST_WAIT);
        self.due = Some(Instant::now() + wait);
        self.attempts = self.attempts.saturating_add(1);
        self.why = why;
    }

    /// The socket has something to say.
    fn go_on(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        match self.carry(&mut stream) {
            Ok(None) => self.stream = Some(stream),
            Ok(Some(Ok(answer))) => self.hear(answer),
            Ok(Some(Err(why))) => self.over = Some(Outcome::Refused(why)),
            Err(error) => self.failed(error.to_string()),
        }
    }

    /// Sends and receives what can be; the answer once it is whole, or why it is none.
    fn carry(&mut self, stream: &mut TcpStream) -> io::Result<Option<Result<Answer, String>>> {
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => self.sent = self.sent.saturating_add(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let mut buffer = Zeroizing::new([0_u8; 16 << 10]);
        match stream.read(buffer.as_mut_slice()) {
            Ok(0) => Ok(Some(std::mem::replace(&mut self.reader, Reader::new(0)).end())),
            Ok(length) => Ok(self.reader.add(buffer.get(..length).unwrap_or_default()).transpose()),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn hear(&mut self, answer: Answer) {
        let Some(request) = self.request.take() else { return };
        self.due = None;
        self.answers = true;
        match answer.status {
            301 | 302 | 303 | 307 | 308 => match self.elsewhere(&answer) {
                Some(path) if self.redirections < MAX_REDIRECTIONS => {
                    self.redirections += 1;
                    self.path = Some(path);
                }
                _ => {
                    let why = format!("{}: redirected elsewhere, which is not followed", request.path);
                    self.over = Some(Outcome::Refused(why));
                }
            },
            // It is not ready, or is asked too often.
            status @ (429 | 500..=599) => self.failed(format!("{}: HTTP {status}", request.path)),
            _ => {
                (self.path, self.redirections) = (None, 0);
                self.seen.add(&request, answer);
            }
        }
    }

    /// Where a redirection leads, if it stays with the same host.
    fn elsewhere(&self, answer: &Answer) -> Option<String> {
        let to = answer.header("Location")?;
        let same = format!("http://{}/", self.ask.authority());
        let path = match to.strip_prefix(&same) {
            Some(path) => format!("/{path}"),
            None if to.starts_with('/') && !to.starts_with("//") => to.into(),
            None => return None,
        };
        (path.len() < 4096 && path.bytes().all(|b| b.is_ascii_graphic())).then_some(path)
    }

    fn answered(self) -> Answered {
        let outcome = self.over.unwrap_or(match self.answers {
            // One that is there and cannot tell.
            true => Outcome::Refused(self.why),
            false => Outcome::Absent(self.why),
        });
        Answered { name: self.ask.dialect.name, place: self.ask.shown(), outcome }
    }
}
