//! What user-data may be wrapped in: gzip (RFC 1952), MIME with several parts (RFC 2045, 2046), and cloud-init's own
//! `#cloud-config-archive`, one in the other.

use crate::creds::base64;
use crate::tree;

/// Deepest nesting.
const MAX_DEPTH: usize = 4;
/// Most bytes that all of it comes to, unpacked.
const MAX_UNPACKED: usize = 2 << 20;
/// Most parts.
const MAX_PIECES: usize = 64;

/// What a text is that is none of ours: how it begins, and what that is.
const OTHERS: [(&[u8], &str); 6] = [
    (b"#!", "a script, which is never run"),
    (b"#cloud-boothook", "a script, which is never run"),
    (b"#include", "a list of addresses"),
    (b"#upstart-job", "a service"),
    (b"## template:", "a template"),
    (b"#part-handler", "a program, which is never run"),
];

/// One text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A `#cloud-config`.
    Config(Vec<u8>),
    /// Anything else: what.
    Other(&'static str),
}

/// Takes everything out of its wrappings.
///
/// # Errors
/// A wrapping that is damaged, too deep, or holds too much.
pub(super) fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, String> {
    let mut unwrapping = Unwrapping { pieces: Vec::new(), left: MAX_UNPACKED };
    unwrapping.add(bytes, "", 0)?;
    Ok(unwrapping.pieces)
}

struct Unwrapping {
    pieces: Vec<Piece>,
    /// Bytes that may still be unpacked.
    left: usize,
}

impl Unwrapping {
    /// `kind` is its type, where the wrapping says it.
    fn add(&mut self, bytes: &[u8], kind: &str, depth: usize) -> Result<(), String> {
        self.left = self.left.checked_sub(bytes.len()).ok_or("too much in all")?;
        if depth > MAX_DEPTH {
            return Err("wrapped too often".into());
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.starts_with(b"\x1f\x8b") {
            let unpacked = gunzip(bytes, self.left)?;
            return self.add(&unpacked, kind, depth + 1);
        }
        if let Some((headers, body)) = mime(bytes, kind) {
            return self.parts(&headers, body, depth);
        }
        if bytes.starts_with(b"#cloud-config-archive") {
            let root = tree::yaml(bytes).map_err(|error| super::draft::malformed(&error))?;
            for item in root.items() {
                let content = item.text().or_else(|| item.get("content").text()).unwrap_or_default();
                self.add(content.as_bytes(), item.get("type").text().unwrap_or_default(), depth + 1)?;
            }
            return Ok(());
        }
        let ours = bytes.starts_with(b"#cloud-config") || kind == "text/cloud-config";
        let other = OTHERS.iter().find(|(head, _)| bytes.starts_with(head)).map(|(_, what)| *what);
        let piece = match other {
            _ if bytes.trim_ascii().is_empty() => return Ok(()),
            Some(what) => Piece::Other(what),
            None if ours => Piece::Config(bytes.to_vec()),
            None => Piece::Other("no #cloud-config"),
        };
        if self.pieces.len() == MAX_PIECES {
            return Err(format!("over {MAX_PIECES} parts"));
        }
        self.pieces.push(piece);
        Ok(())
    }

    /// A MIME text: one, or several between lines that are its boundary.
    fn parts(&mut self, headers: &[(String, String)], body: &[u8], depth: usize) -> Result<(), String> {
        let of = |name: &str| {
            headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
        };
        let kind = of("content-type");
        let name = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !name.starts_with("multipart/") {
            let body = match of("content-transfer-encoding").trim().to_ascii_lowercase().as_str() {
                "base64" => base64::decode(body).ok_or("a MIME part that is not base64")?,
                "quoted-printable" => quoted_printable(body),
                _ => body.to_vec(),
            };
            // Itself no further MIME, whatever it begins with.
            return self.add(&body, if name.is_empty() { "text/plain" } else { &name }, depth + 1);
        }
        let boundary = parameter(kind, "boundary").ok_or("a MIME archive without a boundary")?;
        let mark = format!("--{boundary}");
        let mut open: Option<Vec<u8>> = None;
        for line in body.split_inclusive(|b| *b == b'\n') {
            match line.trim_ascii_end().strip_prefix(mark.as_bytes()) {
                Some(rest @ (b"" | b"--")) => {
                    if let Some(mut part) = open.take() {
                        // The line end before a boundary belongs to that.
                        part.pop_if(|b| *b == b'\n');
                        part.pop_if(|b| *b == b'\r');
                        let (headers, body) = headers_of(&part);
                        self.parts(&headers, body, depth + 1)?;
                    }
                    if !rest.is_empty() {
                        return Ok(());
                    }
                    open = Some(Vec::new());
                }
                _ => {
                    if let Some(part) = &mut open {
                        part.extend_from_slice(line);
                    }
                }
            }
        }
        // What was cut off may have said more.
        Err("a MIME archive without an end".into())
    }
}

/// Names and values.
type Headers = Vec<(String, String)>;

/// Headers and body of what begins like a MIME text.
fn mime<'a>(bytes: &'a [u8], kind: &str) -> Option<(Headers, &'a [u8])> {
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let begins =
        |name: &str| first.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name.as_bytes()));
    let mime = kind.is_empty() && ["content-type:", "mime-version:", "from "].iter().any(|name| begins(name));
    mime.then(|| headers_of(bytes))
}

