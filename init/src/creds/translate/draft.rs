//! A part in the making: what is valid is put in, what is not is told.

use rescue_schema::Secret;
use rescue_schema::credentials::{Document, LOGIN_NAMES, Login};
use rescue_schema::crypt;

use crate::creds::part::Part;
use crate::tree;

/// A part in the making.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) part: Part,
    /// The first thing that would have let somebody in and did not.
    failed: Option<String>,
}

/// An error of a parser, by its place alone.
pub(super) fn malformed(error: &tree::Error) -> String {
    match error.line {
        0 => "not well-formed".into(),
        line => format!("not well-formed (line {line})"),
    }
}

impl Draft {
    pub(super) fn say(&mut self, remark: impl Into<String>) {
        self.part.remarks.push(remark.into());
    }

    /// What would have let somebody in does not.
    pub(super) fn fail(&mut self, why: String) {
        self.part.remarks.push(why.clone());
        self.failed.get_or_insert(why);
    }

    /// The part; an error where nobody may enter by it who should have.
    pub(super) fn finish(self) -> Result<Part, String> {
        match self.failed {
            Some(why) if self.part.document.logins.is_empty() => Err(why),
            _ => Ok(self.part),
        }
    }

    fn login(&mut self, name: &str) -> &mut Login {
        let logins = &mut self.part.document.logins;
        let at = logins.iter().position(|login| login.name == name).unwrap_or(logins.len());
        if at == logins.len() {
            logins.push(Login { name: name.into(), password_hash: None, authorized_keys: Vec::new() });
        }
        // It was found or has just been put there.
        #[allow(clippy::indexing_slicing)]
        &mut logins[at]
    }

    /// Says once that those who are other users on the machine itself, and may become root there, are root here.
    pub(super) fn as_root(&mut self, at: &str) {
        let remark = format!("{at}: those who have other names on the machine enter as root");
        if !self.part.remarks.contains(&remark) {
            self.part.remarks.push(remark);
        }
    }

    /// Lines of `authorized_keys` for a login; `at` is where they stand.
    pub(super) fn keys<'a>(&mut self, at: &str, login: &str, texts: impl IntoIterator<Item = &'a str>) {
        for line in texts.into_iter().flat_map(str::lines).map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut probe = Document::default();
            let authorized_keys = vec![line.to_string()];
            probe.logins.push(Login { name: login.into(), password_hash: None, authorized_keys });
            match probe.validate() {
                Ok(()) => {
                    let keys = &mut self.login(login).authorized_keys;
                    if !keys.iter().any(|key| key == line) {
                        keys.push(line.into());
                    }
                }
                Err(error) => self.fail(format!("{at}: {}", error.reason)),
            }
        }
    }

    /// A hash as of crypt(5).
    pub(super) fn hash(&mut self, at: &str, login: &str, hash: &str) {
        match crypt::check(hash) {
            Ok(_) => self.login(login).password_hash = Some(Secret::new(hash)),
            Err(why) => self.fail(format!("{at}: {why}")),
        }
    }

    /// Whether there is such a login in a rescue; it is told where not.
    pub(super) fn knows(&mut self, at: &str, name: &str) -> bool {
        let known = LOGIN_NAMES.contains(&name);
        if !known {
            self.say(format!("{at}: not used, a rescue has the logins {}", LOGIN_NAMES.join(" and ")));
        }
        known
    }

    pub(super) fn hostname(&mut self, at: &str, name: &str) {
        let mut probe = Document::default();
        probe.device.hostname = Some(name.into());
        match probe.validate() {
            Ok(()) => self.part.document.device.hostname = probe.device.hostname,
            Err(_) => self.say(format!("{at}: no host name: not used")),
        }
    }

    pub(super) fn id(&mut self, at: &str, id: &str) {
        let mut probe = Document::default();
        probe.device.id = Some(id.into());
        match probe.validate() {
            Ok(()) => self.part.document.device.id = probe.device.id,
            Err(_) => self.say(format!("{at}: not used, over 128 characters or not ASCII")),
        }
    }
}
