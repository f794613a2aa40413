//! Reading the kernel's own log (`Documentation/ABI/testing/dev-kmsg`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

/// Bytes of a record: the kernel's own limit (`PRINTKRB_RECORD_MAX`) is 1024, older ones had 8192.
const MAX_RECORD: usize = 8192;

/// A record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// syslog(3)'s level, 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Whether the kernel said it, and not a process.
    pub kernel: bool,
    /// When, since the kernel started, to the microsecond.
    pub time: Duration,
    /// What was said. It may hold control characters: what comes from a device is in there too.
    pub text: String,
}

/// The log, from the oldest record that is kept on.
#[derive(Debug)]
pub struct Kmsg(File);

impl Kmsg {
    /// Opens `/dev/kmsg`.
    ///
    /// # Errors
    /// Those of open(2); `PermissionDenied` for all but root where `dmesg_restrict` is set.
    pub fn open() -> io::Result<Self> {
        Self::open_at(Path::new("/dev/kmsg"))
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        OpenOptions::new().read(true).custom_flags(flags).open(path).map(Self)
    }

    /// The next record that waits; `None` when none does. What the kernel dropped before it was read
    /// is passed over.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn pending(&mut self) -> io::Result<Option<Record>> {
        let mut buffer = [0; MAX_RECORD];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => match decode(buffer.get(..length).unwrap_or_default()) {
                    Some(record) => return Ok(Some(record)),
                    None => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // EPIPE: the record was overwritten; the next read goes on with the oldest one left.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Kmsg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads a record: `priority,sequence,microseconds,flags[,…];text`, then lines of ` KEY=value` about
/// the device it is of. `None` for anything else.
pub fn decode(record: &[u8]) -> Option<Record> {
    let (head, tail) = record.split_at_checked(record.iter().position(|b| *b == b';')?)?;
    let mut numbers = std::str::from_utf8(head).ok()?.split(',');
    let priority: u32 = numbers.next()?.parse().ok()?;
    let _sequence: u64 = numbers.next()?.parse().ok()?;
    let time = Duration::from_micros(numbers.next()?.parse().ok()?);
    let text = tail.get(1..)?.split(|b| *b == b'\n').next()?;
    Some(Record {
        level: u8::try_from(priority & 7).ok()?,
        kernel: priority >> 3 == 0,
        time,
        text: String::from_utf8_lossy(&unescape(text)).into_owned(),
    })
}

/// The kernel writes all that is no printable ASCII, and the backslash, as `\xNN`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'\\', [b'x', a, b, after @ ..]) = (first, tail)
            && let (Some(a), Some(b)) = (digit(*a), digit(*b))
        {
            out.push(a << 4 | b);
            rest = after;
        } else {
            out.push(*first);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_decoded() {
        let record = decode(
            b"6,339,5140900,-;NET: Registered \\xe2\\x82\\xac \\x5c \\xzz\n SUBSYSTEM=acpi\n DEVICE=+acpi:1\n",
        );
        let text = "NET: Registered \u{20ac} \\ \\xzz".into();
        assert_eq!(
            record,
            Some(Record { level: 6, kernel: true, time: Duration::from_micros(5_140_900), text })
        );
        let user = decode(b"14,1,2,-,caller=T1;rescue: x;y\n").unwrap();
        assert_eq!((user.level, user.kernel, user.text.as_str()), (6, false, "rescue: x;y"));
    }

    #[test]
    fn garbage_is_no_record() {
        for junk in
            [&b""[..], b";", b"6;x", b"6,1;x", b"x,1,2,-;t", b"6,1,-2,-;t", b"99999999999,1,2,-;t", b"\xff;"]
        {
            assert_eq!(decode(junk), None, "{junk:?}");
        }
        assert_eq!(decode(b"6,1,18446744073709551615,-;\\x").map(|r| r.text), Some("\\x".into()));
    }
}
