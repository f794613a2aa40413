use serde::{Deserialize, Serialize};

/// A line of the boot log; `rescue log --json` prints one such object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Seconds since the kernel started; none for what a program wrote without our prefix.
    pub seconds: Option<f64>,
    /// `pid1`, `netd`, `sshd`, …
    pub source: Option<String>,
    /// What happened.
    pub text: String,
}

impl LogLine {
    /// Reads `[   12.345] source: text`; anything else is text alone.
    pub fn parse(line: &str) -> Self {
        let parts = line.strip_prefix('[').and_then(|rest| {
            let (seconds, rest) = rest.split_once("] ")?;
            let (source, text) = rest.split_once(": ")?;
            Some((seconds.trim().parse().ok()?, source, text))
        });
        match parts {
            Some((seconds, source, text)) => {
                Self { seconds: Some(seconds), source: Some(source.into()), text: text.into() }
            }
            None => Self { seconds: None, source: None, text: line.into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LogLine;

    #[test]
    fn lines_are_taken_apart() {
        let line = LogLine::parse("[   12.345] netd: eth0: carrier");
        assert_eq!(
            (line.seconds, line.source.as_deref(), &line.text[..]),
            (Some(12.345), Some("netd"), "eth0: carrier")
        );
        let line = LogLine::parse("thread panicked");
        assert_eq!((line.source, &line.text[..]), (None, "thread panicked"));
    }
}
