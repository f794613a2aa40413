//! What the image builder packed: drivers for other machines and programs that nobody may call, so that
//! they take little of this one's memory. Modules are not left to the kernel: few are built to unpack what they are handed.

use std::io::{self, Read};

use ruzstd::decoding::StreamingDecoder;

/// Most bytes of an unpacked file. The largest module of Debian's is below 20 MiB.
const MAX_FILE: u64 = 64 << 20;

/// The bytes of a file that is packed with zstd (RFC 8878); a module's signature is among them.
///
/// # Errors
/// When it is damaged or unpacks to over 64 MiB.
pub fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let decoder = StreamingDecoder::new(packed).map_err(|error| io::Error::other(error.to_string()))?;
    let mut plain = Vec::with_capacity(packed.len().saturating_mul(4));
    decoder.take(MAX_FILE + 1).read_to_end(&mut plain)?;
    match u64::try_from(plain.len()) {
        Ok(0..=MAX_FILE) => Ok(plain),
        _ => Err(io::Error::other("unpacks to over 64 MiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'a module %.0s' {1..100} | zstd -19`
    const PACKED: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x68, 0x85, 0x00, 0x00, 0x48, 0x61, 0x20, 0x6d, 0x6f, 0x64, 0x75, 0x6c,
        0x65, 0x20, 0x01, 0x00, 0x78, 0x59, 0x95, 0x23, 0x7f, 0xee, 0xb1, 0x99,
    ];

    #[test]
    fn a_module_is_unpacked() {
        assert_eq!(unpack(PACKED).unwrap(), b"a module ".repeat(100));
    }

    #[test]
    fn what_is_damaged_is_an_error() {
        for end in 0..PACKED.len() {
            assert!(unpack(&PACKED[..end]).is_err(), "{end}");
        }
        assert!(unpack(b"\x7fELF").is_err());
    }
}
