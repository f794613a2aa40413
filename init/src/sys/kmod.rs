//! Kernel modules: what the kernel has, and handing it one more.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};

/// The release of the running kernel, which names the folder of its modules.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether a module of this name (with `_`) is in the kernel, loaded or built in with parameters.
pub fn is_loaded(root: &Path, name: &str) -> bool {
    root.join("sys/module").join(name).exists()
}

/// Whether a module has begun to work. The call that loads it may wait for its devices nevertheless.
pub fn is_live(root: &Path, name: &str) -> bool {
    is(root, name, "live")
}

/// Whether a module is being loaded, and has not begun to work.
pub fn is_coming(root: &Path, name: &str) -> bool {
    is(root, name, "coming")
}

fn is(root: &Path, name: &str, state: &str) -> bool {
    let file = root.join("sys/module").join(name).join("initstate");
    super::files::read_trimmed(&file).is_some_and(|found| found == state)
}

/// Hands a plain module file to the kernel. Says whether it is new: one that is there already is no error.
///
/// # Errors
/// Those of finit_module(2).
pub fn load(path: &Path, parameters: &str) -> io::Result<bool> {
    let file = File::open(path)?;
    is_new(finit_module(&file, &text(parameters)?, ModuleInitFlags::empty()))
}

/// As [`load`], from memory.
///
/// # Errors
/// Those of init_module(2).
pub fn load_bytes(module: &[u8], parameters: &str) -> io::Result<bool> {
    is_new(init_module(module, &text(parameters)?))
}

fn text(parameters: &str) -> io::Result<CString> {
    CString::new(parameters).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn is_new(result: nix::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
