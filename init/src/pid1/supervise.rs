//! The services of PID 1: started, restarted with back-off when they end, and never able to take
//! PID 1 with them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rescue_schema::paths;

use crate::sys::log;
use crate::sys::process::{Ended, How};
use crate::sys::spawn;

/// A service that ran this long is restarted at once when it ends; one that did not, after a delay
/// that doubles from [`FIRST_DELAY`] to [`LAST_DELAY`].
const STEADY: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(10);
/// How often what does one thing is tried again.
const RETRIES: u32 = 2;

/// When to start a service again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Backoff {
    delay: Duration,
}

impl Backoff {
    /// How long to wait after a run of `lived`.
    fn after(&mut self, lived: Duration) -> Duration {
        self.delay = match lived >= STEADY {
            true => Duration::ZERO,
            false => (self.delay * 2).clamp(FIRST_DELAY, LAST_DELAY),
        };
        self.delay
    }
}

enum State {
    Running {
        pid: i32,
        since: Instant,
    },
    /// It was told to end, to be started anew at once.
    Ending {
        pid: i32,
    },
    Waiting {
        until: Instant,
    },
    Stopped,
}

struct Service {
    name: String,
    arguments: Vec<String>,
    protected: bool,
    /// Started again only where it fails, and then a few times.
    once: bool,
    /// Wanted once more while it ran.
    again: bool,
    state: State,
    backoff: Backoff,
    restarts: u32,
}

/// All services.
#[derive(Default)]
pub(super) struct Services {
    list: Vec<Service>,
    stopping: bool,
    /// Whether a restart count changed since it was last asked for.
    changed: bool,
}

impl Services {
    /// Starts `rescue ARGUMENTS…` now and keeps it running. `protected`: kept from the OOM killer,
    /// because without it nobody gets in any more.
    pub(super) fn start(&mut self, name: &str, arguments: &[&str], protected: bool) {
        self.add(name, arguments, protected, false);
    }

    /// Starts `rescue ARGUMENTS…` now, to do one thing and end; one that is under way is not disturbed, and
    /// runs once more when it has ended.
    pub(super) fn start_once(&mut self, name: &str, arguments: &[&str]) {
        match self.list.iter_mut().find(|s| s.name == name) {
            Some(service) if matches!(service.state, State::Stopped) => service.launch(Instant::now()),
            Some(service) => service.again = true,
            None => self.add(name, arguments, false, true),
        }
    }

    /// Starts it, or in the place of the one of that name that runs, which is told to end.
    pub(super) fn replace(&mut self, name: &str, arguments: &[&str], protected: bool) {
        let Some(service) = self.list.iter_mut().find(|s| s.name == name) else {
            return self.start(name, arguments, protected);
        };
        service.arguments = arguments.iter().map(|a| a.to_string()).collect();
        if let State::Running { pid, .. } = service.state {
            match kill(Pid::from_raw(pid), Signal::SIGTERM) {
                Ok(()) => service.state = State::Ending { pid },
                Err(error) => log::note("pid1", &format!("telling {name} to end: {error}")),
            }
        }
    }

