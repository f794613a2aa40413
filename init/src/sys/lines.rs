//! What another process writes, all of it or line by line, waited for no longer than one wants to.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::tty::poll_for;

/// Longest line that is taken; what is longer ends it.
const LONGEST: usize = 64 << 20;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// Nothing within the time.
    Late,
    /// No more comes.
    End,
}

/// A pipe that lines are read from.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    kept: Vec<u8>,
}

impl<R: Read + AsFd> Lines<R> {
    /// Lines of a pipe.
    pub fn new(from: R) -> Self {
        Self { from, kept: Vec::new() }
    }

    /// The next line, if it comes within `limit`.
    pub fn next(&mut self, limit: Duration) -> Next {
        let until = Instant::now().checked_add(limit);
        let mut seen = 0;
        loop {
            if let Some(at) = self.kept.iter().skip(seen).position(|b| *b == b'\n') {
                let rest = self.kept.split_off((seen + at + 1).min(self.kept.len()));
                let mut line = std::mem::replace(&mut self.kept, rest);
                line.pop();
                return Next::Line(line);
            }
            seen = self.kept.len();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match poll_for(&mut [PollFd::new(&self.from, PollFlags::IN)], left) {
                Ok(0) => return Next::Late,
                Ok(_) => {}
                Err(_) => return Next::End,
            }
            let mut piece = [0; 16 << 10];
            match self.from.read(&mut piece) {
                Ok(0) => return Next::End,
                Ok(length) if seen + length <= LONGEST => {
                    self.kept.extend_from_slice(piece.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return Next::End,
            }
        }
    }
}

/// Reads a pipe to its end, for no longer than `limit`, and no more than `most` bytes.
///
/// # Errors
/// When it is late or says too much, and those of the pipe.
pub fn hear(mut pipe: File, limit: Duration, most: usize) -> io::Result<Vec<u8>> {
    let until = Instant::now() + limit;
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if poll_for(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(left))? == 0 {
            return Err(io::Error::other(format!("no answer in {} s", limit.as_secs())));
        }
        let length = pipe.read(&mut buffer)?;
        if length == 0 {
            return Ok(heard);
        }
        heard.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if heard.len() > most {
            return Err(io::Error::other("the answer is too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_come_whole_late_or_not_at_all() {
        let (from, mut to) = std::io::pipe().unwrap();
        let mut lines = Lines::new(from);
        let long = Duration::from_secs(60);
        to.write_all(b"one\n\ntwo").unwrap();
        assert_eq!(lines.next(long), Next::Line(b"one".to_vec()));
        assert_eq!(lines.next(long), Next::Line(Vec::new()));
        assert_eq!(lines.next(Duration::from_millis(20)), Next::Late);
        to.write_all(b"\nthree").unwrap();
        assert_eq!(lines.next(long), Next::Line(b"two".to_vec()));
        drop(to);
        assert_eq!(lines.next(long), Next::End, "half a line is none");
    }

    #[test]
    fn a_silent_helper_is_not_waited_for() {
        let (reader, writer) = std::io::pipe().unwrap();
        let from = Instant::now();
        let error =
            hear(File::from(std::os::fd::OwnedFd::from(reader)), Duration::from_millis(50), 9).unwrap_err();
        assert!(error.to_string().contains("no answer"), "{error}");
        assert!(from.elapsed() < Duration::from_secs(60));
        drop(writer);
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"said").unwrap();
        drop(writer);
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        assert_eq!(hear(pipe, Duration::from_secs(5), 9).unwrap(), b"said");
    }
}
