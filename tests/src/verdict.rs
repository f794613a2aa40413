//! What a person reads when a scenario fails: what was awaited, how far the boot came, the end of
//! the console, where all of it is kept, and the command that runs it again.

use std::path::PathBuf;

/// Console lines that a failure shows.
pub const SHOWN_LINES: usize = 60;

/// Something awaited that did not happen.
#[derive(Debug)]
pub struct Verdict {
    /// What was awaited, and for how long.
    pub awaited: String,
    /// The last stage line that was seen.
    pub last_stage: Option<String>,
    /// The end of the console, at most [`SHOWN_LINES`] lines.
    pub console: Vec<String>,
    /// The file with all of it.
    pub log: PathBuf,
    /// Name of the scenario, for the command that runs it again.
    pub scenario: String,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.awaited)?;
        writeln!(f, "last stage: {}", self.last_stage.as_deref().unwrap_or("none was reported"))?;
        writeln!(f, "the last {} lines of the console:", self.console.len())?;
        for line in &self.console {
            writeln!(f, "  | {line}")?;
        }
        writeln!(f, "the whole console: {}", self.log.display())?;
        write!(f, "run it again: cargo verify -- --only {}", self.scenario)
    }
}

impl std::error::Error for Verdict {}
