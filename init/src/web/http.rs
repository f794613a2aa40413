//! Answers of HTTP/1.1 (RFC 9112), as far as a metadata service gives them: pure, bounded, a piece at a time.

use zeroize::Zeroizing;

/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Most headers.
const MAX_HEADERS: usize = 100;
/// Longest line that says how long a chunk is.
const MAX_CHUNK_LINE: usize = 256;

/// An answer. Its body may hold secrets.
#[derive(Default, Clone)]
pub struct Answer {
    /// Status code, 100 to 599.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// What came.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {}, {} bytes", self.status, self.body.len())
    }
}

impl Answer {
    /// One that came with this status, these headers and this body.
    #[must_use]
    pub fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self { status, headers, body: Zeroizing::new(body.to_vec()) }
    }

    /// The first header of this name, in whatever case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether a page for people came. Its type says nothing: OpenStack serves keys as `text/html`.
    #[must_use]
    pub fn is_web_page(&self) -> bool {
        let start = self.body.trim_ascii_start();
        ["<!doctype", "<html", "<head", "<body", "<?xml"]
            .iter()
            .any(|tag| start.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag.as_bytes())))
    }
}

/// How the end of the body is known (RFC 9112, section 6.3).
enum Stage {
    Head,
    /// So many bytes are left.
    Length(u64),
    /// A line says how long the next chunk is.
    ChunkLine,
    /// So many bytes of it are left.
    Chunk(u64),
    /// The line end behind it.
    ChunkEnd,
    /// The lines behind the last.
    Trailer,
    /// The end of the connection.
    ToEnd,
}

/// An answer that is arriving.
pub struct Reader {
    stage: Stage,
    /// What was heard and not understood yet.
    pending: Zeroizing<Vec<u8>>,
    answer: Answer,
    most: usize,
}

impl Reader {
    /// For a body of at most so many bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { stage: Stage::Head, pending: Zeroizing::default(), answer: Answer::default(), most }
    }

    /// Takes what has arrived; gives the answer once it is whole.
    ///
    /// # Errors
    /// What is no HTTP, and what is longer than it may be: as soon as that is known.
    pub fn add(&mut self, bytes: &[u8]) -> Result<Option<Answer>, String> {
        self.pending.extend_from_slice(bytes);
        loop {
            match self.stage {
                Stage::Head => {
                    if !self.head()? {
                        return Ok(None);
                    }
                }
                Stage::Length(0) => return Ok(Some(std::mem::take(&mut self.answer))),
                Stage::Length(left) => match self.take(left)? {
                    0 => return Ok(None),
                    taken => self.stage = Stage::Length(left.saturating_sub(taken)),
                },
                Stage::Chunk(0) => self.stage = Stage::ChunkEnd,
                Stage::Chunk(left) => match self.take(left)? {
                    0 => return Ok(None),
                    taken => self.stage = Stage::Chunk(left.saturating_sub(taken)),
                },
                Stage::ChunkLine => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    let size = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
                    let size =
                        std::str::from_utf8(size).ok().filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()));
                    let size = size
                        .and_then(|s| u64::from_str_radix(s, 16).ok())
                        .ok_or("a chunk without a length")?;
                    self.room(size)?;
                    self.stage = if size == 0 { Stage::Trailer } else { Stage::Chunk(size) };
                }
                Stage::ChunkEnd => match self.line()? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.stage = Stage::ChunkLine,
                    Some(_) => return Err("a chunk that is longer than it says".into()),
                },
                Stage::Trailer => match self.line()? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => return Ok(Some(std::mem::take(&mut self.answer))),
                    Some(_) => {}
                },
                Stage::ToEnd => {
                    self.take(u64::MAX)?;
                    return Ok(None);
                }
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// When the answer has not.
    pub fn end(mut self) -> Result<Answer, String> {
        match self.stage {
            Stage::ToEnd => Ok(std::mem::take(&mut self.answer)),
            Stage::Head if self.pending.is_empty() => Err("it hung up without an answer".into()),
            _ => Err("it hung up in the middle of its answer".into()),
        }
    }

    /// Whether the body may grow by so much.
    fn room(&self, more: u64) -> Result<(), String> {
        let left = self.most.saturating_sub(self.answer.body.len());
        match u64::try_from(left).is_ok_and(|left| more <= left) {
            true => Ok(()),
            false => Err(format!("over {} KiB", self.most >> 10)),
        }
    }

    /// Moves at most `left` bytes to the body; how many.
    fn take(&mut self, left: u64) -> Result<u64, String> {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.pending.len());
        let taken = u64::try_from(length).unwrap_or(u64::MAX);
        self.room(taken)?;
        self.answer.body.extend_from_slice(self.pending.get(..length).unwrap_or_default());
        self.pending.drain(..length);
        Ok(taken)
    }

    /// The next line without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(end) = self.pending.iter().take(MAX_CHUNK_LINE).position(|b| *b == b'\n') else {
            return if self.pending.len() >= MAX_CHUNK_LINE {
                Err("a chunk without a length".into())
            } else {
                Ok(None)
            };
        };
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
    }

    /// Reads the head; whether it is whole.
    fn head(&mut self) -> Result<bool, String> {
        const START: &[u8] = b"HTTP/1.";
        let seen = self.pending.len().min(START.len());
        if self.pending.get(..seen) != START.get(..seen) {
            return Err("what answers there speaks no HTTP".into());
        }
        // The first empty line, however the lines end: what it is must not depend on how it has arrived.
        let mut lines = self.pending.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        let end = lines.find_map(|at| match self.pending.get(at..) {
            Some([b'\n', ..]) => Some(at + 1),
            Some([b'\r', b'\n', ..]) => Some(at + 2),
            _ => None,
        });
        let Some(end) = end else {
            return if self.pending.len() > MAX_HEAD {
                Err("a head without an end".into())
            } else {
                Ok(false)
            };
        };
        if end > MAX_HEAD {
            return Err("a head without an end".into());
        }
        let head: Vec<u8> = self.pending.drain(..end).collect();
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let status: u16 =
            status.filter(|code| (100..600).contains(code)).ok_or("an answer without a status")?;
        let mut headers = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or("a header without a name")?;
            if headers.len() == MAX_HEADERS {
                return Err(format!("over {MAX_HEADERS} headers"));
            }
            headers.push((name.to_string(), value.trim().to_string()));
        }
        if (100..200).contains(&status) {
            // The answer itself is yet to come.
            return Ok(!self.pending.is_empty());
        }
        self.answer = Answer { status, headers, body: Zeroizing::default() };
        let named = |name: &'static str| {
            let headers = self.answer.headers.iter();
            headers.filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        self.stage = if matches!(status, 204 | 304) {
            Stage::Length(0)
        } else if let Some(coding) = named("Transfer-Encoding").next() {
            match coding.eq_ignore_ascii_case("chunked") {
                true => Stage::ChunkLine,
                false => return Err("a transfer coding that is not known".into()),
            }
        } else {
            let mut lengths = named("Content-Length");
            match lengths.next() {
                None => Stage::ToEnd,
                Some(length) => {
                    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
                    if !digits || lengths.any(|other| other != length) {
                        return Err("a length that is none".into());
                    }
                    // One that no number holds is too long as well.
                    let length = length.parse().unwrap_or(u64::MAX);
                    self.room(length)?;
                    Stage::Length(length)
                }
            }
        };
        Ok(true)
    }
}

