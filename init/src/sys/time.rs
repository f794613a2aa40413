//! Clocks.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since the kernel started, suspension included.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// Seconds since 1970 of a day of the Gregorian calendar and seconds in it; `None` for what is no such day or
/// was before.
#[must_use]
pub fn moment(year: u64, month: u64, day: u64, seconds: u64) -> Option<u64> {
    let valid = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || seconds > 86_400 {
        return None;
    }
    // Years that begin in March: the day that is not always there is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days.checked_sub(719_468)?.checked_mul(86_400)?.checked_add(seconds)
}
