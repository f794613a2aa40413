//! What this boot was told, and what becomes of it: accounts, host keys, the network, a name. What stands in
//! RAM is there at once; `rescue sources` looks elsewhere beside the boot, and what it finds is put into
//! effect when it comes.

use std::path::Path;
use std::time::{Duration, Instant};

use rescue_schema::credentials::{Document, Ssh};
use rescue_schema::paths;
use rescue_schema::report::{CredentialState, StageResult};

use super::boot::{Boot, LATER_WAIT};
use super::mounts;
use super::stages::Outcome;
use crate::creds::merge::{Session, merge};
use crate::creds::{self, Said};
use crate::sys::{files, log, random, secrets};
use crate::{accounts, ssh};

/// Login shells, the preferred one first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
/// Longest account of what `rescue sources` has found: some documents.
const MAX_FOUND: usize = 8 << 20;
/// How long the SSH server waits for the sources where nobody may log in yet: they may bring its host key.
const SSH_WAIT: Duration = Duration::from_secs(5);

/// Why nothing was injected where the kernel had no room to unpack all of the image: the document comes
/// last.
const CUT: &str = "the image did not fit into memory, and the credentials behind it were lost: give the \
    machine more memory, boot with rootfstype=ramfs, or use the minimal profile";

/// What this boot was told so far.
#[derive(Default)]
pub(super) struct Told {
    said: Vec<Said>,
    session: Session,
    /// Accounts were made: what changes from now on must be put into effect.
    in_effect: bool,
    /// Every place that needs no network was looked at.
    looked: bool,
    /// When `rescue sources` is to be started.
    sources_due: Option<Instant>,
    /// When the SSH server is started, whatever the sources do.
    ssh_due: Option<Instant>,
    /// The SSH server starts anew: what it listens with is not known until it says so.
    pub(super) ssh_anew: bool,
    /// The host's socket was told that the machine is ready.
    told: bool,
    /// What the beacon was last started for.
    beacon: Option<String>,
}

impl Told {
    pub(super) fn document(&self) -> &Document {
        &self.session.document
    }

    fn nobody(&self) -> bool {
        self.session.document.logins.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.sources_due.into_iter().chain(self.ssh_due).min()
    }
}

/// Whether the kernel ran out of room for the image: the root file system, which takes half of the
/// memory at the most, is full to the last block.
fn image_was_cut(root: &Path) -> bool {
    rustix::fs::statvfs(root).is_ok_and(|fs| fs.f_blocks > 0 && fs.f_bavail == 0)
}

impl Boot {
    /// Reads what was injected into RAM, and removes it from the file system.
    pub(super) fn read_credentials(&mut self) -> Outcome {
        let root = Path::new("/");
        if let Some(seed) = creds::seed(root)
            && let Err(error) = random::credit(&seed)
        {
            log::note("pid1", &format!("feeding the injected seed to the kernel: {error}"));
        }
        let mut appended = creds::appended::gather(root);
        if appended.state == CredentialState::Absent && image_was_cut(root) {
            // Something may have been there, and must not be made up for by another source.
            appended = Said::refused(creds::APPENDED, CUT);
        }
        mounts::make_room();
        self.session.said = vec![appended, creds::command_line::gather(&self.cmdline)];
        self.session.said.iter().for_each(note);
        self.take(merge(&self.session.said));
        self.write_network_wishes();
        match (self.session.session.refused.clone(), self.session.nobody()) {
            (Some(why), _) => (StageResult::Failed, why),
            (None, true) => (StageResult::Skipped, "not in RAM; looking elsewhere".into()),
            (None, false) => (StageResult::Ok, String::new()),
        }
    }

    /// Looks wherever else credentials may be, beside the boot: at once where nobody may log in or the
    /// firmware has a word for us, else when who waits for SSH has had the processor.
    pub(super) fn begin_sources(&mut self) {
        match self.session.nobody() || creds::firmware::hinted(Path::new("/")) {
            true => self.services.start_once("sources", &["sources"]),
            false => self.session.sources_due = Some(Instant::now() + LATER_WAIT),
        }
    }

