//! Programs that the image builder packed: in the place of each stands a link to this binary, until it is
//! called for the first time. A rescue calls few of the programs that it brings, and memory is short. The libraries
//! that they alone need are packed as well.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rescue_schema::paths;

use super::wrapped::complain;
use crate::sys::packed;

/// Most links that are followed, as the kernel does (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Becomes the packed program that this process was started as. Returns when it was started as none, or
/// with the status of a program that cannot be run, and a line on stderr.
pub fn become_it() -> Option<ExitCode> {
    let called = PathBuf::from(OsString::from_vec(rustix::param::linux_execfn().to_bytes().to_vec()));
    let program = program(&called)?;
    let stored = stored(Path::new("/"), &program);
    if !stored.exists() && leads_here(&program) {
        // A link that stands for a verb, not for a program.
        return None;
    }
    let libraries =
        || libraries(Path::new("/"), &program)?.iter().try_for_each(|one| bring(Path::new("/"), one));
    let ran = libraries().and_then(|()| put_in_place(&stored, &program, 0o755)).and_then(|()| run(&called));
    let error = ran.err()?;
    complain!("rescue: unpacking {}: {error}; is the memory full?", program.display());
    // What a shell says of a program that it finds and cannot start.
    Some(ExitCode::from(126))
}

/// Where a program is packed; `root` stands in the place of `/`.
fn stored(root: &Path, program: &Path) -> PathBuf {
    let mut name = program.strip_prefix("/").unwrap_or(program).as_os_str().to_os_string();
    name.push(".zst");
    root.join(paths::PACKED_PROGRAMS.trim_start_matches('/')).join(name)
}

fn leads_here(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|target| target == Path::new("/init"))
}

/// The last link on the way from what was called to this binary; `None` when none leads to it.
fn program(called: &Path) -> Option<PathBuf> {
    let mut path = called.to_path_buf();
    for _ in 0..MAX_LINKS {
        let folder = std::fs::canonicalize(path.parent().filter(|p| !p.as_os_str().is_empty())?).ok()?;
        path = folder.join(path.file_name()?);
        let target = std::fs::read_link(&path).ok()?;
        if target == Path::new("/init") {
            return Some(path);
        }
        path = folder.join(target);
    }
    None
}

