//! The firmware's table (DMTF DSP0134), as the kernel shows it whole in `/sys/firmware/dmi/tables/DMI`.
//!
//! `/sys/firmware/dmi/entries/11-*/raw` would show the same a structure at a time, but only where the kernel
//! has that driver, and after it was loaded.

/// Longest table that is looked at, in bytes. A server's has some 10 KiB; credentials may make it longer.
pub const MAX_TABLE: usize = 1 << 20;
/// Most structures that are looked at.
const MAX_STRUCTURES: usize = 4096;

/// Types of structures: System Information, OEM Strings, End-of-Table (sections 7.2, 7.12, 7.45).
const SYSTEM: u8 = 1;
const OEM_STRINGS: u8 = 11;
const END: u8 = 127;

/// What of the table concerns us.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// All OEM strings. Whoever runs a virtual machine says there what it is to know: secrets.
    pub oem: Vec<Vec<u8>>,
    /// Serial number of the system, where hosts of virtual machines put `ds=nocloud;…`.
    pub serial: Option<Vec<u8>>,
}

/// How many, not which.
impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} OEM strings", self.oem.len())
    }
}

/// Reads a table as far as it is sound: what a structure of wrong length does to those behind it nobody knows.
#[must_use]
pub fn parse(table: &[u8]) -> Table {
    let mut found = Table::default();
    let mut rest = table.get(..MAX_TABLE).unwrap_or(table);
    for _ in 0..MAX_STRUCTURES {
        // Type, length of the formatted area with this header, handle (section 6.1.2).
        let &[kind, length, _, _, ..] = rest else { break };
        let Some((formatted, strings)) = rest.split_at_checked(usize::from(length)) else { break };
        if length < 4 || kind == END {
            break;
        }
        let (strings, behind) = strings_of(strings);
        match kind {
            OEM_STRINGS => found.oem.extend(strings.iter().map(|s| s.to_vec())),
            SYSTEM if found.serial.is_none() => {
                // The number of its string, counted from 1 (offset 7).
                let number = formatted.get(7).copied().and_then(|n| usize::from(n).checked_sub(1));
                found.serial = number.and_then(|n| strings.get(n)).map(|s| s.to_vec());
            }
            _ => {}
        }
        rest = behind;
    }
    found
}

/// The strings behind a structure, and what comes after them: each ends with NUL, the last with another;
/// a structure without strings has the two alone (section 6.1.3).
fn strings_of(bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut strings = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|b| *b == 0) {
        let (string, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        if string.is_empty() {
            let none = strings.is_empty() && rest.first() == Some(&0);
            return (strings, if none { rest.get(1..).unwrap_or_default() } else { rest });
        }
        strings.push(string);
    }
    // It does not end: cut off.
    (strings, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure: type, formatted area behind the header, strings.
    fn structure(kind: u8, formatted: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, u8::try_from(formatted.len()).unwrap() + 4, 7, 0];
        bytes.extend(formatted);
        strings.iter().for_each(|s| bytes.extend([s.as_bytes(), &[0]].concat()));
        bytes.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
        bytes
    }

    #[test]
    fn oem_strings_and_the_serial_number_are_found() {
        let table = [
            structure(0, &[0; 20], &[]),
            structure(1, &[1, 2, 0, 3, 0], &["QEMU", "PC", "ds=nocloud;h=db7"]),
            structure(11, &[2], &["a:b=c", "second"]),
            structure(11, &[1], &["third"]),
            structure(127, &[], &[]),
            structure(11, &[1], &["behind the end"]),
        ]
        .concat();
        let found = parse(&table);
        assert_eq!(found.oem, [&b"a:b=c"[..], b"second", b"third"]);
        assert_eq!(found.serial.as_deref(), Some(&b"ds=nocloud;h=db7"[..]));
        assert!(!format!("{found:?}").contains("second"));
        for length in 0..table.len() {
            let cut = parse(&table[..length]);
            assert!(cut.oem.len() <= 3);
        }
    }

    #[test]
    fn lengths_that_lie_end_it() {
        assert_eq!(parse(&[11, 255, 0, 0, 1]), Table::default());
        assert_eq!(parse(&[11, 3, 0, 0, 0, 0, 11, 5, 0, 0]), Table::default());
        assert_eq!(parse(&vec![0xff; 2 << 20]), Table::default());
        assert!(parse(&[11, 4, 0, 0].repeat(1 << 18)).oem.len() <= MAX_STRUCTURES);
    }
}