    pub(super) fn begin_ssh(&mut self) {
        match self.session.nobody() && !self.session.looked {
            true => self.session.ssh_due = Some(Instant::now() + SSH_WAIT),
            false => self.start_ssh(),
        }
    }

    fn start_ssh(&mut self) {
        self.session.ssh_due = None;
        self.session.ssh_anew = self.services.has("sshd");
        let listen = format!("[::]:{}", self.session.document().ssh.port);
        self.services.replace("sshd", &["sshd", "--listen", &listen], true);
    }

    /// Does what of this is due.
    pub(super) fn tick_session(&mut self, now: Instant) {
        // The consoles wait for the same: that who waits for SSH is in.
        let ready = self.report.ready.is_some() && self.later_due.is_none();
        if self.session.sources_due.is_some_and(|due| now >= due || ready) {
            self.session.sources_due = None;
            self.services.start_once("sources", &["sources", "--beside"]);
        }
        if self.session.ssh_due.is_some_and(|due| now >= due) {
            self.start_ssh();
        }
        if ready && !self.session.told {
            self.tell_host();
        }
        self.send_beacon(ready);
        if self.services.gave_up("sources") && !self.session.looked {
            self.conclude("sources", StageResult::Failed, "what looks for credentials has failed".into());
            self.hear_sources(true);
        }
    }

    /// Tells the host's socket that the machine is ready, once in a boot.
    fn tell_host(&mut self) {
        let Some(socket) = self.session.document().session.notify.clone() else { return };
        match socket.starts_with("vsock") {
            true => self.services.start_once("notify", &["notify", &socket]),
            false => log::kmsg_error("rescue: session.notify: not an address such as vsock:2:1234; not told"),
        }
        self.session.told = true;
    }

    /// Has the beacon sent: when the machine is ready, at each address and with each host key, and when it has
    /// an address but a stage has failed that keeps it from being ready.
    fn send_beacon(&mut self, ready: bool) {
        let Some(beacon) = &self.session.document().session.beacon else { return };
        let failed = |stage: &rescue_schema::report::StageReport| stage.result == StageResult::Failed;
        let event = match (&self.report.ready, self.has_address()) {
            (Some(at), _) if ready && !self.session.ssh_anew => format!("{} {}", at.ssh, at.hostkey),
            (None, true) if self.report.stages.iter().any(failed) => "failed".into(),
            _ => return,
        };
        if self.session.beacon.as_ref() == Some(&event) {
            return;
        }
        let written = serde_json::to_vec(beacon)
            .map_err(std::io::Error::from)
            .and_then(|json| files::replace(Path::new(paths::BEACON_WISHES), 0o600, &json));
        match written {
            Ok(()) => self.services.start_once("beacon", &["beacon"]),
            Err(error) => log::kmsg_error(&format!("rescue: writing {}: {error}", paths::BEACON_WISHES)),
        }
        // What it says is read from the report.
        self.dirty = true;
        self.session.beacon = Some(event);
    }

    /// `rescue sources` has found something, or nothing in all places.
    pub(super) fn hear_sources(&mut self, looked: bool) {
        match found() {
            Err(why) => log::kmsg_error(&format!("rescue: reading {}: {why}", paths::SOURCES_FOUND)),
            Ok(found) => {
                let ours = [creds::APPENDED, creds::COMMAND_LINE];
                for said in found.into_iter().filter(|said| !ours.contains(&said.source.as_str())) {
                    if !self.session.said.contains(&said) {
                        note(&said);
                    }
                    self.session.said.retain(|other| other.source != said.source);
                    self.session.said.push(said);
                }
            }
        }
        self.session.looked |= looked;
        let before = self.session.document().clone();
        self.take(merge(&self.session.said));
        if self.session.in_effect {
            self.put_into_effect(&before);
        }
        if self.session.ssh_due.is_some() && (self.session.looked || !self.session.nobody()) {
            self.start_ssh();
        }
        if looked {
            self.fulfil("sources", String::new());
        }
    }

