//! Base64 (RFC 4648, section 4).

/// Decodes text with or without padding; white space is passed over. `None` for anything else.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    let mut symbols = text.iter().copied().filter(|b| !b.is_ascii_whitespace());
    let mut seen = 0_usize;
    for symbol in symbols.by_ref() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        seen += 1;
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    // At most one more sign of padding, and nothing behind it.
    let rest: Vec<u8> = symbols.take(2).collect();
    (matches!(rest.as_slice(), [] | [b'=']) && seen % 4 != 1).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn the_test_vectors_of_the_rfc() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zm9v\nYmE", "fooba"),
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap(), bytes.as_bytes(), "{text}");
        }
        for junk in ["Z", "Zm9v!", "Zg==x", "Zg===", "Zm9vY"] {
            assert_eq!(decode(junk.as_bytes()), None, "{junk}");
        }
    }
}
