//! The old protocol of `scp` (that of rcp): what runs on the server as `scp -t` and `scp -f`, for
//! `scp -O`, older clients and what is built into devices and libraries. OpenSSH's newer `scp` speaks SFTP.
//!
//! The sender says a line for each thing and waits for an answer of one byte: 0 is yes, 1 a complaint
//! (a line follows), 2 a complaint and the end.
//!
//! ```text
//! T<seconds changed> 0 <seconds accessed> 0    times of what comes next (-p)
//! C<mode> <size> <name>                        a file; its bytes and a 0 follow
//! D<mode> 0 <name>                             a folder, until E
//! E
//! ```

mod announced;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use announced::{Thing, Times};

/// Longest line in bytes; a name has at most 255.
const MAX_LINE: usize = 1024;
/// Deepest folder: each level holds an open folder of the sender.
const MAX_DEPTH: usize = 128;
/// Bytes of a file moved at once.
const PIECE: usize = 256 << 10;

/// What the client's `scp` has asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Folders and what is in them (`-r`).
    pub recursive: bool,
    /// Times and exact modes (`-p`).
    pub preserve: bool,
    /// The target must be a folder (`-d`).
    pub folder: bool,
}

/// Why nothing more can be said.
#[derive(Debug)]
enum End {
    /// The other side is gone, or says what is not in the protocol.
    Broken(io::Error),
    /// The other side has said that it ends.
    Told,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Both sides of the line, and whether all went well.
struct Talk<I, O> {
    input: I,
    output: O,
    options: Options,
    buffer: Vec<u8>,
    /// Received and not looked at yet.
    waiting: (usize, usize),
    well: bool,
}

/// Receives into `target` (`scp -t`). False when something of it could not be written; the sender has
/// been told.
///
/// # Errors
/// A sender that is gone or does not speak the protocol.
pub fn receive(options: Options, target: &Path, input: impl Read, output: impl Write) -> io::Result<bool> {
    let must_be_folder = options.folder;
    let mut talk = Talk::new(options, input, output);
    let result = talk.receive(target, must_be_folder);
    talk.finish(result)
}

/// Sends `paths` (`scp -f`). False when something of it could not be read; the receiver has been told.
///
/// # Errors
/// A receiver that is gone or does not speak the protocol.
pub fn send(options: Options, paths: &[PathBuf], input: impl Read, output: impl Write) -> io::Result<bool> {
    let mut talk = Talk::new(options, input, output);
    let result = talk.send(paths);
    talk.finish(result)
}

fn invalid(text: &str) -> End {
    End::Broken(io::Error::new(ErrorKind::InvalidData, text))
}

impl<I: Read, O: Write> Talk<I, O> {
    fn new(options: Options, input: I, output: O) -> Self {
        Self { input, output, options, buffer: vec![0; PIECE], waiting: (0, 0), well: true }
    }

    fn finish(&mut self, result: Result<(), End>) -> io::Result<bool> {
        match result {
            Ok(()) => Ok(self.well),
            Err(End::Told) => Ok(false),
            Err(End::Broken(error)) => {
                if error.kind() == ErrorKind::InvalidData {
                    let _ = self.output.write_all(format!("\x02scp: {error}\n").as_bytes());
                }
                Err(error)
            }
        }
    }

