//! Reads the `.modinfo` section of a module: NUL-separated `key=value` strings in an ELF64
//! relocatable object (System V ABI, chapter 4; include/linux/moduleinfo.h).
//!
//! Only the headers and that one section are read, because a kernel has 4,000 modules of which
//! few are wanted.

use std::io;

use super::{Module, canonical};

/// Largest `.modinfo`; the largest known (a driver with thousands of aliases) is below 300 KiB.
const MAX_MODINFO: u64 = 4 << 20;
/// Largest table of section names.
const MAX_NAMES: u64 = 1 << 20;
/// Most sections that are looked at.
const MAX_SECTIONS: u64 = 65_536;

/// Why a module could not be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The bytes cannot be had.
    Io(io::Error),
    /// They are not a module for x86-64, with what is wrong.
    Malformed(&'static str),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Malformed(what) => write!(f, "not a kernel module: {what}"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// Reads what the module at `path` (below `/lib/modules/<release>/`, ending in `.ko`) says.
/// `read_at` fills a buffer from an offset of the plain module, `len` is its length in bytes.
///
/// # Errors
/// When it cannot be read or is no module.
pub(crate) fn read(
    path: &str,
    len: u64,
    read_at: &dyn Fn(u64, &mut [u8]) -> io::Result<()>,
) -> Result<Module, Unreadable> {
    let section = section(len, read_at)?;
    Ok(Module { bytes: len, ..parse(path, &section) })
}

fn section(len: u64, read_at: &dyn Fn(u64, &mut [u8]) -> io::Result<()>) -> Result<Vec<u8>, Unreadable> {
    let bytes = |at: u64, size: u64| -> Result<Vec<u8>, Unreadable> {
        if at.checked_add(size).is_none_or(|end| end > len) {
            return Err(Unreadable::Malformed("it is cut short"));
        }
        let mut buffer = vec![0; usize::try_from(size).map_err(|_| Unreadable::Malformed("too large"))?];
        read_at(at, &mut buffer).map_err(Unreadable::Io)?;
        Ok(buffer)
    };
    let header = bytes(0, 64)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(Unreadable::Malformed("no 64-bit little-endian ELF"));
    }
    let (table, size) = (number(&header, 40, 8), number(&header, 58, 2));
    let (count, names_at) = (number(&header, 60, 2), number(&header, 62, 2));
    if size != 64 || count == 0 || count > MAX_SECTIONS || names_at >= count {
        return Err(Unreadable::Malformed("its section table is damaged"));
    }
    let sections = bytes(table, size * count)?;
    let place = |index: u64| {
        let at = usize::try_from(index * size).unwrap_or(usize::MAX - 64);
        (number(&sections, at, 4), number(&sections, at + 24, 8), number(&sections, at + 32, 8))
    };
    let (_, names_offset, names_size) = place(names_at);
    if names_size > MAX_NAMES {
        return Err(Unreadable::Malformed("its section names are too long"));
    }
    let names = bytes(names_offset, names_size)?;
    for index in 0..count {
        let (name, offset, size) = place(index);
        let name = usize::try_from(name).ok().and_then(|at| names.get(at..)).unwrap_or_default();
        if name.starts_with(b".modinfo\0") {
            if size > MAX_MODINFO {
                return Err(Unreadable::Malformed("its .modinfo is too long"));
            }
            return bytes(offset, size);
        }
    }
    Err(Unreadable::Malformed("it has no .modinfo"))
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes
        .get(at..at + size)
        .unwrap_or_default()
        .iter()
        .rev()
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// What the strings say.
pub(crate) fn parse(path: &str, section: &[u8]) -> Module {
    let file = path.rsplit('/').next().unwrap_or(path);
    let mut module =
        Module { name: canonical(file.trim_end_matches(".ko")), path: path.to_string(), ..Module::default() };
    for string in section.split(|byte| *byte == 0) {
        let Ok(string) = std::str::from_utf8(string) else { continue };
        let Some((key, value)) = string.split_once('=') else { continue };
        // A line break would let a module write lines of its own into the tables.
        if value.contains('\n') {
            continue;
        }
        match key {
            "depends" => module.depends = value.split(',').filter(|n| !n.is_empty()).map(canonical).collect(),
            "alias" => module.aliases.push(value.to_string()),
            "firmware" => module.firmware.push(value.to_string()),
            "softdep" => module.softdeps.push(value.to_string()),
            "vermagic" => module.release = value.split(' ').next().unwrap_or_default().to_string(),
            _ => {}
        }
    }
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal ELF64 with one section .modinfo.
    pub(crate) fn elf(modinfo: &[u8]) -> Vec<u8> {
        let names = b"\0.shstrtab\0.modinfo\0";
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let names_at = file.len();
        file.extend_from_slice(names);
        let info_at = file.len();
        file.extend_from_slice(modinfo);
        let table = file.len();
        let mut header = |name: u32, at: usize, size: usize| {
            let mut section = [0; 64];
            section[..4].copy_from_slice(&name.to_le_bytes());
            section[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            section[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            file.extend_from_slice(&section);
        };
        header(0, 0, 0);
        header(1, names_at, names.len());
        header(11, info_at, modinfo.len());
        file[40..48].copy_from_slice(&(table as u64).to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        file[60..62].copy_from_slice(&3u16.to_le_bytes());
        file[62..64].copy_from_slice(&1u16.to_le_bytes());
        file
    }

    fn read_bytes(bytes: &[u8]) -> Result<Module, Unreadable> {
        read("kernel/a/virtio-rng.ko", bytes.len() as u64, &|at, buffer| {
            let at = usize::try_from(at).unwrap();
            buffer.copy_from_slice(&bytes[at..at + buffer.len()]);
            Ok(())
        })
    }

    const INFO: &[u8] = b"alias=virtio:d00000004v*\0depends=virtio,virtio-ring\0softdep=pre: crc32c\0name=virtio_rng\0vermagic=6.1.0-56-amd64 SMP\0alias=evil\nalias x y\0";

    #[test]
    fn a_module_is_read() {
        let module = read_bytes(&elf(INFO)).unwrap();
        assert_eq!(module.name, "virtio_rng");
        assert_eq!(module.depends, ["virtio", "virtio_ring"]);
        assert_eq!(module.aliases, ["virtio:d00000004v*"]);
        assert_eq!(module.softdeps, ["pre: crc32c"]);
        assert_eq!(module.release, "6.1.0-56-amd64");
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let whole = elf(INFO);
        for cut in 0..whole.len() {
            assert!(read_bytes(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..whole.len() {
            for value in [0x00, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let _ = read_bytes(&damaged);
            }
        }
    }
}
