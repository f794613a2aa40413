//! What OpenSSH adds to version 3 (its `PROTOCOL` file, section 4).

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::CWD;
use rustix::io::Errno;

use super::attributes::Attributes;
use super::names;
use super::wire::{Code, MAX_DATA, MAX_PACKET, Out, Reader, kind};
use super::{Reply, Result, Server, failure, files, no_handle, one_name};

/// What is offered, with its version.
pub(super) const OFFERED: &[(&str, &str)] = &[
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
];

/// Bytes copied at once where the kernel does not copy by itself.
const PIECE: usize = 256 << 10;
/// Most that the kernel is asked to copy at once, in bytes.
const COPY_AT_ONCE: u64 = 1 << 30;

impl Server {
    pub(super) fn extended(&mut self, id: u32, reader: &mut Reader<'_>, out: &mut Out) -> Result<Reply> {
        match reader.string()? {
            b"posix-rename@openssh.com" => {
                self.may_change()?;
                rustix::fs::rename(reader.string()?, reader.string()?)?;
                Ok(Reply::Done)
            }
            b"statvfs@openssh.com" => space(id, &rustix::fs::statvfs(reader.string()?)?, out),
            b"fstatvfs@openssh.com" => {
                let file = self.handles.descriptor(reader.string()?).ok_or_else(no_handle)?;
                space(id, &rustix::fs::fstatvfs(file)?, out)
            }
            b"hardlink@openssh.com" => {
                self.may_change()?;
                let (from, to) = (reader.string()?, reader.string()?);
                rustix::fs::linkat(CWD, from, CWD, to, rustix::fs::AtFlags::empty())?;
                Ok(Reply::Done)
            }
            b"fsync@openssh.com" => {
                files::sync(self.handles.descriptor(reader.string()?).ok_or_else(no_handle)?)
            }
            b"lsetstat@openssh.com" => {
                self.may_change()?;
                let path = reader.string()?;
                files::apply(path, &Attributes::read(reader)?, false)
            }
            b"limits@openssh.com" => {
                let begun = out.begin(kind::EXTENDED_REPLY, id);
                for limit in [MAX_PACKET, MAX_DATA, MAX_DATA, self.handles.limit()] {
                    out.long(limit as u64);
                }
                out.end(begun);
                Ok(Reply::Written)
            }
            b"expand-path@openssh.com" => {
                let path = self.expand(reader.string()?)?;
                one_name(id, &files::real_path(&path)?, out)
            }
            b"home-directory" => {
                let user = reader.string()?;
                let home = if user.is_empty() { Some(self.options.home.clone()) } else { names::home(user) };
                one_name(id, home.ok_or(Code::NoSuchFile)?.as_os_str().as_bytes(), out)
            }
            b"copy-data" => self.copy(reader),
            b"users-groups-by-id@openssh.com" => self.names_of(id, reader, out),
            _ => Err(Code::Unsupported.into()),
        }
    }

    /// `~`, `~/x`, `~user` and `~user/x`; anything else stays.
    fn expand(&self, path: &[u8]) -> Result<Vec<u8>> {
        let Some(rest) = path.strip_prefix(b"~") else { return Ok(path.to_vec()) };
        let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        let (user, rest) = rest.split_at_checked(end).unwrap_or((rest, b""));
        let home = if user.is_empty() { Some(self.options.home.clone()) } else { names::home(user) };
        let mut path = home.ok_or(Code::NoSuchFile)?.as_os_str().as_bytes().to_vec();
        path.extend_from_slice(rest);
        Ok(path)
    }

    fn copy(&self, reader: &mut Reader<'_>) -> Result<Reply> {
        self.may_change()?;
        let (from, from_at, length) = (reader.string()?, reader.long()?, reader.long()?);
        let (to, to_at) = (reader.string()?, reader.long()?);
        let length = if length == 0 { u64::MAX - from_at.max(to_at) } else { length };
        let (Some(from_end), Some(to_end)) = (from_at.checked_add(length), to_at.checked_add(length)) else {
            return Err(Code::BadMessage.into());
        };
        if from == to && from_at < to_end && to_at < from_end {
            return Err(failure("a file cannot be copied over itself"));
        }
        let (source, _) = self.handles.file(from).ok_or_else(no_handle)?;
        let (target, append) = self.handles.file(to).ok_or_else(no_handle)?;
        copy(source, target, (from_at, to_at), length, append)?;
        Ok(Reply::Done)
    }

    fn names_of(&mut self, id: u32, reader: &mut Reader<'_>, out: &mut Out) -> Result<Reply> {
        let (mut users, mut groups) = (Reader(reader.string()?), Reader(reader.string()?));
        let begun = out.begin(kind::EXTENDED_REPLY, id);
        for of_groups in [false, true] {
            let ids = if of_groups { &mut groups } else { &mut users };
            let mut list = Out::default();
            while let Ok(number) = ids.number() {
                let name = if of_groups { self.names.group(number) } else { self.names.user(number) };
                list.string(name.unwrap_or_default().as_bytes());
                if list.bytes.len() > MAX_PACKET / 4 {
                    return Err(failure("too many names"));
                }
            }
            out.string(&list.bytes);
        }
        out.end(begun);
        Ok(Reply::Written)
    }
}

/// By the kernel, which can share blocks, and piece by piece where it cannot.
fn copy(
    source: &OwnedFd,
    target: &OwnedFd,
    (mut from, mut to): (u64, u64),
    mut left: u64,
    append: bool,
) -> rustix::io::Result<()> {
    while left > 0 && !append {
        let most = usize::try_from(left.min(COPY_AT_ONCE)).unwrap_or(PIECE);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), most) {
            // The kernel finds nothing in files of /proc, whose size is 0.
            Ok(0) => break,
            Ok(copied) => left = left.saturating_sub(copied as u64),
            Err(Errno::INTR) => {}
            Err(Errno::INVAL | Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::BADF) => break,
            Err(error) => return Err(error),
        }
    }
    let mut piece = vec![0; if left > 0 { PIECE } else { 0 }];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let place = piece.get_mut(..most).unwrap_or_default();
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(source, &mut *place, from))?;
        if read == 0 {
            return Ok(());
        }
        let mut data = piece.get(..read).unwrap_or_default();
        while !data.is_empty() {
            let written = rustix::io::retry_on_intr(|| match append {
                true => rustix::io::write(target, data),
                false => rustix::io::pwrite(target, data, to),
            })?;
            data = data.get(written..).unwrap_or_default();
            to = to.saturating_add(written as u64);
        }
        from = from.saturating_add(read as u64);
        left = left.saturating_sub(read as u64);
    }
    Ok(())
}

/// The space of a file system, as `df` asks for it.
fn space(id: u32, it: &rustix::fs::StatVfs, out: &mut Out) -> Result<Reply> {
    const READ_ONLY: u64 = 1;
    const NO_SET_ID: u64 = 2;
    let mut flags = 0;
    if it.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        flags |= READ_ONLY;
    }
    if it.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID) {
        flags |= NO_SET_ID;
    }
    let begun = out.begin(kind::EXTENDED_REPLY, id);
    for number in [
        it.f_bsize,
        it.f_frsize,
        it.f_blocks,
        it.f_bfree,
        it.f_bavail,
        it.f_files,
        it.f_ffree,
        it.f_favail,
        it.f_fsid,
        flags,
        it.f_namemax,
    ] {
        out.long(number);
    }
    out.end(begun);
    Ok(Reply::Written)
}
