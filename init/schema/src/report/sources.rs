use serde::{Deserialize, Serialize};

/// What came of a look for credentials in one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialState {
    /// Nothing is there.
    #[default]
    Absent,
    /// Something is there, and valid.
    Found,
    /// Something is there that is not taken. It keeps the door closed for the sources below it.
    Refused,
    /// There may be something, and it has not answered yet. Until then the door is closed for the
    /// sources below it.
    Waiting,
}

impl CredentialState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Found => "found",
            Self::Refused => "refused",
            Self::Waiting => "waiting",
        }
    }
}

/// What one source of credentials said, for `rescue status --sources`. Without secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialSource {
    /// Name of the source.
    pub source: String,
    /// What came of it.
    pub state: CredentialState,
    /// Where was looked, what is there, or why it is refused: one line.
    pub text: String,
    /// The fields of the session that come from it: `logins`, `ssh.host_keys`, `device.hostname`, …
    pub gave: Vec<String>,
    /// What of it was ignored, and why, a line each.
    pub remarks: Vec<String>,
}
