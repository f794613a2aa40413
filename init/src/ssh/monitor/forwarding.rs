//! Sockets for what a login forwards: which it may have, and opening them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use super::messages::{List, Reply};
use super::ration::Ration;
use crate::ssh::auth::Grant;
use crate::ssh::forward::{Open, Opened, Sockets};
use crate::sys::{files, log};
use crate::web::names;

/// Longest file of names that is read, in bytes.
const MAX_NAMES: usize = 1 << 20;
/// Most ports that are remembered for the record.
const MAX_PORTS: usize = 64;

/// What a connection forwards, as its monitor sees it.
pub(super) struct Forwarding {
    /// The client's address and port, for the log.
    from: String,
    sockets: Sockets,
    /// At which it listens.
    ports: Vec<SocketAddr>,
    lines: Ration,
}

impl Forwarding {
    pub(super) fn new(from: String) -> Self {
        Self { from, sockets: Sockets::default(), ports: Vec::new(), lines: Ration::new(Instant::now()) }
    }

    /// Where the agent answers.
    pub(super) fn agent(&self) -> Option<&Path> {
        self.sockets.agent()
    }

    /// Where it listens.
    pub(super) fn listening(&self) -> Vec<String> {
        let paths = self.sockets.listening().map(|path| path.display().to_string());
        self.ports.iter().map(SocketAddr::to_string).chain(paths).collect()
    }

    /// What is known here of a host.
    pub(super) fn find(&mut self, grant: &Grant, host: &str, port: u32) -> Reply {
        if !grant.options.may_open(host, port) {
            self.note(grant, &format!("may not connect to {host:?}:{port}"));
            return not_opened(Errno::PERM);
        }
        let addresses = names::in_hosts(&read("/etc/hosts"), host);
        let settings = match addresses.is_empty() {
            true => names::settings(&read("/etc/resolv.conf")),
            false => names::Settings::default(),
        };
        Reply::Found {
            addresses: List(addresses.iter().map(IpAddr::to_string).collect()),
            servers: List(settings.servers.iter().map(SocketAddr::to_string).collect()),
            search: List(settings.search),
        }
    }

    /// Opens a socket, if the login may have it.
    pub(super) fn open(&mut self, grant: &Grant, what: &Open) -> (Reply, Option<OwnedFd>) {
        if !may(grant, what) {
            self.note(grant, &format!("may not {what}"));
            return (not_opened(Errno::PERM), None);
        }
        match self.sockets.open(what) {
            Ok(Opened { socket, port }) => {
                if let Open::Listen { address, .. } = what
                    && self.ports.len() < MAX_PORTS
                {
                    self.ports.push(SocketAddr::new(address.ip(), port));
                }
                // Its own questions to name servers are nobody's business.
                if !matches!(what, Open::Ask(_)) {
                    let port = if port == 0 { String::new() } else { format!(", port {port}") };
                    self.note(grant, &format!("is let {what}{port}"));
                }
                (Reply::Opened { port }, Some(socket))
            }
            Err(error) => {
                self.note(grant, &format!("cannot {what}: {error}"));
                (not_opened(Errno::from_io_error(&error).unwrap_or(Errno::INVAL)), None)
            }
        }
    }

    /// A socket listens no more; a Unix socket that was made here is removed.
    pub(super) fn remove(&mut self, name: &str) {
        self.ports.retain(|port| port.to_string() != name);
        self.sockets.remove(Path::new(name));
    }

    /// Takes note of somebody who has come to a socket of this connection's; false where there is none of
    /// that name, or no more.
    pub(super) fn came(&mut self, grant: &Grant, to: Option<&str>, from: Option<SocketAddr>) -> bool {
        let is_its_own = match to {
            None => self.agent().is_some(),
            Some(name) => self.listening().iter().any(|own| own == name),
        };
        if !is_its_own {
            return false;
        }
        match (to, from) {
            (None, _) => self.note(grant, "has its agent asked"),
            (Some(to), Some(from)) => self.note(grant, &format!("gets a connection from {from} to {to}")),
            (Some(to), None) => self.note(grant, &format!("gets a connection to {to:?}")),
        }
        true
    }

    /// Says at the end what was not said one by one.
    pub(super) fn end(&mut self) {
        let withheld = self.lines.withheld();
        self.note_withheld(withheld);
    }

