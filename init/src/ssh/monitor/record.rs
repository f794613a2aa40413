//! Who is in, as a file that others read: one a connection, kept by its monitor and gone with it.

use std::path::{Path, PathBuf};

use rescue_schema::report::WhoReport;

use crate::sys::notify::Notice;
use crate::sys::{files, log, process, time};

/// The record of a connection; of none before a login, and where no folder is for it.
pub(super) struct Record {
    folder: Option<PathBuf>,
    report: Option<WhoReport>,
}

impl Record {
    /// Records are kept in `folder`, if in any.
    pub(super) fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_path_buf), report: None }
    }

    /// Somebody is in; the consoles are told too.
    pub(super) fn begin(&mut self, user: &str, from: &str, method: &str) {
        let text = format!("login of {user} from {from} by {method}");
        match &self.folder {
            Some(_) => log::tell("sshd", &text),
            None => log::note("sshd", &text),
        }
        if self.folder.is_some() {
            Notice::LoggedIn.send();
        }
        let id = std::process::id();
        self.report = Some(WhoReport {
            id,
            started: process::start_time(id).unwrap_or(0),
            user: user.into(),
            from: from.into(),
            method: method.into(),
            since_seconds: time::since_boot().as_secs(),
            ..WhoReport::default()
        });
        self.write();
    }

    /// What runs has changed.
    pub(super) fn running(&mut self, running: Vec<String>) {
        if let Some(report) = &mut self.report {
            report.running = running;
            self.write();
        }
    }

    /// A socket listens, or does no more.
    pub(super) fn listening(&mut self, listening: Vec<String>) {
        if let Some(report) = &mut self.report {
            report.listening = listening;
            self.write();
        }
    }

    fn path(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{}.json", self.report.as_ref()?.id)))
    }

    fn write(&self) {
        if let (Some(path), Some(report)) = (self.path(), &self.report)
            && let Ok(json) = serde_json::to_vec(report)
            && let Err(error) = files::replace(&path, 0o600, &json)
        {
            log::note("sshd", &format!("writing {}: {error}", path.display()));
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(path) = self.path() {
            let _ = std::fs::remove_file(path);
        }
    }
}
