//! The state of this boot: what the stages fill in and the loop keeps.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use rescue_schema::paths;
use rescue_schema::report::{BootReport, Ready, StageLine, StageReport, StageResult};

use super::confirm::{self, Confirm, Due};
use super::session::Told;
use super::stages::{Outcome, Stage};
use super::supervise::Services;
use crate::sys::acpi::PowerButton;
use crate::sys::cmdline::Cmdline;
use crate::sys::notify::{Down, Notice};
use crate::sys::time::since_boot;
use crate::sys::{files, log};

/// What the way in by SSH does not need is done when that is up or after this, whichever is first: on
/// one processor it costs some of the time in which somebody waits. These are the consoles' logins, and
/// the power button, whose driver is not there before either.
pub(super) const LATER_WAIT: Duration = Duration::from_millis(1500);
/// How long it leaves the processor to the first SSH login once the machine is ready.
const LATER_AFTER_READY: Duration = Duration::from_millis(400);
/// What on the command line says how much the kernel shows on its consoles
/// (Documentation/admin-guide/kernel-parameters.txt).
const SAYS_HOW_MUCH: [&str; 4] = ["quiet", "loglevel", "debug", "ignore_loglevel"];
/// Host name where none was injected.
const HOSTNAME: &str = "rescue";

/// A stage that was begun and has not ended.
struct Pending {
    stage: &'static Stage,
    begun: Instant,
    /// Its line was said already, as failed: it took too long. What it brings later still counts.
    late: bool,
}

/// The state of this boot.
pub(super) struct Boot {
    started: Instant,
    pub(super) consoles: Vec<String>,
    pub(super) services: Services,
    pub(super) notices: Option<UnixDatagram>,
    pub(super) power_button: Option<PowerButton>,
    pub(super) cmdline: Cmdline,
    pub(super) session: Told,
    pending: Vec<Pending>,
    address: Option<std::net::IpAddr>,
    listening: Option<(u16, String)>,
    /// When to do what can wait.
    pub(super) later_due: Option<Instant>,
    confirm: Option<Confirm>,
    pub(super) report: BootReport,
    /// The report has changed since it was last written.
    pub(super) dirty: bool,
}

