//! What the machine is told at boot: who may enter, as whom it answers, how it is reached.
//!
//! It may be told so in many places. Each is a *source*, and says what it found, what it ignored and why
//! ([`Said`]); [`SOURCES`] holds their order, the one that is trusted most first. [`merge::merge`] makes
//! one session of all that was said, field by field: the highest source that has a field gives it, and
//! who may enter is one field. A source that is there but malformed, or has not answered yet, keeps the
//! door closed for those below it: else damage to one document would let in those that another one names.
//!
//! PID 1 reads the document that was appended to the image ([`appended`]) and the public keys on the kernel
//! command line ([`command_line`]). All that others wrote in formats of theirs is read by `rescue sources`,
//! which hands PID 1 valid documents of ours: [`firmware`] is what the host put into its tables, [`media`]
//! are drives. What is on a medium is read by a process that can do nothing else, with readers of our own
//! ([`media::iso`], [`media::fat`]), so that the kernel mounts nothing that a stranger made.
//!
//! To add a source: write `creds/<source>.rs` that ends in a [`Said`], add its name to [`SOURCES`], and
//! call it in `commands/sources.rs`.

use std::path::Path;

use rescue_schema::credentials::Document;
use rescue_schema::paths;
use rescue_schema::report::CredentialState;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::sys::secrets;

pub mod appended;
mod base64;
pub mod command_line;
pub mod device_url;
pub mod firmware;
pub mod guestinfo;
pub mod media;
pub mod merge;
pub mod metadata;
pub mod nocloud;
pub mod part;
pub mod smbios;
pub mod systemd;
pub mod translate;

/// The sources, the one that is trusted most first. Whoever starts the machine comes first, then whoever
/// built it, then whoever can put a medium into it, then the network.
#[rustfmt::skip]
pub const SOURCES: &[&str] = &[
    APPENDED,
    COMMAND_LINE,
    DEVICE_URL,
    SMBIOS,
    FW_CFG,
    REMOVABLE,
    WHOLE_DISK,
    METADATA,
];

/// The cpio that the boot loader appended to the image.
pub const APPENDED: &str = "appended cpio";
/// Public keys on the kernel command line.
pub const COMMAND_LINE: &str = "kernel command line";
/// The document at the address that `rescue.device_url=` names.
pub const DEVICE_URL: &str = "device_url";
/// systemd credentials in the strings of the firmware's tables.
pub const SMBIOS: &str = "SMBIOS";
/// systemd credentials in QEMU's firmware configuration.
pub const FW_CFG: &str = "fw_cfg";
/// Optical drives, USB and other removable media, which is also what a BMC presents.
pub const REMOVABLE: &str = "removable media";
/// Disks without a partition table.
pub const WHOLE_DISK: &str = "whole disks";
/// The address at which a cloud describes its machines.
pub const METADATA: &str = "metadata service";

/// Longest seed in bytes that is taken; 32 are enough.
const MAX_SEED: usize = 4096;
/// Most remarks of a source that are kept, and their longest in characters.
const MAX_REMARKS: usize = 32;
const MAX_REMARK: usize = 200;

/// What one source has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its name in [`SOURCES`].
    pub source: String,
    /// What came of looking there.
    pub state: CredentialState,
    /// Where was looked, what is there, or why it is refused: one line without secrets.
    pub text: String,
    /// What was ignored and why, a line each, without secrets.
    pub remarks: Vec<String>,
    /// What it says, where it was found: valid.
    pub document: Option<Document>,
}

impl Said {
    fn new(source: &str, state: CredentialState, text: &str) -> Self {
        let text = shown(text);
        Self { source: source.into(), state, text, remarks: Vec::new(), document: None }
    }

    /// Nothing is there; the text says where was looked.
    #[must_use]
    pub fn absent(source: &str, text: &str) -> Self {
        Self::new(source, CredentialState::Absent, text)
    }

    /// Something is there that is not taken: why.
    #[must_use]
    pub fn refused(source: &str, why: &str) -> Self {
        Self::new(source, CredentialState::Refused, why)
    }

    /// It may yet say something.
    #[must_use]
    pub fn waiting(source: &str, text: &str) -> Self {
        Self::new(source, CredentialState::Waiting, text)
    }

    /// A document, which is refused here if it is not valid; `place` is where it was.
    #[must_use]
    pub fn found(source: &str, place: &str, document: Document, remarks: Vec<String>) -> Self {
        let mut said = match document.validate_translated() {
            Ok(()) => {
                let text = match place {
                    "" => describe(&document),
                    place => format!("{place}: {}", describe(&document)),
                };
                let mut said = Self::new(source, CredentialState::Found, &text);
                said.document = Some(document);
                said
            }
            Err(error) => Self::refused(source, &merge::without_name(place, &error)),
        };
        said.add(remarks);
        said
    }

    /// Adds what was ignored.
    pub fn add(&mut self, remarks: impl IntoIterator<Item = String>) {
        let left = MAX_REMARKS.saturating_sub(self.remarks.len());
        self.remarks.extend(remarks.into_iter().take(left).map(|remark| shown(&remark)));
    }

    /// The same after its way from another process: cut to size, and valid.
    #[must_use]
    pub fn checked(mut self) -> Self {
        let remarks = std::mem::take(&mut self.remarks);
        self.text = shown(&self.text);
        self.add(remarks);
        match (self.state, self.document.as_ref().map(Document::validate_translated)) {
            (CredentialState::Found, Some(Ok(()))) => self,
            (CredentialState::Found, Some(Err(error))) => Self::refused(&self.source, &error.to_string()),
            (CredentialState::Found, None) => Self::refused(&self.source, "it came without a document"),
            _ => Self { document: None, ..self },
        }
    }
}

/// What is inside, in words that are no secret.
#[must_use]
pub fn describe(document: &Document) -> String {
    let logins: Vec<&str> = document.logins.iter().map(|login| login.name.as_str()).collect();
    format!(
        "device {}, logins {}, {} host key(s), {} link(s)",
        document.device.id.as_deref().unwrap_or("unnamed"),
        if logins.is_empty() { "none".into() } else { logins.join(" and ") },
        document.ssh.host_keys.len(),
        document.network.links.len(),
    )
}

/// One line that a terminal may be shown.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(MAX_REMARK).collect()
}

/// The seed for the kernel's random numbers, removed once read; `None` when there is none, or when
/// it is not a file of 1 to 4096 bytes: a boot does without.
#[must_use]
pub fn seed(root: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let seed = secrets::take(&below(root, paths::RANDOM_SEED), MAX_SEED).ok().flatten()?;
    (!seed.is_empty()).then_some(seed)
}

fn below(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}
