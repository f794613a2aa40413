//! Fields of what was read: every access is checked, every order of bytes is named.

use std::sync::LazyLock;

/// Order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endian {
    /// Least significant first.
    Little,
    /// Most significant first.
    Big,
}

/// Bytes with fields at offsets; a field past the end is `None`.
#[derive(Debug, Clone)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The next `N` bytes.
    pub fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }
    /// One byte.
    pub fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }
    /// Little-endian.
    pub fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }
    /// Little-endian.
    pub fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }
    /// Little-endian.
    pub fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
    /// Big-endian.
    pub fn be64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }
    /// Big-endian.
    pub fn be32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }
    /// Big-endian.
    pub fn be16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }
    /// Whether `magic` stands at `at`.
    pub fn is(&self, at: usize, magic: &[u8]) -> bool {
        self.slice(at, magic.len()) == Some(magic)
    }
    /// A part.
    pub fn slice(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.0.get(at..at.checked_add(length)?)
    }
    /// Text up to a NUL, without the blanks at its end; `None` when nothing is left.
    pub fn text(&self, at: usize, length: usize) -> Option<String> {
        let bytes = self.slice(at, length)?;
        let bytes = bytes.split(|b| *b == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(bytes).trim_end().to_string();
        (!text.is_empty()).then_some(text)
    }
    /// UTF-16 up to a NUL, without the blanks at its end; `length` in bytes. `None` when nothing is left.
    pub fn utf16(&self, at: usize, length: usize, order: Endian) -> Option<String> {
        let units: Vec<u16> =
            self.slice(at, length)?
                .chunks_exact(2)
                .filter_map(|pair| <[u8; 2]>::try_from(pair).ok())
                .map(|pair| {
                    if order == Endian::Little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
                })
                .take_while(|unit| *unit != 0)
                .collect();
        let text = String::from_utf16_lossy(&units).trim_end().to_string();
        (!text.is_empty()).then_some(text)
    }
    /// A number of 16 bits in that order.
    pub fn u16_in(&self, at: usize, order: Endian) -> Option<u16> {
        if order == Endian::Little { self.u16(at) } else { self.be16(at) }
    }
    /// A number of 32 bits in that order.
    pub fn u32_in(&self, at: usize, order: Endian) -> Option<u32> {
        if order == Endian::Little { self.u32(at) } else { self.be32(at) }
    }
    /// A number of 64 bits in that order.
    pub fn u64_in(&self, at: usize, order: Endian) -> Option<u64> {
        if order == Endian::Little { self.u64(at) } else { self.be64(at) }
    }
    /// A UUID in the byte order of RFC 9562; `None` when it is all zero.
    pub fn uuid(&self, at: usize) -> Option<String> {
        let b: [u8; 16] = self.array(at)?;
        (b != [0; 16]).then(|| hyphens(&hex(&b), &[8, 4, 4, 4, 12]))
    }
    /// A GUID, whose first three fields are little-endian (UEFI 2.10, appendix A).
    pub fn guid(&self, at: usize) -> Option<String> {
        let b: [u8; 16] = self.array(at)?;
        let [a, b1, c, d, e, f, g, h, rest @ ..] = b;
        Some(hyphens(&(hex(&[d, c, b1, a, f, e, h, g]) + &hex(&rest)), &[8, 4, 4, 4, 12]))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Cuts `text` into groups of these lengths, joined by hyphens.
pub fn hyphens(text: &str, groups: &[usize]) -> String {
    let mut rest = text.chars();
    let parts: Vec<String> = groups.iter().map(|n| rest.by_ref().take(*n).collect()).collect();
    parts.join("-")
}

/// CRC-32 with a reflected polynomial: 0xEDB88320 (IEEE, GPT) or 0x82F63B78 (Castagnoli, ext4).
/// `seed` is the register at the start; the caller inverts the result where the format says so.
pub fn crc32(polynomial: u32, seed: u32, bytes: &[u8]) -> u32 {
    static IEEE: LazyLock<[u32; 256]> = LazyLock::new(|| crc32_table(0xEDB8_8320));
    static CASTAGNOLI: LazyLock<[u32; 256]> = LazyLock::new(|| crc32_table(0x82F6_3B78));
    let own;
    let table: &[u32; 256] = match polynomial {
        0xEDB8_8320 => &IEEE,
        0x82F6_3B78 => &CASTAGNOLI,
        _ => {
            own = crc32_table(polynomial);
            &own
        }
    };
    bytes.iter().fold(seed, |c, b| {
        let [low, ..] = c.to_le_bytes();
        c >> 8 ^ table.get(usize::from(low ^ b)).copied().unwrap_or(0)
    })
}

fn crc32_table(polynomial: u32) -> [u32; 256] {
    let mut table = [0u32; 256];
    for (value, entry) in (0u32..).zip(table.iter_mut()) {
        *entry = (0..8).fold(value, |c, _| if c & 1 == 1 { c >> 1 ^ polynomial } else { c >> 1 });
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crcs_are_the_published_ones() {
        assert_eq!(!crc32(0xEDB8_8320, !0, b"123456789"), 0xCBF4_3926);
        assert_eq!(!crc32(0x82F6_3B78, !0, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn guids_are_mixed_endian() {
        let esp =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(Bytes(esp.to_vec()).guid(0).unwrap(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }

    #[test]
    fn text_ends_at_the_first_nul_of_its_width() {
        let bytes = Bytes(b"\x00d\x00\xe9\x00 \x00\x00\x00x".to_vec());
        assert_eq!(bytes.utf16(0, 10, Endian::Big).as_deref(), Some("d\u{e9}"));
        assert_eq!(bytes.utf16(0, 20, Endian::Big), None);
        assert_eq!(bytes.text(1, 8).as_deref(), Some("d"));
    }
}