impl Boot {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            consoles: Vec::new(),
            services: Services::default(),
            notices: None,
            power_button: None,
            cmdline: Cmdline::default(),
            session: Told::default(),
            pending: Vec::new(),
            address: None,
            listening: None,
            later_due: None,
            confirm: None,
            report: BootReport::default(),
            dirty: true,
        }
    }

    /// What needs /proc, /dev and /run, as soon as they are there.
    pub(super) fn mounted(&mut self) {
        crate::sys::spawn::protect_from_oom_killer();
        self.cmdline = Cmdline::observe(Path::new("/"));
        // Kernels of ours say nothing before this but what went wrong (`kernel-configs/speed.config`).
        if SAYS_HOW_MUCH.iter().all(|name| self.cmdline.get(name).is_none()) {
            log::show_on_consoles();
        }
        self.begin_to_count();
        let bound = UnixDatagram::bind(paths::NOTIFY).and_then(|socket| {
            socket.set_nonblocking(true)?;
            std::fs::set_permissions(paths::NOTIFY, std::fs::Permissions::from_mode(0o600))?;
            Ok(socket)
        });
        match bound {
            Ok(socket) => self.notices = Some(socket),
            Err(error) => log::kmsg_error(&format!("rescue: binding {}: {error}", paths::NOTIFY)),
        }
    }

    /// `rescue.return_after=`: the time in which somebody must log in.
    fn begin_to_count(&mut self) {
        let Some(text) = self.cmdline.get("rescue.return_after") else { return };
        match confirm::parse(text) {
            Ok(after) => {
                self.confirm = Some(Confirm::begin(self.started, after));
                self.report.returns_at = Some((since_boot() + after).as_secs());
                log::kmsg(&format!(
                    "rescue: back to the disk in {} s unless somebody logs in",
                    after.as_secs()
                ));
            }
            Err(why) => log::kmsg_error(&format!("rescue: {why}; not used: the rescue stays")),
        }
    }

    pub(super) fn has_address(&self) -> bool {
        self.address.is_some()
    }

    pub(super) fn begin_modules(&mut self) {
        self.services.start("modules", &["modules"], false);
    }

    pub(super) fn begin_network(&mut self) {
        self.services.start("netd", &["netd"], true);
    }

    pub(super) fn start_consoles(&mut self) -> Outcome {
        self.later_due = Some(Instant::now() + LATER_WAIT);
        match self.consoles.is_empty() {
            true => (StageResult::Skipped, "no console to log in on".into()),
            false => (StageResult::Ok, String::new()),
        }
    }

    pub(super) fn set_hostname(&mut self) -> Outcome {
        let wished = self.session.document().device.hostname.as_deref().unwrap_or(HOSTNAME);
        // The kernel's limit is 64 bytes, a domain name's 253.
        let name = wished.split('.').next().unwrap_or(HOSTNAME);
        match nix::unistd::sethostname(name) {
            Ok(()) => {
                let _ = files::replace(Path::new("/etc/hostname"), 0o644, format!("{name}\n").as_bytes());
                (StageResult::Ok, String::new())
            }
            Err(error) => (StageResult::Failed, format!("setting the host name {name}: {error}")),
        }
    }

    /// A stage of kind `Begin` is under way.
    pub(super) fn stage_begun(&mut self, stage: &'static Stage, begun: Instant) {
        self.pending.push(Pending { stage, begun, late: false });
    }

    /// Says that a stage has ended.
    pub(super) fn stage_ended(&mut self, name: &str, result: StageResult, took: Duration, why: String) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        log::kmsg(&StageLine { stage: name.into(), result, ms }.to_string());
        if !why.is_empty() {
            log::note("pid1", &format!("{name}: {why}"));
        }
        self.report.stages.retain(|stage| stage.name != name);
        self.report.stages.push(StageReport { name: name.into(), result, ms, why });
        self.dirty = true;
    }

    /// Ends a pending stage well.
    pub(super) fn fulfil(&mut self, name: &str, why: String) {
        self.conclude(name, StageResult::Ok, why);
    }

    /// Ends a pending stage.
    pub(super) fn conclude(&mut self, name: &str, result: StageResult, why: String) {
        if let Some(at) = self.pending.iter().position(|p| p.stage.name == name) {
            let pending = self.pending.remove(at);
            self.stage_ended(name, result, pending.begun.elapsed(), why);
        }
    }

    /// Takes note of what a service has to say.
    pub(super) fn note(&mut self, notice: Notice) {
        match notice {
            Notice::ModulesSettled { loaded, failed } => {
                let failures = if failed == 0 { String::new() } else { format!("{failed} would not load") };
                log::note("pid1", &format!("{loaded} modules loaded"));
                self.fulfil("modules", failures);
            }
            Notice::Address(address) => {
                self.fulfil("network", String::new());
                let moved = self.address.replace(address).is_some_and(|old| old != address);
                if moved {
                    log::kmsg(&format!("rescue: the address is {address} now"));
                    self.report.ready = None;
                }
            }
            Notice::AddressLost => {
                log::kmsg("rescue: the address is lost; the network keeps trying");
                self.address = None;
                self.report.ready = None;
            }
            Notice::Listening { port, hostkey } => {
                self.fulfil("ssh", String::new());
                self.session.ssh_anew = false;
                let changed = self.listening.replace((port, hostkey.clone()));
                if changed.is_some_and(|before| before != (port, hostkey)) {
                    self.report.ready = None;
                }
            }
            Notice::LoggedIn => {
                if self.confirm.as_ref().is_some_and(Confirm::can_be_cancelled) {
                    self.confirm = None;
                    self.report.returns_at = None;
                    log::kmsg("rescue: somebody has logged in: the rescue stays");
                }
            }
            Notice::Sources { looked } => self.hear_sources(looked),
            Notice::GoDown(_) => {}
        }
        self.dirty = true;
        self.say_ready();
    }

    /// The ready line: once there is an address and a server, and again when the address changed.
    fn say_ready(&mut self) {
        let (Some(address), Some((port, hostkey)), None) =
            (self.address, &self.listening, &self.report.ready)
        else {
            return;
        };
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ssh = std::net::SocketAddr::new(address, *port).to_string();
        let ready = Ready { ms, ssh, hostkey: hostkey.clone() };
        log::kmsg(&ready.to_string());
        self.report.ready = Some(ready);
        // Not at once: who waits for SSH logs in now.
        self.later_due = self.later_due.map(|due| due.min(Instant::now() + LATER_AFTER_READY));
    }

    /// Does what is due; says when the machine is to go down.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Down> {
        self.services.tick(now);
        let down = match self.confirm.as_mut().and_then(|confirm| confirm.tick(now)) {
            Some(Due::Farewell) => {
                log::kmsg("rescue: nobody has logged in: back to the disk");
                let consoles: Vec<&str> = self.consoles.iter().map(String::as_str).collect();
                self.services.start("farewell", &[&["farewell"], &consoles[..]].concat(), false);
                None
            }
            Some(Due::Return) => Some(Down::Reboot),
            None => None,
        };
        self.tick_session(now);
        let late: Vec<&'static Stage> = self
            .pending
            .iter_mut()
            .filter(|p| !p.late && now >= p.begun + p.stage.deadline)
            .map(|p| {
                p.late = true;
                p.stage
            })
            .collect();
        for stage in late {
            let why = format!("not there after {} s; still trying", stage.deadline.as_secs());
            self.stage_ended(stage.name, StageResult::Failed, stage.deadline, why);
        }
        if self.later_due.is_some_and(|due| now >= due) {
            self.later_due = None;
            if let Err(error) = std::fs::write(paths::LATER, "") {
                log::note("pid1", &format!("writing {}: {error}", paths::LATER));
            }
            match PowerButton::open() {
                Ok(button) => self.power_button = Some(button),
                Err(error) => log::note("pid1", &format!("no power button: {error}")),
            }
            for tty in self.consoles.clone() {
                self.services.start(&format!("console-{tty}"), &["console", &tty], false);
            }
            self.panic_on_purpose();
        }
        if let Some(restarts) = self.services.take_restarts() {
            self.report.restarts = restarts;
            self.dirty = true;
        }
        if !self.is_on_the_way()
            && std::mem::take(&mut self.dirty)
            && let Ok(json) = serde_json::to_vec(&self.report)
        {
            let _ = files::replace(Path::new(paths::BOOT_REPORT), 0o644, &json);
        }
        down
    }

    /// Whether nobody can ask for the report yet: no login is there, and nothing that waits for the
    /// drivers has to be told of them.
    fn is_on_the_way(&self) -> bool {
        let modules = self.pending.iter().any(|p| p.stage.name == "modules" && !p.late);
        self.later_due.is_some() && self.report.ready.is_none() && modules
    }

    /// `rescue.panic=test` on the kernel command line tries out the fatal path.
    #[allow(clippy::panic)]
    fn panic_on_purpose(&self) {
        if self.cmdline.get("rescue.panic") == Some("test") {
            panic!("rescue.panic=test");
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let stages = self.pending.iter().filter(|p| !p.late).map(|p| p.begun + p.stage.deadline);
        let confirm = self.confirm.as_ref().map(Confirm::deadline);
        stages
            .chain(self.services.next_deadline())
            .chain(self.later_due)
            .chain(self.session.next_deadline())
            .chain(confirm)
            .min()
    }

    /// Whether the power button was pressed since the last call.
    pub(super) fn power_button_pressed(&mut self) -> bool {
        match self.power_button.as_mut().map(PowerButton::pressed) {
            Some(Ok(pressed)) => pressed,
            Some(Err(error)) => {
                // Polling a broken descriptor would spin.
                log::note("pid1", &format!("power button: {error}"));
                self.power_button = None;
                false
            }
            None => false,
        }
    }
}