/// Seconds since 1970 of a date such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
#[must_use]
pub fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = u64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // A second may be a leap second.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    crate::sys::time::moment(year, month, day, hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In pieces of so many bytes.
    fn read(bytes: &[u8], piece: usize, most: usize) -> Result<Answer, String> {
        let mut reader = Reader::new(most);
        for piece in bytes.chunks(piece) {
            if let Some(answer) = reader.add(piece)? {
                return Ok(answer);
            }
        }
        reader.end()
    }

    #[test]
    fn bodies_end_in_three_ways() {
        for (text, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello", "hello"),
            ("HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello", "hello"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nT: r\r\n\r\n",
                "hello",
            ),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 2\n\nhe", "he"),
            ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ] {
            for piece in [1, 2, 7, 1000] {
                let answer =
                    read(text.as_bytes(), piece, 5).unwrap_or_else(|e| panic!("{text:?} {piece}: {e}"));
                assert_eq!((answer.status / 100, answer.body.as_slice()), (2, body.as_bytes()), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_too_long_is_known_before_it_has_come() {
        for head in ["Content-Length: 1073741824", "Content-Length: 99999999999999999999999"] {
            let why = read(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), 9, 65536).unwrap_err();
            assert_eq!(why, "over 64 KiB");
        }
        let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n";
        assert_eq!(read(chunk.as_bytes(), 9, 65536).unwrap_err(), "over 64 KiB");
        let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 70_000]].concat();
        assert_eq!(read(&endless, 4096, 65536).unwrap_err(), "over 64 KiB");
        let head = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(20_000));
        assert_eq!(read(head.as_bytes(), 4096, 65536).unwrap_err(), "a head without an end");
    }

    #[test]
    fn what_is_no_http_is_refused() {
        for bytes in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
            "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
            "",
        ] {
            for piece in [1, 1000] {
                assert!(read(bytes.as_bytes(), piece, 65536).is_err(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn web_pages_are_told_by_what_is_in_them() {
        assert!(Answer::new(200, &[], b"\n<!DOCTYPE html><title>Log in").is_web_page());
        assert!(!Answer::new(200, &[("Content-Type", "text/html")], b"ssh-ed25519 AAAA").is_web_page());
    }

    #[test]
    fn dates() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for none in
            ["Sunday", "Sun, 99 Xyz 1994 08:49:37 GMT", "Sun, 06 Nov 1994 99999999999999999:49:37 GMT"]
        {
            assert_eq!(date(none), None, "{none}");
        }
    }
}
