//! Keys to lines: editing, and nothing that a line of noise could do harm with.

use zeroize::Zeroizing;

/// What a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// It changed the line, or nothing.
    Typed,
    /// Return: the line is complete.
    Enter,
    /// ^C, or ^D on an empty line: leave it.
    Cancel,
    /// ^L: show the screen again.
    Redraw,
}

/// Where in an escape sequence (an arrow key, say) the input is. ECMA-48 section 5.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Escape {
    #[default]
    No,
    /// After ESC.
    Begun,
    /// After `ESC [` or `ESC O`, to a byte of 0x40 to 0x7e.
    Sequence,
}

/// One line being typed. Its buffer is cleared from memory when it is dropped.
#[derive(Debug)]
pub(super) struct Line {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
    echo: bool,
    escape: Escape,
}

impl Line {
    /// An empty line of at most `limit` bytes; what is typed past them is not taken.
    pub(super) fn new(limit: usize, echo: bool) -> Self {
        // Sized once: growing would leave copies of a password behind.
        Self { bytes: Zeroizing::new(Vec::with_capacity(limit)), limit, echo, escape: Escape::No }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.bytes
    }

    /// Takes one byte, and appends to `out` what the terminal is to show.
    pub(super) fn key(&mut self, byte: u8, out: &mut Vec<u8>) -> Key {
        match (self.escape, byte) {
            // Return and ^C end a broken sequence, so that noise never locks the keyboard.
            (_, b'\r' | b'\n') => {
                out.push(b'\n');
                return Key::Enter;
            }
            (_, 0x03) => {
                out.extend(b"^C\n");
                return Key::Cancel;
            }
            (_, 0x1b) => self.escape = Escape::Begun,
            (Escape::Begun, b'[' | b'O') => self.escape = Escape::Sequence,
            (Escape::Begun, _) => self.escape = Escape::No,
            (Escape::Sequence, 0x40..=0x7e) => self.escape = Escape::No,
            (Escape::Sequence, _) => {}
            (Escape::No, 0x04) if self.is_empty() => {
                out.push(b'\n');
                return Key::Cancel;
            }
            (Escape::No, 0x0c) => return Key::Redraw,
            (Escape::No, 0x7f | 0x08) => {
                self.erase(out);
            }
            (Escape::No, 0x15) => while self.erase(out) {},
            (Escape::No, 0x17) => {
                while self.bytes.last() == Some(&b' ') && self.erase(out) {}
                while self.bytes.last().is_some_and(|b| *b != b' ') && self.erase(out) {}
            }
            (Escape::No, 0x00..=0x1f) => {}
            (Escape::No, _) => {
                if self.bytes.len() < self.limit {
                    self.bytes.push(byte);
                    if self.echo {
                        out.push(byte);
                    }
                }
            }
        }
        Key::Typed
    }

    /// Takes back the last character (of UTF-8: all of its bytes). False when there is none.
    fn erase(&mut self, out: &mut Vec<u8>) -> bool {
        while self.bytes.last().is_some_and(|b| b & 0xc0 == 0x80) {
            self.bytes.pop();
        }
        let erased = self.bytes.pop().is_some();
        if erased && self.echo {
            out.extend(b"\x08 \x08");
        }
        erased
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8], echo: bool) -> (Vec<u8>, Vec<u8>, Key) {
        let mut line = Line::new(16, echo);
        let mut out = Vec::new();
        let mut last = Key::Typed;
        for byte in keys {
            last = line.key(*byte, &mut out);
            if last != Key::Typed {
                break;
            }
        }
        (line.into_bytes().to_vec(), out, last)
    }

    #[test]
    fn editing() {
        for (keys, line) in [
            (&b"root\r"[..], &b"root"[..]),
            (b"roto\x7f\x08ot\n", b"root"),
            ("für\x7f\x7f\x7fx\r".as_bytes(), b"x"),
            (b"wrong\x15root\r", b"root"),
            (b"a b  \x17c\r", b"a c"),
            (b"ro\x1b[A\x1b[1;5C\x1bOHot\r", b"root"),
            (b"ro\x00\x01\x1fot\r", b"root"),
            (b"\x7f\x7f\x08root\r", b"root"),
            (b"\xff\xfe\x80\r", b"\xff\xfe\x80"),
            (b"root\x1b[\r", b"root"),
        ] {
            assert_eq!(typed(keys, true).0, line, "{keys:?}");
            assert_eq!(typed(keys, true).2, Key::Enter, "{keys:?}");
        }
    }

    #[test]
    fn echo_shows_what_is_typed_and_a_password_shows_nothing() {
        assert_eq!(typed(b"ab\x7f\r", true).1, b"ab\x08 \x08\n");
        assert_eq!(typed("pä\x7fss\r".as_bytes(), false).1, b"\n");
        assert_eq!(typed(b"a\x1b[2Jb\r", true).1, b"ab\n");
    }

    #[test]
    fn leaving() {
        assert_eq!(typed(b"ro\x03", true).2, Key::Cancel);
        assert_eq!(typed(b"\x04", true).2, Key::Cancel);
        assert_eq!(typed(b"ro\x04", true).2, Key::Typed);
        assert_eq!(typed(b"\x1b[\x03", true).2, Key::Cancel);
        assert_eq!(typed(b"\x0c", true).2, Key::Redraw);
    }

    #[test]
    fn noise_is_bounded_and_shows_no_control_character() {
        let noise: Vec<u8> =
            (0..=255u8).cycle().filter(|b| !b"\r\n\x03\x04\x0c".contains(b)).take(100_000).collect();
        let (line, out, _) = typed(&noise, true);
        assert!(line.len() <= 16);
        assert!(out.iter().all(|b| *b >= 0x20 || *b == 0x08), "{out:?}");
        let mut line = Line::new(1024, false);
        let before = line.bytes.capacity();
        noise.iter().for_each(|b| {
            line.key(*b, &mut Vec::new());
        });
        assert_eq!(line.bytes.capacity(), before, "a password is never moved");
    }
}
