//! Slowing down those who guess passwords: one table for SSH and all consoles, in one small file.
//!
//! A source may err three times at no cost; from then on it waits 2 s, 4 s, 8 s … up to a minute after
//! each failure, and is forgiven when it was quiet for a quarter of an hour or logged in. That leaves a
//! guesser some 1,400 guesses a day, and an engineer who mistyped never waits for more than a minute.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::sys::{shared_file, time};

/// Failures that cost nothing.
const FREE: u32 = 3;
/// Longest wait in milliseconds.
const MAX_WAIT: u64 = 60_000;
/// Quiet time in milliseconds after which a source is forgiven.
const FORGIVEN: u64 = 15 * 60_000;
/// Most sources that are kept; the one that failed longest ago makes room.
const MAX_SOURCES: usize = 1024;
/// Longest name of a source in bytes; an IPv6 network has at most 43.
const MAX_NAME: usize = 64;
/// Longest file: every source at its longest.
const MAX_FILE: usize = MAX_SOURCES * (MAX_NAME + 32) + 64;
/// What everybody waits for, in milliseconds, when the table was lost: losing it must not be a way
/// to be forgiven.
const LOST_WAIT: u64 = 5_000;
const HEADER: &str = "rescue-throttle 1";

/// The name that a peer is counted under: its IPv4 address, or the /64 of its IPv6 address, within
/// which a guesser has as many addresses as it likes.
pub fn source_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            format!("{}/64", std::net::Ipv6Addr::from(network))
        }
    }
}

/// The table that all who check passwords share.
#[derive(Debug)]
pub struct Throttle {
    path: PathBuf,
    /// Counts in the place of the file for as long as that cannot be used.
    fallback: Mutex<Table>,
}

impl Throttle {
    /// Uses the file at `path`, which is made (0600) at the first failure.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_path_buf(), fallback: Mutex::default() }
    }

    /// How long `source` (see [`source_of`]; a console uses its name) must still wait before its next
    /// attempt is looked at; `None` when it need not.
    pub fn delay(&self, source: &str) -> Option<Duration> {
        if !self.path.exists() && self.fallback.lock().is_ok_and(|table| *table == Table::default()) {
            return None;
        }
        self.apply(source, Event::Ask)
    }

    /// Counts a failure.
    pub fn failed(&self, source: &str) {
        self.apply(source, Event::Failed);
    }

    /// Forgets the failures of `source`.
    pub fn succeeded(&self, source: &str) {
        if self.delay(source).is_none() && !self.path.exists() {
            return;
        }
        self.apply(source, Event::Succeeded);
    }

    fn apply(&self, source: &str, event: Event) -> Option<Duration> {
        let shared = shared_file::update(&self.path, MAX_FILE + 1, |bytes| {
            // Read under the lock: what another process wrote before is then never in the future.
            let now = now();
            let mut table = Table::parse(bytes, now);
            let before = table.clone();
            let wait = step(&mut table, source, event, now);
            let damaged = !bytes.is_empty() && before.render().as_bytes() != bytes;
            ((damaged || table != before).then(|| table.render().into_bytes()), wait)
        });
        let wait = shared.unwrap_or_else(|_| {
            // Unusable file: this process at least still counts.
            let mut table = self.fallback.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            step(&mut table, source, event, now())
        });
        (wait > 0).then(|| Duration::from_millis(wait))
    }
}

fn now() -> u64 {
    u64::try_from(time::since_boot().as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Ask,
    Failed,
    Succeeded,
}

/// Times are milliseconds since the kernel started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Table {
    /// Until then everybody waits.
    lost_until: u64,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    source: String,
    failures: u32,
    last: u64,
}

impl Entry {
    fn until(&self) -> u64 {
        let doublings = match self.failures.checked_sub(FREE) {
            None | Some(0) => return 0,
            Some(n) => n.min(16),
        };
        self.last.saturating_add((1000u64 << doublings).min(MAX_WAIT))
    }
}

