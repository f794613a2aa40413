//! What the file of a kernel says of itself (Documentation/x86/boot.rst).

use anyhow::{Context, Result, ensure};

/// Where its header has the mark, and where the place of its release.
const MARK_AT: usize = 0x202;
const MARK: &[u8] = b"HdrS";
const RELEASE_AT: usize = 0x20e;
/// That place is counted from here.
const SETUP_AT: usize = 0x200;
/// Longest release (UTS_RELEASE).
const MAX_RELEASE: usize = 64;

/// The release of a kernel, as far as it names one.
///
/// # Errors
/// When it is none that x86 boots.
pub(crate) fn release(bytes: &[u8]) -> Result<Option<&str>> {
    let mark = bytes.get(MARK_AT..MARK_AT + MARK.len());
    ensure!(mark == Some(MARK), "not a kernel that x86 boots; name a vmlinuz (a bzImage)");
    let place = bytes.get(RELEASE_AT..).and_then(|rest| rest.first_chunk::<2>()).context("cut off")?;
    let place = usize::from(u16::from_le_bytes(*place));
    if place == 0 {
        return Ok(None);
    }
    let text = bytes.get(SETUP_AT + place..).unwrap_or_default();
    let text = text.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    Ok(std::str::from_utf8(text).ok().filter(|release| (1..=MAX_RELEASE).contains(&release.len())))
}

/// Whether a kernel of this release can unpack zstd, as Linux does since 5.9; `None` when nobody can tell.
pub(crate) fn unpacks_zstd(release: &str) -> Option<bool> {
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().ok());
    Some((numbers.next()??, numbers.next()??) >= (5, 9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_came_with_linux_5_9() {
        for (release, known) in [
            ("4.19.0-27-amd64", Some(false)),
            ("5.8.18", Some(false)),
            ("5.9-rc1", Some(true)),
            ("6.1.0-56-amd64", Some(true)),
            ("own", None),
        ] {
            assert_eq!(unpacks_zstd(release), known, "{release}");
        }
    }

    #[test]
    fn a_kernel_is_told_from_what_is_none() {
        let mut bytes = vec![0; 0x400];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(release(&bytes).unwrap(), None);
        bytes[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        bytes[0x300..0x313].copy_from_slice(b"6.1.0-56-amd64 (x)\0");
        assert_eq!(release(&bytes).unwrap(), Some("6.1.0-56-amd64"));
        for end in [0x300, 0x210] {
            assert_eq!(release(&bytes[..end]).unwrap(), None, "{end:x}");
        }
        for wrong in [&b""[..], &bytes[..0x204], &bytes[..0x20f], b"\x7fELF", &[0; 4096]] {
            assert!(release(wrong).is_err());
        }
        bytes[0x300..].fill(b'x');
        assert_eq!(release(&bytes).unwrap(), None, "no end");
    }
}
