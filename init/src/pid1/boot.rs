//! The state of this boot: what the stages fill in and the loop keeps.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use rescue_schema::credentials::Document;
use rescue_schema::paths;
use rescue_schema::report::{BootReport, Ready, StageLine, StageReport, StageResult};

use super::stages::{Outcome, Stage};
use super::supervise::Services;
use crate::sys::acpi::PowerButton;
use crate::sys::cmdline::Cmdline;
use crate::sys::notify::Notice;
use crate::sys::{files, log, random};
use crate::{accounts, creds, ssh};

/// What the way in by SSH does not need is done when that is up or after this, whichever is first: on
/// one processor it costs some of the time in which somebody waits. These are the consoles' logins, and
/// the power button, whose driver is not there before either.
const LATER_WAIT: Duration = Duration::from_millis(1500);
/// How long it leaves the processor to the first SSH login once the machine is ready.
const LATER_AFTER_READY: Duration = Duration::from_millis(400);
/// Login shells, the preferred one first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
/// Host name where none was injected.
const HOSTNAME: &str = "rescue";

/// Why nothing was injected where the kernel had no room to unpack all of the image: the document comes
/// last.
const CUT: &str = "the image did not fit into memory, and the credentials behind it were lost: give the \
    machine more memory, boot with rootfstype=ramfs, or use the minimal profile";

/// Whether the kernel ran out of room for the image: the root file system, which takes half of the
/// memory at the most, is full to the last block.
fn image_was_cut(root: &Path) -> bool {
    rustix::fs::statvfs(root).is_ok_and(|fs| fs.f_blocks > 0 && fs.f_bavail == 0)
}

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
    cmdline: Cmdline,
    document: Option<Document>,
    pending: Vec<Pending>,
    address: Option<std::net::IpAddr>,
    listening: Option<(u16, String)>,
    /// When to do what can wait.
    later_due: Option<Instant>,
    report: BootReport,
    /// The report has changed since it was last written.
    dirty: bool,
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
            document: None,
            pending: Vec::new(),
            address: None,
            listening: None,
            later_due: None,
            report: BootReport::default(),
            dirty: true,
        }
    }

    /// What needs /proc, /dev and /run, as soon as they are there.
    pub(super) fn mounted(&mut self) {
        crate::sys::spawn::protect_from_oom_killer();
        self.cmdline = Cmdline::observe(Path::new("/"));
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

    pub(super) fn begin_modules(&mut self) {
        self.services.start("modules", &["modules"], false);
    }

    pub(super) fn begin_network(&mut self) {
        self.services.start("netd", &["netd"], true);
    }

    pub(super) fn begin_ssh(&mut self) {
        let port = self.document.as_ref().map_or(22, |d| d.ssh.port);
        self.services.start("sshd", &["sshd", "--listen", &format!("[::]:{port}")], true);
    }

    pub(super) fn start_consoles(&mut self) -> Outcome {
        self.later_due = Some(Instant::now() + LATER_WAIT);
        match self.consoles.is_empty() {
            true => (StageResult::Skipped, "no console to log in on".into()),
            false => (StageResult::Ok, String::new()),
        }
    }

    /// Reads what was injected, and removes it from the file system.
    pub(super) fn read_credentials(&mut self) -> Outcome {
        let root = Path::new("/");
        if let Some(seed) = creds::seed(root)
            && let Err(error) = random::credit(&seed)
        {
            log::note("pid1", &format!("feeding the injected seed to the kernel: {error}"));
        }
        let gathered = creds::gather(root);
        for finding in &gathered.findings {
            log::note("creds", &format!("{}: {}", finding.source, finding.text));
        }
        let outcome = match gathered.closed() {
            Some(_) if gathered.refused.is_none() && gathered.document.is_none() && image_was_cut(root) => {
                self.close(CUT)
            }
            Some(why) => self.close(&why),
            None => (StageResult::Ok, String::new()),
        };
        if let Some(document) = gathered.document {
            self.report.device = document.device.id.clone();
            self.report.session = document.session.id.clone();
            self.report.logins = document.logins.iter().map(|login| login.name.clone()).collect();
            self.write_network_wishes(&document);
            self.document = Some(document);
        }
        outcome
    }

    /// Nobody may enter: said where somebody who wants to will look.
    fn close(&mut self, why: &str) -> Outcome {
        log::kmsg_error(&format!("rescue: nobody can log in: {why}"));
        self.report.closed = Some(why.into());
        (StageResult::Failed, why.into())
    }

    fn write_network_wishes(&self, document: &Document) {
        if document.network == Default::default() {
            return;
        }
        let written = serde_json::to_vec(&document.network)
            .map_err(std::io::Error::from)
            .and_then(|json| files::replace(Path::new(paths::NETWORK_WISHES), 0o600, &json));
        if let Err(error) = written {
            log::kmsg_error(&format!("rescue: writing {}: {error}", paths::NETWORK_WISHES));
        }
    }

    /// Turns the document into accounts and host keys.
    pub(super) fn make_accounts(&mut self) -> Outcome {
        let root = Path::new("/");
        let shell = SHELLS.iter().map(Path::new).find(|shell| shell.exists()).unwrap_or(Path::new("/bin/sh"));
        let plan = accounts::plan(self.document.as_ref(), shell);
        log::note("pid1", &plan.to_string());
        if let Err(error) = plan.apply(root) {
            return (StageResult::Failed, format!("{error:#}"));
        }
        if let Some(document) = &self.document
            && let Err(error) = write_ssh_wishes(&document.ssh)
        {
            log::kmsg_error(&format!("rescue: writing {}: {error}", paths::SSH_WISHES));
        }
        if let Some(document) = &self.document
            && let Err(error) = ssh::host_keys::install(root, &document.ssh.host_keys)
        {
            // The server makes a key of its own; whoever pinned the injected one will be refused by
            // their client, and the reason is here.
            log::kmsg_error(&format!("rescue: {error:#}"));
            return (StageResult::Failed, format!("{error:#}"));
        }
        (StageResult::Ok, String::new())
    }

    pub(super) fn set_hostname(&mut self) -> Outcome {
        let wished = self.document.as_ref().and_then(|d| d.device.hostname.as_deref()).unwrap_or(HOSTNAME);
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
    fn fulfil(&mut self, name: &str, why: String) {
        if let Some(at) = self.pending.iter().position(|p| p.stage.name == name) {
            let pending = self.pending.remove(at);
            self.stage_ended(name, StageResult::Ok, pending.begun.elapsed(), why);
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
                self.listening = Some((port, hostkey));
            }
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

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.services.tick(now);
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
        stages.chain(self.services.next_deadline()).chain(self.later_due).min()
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

/// What the SSH server must know of the document, its host keys apart.
fn write_ssh_wishes(ssh: &rescue_schema::credentials::Ssh) -> std::io::Result<()> {
    let wishes = rescue_schema::credentials::Ssh { host_keys: Vec::new(), ..ssh.clone() };
    files::replace(Path::new(paths::SSH_WISHES), 0o600, &serde_json::to_vec(&wishes)?)
}