    /// Takes note of what the sources come to.
    fn take(&mut self, session: Session) {
        // Nobody can tell before all places were looked at, except where one has closed the door.
        let closed = session.closed().filter(|_| self.session.looked || session.refused.is_some());
        if closed != self.report.closed {
            match &closed {
                Some(why) => log::kmsg_error(&format!("rescue: nobody can log in: {why}")),
                None => log::kmsg("rescue: somebody can log in now"),
            }
            self.report.closed = closed;
        }
        let document = &session.document;
        self.report.device.clone_from(&document.device.id);
        self.report.session.clone_from(&document.session.id);
        self.report.logins = document.logins.iter().map(|login| login.name.clone()).collect();
        self.report.sources.clone_from(&session.sources);
        self.dirty = true;
        self.session.session = session;
    }

    /// What has changed against `before` is carried to those that go by it.
    fn put_into_effect(&mut self, before: &Document) {
        let now = self.session.document().clone();
        if (&now.logins, &now.ssh) != (&before.logins, &before.ssh) {
            let (result, why) = self.make_accounts();
            if result == StageResult::Failed {
                log::kmsg_error(&format!("rescue: {why}"));
            }
        }
        if now.ssh != before.ssh && self.services.has("sshd") {
            // Those who are in stay in: each connection has processes of its own.
            self.start_ssh();
        }
        if now.device.hostname != before.device.hostname {
            let (_, why) = self.set_hostname();
            if !why.is_empty() {
                log::note("pid1", &why);
            }
        }
        if now.network != before.network {
            self.write_network_wishes();
            self.services.start_once("net-adopt", &["net", "adopt"]);
        }
    }

    fn write_network_wishes(&self) {
        let network = &self.session.document().network;
        if *network == Default::default() {
            return;
        }
        let written = serde_json::to_vec(network)
            .map_err(std::io::Error::from)
            .and_then(|json| files::replace(Path::new(paths::NETWORK_WISHES), 0o600, &json));
        if let Err(error) = written {
            log::kmsg_error(&format!("rescue: writing {}: {error}", paths::NETWORK_WISHES));
        }
    }

    /// Turns the document into accounts and host keys.
    pub(super) fn make_accounts(&mut self) -> Outcome {
        let root = Path::new("/");
        self.session.in_effect = true;
        let document = self.session.document();
        if let Err(error) = write_ssh_wishes(&document.ssh) {
            log::kmsg_error(&format!("rescue: writing {}: {error}", paths::SSH_WISHES));
        }
        let keys = ssh::host_keys::install(root, &document.ssh.host_keys);
        let shell = SHELLS.iter().map(Path::new).find(|shell| shell.exists()).unwrap_or(Path::new("/bin/sh"));
        let plan = accounts::plan(Some(document), shell);
        log::note("pid1", &plan.to_string());
        if let Err(error) = plan.apply(root) {
            return (StageResult::Failed, format!("{error:#}"));
        }
        if let Err(error) = keys {
            // The server makes a key of its own; whoever pinned the injected one will be refused by
            // their client, and the reason is here.
            log::kmsg_error(&format!("rescue: {error:#}"));
            return (StageResult::Failed, format!("{error:#}"));
        }
        (StageResult::Ok, String::new())
    }
}

/// What `rescue sources` has left: documents of ours, validated once more.
fn found() -> std::io::Result<Vec<Said>> {
    let Some(bytes) = secrets::take(Path::new(paths::SOURCES_FOUND), MAX_FOUND)? else {
        return Ok(Vec::new());
    };
    // The parser's own error may quote what it read.
    let said: Vec<Said> = serde_json::from_slice(&bytes).map_err(|_| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, "not what `rescue sources` writes")
    })?;
    Ok(said.into_iter().map(Said::checked).collect())
}

fn note(said: &Said) {
    log::note("creds", &format!("{}: {}: {}", said.source, said.state.word(), said.text));
    for remark in &said.remarks {
        log::note("creds", &format!("{}: {remark}", said.source));
    }
}

/// What the SSH server must know of the document, its host keys apart.
fn write_ssh_wishes(ssh: &Ssh) -> std::io::Result<()> {
    let wishes = Ssh { host_keys: Vec::new(), ..ssh.clone() };
    files::replace(Path::new(paths::SSH_WISHES), 0o600, &serde_json::to_vec(&wishes)?)
}
