//! What the lines of the old protocol announce.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, SystemTime};

/// When something was changed and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) changed: u64,
    pub(super) accessed: u64,
}

impl Times {
    /// `<seconds> <microseconds> <seconds> <microseconds>`.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let changed = words.next()?.parse().ok()?;
        let accessed = words.nth(1)?.parse().ok()?;
        words.next()?.parse::<u32>().ok()?;
        // What the kernel's clock can hold.
        (changed <= 1 << 33 && accessed <= 1 << 33 && words.next().is_none())
            .then_some(Self { changed, accessed })
    }

    pub(super) fn set(self, file: &File) -> io::Result<()> {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        file.set_times(
            std::fs::FileTimes::new().set_modified(at(self.changed)).set_accessed(at(self.accessed)),
        )
    }
}

/// What is announced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thing {
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) name: OsString,
}

impl Thing {
    /// `<mode, octal> <size> <name>`. A name that would leave the folder is none.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.splitn(3, |b| *b == b' ');
        let text = |word: Option<&[u8]>| word.and_then(|w| std::str::from_utf8(w).ok()).map(str::to_string);
        let (mode, size) = (text(words.next())?, text(words.next())?);
        let name = words.next()?;
        let mode = u32::from_str_radix(&mode, 8).ok().filter(|m| *m <= 0o7777)?;
        let size = size.parse().ok().filter(|size| i64::try_from(*size).is_ok())?;
        let bad =
            name.is_empty() || name == b"." || name == b".." || name.iter().any(|b| matches!(b, b'/' | 0));
        (!bad).then(|| Self { mode, size, name: OsString::from_vec(name.to_vec()) })
    }
}
