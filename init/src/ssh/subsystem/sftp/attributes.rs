//! A file's attributes on the wire (draft-ietf-secsh-filexfer-02 section 5), and as `ls -l` shows them.

use std::fmt::Write as _;

use rustix::fs::{FileType, Stat};

use super::wire::{Out, Reader, Short};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// Attributes that a client wants a file to have; those that it does not name stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) permissions: Option<u32>,
    /// Last access and last change, in seconds since 1970.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        let flags = reader.number()?;
        let mut it = Self::default();
        if flags & SIZE != 0 {
            it.size = Some(reader.long()?);
        }
        if flags & OWNER != 0 {
            it.owner = Some((reader.number()?, reader.number()?));
        }
        if flags & PERMISSIONS != 0 {
            it.permissions = Some(reader.number()?);
        }
        if flags & TIMES != 0 {
            it.times = Some((reader.number()?, reader.number()?));
        }
        if flags & EXTENDED != 0 {
            // Each takes eight bytes at the least, so a packet bounds how many there are.
            for _ in 0..reader.number()? {
                let _ = (reader.string()?, reader.string()?);
            }
        }
        Ok(it)
    }

    /// The mode of a file that is made, where the client names none.
    pub(super) fn mode_or(&self, default: u32) -> rustix::fs::Mode {
        rustix::fs::Mode::from_raw_mode(self.permissions.unwrap_or(default) & 0o7777)
    }
}

/// Version 3 has 32 bits for a time; what is before 1970 or after 2106 is said as the nearest.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

/// Writes what a file has.
pub(super) fn write(out: &mut Out, stat: &Stat) {
    out.number(SIZE | OWNER | PERMISSIONS | TIMES);
    out.long(u64::try_from(stat.st_size).unwrap_or(0));
    out.number(stat.st_uid);
    out.number(stat.st_gid);
    out.number(stat.st_mode);
    out.number(seconds(stat.st_atime));
    out.number(seconds(stat.st_mtime));
}

/// Writes that nothing is said.
pub(super) fn write_none(out: &mut Out) {
    out.number(0);
}

/// The line of `ls -l`, in OpenSSH's columns. `now` is in seconds since 1970; times are UTC, for a rescue
/// has no time zone.
pub(super) fn long_name(stat: &Stat, user: &str, group: &str, name: &[u8], now: i64) -> Vec<u8> {
    let mut line = mode(stat.st_mode);
    let _ = write!(
        line,
        " {:>3} {user:<8} {group:<8} {:>8} {} ",
        stat.st_nlink,
        stat.st_size,
        date(stat.st_mtime, now)
    );
    let mut line = line.into_bytes();
    line.extend_from_slice(name);
    line
}

/// `drwxr-xr-x`, as strmode(3).
fn mode(mode: u32) -> String {
    let mut text = String::with_capacity(11);
    text.push(match FileType::from_raw_mode(mode) {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::BlockDevice => 'b',
        FileType::CharacterDevice => 'c',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::RegularFile => '-',
        FileType::Unknown => '?',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    text
}

/// `Jan  1 12:00` within half a year before `now`, `Jan  1  2020` otherwise.
fn date(time: i64, now: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const HALF_A_YEAR: i64 = 365 * 86_400 / 2;
    let (days, second) = (time.div_euclid(86_400), time.rem_euclid(86_400));
    // Days since 1970 to a date of the proleptic Gregorian calendar, by eras of 400 years from March.
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era.saturating_mul(400) + year_of_era + i64::from(month <= 2);
    let name = usize::try_from(month - 1).ok().and_then(|m| MONTHS.get(m)).copied().unwrap_or("???");
    if (0..HALF_A_YEAR).contains(&now.saturating_sub(time)) {
        format!("{name} {day:>2} {:02}:{:02}", second / 3600, second / 60 % 60)
    } else {
        format!("{name} {day:>2}  {year:04}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_as_ls_shows_them() {
        let now = 1_700_000_000;
        assert_eq!(date(now - 60, now), "Nov 14 22:12");
        assert_eq!(date(now + 60, now), "Nov 14  2023");
        assert_eq!(date(0, now), "Jan  1  1970");
        assert_eq!(date(951_782_400, now), "Feb 29  2000");
        assert_eq!(date(-1, now), "Dec 31  1969");
        assert!(!date(i64::MAX, now).is_empty() && !date(i64::MIN, now).is_empty());
        assert_eq!(mode(0o100_644), "-rw-r--r--");
        assert_eq!(mode(0o041_777), "drwxrwxrwt");
        assert_eq!(mode(0o104_655), "-rwSr-xr-x");
        assert_eq!(mode(0o120_777), "lrwxrwxrwx");
        let stat = rustix::fs::stat("/").unwrap();
        let line = String::from_utf8(long_name(&stat, "root", "root", b"x y", now)).unwrap();
        assert!(line.starts_with("drwx") && line.ends_with(" x y"), "{line}");
        assert!(line.contains(" root     root     "), "{line}");
    }

    #[test]
    fn attributes_are_read_and_a_claim_of_many_ends_with_the_packet() {
        let mut bytes = vec![0x80, 0, 0, 0x0d];
        bytes.extend(7u64.to_be_bytes());
        bytes.extend(0o644u32.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        let short = bytes.clone();
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, b'a', 0, 0, 0, 0]);
        let read = Attributes::read(&mut Reader(&bytes)).unwrap();
        assert_eq!((read.size, read.permissions, read.times), (Some(7), Some(0o644), Some((1, 2))));
        let mut many = short;
        many.extend([0xff; 4]);
        assert_eq!(Attributes::read(&mut Reader(&many)), Err(Short));
    }
}
