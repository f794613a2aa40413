//! Of what the sources say, one session: pure.

use rescue_schema::credentials::{Document, DocumentError};
use rescue_schema::network::Network;
use rescue_schema::report::{CredentialSource, CredentialState};

use super::{SOURCES, Said};

/// What all sources together say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// All fields that were given.
    pub document: Document,
    /// What each source said and gave, in order of precedence.
    pub sources: Vec<CredentialSource>,
    /// Why a source is refused that would have said who may enter, or might have.
    pub refused: Option<String>,
    /// The source that is waited for, and may say who may enter.
    pub waiting: Option<String>,
}

/// Whether a field may be taken from a source below one that is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// It says who may enter, or as whom the machine answers.
    Part,
    /// It opens nothing.
    NoPart,
}

/// A field, or those that belong together: what of it a document has goes from there to the session as a
/// whole.
struct Field {
    name: &'static str,
    door: Door,
    has: fn(&Document) -> bool,
    take: fn(&mut Document, &Document),
}

macro_rules! field {
    ($name:literal, $door:ident, $($part:ident).+) => {
        Field {
            name: $name,
            door: Door::$door,
            has: |d| d.$($part).+ != Document::default().$($part).+,
            take: |to, from| to.$($part).+ = from.$($part).+.clone(),
        }
    };
}

/// Every field. A port that is the default one is as good as not said.
const FIELDS: &[Field] = &[
    // An authority that signs certificates lets people in, as a login does.
    Field {
        name: "logins",
        door: Door::Part,
        has: |d| !d.logins.is_empty() || !d.ssh.user_ca_keys.is_empty(),
        take: |to, from| {
            to.logins.clone_from(&from.logins);
            to.ssh.user_ca_keys.clone_from(&from.ssh.user_ca_keys);
        },
    },
    Field {
        // A certificate is of a key that stands beside it.
        name: "ssh.host_keys",
        door: Door::Part,
        has: |d| !d.ssh.host_keys.is_empty(),
        take: |to, from| {
            to.ssh.host_keys.clone_from(&from.ssh.host_keys);
            to.ssh.host_certificates.clone_from(&from.ssh.host_certificates);
        },
    },
    field!("ssh.port", Part, ssh.port),
    field!("ssh.algorithms", Part, ssh.algorithms),
    field!("device.id", NoPart, device.id),
    field!("device.hostname", NoPart, device.hostname),
    field!("device.family", NoPart, device.family),
    field!("session.id", NoPart, session.id),
    field!("session.beacon", NoPart, session.beacon),
    field!("session.notify", NoPart, session.notify),
    Field {
        name: "network",
        door: Door::NoPart,
        has: |d| !d.network.links.is_empty(),
        take: |to, from| {
            let dns = std::mem::take(&mut to.network.dns);
            to.network = from.network.clone();
            if dns != Network::default().dns {
                to.network.dns = dns;
            }
        },
    },
    field!("network.dns", NoPart, network.dns),
];

/// Makes one session of what was said, in whatever order; a source that says nothing more than once is
/// listed once.
#[must_use]
pub fn merge(said: &[Said]) -> Session {
    let mut session = Session::default();
    let mut sorted: Vec<&Said> = said.iter().collect();
    let rank = |said: &&Said| SOURCES.iter().position(|name| *name == said.source).unwrap_or(SOURCES.len());
    sorted.sort_by_key(rank);
    let mut given: Vec<(&str, &str)> = Vec::new();
    // The source that closes the door for those below it.
    let mut closes: Option<&Said> = None;
    for said in sorted {
        let mut line = CredentialSource {
            source: said.source.clone(),
            state: said.state,
            text: said.text.clone(),
            gave: Vec::new(),
            remarks: said.remarks.clone(),
        };
        let settled = given.iter().any(|(field, _)| *field == "logins");
        match (said.state, &said.document) {
            (CredentialState::Refused | CredentialState::Waiting, _) if !settled && closes.is_none() => {
                closes = Some(said);
                match said.state {
                    CredentialState::Waiting => session.waiting = Some(said.source.clone()),
                    _ => session.refused = Some(reason(said)),
                }
            }
            (CredentialState::Found, Some(document)) => {
                for field in FIELDS.iter().filter(|field| (field.has)(document)) {
                    let above = given.iter().find(|(name, _)| *name == field.name);
                    match (above, closes) {
                        (Some((_, source)), _) => {
                            line.remarks.push(format!("{}: not used, {source} says it", field.name));
                        }
                        (None, Some(closes)) if field.door == Door::Part => {
                            let why = match closes.state {
                                CredentialState::Waiting => "is waited for",
                                _ => "is refused",
                            };
                            line.remarks.push(format!("{}: not used, {} {why}", field.name, closes.source));
                        }
                        _ => {
                            (field.take)(&mut session.document, document);
                            given.push((field.name, &said.source));
                            line.gave.push(field.name.into());
                        }
                    }
                }
            }
            _ => {}
        }
        session.sources.push(line);
    }
    if let Err(error) = session.document.validate_translated() {
        // Each of them was valid: what does not fit together lets nobody in.
        session.refused = Some(format!("what the sources say does not fit together: {error}"));
        session.document = Document::default();
    }
    session
}

