//! What an ELF program needs at run time: its loader and its libraries (System V ABI, chapter 5).

use anyhow::{Context, Result, ensure};
use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, StringTable};

/// The dynamic part of a program or library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Path of the loader; none for libraries and static programs.
    pub(crate) loader: Option<String>,
    /// Sonames of libraries.
    pub(crate) libraries: Vec<String>,
    /// Folders to look for them in before the usual ones.
    pub(crate) folders: Vec<String>,
}

/// Reads it. `None` when the bytes are no ELF at all (a script, say).
///
/// # Errors
/// When it is a damaged ELF, or one for another machine than x86-64.
pub(crate) fn needs(bytes: &[u8]) -> Result<Option<Needs>> {
    if !bytes.starts_with(&elf::ELFMAG) {
        return Ok(None);
    }
    let header = elf::FileHeader64::<Endianness>::parse(bytes).context("damaged ELF header")?;
    let endian = header.endian().context("damaged ELF header")?;
    ensure!(header.e_machine(endian) == elf::EM_X86_64, "not a program for x86-64");
    let segments = header.program_headers(endian, bytes).context("damaged program headers")?;
    let mut needs = Needs::default();
    for segment in segments {
        if let Some(path) = segment.interpreter(endian, bytes).context("damaged interpreter")? {
            needs.loader = Some(String::from_utf8(path.to_vec()).context("interpreter is not UTF-8")?);
        }
        let Some(dynamic) = segment.dynamic(endian, bytes).context("damaged dynamic section")? else {
            continue;
        };
        let value = |tag: u32| dynamic.iter().find(|d| d.tag32(endian) == Some(tag)).map(|d| d.d_val(endian));
        let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else { continue };
        let strings = segments
            .iter()
            .find_map(|s| s.data_range(endian, bytes, address, size).ok().flatten())
            .context("its string table is not in the file")?;
        let strings = StringTable::new(strings, 0, strings.len() as u64);
        for entry in dynamic {
            let text = || -> Result<String> {
                let bytes = entry.string(endian, strings).context("damaged string table")?;
                String::from_utf8(bytes.to_vec()).context("a library's name is not UTF-8")
            };
            match entry.tag32(endian) {
                Some(elf::DT_NEEDED) => needs.libraries.push(text()?),
                Some(elf::DT_RUNPATH | elf::DT_RPATH) => {
                    needs.folders.extend(text()?.split(':').filter(|f| f.starts_with('/')).map(String::from));
                }
                _ => {}
            }
        }
    }
    Ok(Some(needs))
}

/// Whether it is a program for x86-64 that needs no loader.
///
/// # Errors
/// When it is no such program.
pub(crate) fn is_static(bytes: &[u8]) -> Result<bool> {
    let needs = needs(bytes)?.context("not an ELF program")?;
    Ok(needs.loader.is_none() && needs.libraries.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_static_and_the_shell_is_not() {
        assert!(is_static(&std::fs::read(std::env::current_exe().unwrap()).unwrap()).unwrap());
        let shell = needs(&std::fs::read("/bin/bash").unwrap()).unwrap().unwrap();
        assert_eq!(shell.loader.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert!(shell.libraries.iter().any(|l| l == "libc.so.6"));
    }

    #[test]
    fn hostile_bytes_are_errors_and_never_a_panic() {
        assert_eq!(needs(b"#!/bin/sh\n").unwrap(), None);
        let whole = std::fs::read("/bin/true").unwrap();
        for cut in (4..whole.len()).step_by(97) {
            let _ = needs(&whole[..cut]);
        }
        for at in 0..1024 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = needs(&damaged);
        }
    }
}