    /// What has been received, of which at least one byte; empty at the end.
    fn received(&mut self) -> io::Result<&[u8]> {
        while self.waiting.0 == self.waiting.1 {
            match self.input.read(&mut self.buffer) {
                Ok(length) => {
                    self.waiting = (0, length);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.buffer.get(self.waiting.0..self.waiting.1).unwrap_or_default())
    }

    fn byte(&mut self) -> Result<Option<u8>, End> {
        let byte = self.received()?.first().copied();
        self.waiting.0 += usize::from(byte.is_some());
        Ok(byte)
    }

    /// The rest of a line, without its end.
    fn line(&mut self) -> Result<Vec<u8>, End> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                Some(b'\n') => return Ok(line),
                Some(byte) if line.len() < MAX_LINE => line.push(byte),
                Some(_) => return Err(invalid("protocol error: a line too long")),
                None => return Err(End::Broken(ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.output.write_all(bytes)?;
        Ok(self.output.flush()?)
    }

    fn yes(&mut self) -> Result<(), End> {
        self.say(&[0])
    }

    /// Complains of a path; what follows goes on.
    fn complain(&mut self, path: &Path, error: &io::Error) -> Result<(), End> {
        self.well = false;
        let error = error.to_string();
        let error = error.split(" (os error").next().unwrap_or_default();
        let mut text = b"\x01scp: ".to_vec();
        text.extend(path.as_os_str().as_bytes().iter().map(|b| if *b == b'\n' { b'?' } else { *b }));
        text.extend_from_slice(format!(": {error}\n").as_bytes());
        self.say(&text)
    }

    /// The answer of the other side; false for a complaint.
    fn answer(&mut self) -> Result<bool, End> {
        match self.byte()? {
            Some(0) => Ok(true),
            Some(1) => {
                self.line()?;
                self.well = false;
                Ok(false)
            }
            Some(2) => Err(End::Told),
            Some(_) => Err(invalid("protocol error: no answer")),
            None => Err(End::Broken(ErrorKind::UnexpectedEof.into())),
        }
    }

    fn receive(&mut self, target: &Path, must_be_folder: bool) -> Result<(), End> {
        if must_be_folder && !target.is_dir() {
            let error = match std::fs::metadata(target) {
                Err(error) => error,
                Ok(_) => ErrorKind::NotADirectory.into(),
            };
            self.complain(target, &error)?;
            return Err(End::Told);
        }
        self.yes()?;
        // The folders that are open, with what they get once all is in them.
        let mut open: Vec<(PathBuf, Option<Permissions>, Option<Times>)> = Vec::new();
        let mut times = None;
        loop {
            let kind = match self.byte()? {
                Some(kind) => kind,
                None if open.is_empty() => return Ok(()),
                None => return Err(End::Broken(ErrorKind::UnexpectedEof.into())),
            };
            let line = self.line()?;
            match kind {
                1 => self.well = false,
                2 => return Err(End::Told),
                b'T' => {
                    times = Some(Times::parse(&line).ok_or_else(|| invalid("protocol error: times"))?);
                    self.yes()?;
                }
                b'E' => {
                    let (path, permissions, times) =
                        open.pop().ok_or_else(|| invalid("protocol error: E"))?;
                    let set = permissions.map_or(Ok(()), |p| std::fs::set_permissions(&path, p));
                    let set = set.and(times.map_or(Ok(()), |t| File::open(&path).and_then(|f| t.set(&f))));
                    match set {
                        Ok(()) => self.yes()?,
                        Err(error) => self.complain(&path, &error)?,
                    }
                }
                b'C' | b'D' => {
                    let thing =
                        Thing::parse(&line).ok_or_else(|| invalid("protocol error: a name or size"))?;
                    let folder = open.last().map_or(target, |(path, ..)| path.as_path());
                    let path = if open.is_empty() && !target.is_dir() {
                        target.to_path_buf()
                    } else {
                        folder.join(&thing.name)
                    };
                    let times = times.take();
                    if kind == b'C' {
                        self.receive_file(&path, &thing, times)?;
                        continue;
                    }
                    if !self.options.recursive || open.len() >= MAX_DEPTH {
                        return Err(invalid("a folder that was not asked for, or too deep"));
                    }
                    match self.make_folder(&path, thing.mode) {
                        Ok(permissions) => {
                            self.yes()?;
                            open.push((path, permissions, times));
                        }
                        // The sender goes on with what comes after it.
                        Err(error) => self.complain(&path, &error)?,
                    }
                }
                _ => return Err(invalid("protocol error: an unknown line")),
            }
        }
    }

    /// Makes a folder that can be written into; returns the mode that it gets in the end.
    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<Option<Permissions>> {
        match DirBuilder::new().mode(mode | 0o700).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
                Ok(self.options.preserve.then(|| Permissions::from_mode(mode)))
            }
            Err(error) => Err(error),
            Ok(()) if self.options.preserve => Ok(Some(Permissions::from_mode(mode))),
            Ok(()) if mode & 0o700 != 0o700 => {
                let made = std::fs::metadata(path)?.permissions().mode();
                Ok(Some(Permissions::from_mode(made & (mode | 0o077))))
            }
            Ok(()) => Ok(None),
        }
    }

    fn receive_file(&mut self, path: &Path, thing: &Thing, times: Option<Times>) -> Result<(), End> {
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .mode(thing.mode)
            // Nobody may ever come to the other end of a FIFO.
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) => return self.complain(path, &error),
        };
        self.yes()?;
        let mut failed = None;
        let mut left = thing.size;
        while left > 0 {
            let data = self.received()?;
            if data.is_empty() {
                return Err(End::Broken(ErrorKind::UnexpectedEof.into()));
            }
            let taken = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if failed.is_none() {
                failed = (&file).write_all(data.get(..taken).unwrap_or_default()).err();
            }
            self.waiting.0 += taken;
            left -= taken as u64;
        }
        let settled = || {
            // A longer file that was there before is cut; a device has no length.
            if file.metadata()?.is_file() {
                file.set_len(thing.size)?;
            }
            if self.options.preserve {
                file.set_permissions(Permissions::from_mode(thing.mode))?;
            }
            times.map_or(Ok(()), |times| times.set(&file))
        };
        let failed = failed.or_else(|| settled().err());
        let whole = self.answer()?;
        match failed {
            Some(error) => self.complain(path, &error),
            None if whole => self.yes(),
            None => Ok(()),
        }
    }

