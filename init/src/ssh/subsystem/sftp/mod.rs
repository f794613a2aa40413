//! The SFTP server: version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions (its `PROTOCOL`
//! file, section 4), as `sftp`, `scp`, `sshfs`, `rsync`-like tools and libraries expect of OpenSSH.
//!
//! ```text
//! wire.rs        numbers, strings, codes           attributes.rs  attributes, the line of ls -l
//! handles.rs     what is open, by name             files.rs       what version 3 can do to files
//! extensions.rs  what OpenSSH adds                 names.rs       users and groups by number
//! ```
//!
//! It is a loop without a runtime: a request is read, done and answered, and what is read from a file goes
//! straight to where it is sent from, what is written straight from where it was received. Requests that
//! have arrived together are answered together. A client that asks for more than it reads is not read
//! from, so memory is bounded by a packet each way.
//!
//! The codec is our own, as the libraries there are (russh-sftp, openssh-sftp-protocol) take names as
//! UTF-8 text, which a disk that is rescued need not have, and copy every piece of a file twice.

mod attributes;
mod extensions;
mod files;
mod handles;
mod names;
mod wire;

use std::io::{self, Read, Write};
use std::path::PathBuf;

use rustix::io::Errno;

use handles::Handles;
use names::Names;
use wire::{Code, MAX_PACKET, Out, Reader, Short, kind};

/// Answers are sent at this size even when further requests wait, in bytes: the other side works on them
/// meanwhile.
const SEND_AT: usize = 64 << 10;
/// Descriptors that are not for files of the client: standard input and output, and what a request opens
/// for itself.
const OWN_DESCRIPTORS: u64 = 8;
/// Most open files and folders. A client needs some dozens; a folder takes 32 KiB.
const MAX_HANDLES: u64 = 1000;

/// How it serves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Refuse whatever changes something (`-R`).
    pub read_only: bool,
    /// Home of the login, for `~`.
    pub home: PathBuf,
}

/// Why a request was not done.
struct Failed {
    code: Code,
    text: Option<String>,
}

impl From<Code> for Failed {
    fn from(code: Code) -> Self {
        Self { code, text: None }
    }
}

impl From<Short> for Failed {
    fn from(_: Short) -> Self {
        Code::BadMessage.into()
    }
}

impl From<Errno> for Failed {
    /// As OpenSSH maps them; what it calls a mere failure says here what failed.
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP => Code::NoSuchFile.into(),
            Errno::PERM | Errno::ACCESS | Errno::FAULT => Code::PermissionDenied.into(),
            Errno::NAMETOOLONG | Errno::INVAL => Code::BadMessage.into(),
            Errno::NOSYS | Errno::OPNOTSUPP => Code::Unsupported.into(),
            other => {
                let text = io::Error::from(other).to_string();
                let text = text.split(" (os error").next().map(str::to_string);
                Self { code: Code::Failure, text }
            }
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Errno::from_io_error(&error).map_or_else(|| Code::Failure.into(), Self::from)
    }
}

fn failure(text: &str) -> Failed {
    Failed { code: Code::Failure, text: Some(text.into()) }
}

/// What is left to do for a request that was done.
enum Reply {
    /// To say so.
    Done,
    /// Nothing: its packet has been written.
    Written,
}

type Result<T> = std::result::Result<T, Failed>;

/// The server's state.
struct Server {
    options: Options,
    handles: Handles,
    names: Names,
    greeted: bool,
}