/// Headers in lower case, folded lines joined, and what comes behind the empty line.
fn headers_of(bytes: &[u8]) -> (Headers, &[u8]) {
    let mut headers = Headers::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at(end);
        rest = behind;
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if text.is_empty() {
            break;
        }
        match (text.starts_with([' ', '\t']), headers.last_mut()) {
            (true, Some((_, value))) => value.push_str(text),
            _ => {
                if let Some((name, value)) = text.split_once(':') {
                    headers.push((name.trim().to_ascii_lowercase(), value.trim().to_string()));
                }
            }
        }
    }
    (headers, rest)
}

/// A parameter of a header: `multipart/mixed; boundary="…"`.
fn parameter(value: &str, name: &str) -> Option<String> {
    let found = value.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_string())
    });
    // RFC 2046, section 5.1.1.
    found.filter(|value| (1..=70).contains(&value.len()))
}

/// RFC 2045, section 6.7. What is no such code stays as it is.
fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'=' {
            plain.push(*first);
            continue;
        }
        let hex = |b: &u8| char::from(*b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match behind {
            [b'\n', more @ ..] | [b'\r', b'\n', more @ ..] => rest = more,
            [high, low, more @ ..] => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => {
                    plain.push(high << 4 | low);
                    rest = more;
                }
                _ => plain.push(b'='),
            },
            _ => plain.push(b'='),
        }
    }
    plain
}

/// Unpacks gzip. Its check sum is not looked at: what carried it here has its own.
pub(crate) fn gunzip(bytes: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let damaged = || String::from("compressed, and damaged");
    let deflated = deflated(bytes).ok_or_else(damaged)?;
    miniz_oxide::inflate::decompress_to_vec_with_limit(deflated, most).map_err(|error| match error.status {
        miniz_oxide::inflate::TINFLStatus::HasMoreOutput => "compressed, and too much in all".into(),
        _ => damaged(),
    })
}

/// What is behind the header (RFC 1952, section 2.3).
fn deflated(bytes: &[u8]) -> Option<&[u8]> {
    let (&[_, _, method, flags, ..], mut rest) = bytes.split_first_chunk::<10>()?;
    if method != 8 {
        return None;
    }
    if flags & 4 != 0 {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    // The file's name, and a comment.
    for flag in [8, 16] {
        if flags & flag != 0 {
            rest = rest.get(rest.iter().position(|b| *b == 0)? + 1..)?;
        }
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &[u8] = b"#cloud-config\nhostname: db7\n";
    /// `printf '#cloud-config\nhostname: db7\n' | gzip -9`, with a name (`gzip -9 config`), and within MIME as
    /// cloud-init's `cloud-init devel make-mime` writes it.
    const GZIP: &[u8] = include_bytes!("testdata/config.gz");
    const MIME: &[u8] = include_bytes!("testdata/mime.txt");

    fn config(pieces: &[Piece]) -> Vec<String> {
        let text = |piece: &Piece| match piece {
            Piece::Config(bytes) => String::from_utf8_lossy(bytes).trim().replace('\n', "/"),
            Piece::Other(what) => (*what).into(),
        };
        pieces.iter().map(text).collect()
    }

    #[test]
    fn every_wrapping_is_taken_off() {
        assert_eq!(pieces(CONFIG).unwrap(), [Piece::Config(CONFIG.to_vec())]);
        assert_eq!(pieces(GZIP).unwrap(), [Piece::Config(CONFIG.to_vec())]);
        let expected = [
            "#cloud-config/hostname: plain",
            "a script, which is never run",
            "#cloud-config/hostname: base64",
            "#cloud-config/hostname: quoted=printable",
            "#cloud-config/hostname: db7",
            "hostname: without-a-head",
            "no #cloud-config",
        ];
        assert_eq!(config(&pieces(MIME).unwrap()), expected);
        let archive = b"#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    hostname: a\n- |\n  #!/bin/sh\n  rm -rf /\n";
        assert_eq!(config(&pieces(archive).unwrap()), ["hostname: a", "a script, which is never run"]);
        assert_eq!((pieces(b""), pieces(b" \n")), (Ok(vec![]), Ok(vec![])));
    }

    #[test]
    fn bombs_and_damage_are_refused() {
        // `head -c 1G /dev/zero | gzip -9 | gzip -9`
        assert_eq!(
            pieces(include_bytes!("testdata/bomb.gz")).unwrap_err(),
            "compressed, and too much in all"
        );
        for length in 1..GZIP.len() - 9 {
            assert!(pieces(&GZIP[..length]) != pieces(GZIP), "{length}");
        }
        for bad in [
            "Content-Type: multipart/mixed\n\n--x\n",
            "Content-Type: multipart/mixed; boundary=x\n\n--x\n\n#cloud-config\n",
            "Content-Type: multipart/mixed; boundary=\"\"\n\n----\n",
            "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Transfer-Encoding: base64\n\n***\n--x--\n",
            "#cloud-config-archive\n- [\n",
        ] {
            assert!(pieces(bad.as_bytes()).is_err(), "{bad}");
        }
        let mut deep = CONFIG.to_vec();
        for n in 0..9 {
            let head = format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n");
            deep = [head.as_bytes(), &deep, format!("\n--b{n}--\n").as_bytes()].concat();
        }
        assert!(pieces(&deep).is_err());
        let many =
            format!("Content-Type: multipart/mixed; boundary=x\n\n{}--x--\n", "--x\n\n#!a\n".repeat(100));
        assert!(pieces(many.as_bytes()).unwrap_err().contains("parts"));
    }
}
