//! `rescue sshd`: the SSH server, put together with the accounts of the machine or of a document.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rescue_schema::account::Account;
use rescue_schema::credentials::{Document, LOGIN_NAMES, MAX_DOCUMENT, Ssh};
use rescue_schema::paths;

use super::wrapped::complain;
use super::{Command, Usage};
use crate::accounts::{Directory, Throttle, source_of};
use crate::ssh::monitor::Server;
use crate::ssh::{auth::Gate, authorized_keys, connection, host_keys, listen, policy};
use crate::sys::{files, log, notify::Notice};

/// The listener.
pub(super) const COMMAND: Command = Command {
    name: "sshd",
    links: &[],
    usage: "[--listen ADDR:PORT] [--device FILE] [--login-grace SECONDS]",
    about: "",
    run,
};

/// The process of one connection; its monitor starts it.
pub(super) const CONNECTION: Command =
    Command { name: "sshd-connection", links: &[], usage: "", about: "", run: run_connection };

#[derive(Default)]
struct Arguments {
    listen: Option<SocketAddr>,
    device: Option<PathBuf>,
    login_grace: Option<u64>,
}

fn arguments(args: &[String]) -> anyhow::Result<Arguments> {
    use lexopt::prelude::{Long, ValueExt};
    let mut parsed = Arguments::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(|e| Usage(e.to_string()))? {
        match argument {
            Long("listen") => {
                let text = parser.value().and_then(|v| v.string()).map_err(|e| Usage(e.to_string()))?;
                let address = text.parse().map_err(|_| {
                    Usage(format!("--listen {text:?}: not an address and a port, such as [::]:22"))
                })?;
                parsed.listen = Some(address);
            }
            Long("device") => {
                parsed.device = Some(parser.value().map_err(|e| Usage(e.to_string()))?.into());
            }
            Long("login-grace") => {
                let seconds: u64 =
                    parser.value().and_then(|v| v.parse()).map_err(|e| Usage(e.to_string()))?;
                if !(1..=86_400).contains(&seconds) {
                    return Err(Usage(format!("--login-grace {seconds}: 1 to 86400 seconds")).into());
                }
                parsed.login_grace = Some(seconds);
            }
            other => return Err(Usage(other.unexpected().to_string()).into()),
        }
    }
    Ok(parsed)
}

fn run(_: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let arguments = arguments(args)?;
    let (keys, logins, ssh) = match &arguments.device {
        Some(path) => {
            let bytes = files::read_capped(path, MAX_DOCUMENT)
                .with_context(|| format!("reading {}", path.display()))?;
            let document = Document::parse(&bytes)?;
            let mut keys = host_keys::parse_all(&document.ssh.host_keys)?;
            if keys.is_empty() {
                keys.push(host_keys::generate()?);
            }
            (keys, Some(document.logins), document.ssh)
        }
        None => (host_keys::load_or_generate(Path::new(paths::HOST_KEYS))?, None, wishes()?),
    };
    let hostkey = keys.first().map(|k| host_keys::fingerprint(k.public_key())).unwrap_or_default();
    // The key alone is what a client without the authority goes by: it is there whatever its certificate is.
    let certificates = host_keys::parse_certificates(&ssh.host_certificates, &keys).unwrap_or_else(|error| {
        log::tell("sshd", &format!("{error:#}; no host certificate is shown"));
        Vec::new()
    });
    let accounts = match logins {
        Some(logins) => {
            // An ordinary machine: nothing of it is touched, so its refusals are counted per connection.
            Accounts {
                directory: Directory::from_logins(logins),
                throttle: Throttle::open(Path::new("")),
                authorities: ssh.user_ca_keys,
            }
        }
        None => Accounts {
            directory: Directory::from_files(Path::new("/")),
            throttle: Throttle::open(Path::new(paths::THROTTLE)),
            authorities: ssh.user_ca_keys,
        },
    };
    let server = Server {
        keys,
        certificates,
        gate: Arc::new(accounts),
        login_grace: arguments.login_grace.map_or(policy::LOGIN_GRACE, Duration::from_secs),
        algorithms: ssh.algorithms,
        records: records(arguments.device.is_none()),
    };
    let listener = listen::bind(arguments.listen, ssh.port)?;
    let address = listener.local_addr().context("reading the listener's address")?;
    listen::serve(listener, &server, || {
        log::note("sshd", &format!("listening on {address}, host key {hostkey}"));
        if arguments.device.is_some() {
            complain!("listening on {address}, host key {hostkey}");
        }
        Notice::Listening { port: address.port(), hostkey }.send();
        tell_what_opens_nothing(server.gate.as_ref(), arguments.device.is_some());
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A key that was cut off when it was pasted is found out here, by who reads the console, and not by who stands
/// before the door.
fn tell_what_opens_nothing(gate: &dyn Gate, on_stderr: bool) {
    let of = |name: &str| gate.account(name).map(|account| account.authorized_keys).unwrap_or_default();
    let owners = LOGIN_NAMES.map(|name| (format!("authorized_keys of {name}"), of(name)));
    for (owner, lines) in owners.into_iter().chain([("user_ca_keys".into(), gate.authorities())]) {
        for (number, why) in authorized_keys::refused(&lines) {
            let text = format!("{owner}, line {number}: {why}; it opens nothing");
            log::tell("sshd", &text);
            if on_stderr {
                complain!("{text}");
            }
        }
    }
}

/// The folder of who is in. A listener that was killed leaves monitors behind, which keep their records.
fn records(on_a_machine: bool) -> Option<PathBuf> {
    let folder = PathBuf::from(paths::CONNECTIONS);
    if !on_a_machine || !folder.parent().is_some_and(Path::is_dir) {
        return None;
    }
    let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&folder);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            log::note("sshd", &format!("making {}: {error}", folder.display()));
            None
        }
        _ => Some(folder),
    }
}

/// The document's wishes, as PID 1 has left them; those of a document without any where it has not.
fn wishes() -> anyhow::Result<Ssh> {
    match files::read_capped(Path::new(paths::SSH_WISHES), MAX_DOCUMENT) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", paths::SSH_WISHES)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ssh::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", paths::SSH_WISHES)),
    }
}

fn run_connection(_: &str, _: &[String]) -> anyhow::Result<ExitCode> {
    // It runs from /proc/self/exe, which would be its name in ps and in the kernel's messages.
    let _ = rustix::thread::set_name(c"sshd-connection");
    connection::run()?;
    Ok(ExitCode::SUCCESS)
}

/// The gate: the accounts of the machine or of a document, and the throttle that the consoles share.
struct Accounts {
    directory: Directory,
    throttle: Throttle,
    /// Keys of authorities for every login.
    authorities: Vec<String>,
}

impl Gate for Accounts {
    fn password(&self, user: &str, password: &[u8], _source: IpAddr) -> Option<Account> {
        logged(self.directory.authenticate(user, password))
    }

    fn account(&self, user: &str) -> Option<Account> {
        logged(self.directory.find(user))
    }

    fn authorities(&self) -> Vec<String> {
        self.authorities.clone()
    }

    fn delay(&self, source: IpAddr) -> Option<Duration> {
        self.throttle.delay(&source_of(source))
    }

    fn failed(&self, source: IpAddr) {
        self.throttle.failed(&source_of(source));
    }

    fn succeeded(&self, source: IpAddr) {
        self.throttle.succeeded(&source_of(source));
    }
}

/// A database that cannot be read opens nothing.
fn logged(found: anyhow::Result<Option<Account>>) -> Option<Account> {
    found.unwrap_or_else(|error| {
        log::note("sshd", &format!("{error:#}"));
        None
    })
}
