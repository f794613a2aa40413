//! Lists of domain names as IPv6 carries them: RFC 8106 5.2 (DNSSL) and RFC 8415 10 (option 24).

use super::lease::is_name;

/// Most bytes of one name on the wire (RFC 1035 2.3.4).
const MOST_BYTES: usize = 255;

/// Reads uncompressed names (RFC 1035 3.1), one after the other, up to `most` of them. What is not a
/// name that may go into a file and onto a screen is left out; a label that is none, as a compression
/// pointer (forbidden here) or one that runs past the end, ends the list. Padding is an empty name.
pub(super) fn read(mut bytes: &[u8], most: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    while names.len() < most && !bytes.is_empty() {
        let Some((name, rest)) = one(bytes) else { break };
        bytes = rest;
        if let Some(name) = name.filter(|name| is_name(name))
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// The first name, none where it is no text, and what follows it; none where it has no end.
fn one(bytes: &[u8]) -> Option<(Option<String>, &[u8])> {
    let (mut rest, mut name, mut text) = (bytes, String::new(), true);
    loop {
        let (&length, after) = rest.split_first()?;
        match length {
            0 => return Some((Some(name).filter(|n| text && !n.is_empty()), after)),
            1..=63 => {
                let (label, after) = after.split_at_checked(length.into())?;
                rest = after;
                if bytes.len() - rest.len() > MOST_BYTES {
                    return None;
                }
                // A dot within a label would read as two labels.
                match std::str::from_utf8(label).ok().filter(|label| !label.contains('.')) {
                    Some(label) if name.is_empty() => name.push_str(label),
                    Some(label) => {
                        name.push('.');
                        name.push_str(label);
                    }
                    None => text = false,
                }
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn names_are_read_and_lies_left_out() {
        let wire =
            b"\x07example\x03org\0\x03a\x1b[\0\x03lan\0\x03lan\0\x03a.b\0\x02\xff\xfe\x01x\0\x01-\0\0\0\0";
        assert_eq!(read(wire, 9), ["example.org", "lan"]);
        assert_eq!(read(wire, 1), ["example.org"]);
        for length in 0..wire.len() {
            assert!(read(&wire[..length], 9).len() <= 2);
        }
        assert_eq!(read(b"\x03lan\0\xc0\0\x03abc\0", 9), ["lan"], "no compression");
        let long = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(5);
        assert!(read(&[&long[..], b"\0"].concat(), 9).is_empty());
        assert_eq!(read(b"\x01a\n\x01b\0", 9), Vec::<String>::new());
    }
}
