//! Acting in a guest, with the real OpenSSH client: a command in, typed output back. The host key
//! is pinned always.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::device::Device;
use crate::process::{self, Output};
use crate::vm::limit;

/// The process that PID 1 started for this service: the oldest of that command line.
const PID: &str = "pid_of() { for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' <$p/cmdline 2>/dev/null)\" ] && \
    set -- $1 $(tr '\\0' ' ' <$p/cmdline) && [ \"$(awk '/^PPid/{print $2}' $p/status)\" = 1 ] && \
    case \" $(tr '\\0' ' ' <$p/cmdline)\" in *\" $1 \"*) echo ${p#/proc/};; esac; set -- $1; done; }; ";

/// How the client proves who it is.
#[derive(Debug, Clone)]
enum Proof {
    Key(PathBuf),
    Password(String),
    Nothing,
}

/// An SSH client for one login of one machine.
#[derive(Debug, Clone)]
pub struct Guest {
    name: String,
    host: String,
    port: u16,
    /// The words that put the client into a network.
    inside: Vec<String>,
    known_hosts: PathBuf,
    askpass: PathBuf,
    proof: Proof,
}

impl Guest {
    /// A client for the login `name` of `device`, which answers on this loopback port. It proves
    /// itself with the device's client key.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn new(device: &Device, name: &str, port: u16) -> Result<Self> {
        Self::at(Vec::new(), device, name, "127.0.0.1", port)
    }

    /// The same in a network ([`crate::network::Network::prefix`]), at port 22 of this address.
    ///
    /// # Errors
    /// As [`Guest::new`].
    pub fn inside(inside: Vec<String>, device: &Device, name: &str, address: &str) -> Result<Self> {
        Self::at(inside, device, name, address, 22)
    }

    fn at(inside: Vec<String>, device: &Device, name: &str, host: &str, port: u16) -> Result<Self> {
        let known_hosts = device.dir.join(format!("known_hosts.{host}.{port}"));
        let shown = if port == 22 { host.to_string() } else { format!("[{host}]:{port}") };
        let line = format!("{shown} {}\n", device.host_key_public);
        std::fs::write(&known_hosts, line).with_context(|| format!("writing {}", known_hosts.display()))?;
        Ok(Self {
            name: name.into(),
            host: host.into(),
            port,
            inside,
            known_hosts,
            askpass: device.askpass.clone(),
            proof: Proof::Key(device.client_key.clone()),
        })
    }

    /// The same with another key.
    pub fn with_key(mut self, key: &std::path::Path) -> Self {
        self.proof = Proof::Key(key.into());
        self
    }

    /// The same with a password and no key.
    pub fn with_password(mut self, password: &str) -> Self {
        self.proof = Proof::Password(password.into());
        self
    }

    /// The same with nothing to prove.
    pub fn with_nothing(mut self) -> Self {
        self.proof = Proof::Nothing;
        self
    }

    /// The client's command line, for `words` in the guest.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = match self.inside.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg("ssh");
                command
            }
            None => Command::new("ssh"),
        };
        let mut option = |text: String| {
            command.arg("-o").arg(text);
        };
        option("StrictHostKeyChecking=yes".into());
        option(format!("UserKnownHostsFile={}", self.known_hosts.display()));
        option("GlobalKnownHostsFile=none".into());
        option("IdentitiesOnly=yes".into());
        option(format!("ConnectTimeout={}", limit(10).as_secs()));
        option("ServerAliveInterval=15".into());
        option("ServerAliveCountMax=8".into());
        match &self.proof {
            Proof::Key(key) => {
                option("BatchMode=yes".into());
                option(format!("IdentityFile={}", key.display()));
            }
            Proof::Password(password) => {
                option("PubkeyAuthentication=no".into());
                option("NumberOfPasswordPrompts=1".into());
                command.env("SSH_ASKPASS", &self.askpass).env("SSH_ASKPASS_REQUIRE", "force");
                command.env("RESCUE_TEST_PASSWORD", password);
            }
            Proof::Nothing => {
                option("BatchMode=yes".into());
                option("PubkeyAuthentication=no".into());
            }
        }
        command.args(["-F", "none", "-p", &self.port.to_string()]);
        command.arg(format!("{}@{}", self.name, self.host)).args(words);
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    /// Runs a shell command in the guest.
    ///
    /// # Errors
    /// When the client cannot be started or does not end. A status of 255 is the client's own: no
    /// connection, or nobody let in; anything else is the command's.
    pub fn run(&self, shell: &str) -> Result<Output> {
        self.run_with_input(shell, b"")
    }

    /// As [`Guest::run`], with standard input.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn run_with_input(&self, shell: &str, input: &[u8]) -> Result<Output> {
        process::run(&mut self.command(&["--", shell]), input, limit(30))
            .with_context(|| format!("in the guest: {shell}"))
    }

    /// Waits until it lets us in.
    ///
    /// # Errors
    /// What the client said last, when it does not.
    pub fn reach(&self) -> Result<()> {
        let end = Instant::now() + limit(20);
        loop {
            match self.run("true") {
                Ok(Output { status: 0, .. }) => return Ok(()),
                result if Instant::now() > end => {
                    return result.and_then(Output::ok).map(drop).context("reaching the guest by SSH");
                }
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Runs a command that must succeed until what it prints is as it should be.
    ///
    /// # Errors
    /// What it printed last, when it does not come to that.
    pub fn until(&self, shell: &str, mut is: impl FnMut(&str) -> bool) -> Result<()> {
        let end = Instant::now() + limit(15);
        loop {
            let said = self.ok(shell)?;
            if is(&said) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "{shell} still prints: {said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What a command prints, trimmed; it must succeed.
    ///
    /// # Errors
    /// As [`Guest::run`], and when its status is not 0.
    pub fn ok(&self, shell: &str) -> Result<String> {
        self.run(shell)?.ok().with_context(|| format!("in the guest: {shell}"))
    }

    /// The process of a service, or nothing while it does not run.
    ///
    /// # Errors
    /// As [`Guest::ok`].
    pub fn pid_of(&self, service: &str) -> Result<String> {
        self.ok(&format!("{PID} pid_of {service} | head -n 1"))
    }

    /// What a command that must succeed prints as JSON.
    ///
    /// # Errors
    /// As [`Guest::ok`], and when it is not such JSON.
    pub fn json<T: DeserializeOwned>(&self, shell: &str) -> Result<T> {
        let text = self.ok(shell)?;
        serde_json::from_str(&text).with_context(|| format!("{shell} printed: {text}"))
    }

    /// A session that stays open while the caller does something else: it sends what it is told on
    /// its standard input and is ended when it is dropped.
    ///
    /// # Errors
    /// When the client cannot be started.
    pub fn open(&self, shell: &str) -> Result<Session> {
        let mut command = self.command(&["--", shell]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(Session { child: command.spawn().context("starting ssh")? })
    }
}

/// A session that stays open.
pub struct Session {
    child: Child,
}

impl Session {
    /// Sends a line and waits for one line of answer.
    ///
    /// # Errors
    /// When the session is gone or stays silent.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        use std::io::{BufRead, BufReader, Write};
        let stdin = self.child.stdin.as_mut().context("the session has no input")?;
        stdin.write_all(format!("{line}\n").as_bytes()).context("the session is gone")?;
        stdin.flush()?;
        let stdout = self.child.stdout.as_mut().context("the session has no output")?;
        // One line is awaited at a time and each answer is one line, so nothing stays in the buffer.
        let mut reader = BufReader::with_capacity(1, stdout);
        let ready = {
            use std::os::fd::AsFd;
            let fd = reader.get_ref().as_fd();
            let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
            let time = rustix::event::Timespec { tv_sec: limit(10).as_secs().cast_signed(), tv_nsec: 0 };
            rustix::event::poll(&mut fds, Some(&time))?
        };
        anyhow::ensure!(ready > 0, "the open session stays silent");
        let mut answer = String::new();
        anyhow::ensure!(reader.read_line(&mut answer)? > 0, "the open session has ended");
        Ok(answer.trim().to_string())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
