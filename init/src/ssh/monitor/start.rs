//! Starting what a login has asked for, each session's process with its descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::life::{Monitor, Running};
use super::messages::{Reply, What};
use crate::ssh::session::{self, Ends, Start, Terminal};
use crate::ssh::{channel, policy, subsystem};
use crate::sys::log;

impl Monitor<'_> {
    pub(super) fn start(
        &mut self,
        what: What,
        terminal: Option<Terminal>,
        agent: bool,
        mut environment: Vec<(String, String)>,
    ) -> Result<(), &'static str> {
        let grant = self.login.grant().ok_or("a session before a login")?;
        if terminal.is_some() && !grant.options.pty {
            return Err("a terminal that its key forbids");
        }
        if environment.iter().any(|(name, value)| !channel::may_set(name, value)) {
            return Err("a variable that no client sets");
        }
        let text = terminal.as_ref().map_or("", |t| t.name.as_str());
        if matches!(&what, What::Command(line) if line.contains(&0)) || text.contains('\0') {
            return Err("a command with a zero byte");
        }
        if self.running.len() >= policy::MAX_SESSIONS {
            self.say(&Reply::Failed {}, &[]);
            return Ok(());
        }
        if let Some(path) = self.forwarding.agent().filter(|_| agent) {
            environment.push(("SSH_AUTH_SOCK".into(), path.to_string_lossy().into_owned()));
        }
        let (peer, local) = (self.peer, self.local);
        let (client, server) = (peer.ip().to_canonical(), local.ip().to_canonical());
        environment
            .push(("SSH_CONNECTION".into(), format!("{client} {} {server} {}", peer.port(), local.port())));
        environment.push(("SSH_CLIENT".into(), format!("{client} {} {}", peer.port(), local.port())));
        let name = match &what {
            What::Shell => "shell".to_string(),
            What::Command(_) => "command".to_string(),
            What::Subsystem(name) => name.clone(),
        };
        let (original, command, role) = match &what {
            What::Shell => (None, None, None),
            What::Command(line) => {
                (Some(String::from_utf8_lossy(line).into_owned()), Some(line.as_slice()), None)
            }
            What::Subsystem(name) => match subsystem::find(name) {
                Some(subsystem) => (Some(format!("rescue {}", subsystem.role)), None, Some(subsystem.role)),
                None => {
                    self.say(&Reply::Failed {}, &[]);
                    return Ok(());
                }
            },
        };
        let (command, role) = match &grant.options.command {
            Some(forced) => {
                environment.extend(original.map(|line| ("SSH_ORIGINAL_COMMAND".to_string(), line)));
                (Some(forced.as_bytes()), None)
            }
            None => (command, role),
        };
        let (account, terminal) = (&grant.account, terminal.as_ref());
        let start = Start { account, command, role, terminal, environment: &environment };
        let begun = self.begin(&start);
        let (pid, mut running, mut descriptors) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                log::note("sshd", &format!("starting {}: {error}", start.account.shell.display()));
                self.say(&Reply::Failed {}, &[]);
                return Ok(());
            }
        };
        running.what = Some(name);
        let (mut running, mut greeting) = (vec![(pid, running)], false);
        if let (Some(terminal), None, None) = (start.terminal, start.command, start.role)
            && let Ok((more, output, end)) = self.greet(&start, terminal)
        {
            greeting = true;
            running.push(more);
            descriptors.extend([output, end]);
        }
        let session = self.sessions;
        self.sessions = self.sessions.wrapping_add(1);
        self.running.extend(running);
        self.note_running();
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        self.say(&Reply::Started { session, greeting }, &descriptors);
        Ok(())
    }

    /// Starts a session's process: what is known of it, and what the connection's process gets.
    fn begin(&self, start: &Start<'_>) -> std::io::Result<(u32, Running, Vec<OwnedFd>)> {
        let (told, end) = session::end()?;
        let started = session::start(start)?;
        let mut descriptors = match started.ends {
            Ends::Terminal(master) => vec![master],
            Ends::Pipes { input, output, error } => vec![input, output, error],
        };
        descriptors.push(told);
        Ok((started.child.id(), Running { session: self.sessions, end, what: None }, descriptors))
    }

    fn greet(
        &self,
        start: &Start<'_>,
        terminal: &Terminal,
    ) -> std::io::Result<((u32, Running), OwnedFd, OwnedFd)> {
        let (told, end) = session::end()?;
        let (child, output) = session::status(start.account, terminal.size.columns)?;
        Ok(((child.id(), Running { session: u32::MAX, end, what: None }), output, told))
    }

    pub(super) fn note_running(&mut self) {
        let running = self.running.values().filter_map(|running| running.what.clone()).collect();
        self.record.running(running);
    }
}