/// Applies `event` and says for how many milliseconds `source` must wait from `now` on.
fn step(table: &mut Table, source: &str, event: Event, now: u64) -> u64 {
    let source: String = source.chars().filter(|c| c.is_ascii_graphic()).take(MAX_NAME).collect();
    table.entries.retain(|entry| now.saturating_sub(entry.last) < FORGIVEN);
    if event != Event::Ask {
        let known = table.entries.iter().position(|entry| entry.source == source);
        let failures = known.map_or(0, |at| table.entries.swap_remove(at).failures);
        if event == Event::Failed {
            if table.entries.len() >= MAX_SOURCES {
                let oldest = table.entries.iter().enumerate().min_by_key(|(_, entry)| entry.last);
                if let Some(at) = oldest.map(|(at, _)| at) {
                    table.entries.swap_remove(at);
                }
            }
            table.entries.push(Entry {
                source: source.clone(),
                failures: failures.saturating_add(1),
                last: now,
            });
        }
    }
    let own = table.entries.iter().find(|entry| entry.source == source).map_or(0, Entry::until);
    own.max(table.lost_until).saturating_sub(now)
}

impl Table {
    /// Reads a table; one that is damaged is empty, and everybody waits for a while.
    fn parse(bytes: &[u8], now: u64) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        Self::parse_whole(bytes, now)
            .unwrap_or_else(|| Self { lost_until: now.saturating_add(LOST_WAIT), entries: Vec::new() })
    }

    fn parse_whole(bytes: &[u8], now: u64) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_FILE)?;
        let (head, rest) = text.strip_suffix("end\n")?.split_once('\n')?;
        let lost_until: u64 = head.strip_prefix(HEADER)?.trim_start().parse().ok()?;
        let mut table = Self { lost_until, entries: Vec::new() };
        for line in rest.lines() {
            let mut words = line.split(' ');
            let mut entry =
                Entry { source: words.next()?.to_string(), failures: words.next()?.parse().ok()?, last: 0 };
            entry.last = words.next()?.parse().ok()?;
            // No failure is in the future: a time beyond now would never be forgiven.
            if words.next().is_some() || entry.last > now || table.entries.len() >= MAX_SOURCES {
                return None;
            }
            table.entries.push(entry);
        }
        (lost_until <= now.saturating_add(LOST_WAIT)).then_some(table)
    }

    /// The last line tells a whole table from one whose writer died.
    fn render(&self) -> String {
        let mut text = format!("{HEADER} {}\n", self.lost_until);
        for entry in &self.entries {
            text.push_str(&format!("{} {} {}\n", entry.source, entry.failures, entry.last));
        }
        text.push_str("end\n");
        text
    }
}

