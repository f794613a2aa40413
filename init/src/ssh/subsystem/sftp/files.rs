//! What version 3 can do to files and folders (draft-ietf-secsh-filexfer-02 section 6).

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, statat};
use rustix::io::Errno;

use super::attributes::{self, Attributes};
use super::handles::Opened;
use super::wire::{Code, MAX_DATA, Out, Reader, kind};
use super::{Failed, Reply, Result, Server, failure, no_handle};

/// A reply to `SSH_FXP_READDIR` ends once it has this many bytes: every client takes packets of 34000
/// (section 3), and an entry has some 600 at the most.
const MAX_LISTING: usize = 32 << 10;

/// `SSH_FXF_*` (section 6.3).
mod flag {
    pub(super) const READ: u32 = 1;
    pub(super) const WRITE: u32 = 2;
    pub(super) const APPEND: u32 = 4;
    pub(super) const CREATE: u32 = 8;
    pub(super) const TRUNCATE: u32 = 0x10;
    pub(super) const EXCLUSIVE: u32 = 0x20;
}

impl Server {
    pub(super) fn open(&mut self, id: u32, reader: &mut Reader<'_>, out: &mut Out) -> Result<Reply> {
        let (path, wanted) = (reader.string()?, reader.number()?);
        let attributes = Attributes::read(reader)?;
        // One that does not block: nobody may ever come to the other end of a FIFO.
        let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        flags |= match (wanted & flag::READ != 0, wanted & flag::WRITE != 0) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        let append = wanted & flag::APPEND != 0;
        for (bit, flag) in [
            (flag::APPEND, OFlags::APPEND),
            (flag::CREATE, OFlags::CREATE),
            (flag::TRUNCATE, OFlags::TRUNC),
            (flag::EXCLUSIVE, OFlags::EXCL),
        ] {
            if wanted & bit != 0 {
                flags |= flag;
            }
        }
        if wanted & !flag::READ != 0 {
            self.may_change()?;
        }
        if !self.handles.has_room() {
            return Err(failure("Too many open files"));
        }
        let file = rustix::fs::open(path, flags, attributes.mode_or(0o666))?;
        let name = self.handles.add(Opened::File { file, append });
        handle(id, name, out)
    }

