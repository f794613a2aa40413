//! A connection's process that was taken over: it is stopped, and its monitor is spoken to through its descriptor
//! (pidfd_getfd(2), as root may).

use super::*;

/// The newest connection of a server: its monitor and its process, once that is confined.
pub(super) fn newest(server: &Server, before: &[u32]) -> (u32, u32) {
    let mut found = None;
    until("there is a connection's process", || {
        let monitor = children(server.child.id()).into_iter().find(|pid| !before.contains(pid));
        found = monitor.and_then(|monitor| Some((monitor, *children(monitor).first()?)));
        found.is_some_and(|(_, connection)| status(connection, "Seccomp") == "2")
    });
    found.unwrap()
}

pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

pub(super) fn message(tag: u8, fields: &[&[u8]]) -> Vec<u8> {
    [vec![tag], fields.concat()].concat()
}

/// `Start` of a command on pipes, without an agent.
pub(super) fn start(command: &[u8]) -> Vec<u8> {
    message(5, &[&[1], &string(command), &[0], &[0], &[0; 4]])
}

pub(super) fn password(user: &str, password: &str) -> Vec<u8> {
    message(4, &[&string(user.as_bytes()), &string(password.as_bytes())])
}

/// A connection whose process does not run any more, and its socket.
pub(super) struct TakenOver {
    pub(super) monitor: OwnedFd,
    pub(super) connection: u32,
    pub(super) client: TcpStream,
    pub(super) host: PrivateKey,
    pub(super) user: PrivateKey,
    /// When it connected: see [`since_boot`].
    pub(super) since: f64,
}

impl TakenOver {
    pub(super) fn of(server: &Server) -> Self {
        let (before, since) = (children(server.child.id()), since_boot());
        let mut client = TcpStream::connect(server.address).unwrap();
        client.write_all(b"SSH-2.0-intruder\r\n").unwrap();
        let (_, connection) = newest(server, &before);
        kill("-STOP", connection);
        let pid = rustix::process::Pid::from_raw(i32::try_from(connection).unwrap()).unwrap();
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let stolen = (3..20).filter_map(|number| {
            let flags = rustix::process::PidfdGetfdFlags::empty();
            let descriptor = rustix::process::pidfd_getfd(&pidfd, number, flags).ok()?;
            let kind = rustix::net::sockopt::socket_type(&descriptor).ok()?;
            (kind == rustix::net::SocketType::SEQPACKET).then_some(descriptor)
        });
        let monitor = stolen.into_iter().next().expect("a socket to the monitor");
        let key = |name| load_secret_key(server.file(name), None).unwrap();
        Self { monitor, connection, client, host: key("host"), user: key("id"), since }
    }

    pub(super) fn port(&self) -> u16 {
        self.client.local_addr().unwrap().port()
    }

    pub(super) fn say(&self, bytes: &[u8]) {
        let _ = rustix::net::send(&self.monitor, bytes, rustix::net::SendFlags::NOSIGNAL);
    }

    /// The next reply and its descriptors; none when the monitor is gone.
    pub(super) fn hear(&self) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let mut fds = [nix::poll::PollFd::new(self.monitor.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fds, 30_000u16).unwrap(), 1, "no answer");
        let mut bytes = vec![0; 65536];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [std::io::IoSliceMut::new(&mut bytes)];
        let length = recvmsg(&self.monitor, &mut pieces, &mut control, RecvFlags::empty()).ok()?.bytes;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(list) = message {
                descriptors.extend(list);
            }
        }
        bytes.truncate(length);
        (length > 0).then_some((bytes, descriptors))
    }

    pub(super) fn ask(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.say(bytes);
        self.hear().map(|(reply, _)| reply)
    }

    /// The record of a key exchange, by which two differ in their secret.
    pub(super) fn record(&self, secret: u8) -> Vec<u8> {
        let key = self.host.public_key().to_bytes().unwrap();
        let parts: [&[u8]; 8] =
            [b"SSH-2.0-intruder", b"SSH-2.0-Rescue", &[20], &[20], &key, &[1; 32], &[2; 32], &[secret; 32]];
        parts.iter().flat_map(|part| string(part)).collect()
    }

    pub(super) fn sign(record: &[u8]) -> Vec<u8> {
        message(1, &[&string(b"ssh-ed25519"), &[0], &string(record)])
    }

    /// The exchange that an honest process would have had signed; returns the session id.
    pub(super) fn exchange(&self, secret: u8) -> Vec<u8> {
        let record = self.record(secret);
        assert_eq!(self.ask(&Self::sign(&record)).unwrap()[0], 2, "a signature");
        Sha256::digest(record).to_vec()
    }

    /// A login by key, signed over a session id.
    pub(super) fn key_login(&self, session: &[u8]) -> Vec<u8> {
        let key = self.user.public_key().to_bytes().unwrap();
        let mut signed = string(session);
        signed.push(50);
        for field in [&b"root"[..], b"ssh-connection", b"publickey"] {
            signed.extend(string(field));
        }
        signed.push(1);
        signed.extend(string(b"ssh-ed25519"));
        signed.extend(string(&key));
        let signature: Signature = self.user.key_data().try_sign(&signed).unwrap();
        let signature = signature.encode_vec().unwrap();
        message(3, &[&string(b"root"), &string(b"ssh-ed25519"), &string(&key), &string(&signature)])
    }

    /// Nothing but the door, and one line in the log.
    pub(super) fn assert_door(&self, what: &str) {
        assert!(self.hear().is_none(), "{what}: an answer");
        until("its process is gone", || status(self.connection, "State").is_empty());
        if std::path::Path::new(LOG).exists() {
            let lines = logged(self.since, self.port());
            let about = lines.iter().filter(|line| line.ends_with("it is ended")).count();
            assert_eq!(about, 1, "{what}: {lines:?}");
            assert!(!lines.iter().any(|line| line.contains("correct horse")), "{what}: {lines:?}");
        }
    }
}

impl Drop for TakenOver {
    fn drop(&mut self) {
        // One that is stopped would never end.
        let _ =
            Command::new("kill").args(["-9", &self.connection.to_string()]).stderr(Stdio::null()).status();
    }
}
