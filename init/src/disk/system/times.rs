//! When a system last ran, by what it left in its logs.

use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use crate::disk::bytes::Bytes;
use crate::sys::inside;
use crate::sys::mounts::names_inside;

/// `struct utmp` of glibc on every 64-bit machine (utmp(5)).
const RECORD: usize = 384;
/// Bytes at the end of wtmp that are searched for a boot.
const TAIL: u64 = 384 * 2048;
const BOOT_TIME: u16 = 2;
const LOGS: &[&str] = &[
    "syslog",
    "messages",
    "kern.log",
    "auth.log",
    "secure",
    "daemon.log",
    "dmesg",
    "boot.log",
    "wtmp",
    "cron",
    "maillog",
    "utx.log",
    "everything.log",
];

/// Last boot and last line of a log below this folder, in seconds since 1970.
pub(super) fn of(root: BorrowedFd<'_>, logs: &str) -> (Option<i64>, Option<i64>) {
    let modified =
        |path: &str| inside::known(root, path).ok().filter(|k| k.regular && k.size > 0).map(|k| k.modified);
    let mut latest: Option<i64> = LOGS.iter().filter_map(|l| modified(&format!("{logs}/{l}"))).max();
    for machine in names_inside(root, &format!("{logs}/journal"), 16).unwrap_or_default() {
        latest = latest.max(modified(&format!("{logs}/journal/{machine}/system.journal")));
    }
    let wtmp = || {
        let (file, size) = inside::open_file(root, &format!("{logs}/wtmp")).ok()?;
        let length = size.min(TAIL);
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        // Records are counted from the start, whatever a torn last one leaves behind.
        let whole = size / RECORD as u64 * RECORD as u64;
        bytes.truncate(usize::try_from(whole.min(TAIL)).ok()?);
        let from = whole.saturating_sub(bytes.len() as u64);
        file.read_exact_at(&mut bytes, from).ok()?;
        last_boot(&bytes)
    };
    (wtmp().or_else(|| modified(&format!("{logs}/dmesg"))), latest)
}

fn last_boot(records: &[u8]) -> Option<i64> {
    let mut records = records.rchunks_exact(RECORD).map(|r| Bytes(r.to_vec()));
    let boot = records.find(|r| r.u16(0) == Some(BOOT_TIME))?;
    boot.u32(340).map(i64::from).filter(|t| *t > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_boot_is_the_last_of_its_records() {
        let record = |kind: u16, at: u32| {
            let mut bytes = vec![0; RECORD];
            bytes[..2].copy_from_slice(&kind.to_le_bytes());
            bytes[340..344].copy_from_slice(&at.to_le_bytes());
            bytes
        };
        let wtmp = [record(2, 100), record(7, 150), record(2, 200), record(7, 250)].concat();
        assert_eq!(last_boot(&wtmp), Some(200));
        assert_eq!(last_boot(&wtmp[..RECORD - 1]), None);
    }
}
