//! Commit-confirm: with `rescue.return_after=15m` on the kernel command line a machine that nobody logs in to
//! within that time says what it knows on its consoles, and goes back to its own disk.

use std::time::{Duration, Instant};

/// How long the farewell may take before the machine goes without it: looking at a dying disk takes its time.
const FAREWELL: Duration = Duration::from_secs(30);
/// Shortest and longest time that may be asked for.
const RANGE: std::ops::RangeInclusive<u64> = 10..=7 * 24 * 3600;

/// What is due next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The diagnosis.
    Farewell,
    /// The reboot, whatever became of the diagnosis.
    Return,
}

/// The time that runs.
#[derive(Debug)]
pub(super) struct Confirm {
    at: Instant,
    next: Due,
}

impl Confirm {
    /// Begins to count.
    pub(super) fn begin(now: Instant, after: Duration) -> Self {
        Self { at: now + after, next: Due::Farewell }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Instant {
        self.at
    }

    /// Whether it is only the time that runs, so that a login still ends it.
    pub(super) fn can_be_cancelled(&self) -> bool {
        self.next == Due::Farewell
    }

    /// What is due now.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Due> {
        if now < self.at {
            return None;
        }
        self.at = now + FAREWELL;
        Some(std::mem::replace(&mut self.next, Due::Return))
    }
}

/// Reads `90s`, `15m` or `2h`: ten seconds to seven days.
///
/// # Errors
/// Anything else, in words for the console.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("rescue.return_after={text:?}: not a time of 10s to 168h, such as 90s, 15m or 2h");
    let (unit, seconds) = match text.chars().last() {
        Some('s') => ('s', 1),
        Some('m') => ('m', 60),
        Some('h') => ('h', 3600),
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = number.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    let all = count.checked_mul(seconds).filter(|all| RANGE.contains(all)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_garbage_is_refused() {
        for (text, seconds) in [("10s", 10), ("15m", 900), ("2h", 7200), ("168h", 604_800)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "15",
            "9s",
            "0m",
            "-1m",
            "+15m",
            "1.5h",
            "15 m",
            "15mm",
            "169h",
            "99999999999999999999h",
            "é",
        ] {
            assert!(parse(text).unwrap_err().starts_with("rescue.return_after="), "{text}");
        }
    }

    #[test]
    fn the_farewell_comes_before_the_return() {
        let start = Instant::now();
        let mut confirm = Confirm::begin(start, Duration::from_secs(60));
        assert_eq!(confirm.tick(start + Duration::from_secs(59)), None);
        assert!(confirm.can_be_cancelled());
        assert_eq!(confirm.tick(start + Duration::from_secs(60)), Some(Due::Farewell));
        assert!(!confirm.can_be_cancelled());
        assert_eq!(confirm.tick(start + Duration::from_secs(61)), None);
        assert_eq!(confirm.tick(start + Duration::from_secs(90)), Some(Due::Return));
    }
}