    fn note(&mut self, grant: &Grant, what: &str) {
        if let Some(withheld) = self.lines.take(Instant::now()) {
            self.note_withheld(withheld);
            log::note("sshd", &format!("{} from {} {what}", grant.account.name, self.from));
        }
    }

    fn note_withheld(&self, count: u32) {
        if count > 0 {
            log::note("sshd", &format!("{count} more lines of what is forwarded for {}", self.from));
        }
    }
}

/// Whether the login may have this socket. A name is taken to have the address that is asked for with it,
/// as it is the client who names hosts; a key that must not be led astray has addresses in its `permitopen`.
fn may(grant: &Grant, what: &Open) -> bool {
    let options = &grant.options;
    match what {
        Open::Connect { host, address } => {
            let is_its_own = host.parse().map_or(true, |ip: IpAddr| ip == address.ip());
            is_its_own && options.may_open(host, u32::from(address.port()))
        }
        Open::ConnectUnix(_) => options.may_open_unix(),
        Open::Ask(server) => {
            options.port_forwarding && names::settings(&read("/etc/resolv.conf")).servers.contains(server)
        }
        Open::Listen { host, address } => options.may_listen(host, u32::from(address.port())),
        Open::ListenUnix(_) => options.may_listen_unix(),
        Open::Agent => options.agent_forwarding,
    }
}

fn not_opened(error: Errno) -> Reply {
    Reply::NotOpened { error: error.raw_os_error().cast_unsigned() }
}

fn read(path: &str) -> Vec<u8> {
    files::read_capped(Path::new(path), MAX_NAMES).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rescue_schema::account::Account;

    use super::*;
    use crate::ssh::authorized_keys;

    fn grant(options: &str) -> Grant {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let account = Account {
            name: "root".into(),
            uid: 0,
            gid: 0,
            home: "/".into(),
            shell: "/bin/sh".into(),
            password_hash: None,
            authorized_keys: vec![],
        };
        let options = authorized_keys::parse(&format!("{options} {key}")).unwrap().unwrap().options;
        Grant { account, options }
    }

    #[test]
    fn a_connection_gets_no_socket_that_its_login_may_not_have() {
        let connect = |host: &str, address: &str| Open::Connect {
            host: host.into(),
            address: address.parse().unwrap(),
        };
        let bound = grant(r#"permitopen="127.0.0.1:1",permitlisten="localhost:2""#);
        assert!(may(&bound, &connect("127.0.0.1", "127.0.0.1:1")));
        for refused in [
            connect("127.0.0.1", "127.0.0.1:2"),
            connect("127.0.0.1", "192.0.2.1:1"),
            connect("192.0.2.1", "192.0.2.1:1"),
            Open::ConnectUnix("/run/x".into()),
            Open::ListenUnix("/run/x".into()),
            Open::Listen { host: "localhost".into(), address: "127.0.0.1:3".parse().unwrap() },
            Open::Ask("192.0.2.99:53".parse().unwrap()),
            Open::Ask("127.0.0.1:22".parse().unwrap()),
        ] {
            assert!(!may(&bound, &refused), "{refused}");
        }
        assert!(!may(&grant("no-agent-forwarding"), &Open::Agent));
        assert!(!may(&grant("restrict"), &connect("127.0.0.1", "127.0.0.1:1")));
        let mut forwarding = Forwarding::new("192.0.2.1:5".into());
        let (reply, socket) = forwarding.open(&grant("restrict"), &Open::Agent);
        assert!(matches!(reply, Reply::NotOpened { error: 1 }) && socket.is_none());
        assert!(matches!(forwarding.find(&bound, "db", 1), Reply::NotOpened { error: 1 }));
        assert!(forwarding.agent().is_none());
        assert!(!forwarding.came(&bound, None, None));
        let own = Open::Listen { host: "localhost".into(), address: "127.0.0.1:0".parse().unwrap() };
        let (reply, _socket) = forwarding.open(&grant(""), &own);
        let Reply::Opened { port } = reply else { panic!("no socket") };
        let name = format!("127.0.0.1:{port}");
        assert!(forwarding.came(&bound, Some(&name), None));
        assert!(!forwarding.came(&bound, Some("127.0.0.1:1"), None));
        forwarding.remove(&name);
        assert!(!forwarding.came(&bound, Some(&name), None));
    }
}
