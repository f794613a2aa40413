//! How many lines of the log a connection may write of what it forwards.
//!
//! A browser behind `-D` opens hundreds of connections an hour, and a program can open thousands a second: each
//! is worth a line, and none is worth the lines of logins before it, as the log is kept in memory and bounded.

use std::time::{Duration, Instant};

/// Lines that are written at once.
const BURST: u32 = 100;
/// What it takes to have one more. At some 120 bytes a line, one connection takes an hour to fill the log.
const EVERY: Duration = Duration::from_secs(2);

/// What is left to a connection.
pub(super) struct Ration {
    left: u32,
    /// Since when the next line has been earned.
    since: Instant,
    withheld: u32,
}

impl Ration {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now, withheld: 0 }
    }

    /// Whether a line may be written now, and how many were withheld since the last one.
    pub(super) fn take(&mut self, now: Instant) -> Option<u32> {
        let earned = now.saturating_duration_since(self.since).as_secs() / EVERY.as_secs();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(BURST);
        self.since = match self.left {
            BURST => now,
            _ => self.since + EVERY * earned,
        };
        if self.left == 0 {
            self.withheld = self.withheld.saturating_add(1);
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.withheld))
    }

    /// How many were withheld since the last line.
    pub(super) fn withheld(&mut self) -> u32 {
        std::mem::take(&mut self.withheld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_line_now_and_then_and_none_is_forgotten() {
        let start = Instant::now();
        let mut ration = Ration::new(start);
        assert!((0..BURST).all(|_| ration.take(start) == Some(0)));
        assert!((0..1000).all(|_| ration.take(start + EVERY / 2).is_none()));
        assert_eq!(ration.take(start + EVERY), Some(1000));
        assert_eq!(ration.take(start + EVERY * 3 / 2), None);
        assert_eq!(ration.take(start + EVERY * 2), Some(1));
        // A quiet day earns no more than a burst.
        let later = start + Duration::from_secs(86_400);
        assert_eq!((0..2 * BURST).filter(|_| ration.take(later).is_some()).count(), BURST as usize);
        assert_eq!((ration.withheld(), ration.withheld()), (BURST, 0));
    }
}