/// Why a source is refused, with its name where the reason does not tell it.
fn reason(said: &Said) -> String {
    match said.source.as_str() {
        super::APPENDED => said.text.clone(),
        source => format!("{source}: {}", said.text),
    }
}

/// An error of a document that is not called device.json.
pub(super) fn without_name(place: &str, error: &DocumentError) -> String {
    match (place, error.field.as_str()) {
        ("", _) => error.to_string(),
        (place, "") => format!("{place}: {}", error.reason),
        (place, field) => format!("{place}: {field}: {}", error.reason),
    }
}

impl Session {
    /// Why nobody may log in, and what to do about it; `None` when somebody may.
    #[must_use]
    pub fn closed(&self) -> Option<String> {
        if !self.document.logins.is_empty() {
            return None;
        }
        if let Some(reason) = &self.refused {
            return Some(format!("the credentials were refused: {reason}"));
        }
        if let Some(source) = &self.waiting {
            return Some(format!("{source} has not answered yet"));
        }
        let found: Vec<&str> = self
            .sources
            .iter()
            .filter(|s| s.state == CredentialState::Found)
            .map(|s| s.source.as_str())
            .collect();
        let mut text = match found.as_slice() {
            [super::APPENDED] => "device.json: logins: empty: it names nobody who may enter".to_string(),
            [] => String::from(
                "no credentials were injected: append a device.cpio (`imagebuilder inject`) to the initrd",
            ),
            found => format!("{} names nobody who may enter", found.join(" and ")),
        };
        let looked: Vec<String> = self.sources.iter().map(|s| format!("{} ({})", s.source, s.text)).collect();
        if looked.len() > 1 {
            text += &format!(". Looked at: {}", looked.join(", "));
        }
        for line in self.sources.iter().flat_map(|s| &s.remarks) {
            text += &format!(". {line}");
        }
        Some(text)
    }

    /// Whether anything is there that a source said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.iter().all(|s| s.state == CredentialState::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{APPENDED, FW_CFG, METADATA, REMOVABLE, SMBIOS};
    use super::*;