    fn send(&mut self, paths: &[PathBuf]) -> Result<(), End> {
        if !self.answer()? {
            return Ok(());
        }
        for path in paths {
            self.send_one(path, 0)?;
        }
        Ok(())
    }

    fn send_one(&mut self, path: &Path, depth: usize) -> Result<(), End> {
        // Nobody may ever come to the other end of a FIFO.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.complain(path, &error),
        };
        let name = path.file_name().map_or_else(|| OsString::from("."), OsStr::to_os_string);
        if name.as_bytes().contains(&b'\n') {
            return self.complain(path, &io::Error::other("has a line feed in its name"));
        }
        if metadata.is_dir() {
            if !self.options.recursive || depth >= MAX_DEPTH {
                return self.complain(path, &ErrorKind::IsADirectory.into());
            }
            return self.send_folder(path, &name, &metadata, depth);
        }
        if !metadata.is_file() {
            return self.complain(path, &io::Error::other("not a regular file"));
        }
        if !self.send_head(b'C', metadata.len(), &name, &metadata)? {
            return Ok(());
        }
        let (mut left, mut failed) = (metadata.len(), None);
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let place = piece.get_mut(..most).unwrap_or_default();
            let length = match failed {
                // The size has been promised; what cannot be read is sent as zeros, and said.
                Some(_) => most,
                None => match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut *place)) {
                    Ok(0) => {
                        place.fill(0);
                        failed = Some(io::Error::other("became shorter while it was sent"));
                        most
                    }
                    Ok(length) => length,
                    Err(error) => {
                        place.fill(0);
                        failed = Some(error.into());
                        most
                    }
                },
            };
            self.output.write_all(place.get(..length).unwrap_or_default())?;
            left -= length as u64;
        }
        match failed {
            Some(error) => self.complain(path, &error)?,
            None => self.yes()?,
        }
        self.answer()?;
        Ok(())
    }

    fn send_folder(
        &mut self,
        path: &Path,
        name: &OsStr,
        metadata: &std::fs::Metadata,
        depth: usize,
    ) -> Result<(), End> {
        if !self.send_head(b'D', 0, name, metadata)? {
            return Ok(());
        }
        match std::fs::read_dir(path) {
            Ok(entries) => {
                for entry in entries {
                    match entry {
                        Ok(entry) => self.send_one(&entry.path(), depth + 1)?,
                        Err(error) => self.complain(path, &error)?,
                    }
                }
            }
            Err(error) => self.complain(path, &error)?,
        }
        self.say(b"E\n")?;
        self.answer()?;
        Ok(())
    }

    /// Announces a file or a folder; false when the receiver does not want it.
    fn send_head(
        &mut self,
        kind: u8,
        size: u64,
        name: &OsStr,
        metadata: &std::fs::Metadata,
    ) -> Result<bool, End> {
        if self.options.preserve {
            let (changed, accessed) = (metadata.mtime().max(0), metadata.atime().max(0));
            self.say(format!("T{changed} 0 {accessed} 0\n").as_bytes())?;
            if !self.answer()? {
                return Ok(false);
            }
        }
        let mut line = format!("{}{:04o} {size} ", char::from(kind), metadata.mode() & 0o7777).into_bytes();
        line.extend_from_slice(name.as_bytes());
        line.push(b'\n');
        self.say(&line)?;
        self.answer()
    }
}