/// Serves until the client ends.
///
/// # Errors
/// Reading and writing; a client that does not speak SFTP.
pub fn serve(options: Options, mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    // A folder has two descriptors.
    let limit = (limit.saturating_sub(OWN_DESCRIPTORS) / 2).clamp(1, MAX_HANDLES);
    let handles = Handles::new(usize::try_from(limit).unwrap_or(1));
    let mut server = Server { options, handles, names: Names::default(), greeted: false };
    let mut out = Out::default();
    // Room for the largest packet and what has arrived of the next.
    let mut buffer = vec![0; MAX_PACKET + SEND_AT];
    let (mut start, mut end) = (0, 0);
    loop {
        while let Some(packet) = next(buffer.get(start..end).unwrap_or_default())? {
            start += packet.len() + 4;
            server.answer(packet, &mut out)?;
            if out.bytes.len() >= SEND_AT {
                output.write_all(&out.bytes)?;
                out.bytes.clear();
            }
        }
        if !out.bytes.is_empty() {
            output.write_all(&out.bytes)?;
            out.bytes.clear();
        }
        output.flush()?;
        if start == end {
            (start, end) = (0, 0);
        } else if start > 0 {
            buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
        }
        match input.read(buffer.get_mut(end..).unwrap_or_default()) {
            Ok(0) => return Ok(()),
            Ok(length) => end += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The first packet, if all of it is there.
fn next(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if !(1..=MAX_PACKET).contains(&length) {
        let what = format!("a packet of {length} bytes; 1 to {MAX_PACKET}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(rest.get(..length))
}

impl Server {
    fn answer(&mut self, packet: &[u8], out: &mut Out) -> io::Result<()> {
        let mut reader = Reader(packet);
        let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "a packet without a request id");
        let kind = reader.byte().map_err(malformed)?;
        if kind == kind::INIT {
            return self.greet(out);
        }
        if !self.greeted {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a request before SSH_FXP_INIT"));
        }
        let id = reader.number().map_err(malformed)?;
        let begun = out.bytes.len();
        match self.request(kind, id, &mut reader, out) {
            Ok(Reply::Done) => out.status(id, Code::Ok, Code::Ok.text()),
            Ok(Reply::Written) => {}
            Err(Failed { code, text }) => {
                out.bytes.truncate(begun);
                out.status(id, code, text.as_deref().unwrap_or(code.text()));
            }
        }
        Ok(())
    }

    fn greet(&mut self, out: &mut Out) -> io::Result<()> {
        if std::mem::replace(&mut self.greeted, true) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "SSH_FXP_INIT for a second time"));
        }
        // Whatever the client has, 3 is what we have (section 4).
        let begun = out.begin(kind::VERSION, 3);
        for (name, version) in extensions::OFFERED {
            out.string(name.as_bytes());
            out.string(version.as_bytes());
        }
        out.end(begun);
        Ok(())
    }

    fn request(&mut self, kind: u8, id: u32, reader: &mut Reader<'_>, out: &mut Out) -> Result<Reply> {
        match kind {
            kind::OPEN => self.open(id, reader, out),
            kind::CLOSE => self.handles.remove(reader.string()?).map(|_| Reply::Done).ok_or_else(no_handle),
            kind::READ => self.read(id, reader, out),
            kind::WRITE => self.write(reader),
            kind::LSTAT => self.stat(id, reader, out, false),
            kind::STAT => self.stat(id, reader, out, true),
            kind::FSTAT => self.stat_of_handle(id, reader, out),
            kind::SETSTAT => self.set_stat(reader),
            kind::FSETSTAT => self.set_stat_of_handle(reader),
            kind::OPENDIR => self.open_folder(id, reader, out),
            kind::READDIR => self.read_folder(id, reader, out),
            kind::REMOVE => self.remove(reader),
            kind::MKDIR => self.make_folder(reader),
            kind::RMDIR => self.remove_folder(reader),
            kind::REALPATH => {
                let path = reader.string()?;
                one_name(id, &files::real_path(path)?, out)
            }
            kind::RENAME => self.rename(reader),
            kind::READLINK => {
                let target = rustix::fs::readlink(reader.string()?, Vec::new())?;
                one_name(id, target.as_bytes(), out)
            }
            kind::SYMLINK => self.symlink(reader),
            kind::EXTENDED => self.extended(id, reader, out),
            _ => Err(Code::Unsupported.into()),
        }
    }

    /// Whether something may be changed.
    fn may_change(&self) -> Result<()> {
        if self.options.read_only { Err(Code::PermissionDenied.into()) } else { Ok(()) }
    }
}

fn no_handle() -> Failed {
    failure("No such handle")
}

/// A reply of one name without attributes.
fn one_name(id: u32, name: &[u8], out: &mut Out) -> Result<Reply> {
    let begun = out.begin(kind::NAME, id);
    out.number(1);
    out.string(name);
    out.string(name);
    attributes::write_none(out);
    out.end(begun);
    Ok(Reply::Written)
}

#[cfg(test)]
mod tests;