    fn document(json: &str) -> Document {
        Document::parse(format!(r#"{{"version":1,{json}}}"#).as_bytes()).unwrap()
    }

    fn found(source: &str, json: &str) -> Said {
        Said::found(source, "", document(json), Vec::new())
    }

    const ROOT: &str = r#""logins":[{"name":"root","authorized_keys":["ssh-ed25519 A"]}]"#;
    const ADMIN: &str = r#""logins":[{"name":"admin","authorized_keys":["ssh-ed25519 B"]}]"#;

    #[test]
    fn each_field_comes_from_the_highest_source_that_has_it() {
        let session = merge(&[
            found(
                REMOVABLE,
                &format!(r#"{ADMIN},"device":{{"hostname":"low","id":"low"}},"ssh":{{"port":2222}}"#),
            ),
            found(APPENDED, r#""device":{"id":"high"}"#),
            Said::absent(SMBIOS, "no strings"),
            found(FW_CFG, &format!(r#"{ROOT},"network":{{"dns":{{"servers":["192.0.2.53"],"search":[]}}}}"#)),
        ]);
        let d = &session.document;
        assert_eq!((d.device.id.as_deref(), d.device.hostname.as_deref()), (Some("high"), Some("low")));
        assert_eq!((d.logins.len(), d.logins[0].name.as_str(), d.ssh.port), (1, "root", 2222));
        assert_eq!(d.network.dns.servers.len(), 1);
        assert_eq!((session.closed(), session.refused.as_deref()), (None, None));
        let names: Vec<_> = session.sources.iter().map(|s| s.source.as_str()).collect();
        assert_eq!(names, [APPENDED, SMBIOS, FW_CFG, REMOVABLE]);
        assert_eq!(session.sources[2].gave, ["logins", "network.dns"]);
        assert_eq!(
            session.sources[3].remarks,
            ["logins: not used, fw_cfg says it", "device.id: not used, appended cpio says it"]
        );
    }

    #[test]
    fn an_authority_below_opens_no_door_that_logins_above_do_not() {
        let session =
            merge(&[found(APPENDED, ROOT), found(REMOVABLE, r#""ssh":{"user_ca_keys":["ssh-ed25519 CA"]}"#)]);
        assert!(session.document.ssh.user_ca_keys.is_empty());
    }

    #[test]
    fn a_refused_source_closes_the_door_for_those_below_and_for_nothing_else() {
        let below = found(
            METADATA,
            &format!(
                r#"{ROOT},"device":{{"hostname":"db7"}},"ssh":{{"port":2222}},"network":{{"links":[{{"mac":"52:54:00:00:00:01"}}]}}"#
            ),
        );
        let session = merge(&[below.clone(), Said::refused(SMBIOS, "passwd.hashed-password.root: no hash")]);
        assert!(session.document.logins.is_empty() && session.document.ssh.port == 22);
        assert_eq!(session.document.device.hostname.as_deref(), Some("db7"));
        assert_eq!(session.document.network.links.len(), 1);
        assert_eq!(
            session.closed().as_deref(),
            Some("the credentials were refused: SMBIOS: passwd.hashed-password.root: no hash")
        );
        assert!(session.sources[1].remarks.contains(&"logins: not used, SMBIOS is refused".to_string()));
        // One above it is not touched by it.
        let session = merge(&[found(APPENDED, ADMIN), Said::refused(SMBIOS, "no"), below.clone()]);
        assert_eq!((session.closed(), session.refused.clone()), (None, None));
        assert_eq!(session.document.logins[0].name, "admin");
        // Above it, but without logins.
        let named = r#""device":{"id":"x"}"#;
        let session = merge(&[found(APPENDED, named), Said::refused(SMBIOS, "no"), below.clone()]);
        assert!(session.closed().unwrap().contains("SMBIOS: no"));
        // What has not answered may yet.
        let session = merge(&[Said::waiting(SMBIOS, "asked"), below]);
        assert_eq!(session.closed().as_deref(), Some("SMBIOS has not answered yet"));
    }

    #[test]
    fn nobody_says_where_was_looked() {
        let mut disks = Said::absent(REMOVABLE, "1 drive");
        disks.add(["/dev/vda2 is labelled config-2: refused, a partition".to_string()]);
        let why = merge(&[Said::absent(APPENDED, "no device.json"), disks]).closed().unwrap();
        assert!(why.starts_with("no credentials were injected"), "{why}");
        assert!(why.contains("appended cpio (no device.json), removable media (1 drive)"), "{why}");
        assert!(why.contains("/dev/vda2 is labelled config-2"), "{why}");
        let empty = merge(&[found(APPENDED, r#""logins":[]"#)]);
        assert_eq!(
            empty.closed().as_deref(),
            Some("device.json: logins: empty: it names nobody who may enter")
        );
    }

    #[test]
    fn what_comes_from_another_process_is_checked() {
        let mut said = found(SMBIOS, ROOT);
        said.document.as_mut().unwrap().logins[0].name = "bob".into();
        assert_eq!(said.checked().state, CredentialState::Refused);
        let mut said = Said::refused(SMBIOS, "x");
        said.document = Some(document(ROOT));
        assert_eq!(said.checked().document, None);
    }
}
