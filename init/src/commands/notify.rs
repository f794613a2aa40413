//! `rescue notify ADDRESS`: tells the host of a virtual machine that it is ready, by the protocol of
//! sd_notify(3) over vsock(7), as systemd tells `vmm.notify_socket`. A process of its own, so that nobody
//! waits for a host that does not answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::{Command, Usage};
use crate::sys::log;
use crate::sys::vsock::{self, Kind};

/// What is said.
const READY: &[u8] = b"READY=1";
/// How long the connection and the message may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the host may take to hang up once it has been told.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) const COMMAND: Command =
    Command { name: "notify", links: &[], usage: "vsock:CID:PORT", about: "", run };

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let [text] = args else { return Err(Usage("notify wants one address".into()).into()) };
    let told = Address::parse(text).and_then(|to| tell(to).map_err(|error| format!("{error}; not told")));
    match told {
        Ok(()) => log::note("notify", &format!("{text}: told that the machine is ready")),
        Err(why) => log::kmsg_error(&format!("rescue: session.notify {text}: {why}")),
    }
    // It is said; trying again would say it again.
    Ok(ExitCode::SUCCESS)
}

/// Where a host listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Address {
    /// How it does; as the transport has it where that is not said.
    kind: Option<Kind>,
    cid: u32,
    port: u32,
}

impl Address {
    /// Reads `vsock:CID:PORT`, `vsock-stream:…`, `vsock-dgram:…` or `vsock-seqpacket:…`.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "not an address such as vsock:2:1234; not told".to_string();
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        let kind = match scheme {
            "vsock" => None,
            "vsock-stream" => Some(Kind::Stream),
            "vsock-dgram" => Some(Kind::Datagram),
            "vsock-seqpacket" => Some(Kind::Packets),
            _ => return Err(wrong()),
        };
        let (cid, port) = rest.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u32>().ok().filter(|number| digits && *number != u32::MAX).ok_or_else(wrong)
        };
        Ok(Self { kind, cid: number(cid)?, port: number(port)? })
    }
}

/// Tells it. Where the kind is not said, datagrams come first and a stream where there are none, as with
/// systemd.
fn tell(to: Address) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let kinds = match to.kind {
        Some(kind) => vec![kind],
        None => vec![Kind::Datagram, Kind::Stream, Kind::Packets],
    };
    let mut failed = io::Error::from(io::ErrorKind::Unsupported);
    for kind in kinds {
        match vsock::begin(kind, to.cid, to.port) {
            Ok(socket) => return say(&socket, kind, until),
            Err(error) if is_missing(&error) => failed = error,
            Err(error) => return Err(error),
        }
    }
    Err(failed)
}

/// Whether there is no such socket on this machine.
fn is_missing(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let missing = [Errno::ENODEV, Errno::EAFNOSUPPORT, Errno::ESOCKTNOSUPPORT, Errno::EPROTONOSUPPORT];
    let number = error.raw_os_error().map(Errno::from_raw);
    number.is_some_and(|number| missing.contains(&number) || number == Errno::EOPNOTSUPP)
}

/// Says it on a socket whose connection was begun.
fn say(socket: &OwnedFd, kind: Kind, until: Instant) -> io::Result<()> {
    wait(socket, PollFlags::OUT, until)?;
    match getsockopt(socket, sockopt::SocketError)? {
        0 => {}
        number => return Err(io::Error::from_raw_os_error(number)),
    }
    let mut left = READY;
    while !left.is_empty() {
        match send(socket, left, SendFlags::NOSIGNAL) {
            Ok(sent) => left = left.get(sent..).unwrap_or_default(),
            Err(rustix::io::Errno::AGAIN) => wait(socket, PollFlags::OUT, until)?,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if kind == Kind::Datagram {
        return Ok(());
    }
    // A host that has read all of it hangs up; without waiting for that, closing may overtake what was sent.
    shutdown(socket, Shutdown::Write)?;
    let _ = wait(socket, PollFlags::IN, Instant::now() + FAREWELL);
    Ok(())
}

fn wait(socket: &OwnedFd, what: PollFlags, until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), what)], Some(&left)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn addresses_are_those_of_systemd_and_garbage_is_refused() {
        for (text, kind) in [
            ("vsock:2:1234", None),
            ("vsock-stream:2:1234", Some(Kind::Stream)),
            ("vsock-dgram:2:1234", Some(Kind::Datagram)),
            ("vsock-seqpacket:2:1234", Some(Kind::Packets)),
        ] {
            assert_eq!(Address::parse(text), Ok(Address { kind, cid: 2, port: 1234 }), "{text}");
        }
        for text in [
            "",
            "vsock",
            "vsock:2",
            "vsock::1234",
            "vsock:2:",
            "vsock:+2:1",
            "vsock:2:1:3",
            "vsock:4294967295:1",
            "vsock:2:4294967296",
            "vsock:2:-1",
            "/run/host/notify",
            "@notify",
            "--help",
            "vsock-mux:2:1",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn it_is_said_once_by_each_kind_of_socket() {
        for (kind, of) in [
            (Kind::Datagram, SocketType::DGRAM),
            (Kind::Stream, SocketType::STREAM),
            (Kind::Packets, SocketType::SEQPACKET),
        ] {
            let (ours, host) = socketpair(AddressFamily::UNIX, of, SocketFlags::NONBLOCK, None).unwrap();
            let host = std::thread::spawn(move || {
                let mut heard = Vec::new();
                let until = Instant::now() + Duration::from_secs(60);
                loop {
                    let mut buffer = [0; 64];
                    wait(&host, PollFlags::IN, until).unwrap();
                    let length = rustix::io::read(&host, &mut buffer).unwrap();
                    heard.extend_from_slice(&buffer[..length]);
                    if length == 0 || kind == Kind::Datagram {
                        return heard;
                    }
                }
            });
            say(&ours, kind, Instant::now() + Duration::from_secs(60)).unwrap();
            assert_eq!(host.join().unwrap(), READY, "{kind:?}");
        }
    }

    #[test]
    fn a_host_that_takes_nothing_costs_its_deadline() {
        let (ours, _host) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        while rustix::io::write(&ours, &[0; 4096]).is_ok() {}
        let error = say(&ours, Kind::Stream, Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_host_that_has_hung_up_is_an_error_and_no_signal() {
        let (ours, host) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        drop(host);
        assert!(say(&ours, Kind::Stream, Instant::now() + Duration::from_secs(60)).is_err());
    }
}