    pub(super) fn read(&mut self, id: u32, reader: &mut Reader<'_>, out: &mut Out) -> Result<Reply> {
        let (name, offset) = (reader.string()?, reader.long()?);
        let length = usize::try_from(reader.number()?).unwrap_or(MAX_DATA).min(MAX_DATA);
        let (file, _) = self.handles.file(name).ok_or_else(no_handle)?;
        let begun = out.begin(kind::DATA, id);
        let at = out.bytes.len();
        out.bytes.resize(at + 4 + length, 0);
        let place = out.bytes.get_mut(at + 4..).unwrap_or_default();
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *place, offset))?;
        if read == 0 && length > 0 {
            return Err(Code::Eof.into());
        }
        out.bytes.truncate(at + 4 + read);
        out.put(at, u32::try_from(read).unwrap_or(u32::MAX));
        out.end(begun);
        Ok(Reply::Written)
    }

    pub(super) fn write(&mut self, reader: &mut Reader<'_>) -> Result<Reply> {
        let (name, mut offset, mut data) = (reader.string()?, reader.long()?, reader.string()?);
        let (file, append) = self.handles.file(name).ok_or_else(no_handle)?;
        while !data.is_empty() {
            let written = rustix::io::retry_on_intr(|| match append {
                true => rustix::io::write(file, data),
                false => rustix::io::pwrite(file, data, offset),
            })?;
            if written == 0 {
                return Err(failure("nothing could be written"));
            }
            data = data.get(written..).unwrap_or_default();
            offset = offset.saturating_add(written as u64);
        }
        Ok(Reply::Done)
    }

    pub(super) fn stat(
        &self,
        id: u32,
        reader: &mut Reader<'_>,
        out: &mut Out,
        follow: bool,
    ) -> Result<Reply> {
        let path = reader.string()?;
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        attributes_of(id, &statat(CWD, path, flags)?, out)
    }

    pub(super) fn stat_of_handle(&self, id: u32, reader: &mut Reader<'_>, out: &mut Out) -> Result<Reply> {
        let file = self.handles.descriptor(reader.string()?).ok_or_else(no_handle)?;
        attributes_of(id, &rustix::fs::fstat(file)?, out)
    }

    pub(super) fn set_stat(&self, reader: &mut Reader<'_>) -> Result<Reply> {
        self.may_change()?;
        let path = reader.string()?;
        apply(path, &Attributes::read(reader)?, true)
    }

    pub(super) fn set_stat_of_handle(&self, reader: &mut Reader<'_>) -> Result<Reply> {
        self.may_change()?;
        let file = self.handles.descriptor(reader.string()?).ok_or_else(no_handle)?;
        let wanted = Attributes::read(reader)?;
        let mut result = Ok(());
        if let Some(size) = wanted.size {
            keep(&mut result, rustix::fs::ftruncate(file, size));
        }
        if let Some((user, group)) = owner(&wanted) {
            keep(&mut result, rustix::fs::fchown(file, Some(user), Some(group)));
        }
        if wanted.permissions.is_some() {
            keep(&mut result, rustix::fs::fchmod(file, wanted.mode_or(0)));
        }
        if let Some(times) = times(&wanted) {
            keep(&mut result, rustix::fs::futimens(file, &times));
        }
        result.map(|()| Reply::Done)
    }

    pub(super) fn open_folder(&mut self, id: u32, reader: &mut Reader<'_>, out: &mut Out) -> Result<Reply> {
        let path = reader.string()?;
        if !self.handles.has_room() {
            return Err(failure("Too many open files"));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        let entries = Box::new(rustix::fs::Dir::read_from(&folder)?);
        let name = self.handles.add(Opened::Folder { entries, folder });
        handle(id, name, out)
    }

    pub(super) fn read_folder(&mut self, id: u32, reader: &mut Reader<'_>, out: &mut Out) -> Result<Reply> {
        let Some(Opened::Folder { entries, folder }) = self.handles.get(reader.string()?) else {
            return Err(no_handle());
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
        let begun = out.begin(kind::NAME, id);
        let at = out.bytes.len();
        out.number(0);
        let mut count = 0;
        while out.bytes.len() < at + MAX_LISTING {
            let entry = match entries.read() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) if count == 0 => return Err(error.into()),
                // What was read until here is said first; the next call meets the error, or the end.
                Some(Err(_)) | None => break,
            };
            let name = entry.file_name();
            // One that has gone meanwhile is passed over.
            let Ok(stat) = statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let user = self.names.user(stat.st_uid).map_or_else(|| stat.st_uid.to_string(), str::to_string);
            let group = self.names.group(stat.st_gid).map_or_else(|| stat.st_gid.to_string(), str::to_string);
            out.string(name.to_bytes());
            out.string(&attributes::long_name(&stat, &user, &group, name.to_bytes(), now));
            attributes::write(out, &stat);
            count += 1;
        }
        if count == 0 {
            return Err(Code::Eof.into());
        }
        out.put(at, count);
        out.end(begun);
        Ok(Reply::Written)
    }

    pub(super) fn remove(&self, reader: &mut Reader<'_>) -> Result<Reply> {
        self.may_change()?;
        rustix::fs::unlink(reader.string()?)?;
        Ok(Reply::Done)
    }

    pub(super) fn make_folder(&self, reader: &mut Reader<'_>) -> Result<Reply> {
        self.may_change()?;
        let path = reader.string()?;
        rustix::fs::mkdir(path, Attributes::read(reader)?.mode_or(0o777))?;
        Ok(Reply::Done)
    }

    pub(super) fn remove_folder(&self, reader: &mut Reader<'_>) -> Result<Reply> {
        self.may_change()?;
        rustix::fs::rmdir(reader.string()?)?;
        Ok(Reply::Done)
    }

    /// Version 3's rename replaces nothing.
    pub(super) fn rename(&self, reader: &mut Reader<'_>) -> Result<Reply> {
        self.may_change()?;
        let (from, to) = (reader.string()?, reader.string()?);
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system that cannot do both at once (NFS, vfat of old kernels).
            Err(Errno::INVAL | Errno::NOSYS) => {
                match statat(CWD, to, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => {}
                    Ok(_) => return Err(Errno::EXIST.into()),
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::rename(from, to)?;
            }
            other => other?,
        }
        Ok(Reply::Done)
    }

    /// In OpenSSH's order, which is not that of the draft and which every client has learnt: where it
    /// points to, then its name.
    pub(super) fn symlink(&self, reader: &mut Reader<'_>) -> Result<Reply> {
        self.may_change()?;
        let (target, link) = (reader.string()?, reader.string()?);
        rustix::fs::symlink(target, link)?;
        Ok(Reply::Done)
    }
}