/// The packed libraries that a program needs; `root` stands in the place of `/`.
fn libraries(root: &Path, program: &Path) -> io::Result<Vec<PathBuf>> {
    let text = match std::fs::read(root.join(paths::PACKED_LIBRARIES.trim_start_matches('/'))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let mut all: HashMap<PathBuf, Vec<PathBuf>> = serde_json::from_slice(&text)?;
    Ok(all.remove(program).unwrap_or_default())
}

/// Unpacks a library, unless it is there: with another program, or by whoever made the image.
fn bring(root: &Path, library: &Path) -> io::Result<()> {
    let place = root.join(library.strip_prefix("/").unwrap_or(library));
    match place.exists() {
        true => Ok(()),
        false => put_in_place(&stored(root, library), &place, 0o644),
    }
}

/// Puts a program in the place of its link, or a library where it belongs. Two may do so at once: either leaves all
/// of it there.
fn put_in_place(stored: &Path, program: &Path, mode: u32) -> io::Result<()> {
    let bytes = match std::fs::read(stored) {
        // Another process was first.
        Err(error) if error.kind() == io::ErrorKind::NotFound && program.exists() && !leads_here(program) => {
            return Ok(());
        }
        read => packed::unpack(&read?)?,
    };
    let mut beside = program.as_os_str().to_os_string();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&beside)?;
    // From here on the file beside is this call's own: nobody else's is taken away.
    if let Err(error) = file.write_all(&bytes).and_then(|()| std::fs::rename(&beside, program)) {
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    let _ = std::fs::remove_file(stored);
    Ok(())
}

/// Runs what was called, with the same arguments.
fn run(called: &Path) -> io::Result<()> {
    let path = CString::new(called.as_os_str().as_bytes())?;
    let arguments: Vec<CString> =
        std::env::args_os().map(|word| CString::new(word.into_vec())).collect::<Result<_, _>>()?;
    match nix::unistd::execv(&path, &arguments) {
        Err(error) => Err(error.into()),
        Ok(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// `printf 'a module %.0s' {1..100} | zstd -19`
    const PACKED: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x68, 0x85, 0x00, 0x00, 0x48, 0x61, 0x20, 0x6d, 0x6f, 0x64, 0x75, 0x6c,
        0x65, 0x20, 0x01, 0x00, 0x78, 0x59, 0x95, 0x23, 0x7f, 0xee, 0xb1, 0x99,
    ];

    #[test]
    fn links_are_followed_to_the_one_that_leads_here() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| std::fs::canonicalize(root.path()).unwrap().join(path);
        std::fs::create_dir_all(at("sbin")).unwrap();
        std::fs::create_dir_all(at("usr/bin")).unwrap();
        symlink("/init", at("sbin/lvm")).unwrap();
        symlink("lvm", at("sbin/pvs")).unwrap();
        symlink("../../sbin/pvs", at("usr/bin/pvs")).unwrap();
        symlink("loop", at("sbin/loop")).unwrap();
        std::fs::write(at("sbin/real"), "").unwrap();
        assert_eq!(program(&at("usr/bin/pvs")), Some(at("sbin/lvm")));
        assert_eq!(program(&at("sbin/../sbin/lvm")), Some(at("sbin/lvm")));
        for none in ["sbin/loop", "sbin/real", "sbin/gone", "gone/x"] {
            assert_eq!(program(&at(none)), None, "{none}");
        }
        assert_eq!(
            stored(Path::new("/"), Path::new("/sbin/lvm")),
            Path::new("/usr/lib/rescue/packed/sbin/lvm.zst")
        );
    }

    #[test]
    fn a_program_takes_the_place_of_its_link_once() {
        let root = tempfile::tempdir().unwrap();
        let (stored, program) = (root.path().join("tool.zst"), root.path().join("tool"));
        std::fs::write(&stored, PACKED).unwrap();
        symlink("/init", &program).unwrap();
        std::thread::scope(|scope| {
            // Threads have one process id: the second finds the first one's file, or its work done.
            let both = [(); 2].map(|()| scope.spawn(|| put_in_place(&stored, &program, 0o755).is_ok()));
            assert!(both.into_iter().any(|one| one.join().unwrap()));
        });
        assert_eq!(std::fs::read(&program).unwrap(), b"a module ".repeat(100));
        assert_eq!(std::fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(!stored.exists());
        put_in_place(&stored, &program, 0o755).unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);

        std::fs::remove_file(&program).unwrap();
        symlink("/init", &program).unwrap();
        assert!(put_in_place(&stored, &program, 0o755).is_err(), "a link without its program is an error");
        std::fs::write(&stored, PACKED).unwrap();
        let beside = root.path().join(format!("tool.{}", std::process::id()));
        std::fs::write(&beside, "half").unwrap();
        assert!(put_in_place(&stored, &program, 0o755).is_err());
        assert_eq!(std::fs::read(&beside).unwrap(), b"half", "what another writes is left to it");
        std::fs::write(&stored, b"garbage").unwrap();
        assert!(put_in_place(&stored, &program, 0o755).is_err() && stored.exists() && leads_here(&program));
    }

    #[test]
    fn libraries_come_with_the_first_program_that_needs_them() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let needed = |program: &str| libraries(root.path(), Path::new(program)).unwrap();
        assert!(needed("/sbin/lvm").is_empty(), "an image without a list");
        std::fs::create_dir_all(at("usr/lib/rescue/packed/lib")).unwrap();
        std::fs::create_dir(at("lib")).unwrap();
        let list = at("usr/lib/rescue/packed/libraries.json");
        std::fs::write(&list, r#"{"/sbin/lvm": ["/lib/libx.so.1", "/lib/liby.so.1"], "/bin/a": []}"#)
            .unwrap();
        let both = needed("/sbin/lvm");
        assert_eq!(both, ["/lib/libx.so.1", "/lib/liby.so.1"].map(PathBuf::from));
        assert!(needed("/bin/a").is_empty() && needed("/bin/b").is_empty());
        std::fs::write(at("usr/lib/rescue/packed/lib/libx.so.1.zst"), PACKED).unwrap();
        std::fs::write(at("lib/liby.so.1"), "somebody's own").unwrap();
        for _ in 0..2 {
            both.iter().for_each(|one| bring(root.path(), one).unwrap());
            assert_eq!(std::fs::read(at("lib/libx.so.1")).unwrap(), b"a module ".repeat(100));
        }
        let mode = std::fs::metadata(at("lib/libx.so.1")).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, at("usr/lib/rescue/packed/lib/libx.so.1.zst").exists()), (0o644, false));
        assert_eq!(std::fs::read(at("lib/liby.so.1")).unwrap(), b"somebody's own");
        assert!(bring(root.path(), Path::new("/lib/gone.so")).is_err());
        std::fs::write(&list, "{").unwrap();
        assert!(libraries(root.path(), Path::new("/sbin/lvm")).is_err());
    }
}
