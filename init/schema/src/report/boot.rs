use serde::{Deserialize, Serialize};

use super::CredentialSource;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageResult {
    /// It did what it is for.
    Ok,
    /// It did not; the boot went on where it could.
    Failed,
    /// There was nothing for it to do.
    Skipped,
}

impl StageResult {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// `rescue: stage=<name> result=<ok|failed|skipped> ms=<n>` in kmsg. `ms` is what the stage took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageLine {
    /// Name of the stage.
    pub stage: String,
    /// How it ended.
    pub result: StageResult,
    /// Milliseconds that it took.
    pub ms: u64,
}

impl std::fmt::Display for StageLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rescue: stage={} result={} ms={}", self.stage, self.result.word(), self.ms)
    }
}

impl StageLine {
    /// Finds such a line in a line of console output, whatever stands before it.
    pub fn find(line: &str) -> Option<Self> {
        let fields = fields_after(line, "rescue: stage=")?;
        let mut stage = Self { stage: fields.first()?.to_string(), result: StageResult::Ok, ms: 0 };
        for field in fields.get(1..)? {
            match field.split_once('=')? {
                ("result", "ok") => stage.result = StageResult::Ok,
                ("result", "failed") => stage.result = StageResult::Failed,
                ("result", "skipped") => stage.result = StageResult::Skipped,
                ("ms", ms) => stage.ms = ms.parse().ok()?,
                _ => {}
            }
        }
        Some(stage)
    }
}

/// `rescue: ready ms=<n> ssh=<addr:port> hostkey=<SHA256:…>` in kmsg: the end of a boot. `ms` counts
/// from the start of `/init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Milliseconds since the start of `/init`.
    pub ms: u64,
    /// Address and port that SSH is reached at.
    pub ssh: String,
    /// Fingerprint of the host key, as `ssh-keygen -l` prints it.
    pub hostkey: String,
}

impl std::fmt::Display for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rescue: ready ms={} ssh={} hostkey={}", self.ms, self.ssh, self.hostkey)
    }
}

impl Ready {
    /// Finds such a line in a line of console output, whatever stands before it.
    pub fn find(line: &str) -> Option<Self> {
        let fields = fields_after(line, "rescue: ready ")?;
        let value = |name: &str| {
            fields
                .iter()
                .find_map(|f| f.split_once('=').filter(|(k, _)| *k == name))
                .map(|(_, v)| v.to_string())
        };
        Some(Self { ms: value("ms")?.parse().ok()?, ssh: value("ssh")?, hostkey: value("hostkey")? })
    }
}

fn fields_after<'a>(line: &'a str, marker: &str) -> Option<Vec<&'a str>> {
    Some(line.split_once(marker)?.1.split_whitespace().collect())
}

/// What PID 1 knows of this boot, for `rescue status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootReport {
    /// `device.id`, when one was injected.
    pub device: Option<String>,
    /// `session.id`, when one was injected.
    pub session: Option<String>,
    /// Names of the logins that exist.
    pub logins: Vec<String>,
    /// Why nobody may log in, when that is so.
    pub closed: Option<String>,
    /// Where credentials were looked for, the most trusted place first, and what was there.
    pub sources: Vec<CredentialSource>,
    /// The stages that have ended, in the order in which they did.
    pub stages: Vec<StageReport>,
    /// The ready line, once it was said.
    pub ready: Option<Ready>,
    /// Restarts of services so far: name and count.
    pub restarts: Vec<(String, u32)>,
    /// When the machine goes back to its disk because nobody has logged in, in seconds since the kernel
    /// started; `None` where that was not asked for, or somebody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns_at: Option<u64>,
}

/// One stage that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// Name of the stage.
    pub name: String,
    /// How it ended.
    pub result: StageResult,
    /// Milliseconds that it took.
    pub ms: u64,
    /// Why, when it failed or was skipped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back() {
        let stage = StageLine { stage: "mounts".into(), result: StageResult::Skipped, ms: 12 };
        assert_eq!(StageLine::find(&format!("[    2.1] {stage}\r")), Some(stage));
        let ready = Ready { ms: 345, ssh: "10.0.2.15:22".into(), hostkey: "SHA256:abc".into() };
        assert_eq!(Ready::find(&format!("[    2.1] {ready}\r")), Some(ready));
        assert_eq!(Ready::find("rescue: ready to go"), None);
    }
}