    /// Whether there is a service of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.list.iter().any(|s| s.name == name)
    }

    /// Whether a service that does one thing has failed for good.
    pub(super) fn gave_up(&self, name: &str) -> bool {
        let spent = |s: &Service| s.once && s.restarts > RETRIES && matches!(s.state, State::Stopped);
        self.list.iter().any(|s| s.name == name && spent(s))
    }

    fn add(&mut self, name: &str, arguments: &[&str], protected: bool, once: bool) {
        let mut service = Service {
            name: name.into(),
            arguments: arguments.iter().map(|a| a.to_string()).collect(),
            protected,
            once,
            again: false,
            state: State::Stopped,
            backoff: Backoff::default(),
            restarts: 0,
        };
        service.launch(Instant::now());
        self.list.push(service);
    }

    /// Takes note of a process that ended; orphans are nobody's and need no more than reaping.
    pub(super) fn ended(&mut self, ended: Ended, now: Instant) {
        let running = |s: &&mut Service| matches!(s.state, State::Running { pid, .. } | State::Ending { pid } if pid == ended.pid);
        let Some(service) = self.list.iter_mut().find(running) else { return };
        let lived = match service.state {
            State::Running { since, .. } => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        if self.stopping {
            service.state = State::Stopped;
            return;
        }
        if matches!(service.state, State::Ending { .. }) {
            return service.launch(now);
        }
        if service.once && ended.how == How::Exit(0) {
            service.state = State::Stopped;
            if std::mem::take(&mut service.again) {
                service.launch(now);
            }
            return;
        }
        service.restarts += 1;
        self.changed = true;
        if service.once && service.restarts > RETRIES {
            service.state = State::Stopped;
            return log::kmsg_error(&format!("rescue: {} ended: {}; given up", service.name, ended.how));
        }
        let delay = service.backoff.after(lived);
        service.state = State::Waiting { until: now + delay };
        let clean = ended.how == How::Exit(0);
        // A console ends with each logout on a tty that went away; that is no event.
        if !(clean && service.name.starts_with("console")) {
            log::kmsg(&format!(
                "rescue: service={} ended: {}; again in {} ms",
                service.name,
                ended.how,
                delay.as_millis()
            ));
        }
    }

    /// Starts what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        for service in self.list.iter_mut().filter(|_| !self.stopping) {
            if matches!(service.state, State::Waiting { until } if until <= now) {
                service.launch(now);
            }
        }
    }

    /// When the next service is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let due = |s: &Service| match s.state {
            State::Waiting { until } => Some(until),
            _ => None,
        };
        self.list.iter().filter_map(due).min()
    }

    /// Starts nothing any more.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Restart counts, when one has changed since the last call.
    pub(super) fn take_restarts(&mut self) -> Option<Vec<(String, u32)>> {
        let restarted = |s: &&Service| s.restarts > 0;
        std::mem::take(&mut self.changed)
            .then(|| self.list.iter().filter(restarted).map(|s| (s.name.clone(), s.restarts)).collect())
    }
}

impl Service {
    fn launch(&mut self, now: Instant) {
        self.state = match self.spawn() {
            Ok(pid) => State::Running { pid, since: now },
            Err(error) => {
                let delay = self.backoff.after(Duration::ZERO);
                log::kmsg_error(&format!("rescue: starting {}: {error}", self.name));
                State::Waiting { until: now + delay }
            }
        };
    }

    fn spawn(&self) -> std::io::Result<i32> {
        // What a service says on stderr (a panic, above all) goes to the log, not to a console.
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(paths::LOG);
        let stderr = log.or_else(|_| File::options().write(true).open("/dev/null"))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("rescue")
            .args(&self.arguments)
            // The kernel hands PID 1 every parameter that it does not know as a variable.
            .env_clear()
            .env("PATH", spawn::PATH)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::from(stderr.try_clone()?))
            .stderr(Stdio::from(stderr));
        spawn::as_service(&mut command, self.protected);
        let child = command.spawn()?;
        i32::try_from(child.id()).map_err(std::io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_forgives() {
        let mut backoff = Backoff::default();
        let quick = Duration::from_millis(5);
        let delays: Vec<_> = (0..9).map(|_| backoff.after(quick).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        assert_eq!(backoff.after(STEADY), Duration::ZERO);
        assert_eq!(backoff.after(quick), FIRST_DELAY);
    }

    #[test]
    fn orphans_are_nobodys() {
        let mut services = Services::default();
        services.ended(Ended { pid: 4711, how: How::Exit(0), core: false }, Instant::now());
        assert_eq!(services.next_deadline(), None);
        assert_eq!(services.take_restarts(), None);
    }
}