/// The table as it would be written after it was read.
pub(super) fn reread(bytes: &[u8], now: u64) -> String {
    Table::parse(bytes, now).render()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn after_failures(n: u32) -> (Table, u64) {
        let mut table = Table::default();
        let waits = (0..n).map(|_| step(&mut table, "a", Event::Failed, 1000)).collect::<Vec<_>>();
        (table, waits.last().copied().unwrap_or(0))
    }

    #[test]
    fn penalties_grow_to_a_minute() {
        let waits: Vec<u64> = (0..12).map(|n| after_failures(n).1 / 1000).collect();
        assert_eq!(waits, [0, 0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60]);
        let (mut table, _) = after_failures(4);
        assert_eq!(step(&mut table, "a", Event::Ask, 2500), 500);
        assert_eq!(step(&mut table, "a", Event::Ask, 3000), 0);
        assert_eq!(step(&mut table, "b", Event::Ask, 1000), 0, "another source does not wait");
        table.entries[0].failures = u32::MAX;
        assert_eq!(step(&mut table, "a", Event::Failed, 3000), MAX_WAIT);
    }

    #[test]
    fn quiet_time_and_success_forgive() {
        let (mut table, _) = after_failures(9);
        assert_eq!(step(&mut table, "a", Event::Failed, 1000 + FORGIVEN - 1), MAX_WAIT);
        assert_eq!(step(&mut table, "a", Event::Failed, 1000 + 2 * FORGIVEN), 0);
        let (mut table, _) = after_failures(9);
        assert_eq!(step(&mut table, "a", Event::Succeeded, 1000), 0);
        assert_eq!(table, Table::default());
    }

    #[test]
    fn the_table_is_bounded_and_drops_the_oldest() {
        let mut table = Table::default();
        for n in 0..5000u64 {
            step(&mut table, &format!("10.0.{}.{}", n / 256, n % 256), Event::Failed, n);
        }
        assert_eq!(table.entries.len(), MAX_SOURCES);
        assert!(table.entries.iter().all(|entry| entry.last >= 5000 - MAX_SOURCES as u64));
        assert!(table.render().len() <= MAX_FILE);
        assert_eq!(Table::parse(table.render().as_bytes(), 5000), table);
    }

    #[test]
    fn a_damaged_table_makes_everybody_wait_and_then_recovers() {
        let (table, _) = after_failures(4);
        let whole = table.render();
        assert_eq!(Table::parse(whole.as_bytes(), 1000), table);
        let junk: Vec<u8> = (0..=255u8).cycle().take(200_000).collect();
        let mut damaged: Vec<Vec<u8>> = (1..whole.len()).map(|n| whole.as_bytes()[..n].to_vec()).collect();
        damaged.extend([junk, b"rescue-throttle 1 99999999\nend\n".to_vec()]);
        damaged.push(b"rescue-throttle 1 0\na 1 99999999\nend\n".to_vec());
        damaged.push(b"rescue-throttle 1 0\n\nend\n".to_vec());
        for bytes in damaged {
            let mut table = Table::parse(&bytes, 1000);
            assert_eq!(step(&mut table, "b", Event::Ask, 1000), LOST_WAIT, "{bytes:?}");
            assert_eq!(step(&mut table, "b", Event::Ask, 1000 + LOST_WAIT), 0);
        }
    }

    #[test]
    fn names_cannot_break_the_file() {
        let mut table = Table::default();
        step(&mut table, "a b\nc 1 1\nend\n", Event::Failed, 5);
        step(&mut table, &"é\u{1b}x".repeat(10_000), Event::Failed, 5);
        assert_eq!(Table::parse(table.render().as_bytes(), 5), table);
    }

    #[test]
    fn processes_share_one_file_of_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("throttle");
        let (ssh, console) = (Throttle::open(&path), Throttle::open(&path));
        assert_eq!(ssh.delay("192.0.2.1"), None);
        ssh.succeeded("192.0.2.1");
        assert!(!path.exists(), "asking leaves no file behind");
        let threads: Vec<_> = (0..5)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || {
                    let throttle = Throttle::open(&path);
                    (0..20).for_each(|_| throttle.failed("192.0.2.1"));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(std::fs::read_to_string(&path).unwrap().contains("192.0.2.1 100 "));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(console.delay("192.0.2.1").unwrap() > Duration::from_secs(50));
        assert_eq!(console.delay("ttyS0"), None);
        console.succeeded("192.0.2.1");
        assert_eq!(ssh.delay("192.0.2.1"), None);
        std::fs::write(&path, "junk").unwrap();
        assert!(ssh.delay("192.0.2.9").unwrap() > Duration::from_secs(4));
        assert!(ssh.delay("192.0.2.9").unwrap() <= Duration::from_secs(5));
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("end\n"));
    }

    #[test]
    fn an_unusable_file_does_not_stop_the_counting() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_path_buf(), dir.path().join("missing/throttle")] {
            let throttle = Throttle::open(&path);
            (0..6).for_each(|_| throttle.failed("ttyS0"));
            assert!(throttle.delay("ttyS0").unwrap() > Duration::from_secs(5));
            assert_eq!(throttle.delay("tty1"), None);
        }
    }

    #[test]
    fn addresses_are_counted_by_who_owns_them() {
        for (address, source) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(source_of(address.parse().unwrap()), source);
        }
    }
}
