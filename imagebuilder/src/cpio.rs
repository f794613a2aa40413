//! Writes an initramfs archive: cpio in the `newc` format, as the kernel reads it
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The same entries give the same bytes: they are sorted by the caller, inode numbers are given in
//! order, and times are zero. The rules on names are hard, because the kernel unpacks without any.

use std::collections::HashSet;
use std::io::{self, Write};

use anyhow::{Result, ensure};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file with its content.
    File(&'a [u8]),
    /// A symbolic link with its target.
    Symlink(&'a str),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
}

/// Longest name with its NUL that the kernel takes (PATH_MAX).
const MAX_NAME: usize = 4096;

/// An archive that is being written.
pub(crate) struct Writer<W> {
    out: W,
    written: u64,
    inode: u32,
    directories: HashSet<String>,
    last: String,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub(crate) fn new(out: W) -> Self {
        Self::behind(out, HashSet::new())
    }

    /// Starts an archive that is unpacked behind one that has made `directories`.
    pub(crate) fn behind(out: W, directories: HashSet<String>) -> Self {
        Self { out, written: 0, inode: 0, directories, last: String::new() }
    }

    /// Writes an entry; `path` has no leading slash, `mode` is permission bits, the owner is root.
    ///
    /// # Errors
    /// When the path is not plain, is not after the one before it, its parent was not written as a
    /// directory, or the sink fails.
    pub(crate) fn entry(&mut self, path: &str, mode: u32, kind: Kind<'_>) -> Result<()> {
        ensure!(path.len() < MAX_NAME && !path.contains('\0'), "{path:?}: not a path for an initramfs");
        ensure!(
            path.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{path:?}: not a plain path below the root"
        );
        ensure!(path != "TRAILER!!!", "{path:?}: the name that ends an archive");
        ensure!(path > self.last.as_str(), "{path:?}: out of order or twice");
        // A parent that is a symbolic link would lead the kernel elsewhere.
        if let Some((parent, _)) = path.rsplit_once('/') {
            ensure!(
                self.directories.contains(parent),
                "{path:?}: {parent:?} is not a directory of the image"
            );
        }
        ensure!(mode & !0o7777 == 0, "{path:?}: mode {mode:o} is more than permissions");
        let (kind_bits, links, data, device): (u32, u32, &[u8], (u32, u32)) = match kind {
            Kind::Directory => (0o040_000, 2, &[], (0, 0)),
            Kind::File(content) => (0o100_000, 1, content, (0, 0)),
            Kind::Symlink(target) => {
                ensure!(!target.is_empty() && target.len() < MAX_NAME, "{path:?}: link target");
                (0o120_000, 1, target.as_bytes(), (0, 0))
            }
            Kind::CharDevice(major, minor) => (0o020_000, 1, &[], (major, minor)),
        };
        if kind == Kind::Directory {
            self.directories.insert(path.to_string());
        }
        self.last = path.to_string();
        self.inode += 1;
        let size = u32::try_from(data.len()).map_err(|_| anyhow::anyhow!("{path:?}: over 4 GiB"))?;
        self.header(path, [self.inode, kind_bits | mode, links, size, device.0, device.1])?;
        self.put(data)?;
        self.pad()?;
        Ok(())
    }

    /// Ends the archive and gives back the sink and the bytes written.
    ///
    /// # Errors
    /// Those of the sink.
    pub(crate) fn finish(mut self) -> Result<(W, u64)> {
        self.header("TRAILER!!!", [0, 0, 1, 0, 0, 0])?;
        Ok((self.out, self.written))
    }

    fn header(&mut self, name: &str, fields: [u32; 6]) -> io::Result<()> {
        let [inode, mode, links, size, major, minor] = fields;
        let name_size = name.len() + 1;
        let header = format!(
            "070701{inode:08X}{mode:08X}{uid:08X}{gid:08X}{links:08X}{mtime:08X}{size:08X}{devmajor:08X}{devminor:08X}{major:08X}{minor:08X}{name_size:08X}{check:08X}",
            uid = 0,
            gid = 0,
            mtime = 0,
            devmajor = 0,
            devminor = 0,
            check = 0
        );
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Headers and contents begin at multiples of four.
    fn pad(&mut self) -> io::Result<()> {
        self.put(padding(self.written))
    }
}

/// The NULs behind so many bytes up to a multiple of four.
pub(crate) fn padding(bytes: u64) -> &'static [u8] {
    match bytes % 4 {
        1 => &[0; 3],
        2 => &[0; 2],
        3 => &[0],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.entry("dev", 0o755, Kind::Directory).unwrap();
        writer.entry("dev/console", 0o600, Kind::CharDevice(5, 1)).unwrap();
        writer.entry("etc", 0o755, Kind::Directory).unwrap();
        writer.entry("etc/hosts", 0o644, Kind::File(b"127.0.0.1 localhost\n")).unwrap();
        writer.entry("init", 0o755, Kind::File(b"x")).unwrap();
        writer.entry("sh", 0o777, Kind::Symlink("init")).unwrap();
        writer.entry("tmp", 0o1777, Kind::Directory).unwrap();
        let (bytes, written) = writer.finish().unwrap();
        assert_eq!(bytes.len() as u64, written);
        bytes
    }

    /// Name, mode, content, device.
    type Read = (String, u32, Vec<u8>, (u32, u32));

    /// Reads an archive back.
    fn read(bytes: &[u8]) -> Vec<Read> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(at % 4, 0);
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |i: usize| {
                let from = at + 6 + i * 8;
                u32::from_str_radix(std::str::from_utf8(&bytes[from..from + 8]).unwrap(), 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let device = (field(9), field(10));
            let name = std::str::from_utf8(&bytes[at + 110..at + 110 + name_size - 1]).unwrap().to_string();
            let data = (at + 110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(data, bytes.len());
                return entries;
            }
            assert_eq!(field(0) as usize, entries.len() + 1, "inodes are sequential");
            entries.push((name, mode, bytes[data..data + size].to_vec(), device));
            at = (data + size).next_multiple_of(4);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let entries = read(&sample());
        assert_eq!(entries.len(), 7);
        assert_eq!(entries[1], ("dev/console".into(), 0o020_600, vec![], (5, 1)));
        assert_eq!(entries[3].2, b"127.0.0.1 localhost\n");
        assert_eq!(entries[5], ("sh".into(), 0o120_777, b"init".to_vec(), (0, 0)));
        assert_eq!(entries[6].1, 0o041_777);
    }

    #[test]
    fn cpio_lists_it() {
        let mut child = std::process::Command::new("cpio")
            .args(["-itv", "--quiet"])
            .env("TZ", "UTC")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("cpio is installed (apt-get install cpio)");
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(lines[1].starts_with("crw-------") && lines[1].contains("5,   1"), "{text}");
        assert!(lines[3].starts_with("-rw-r--r--   1 root     root           20 Jan  1  1970 etc/hosts"));
        assert!(lines[5].ends_with("sh -> init"), "{text}");
        assert!(lines[6].starts_with("drwxrwxrwt   2"), "{text}");
    }

    #[test]
    fn hard_rules_on_names() {
        for path in ["", "/etc", "etc/", "a//b", "./a", "a/../b", "..", "a\0b", "TRAILER!!!"] {
            let mut writer = Writer::new(Vec::new());
            assert!(writer.entry(path, 0o644, Kind::File(b"")).is_err(), "{path:?}");
        }
        let mut writer = Writer::new(Vec::new());
        assert!(writer.entry(&"a".repeat(5000), 0o644, Kind::File(b"")).is_err());
        let mut behind = Writer::behind(Vec::new(), HashSet::from(["a".to_string()]));
        behind.entry("a/b", 0o644, Kind::File(b"")).unwrap();
        assert!(behind.entry("b/c", 0o644, Kind::File(b"")).is_err(), "no parent in either");
        writer.entry("b", 0o777, Kind::Symlink("etc")).unwrap();
        assert!(writer.entry("b/c", 0o644, Kind::File(b"")).is_err(), "through a link");
        assert!(writer.entry("a", 0o644, Kind::File(b"")).is_err(), "out of order");
        assert!(writer.entry("b", 0o644, Kind::File(b"")).is_err(), "twice");
        assert!(writer.entry("x/y", 0o644, Kind::File(b"")).is_err(), "no parent");
        assert!(writer.entry("c", 0o100_644, Kind::File(b"")).is_err(), "type bits");
    }
}