fn handle(id: u32, name: [u8; 8], out: &mut Out) -> Result<Reply> {
    let begun = out.begin(kind::HANDLE, id);
    out.string(&name);
    out.end(begun);
    Ok(Reply::Written)
}

fn attributes_of(id: u32, stat: &rustix::fs::Stat, out: &mut Out) -> Result<Reply> {
    let begun = out.begin(kind::ATTRS, id);
    attributes::write(out, stat);
    out.end(begun);
    Ok(Reply::Written)
}

/// Gives a file attributes by its name, all that can be given; the last failure is the answer. The owner
/// comes before the mode, for it takes set-id bits away.
pub(super) fn apply(path: &[u8], wanted: &Attributes, follow: bool) -> Result<Reply> {
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let mut result = Ok(());
    if let Some(size) = wanted.size {
        let truncated = match follow {
            true => rustix::fs::open(
                path,
                OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
                Mode::empty(),
            )
            .and_then(|file| rustix::fs::ftruncate(file, size)),
            false => Err(Errno::INVAL),
        };
        keep(&mut result, truncated);
    }
    if let Some((user, group)) = owner(wanted) {
        keep(&mut result, rustix::fs::chownat(CWD, path, Some(user), Some(group), flags));
    }
    if wanted.permissions.is_some() {
        let link =
            || statat(CWD, path, flags).map(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink);
        let changed = match !follow && link()? {
            // A symbolic link has no mode on Linux.
            true => Err(Errno::OPNOTSUPP),
            false => rustix::fs::chmodat(CWD, path, wanted.mode_or(0), AtFlags::empty()),
        };
        keep(&mut result, changed);
    }
    if let Some(times) = times(wanted) {
        keep(&mut result, rustix::fs::utimensat(CWD, path, &times, flags));
    }
    result.map(|()| Reply::Done)
}

fn keep(result: &mut std::result::Result<(), Failed>, next: rustix::io::Result<()>) {
    if let Err(error) = next {
        *result = Err(error.into());
    }
}

fn owner(wanted: &Attributes) -> Option<(rustix::fs::Uid, rustix::fs::Gid)> {
    let (user, group) = wanted.owner.filter(|(user, group)| *user != u32::MAX && *group != u32::MAX)?;
    Some((rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group)))
}

fn times(wanted: &Attributes) -> Option<Timestamps> {
    let (access, change) = wanted.times?;
    let at = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
    Some(Timestamps { last_access: at(access), last_modification: at(change) })
}

/// The absolute name without symbolic links of what is there, or of what could be made there.
pub(super) fn real_path(path: &[u8]) -> Result<Vec<u8>> {
    let path = Path::new(OsStr::from_bytes(if path.is_empty() { b"." } else { path }));
    let real = match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(Code::NoSuchFile)?;
            let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::canonicalize(folder)?.join(name)
        }
        other => other?,
    };
    Ok(real.into_os_string().into_vec())
}

/// Syncs a file to its disk.
pub(super) fn sync(file: impl AsFd) -> Result<Reply> {
    rustix::io::retry_on_intr(|| rustix::fs::fsync(&file))?;
    Ok(Reply::Done)
}
