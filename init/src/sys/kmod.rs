//! Kernel modules: what the kernel has, and handing it one more.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// `MODULE_INIT_COMPRESSED_FILE` of `include/uapi/linux/module.h` (Linux 5.17), which nix lacks.
const COMPRESSED: u32 = 4;

/// The release of the running kernel, which names the folder of its modules.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether a module of this name (with `_`) is in the kernel, loaded or built in with parameters.
pub fn is_loaded(root: &Path, name: &str) -> bool {
    root.join("sys/module").join(name).exists()
}

/// Hands the module in `path` to the kernel; the kernel itself unpacks a compressed one. Says whether
/// it is new: one that is there already is no error.
///
/// # Errors
/// Those of finit_module(2).
pub fn load(path: &Path, parameters: &str) -> io::Result<bool> {
    let file = File::open(path)?;
    let plain = path.extension().is_some_and(|extension| extension == "ko");
    let flags = ModuleInitFlags::from_bits_retain(if plain { 0 } else { COMPRESSED });
    let parameters = CString::new(parameters).map_err(|_| io::ErrorKind::InvalidInput)?;
    match finit_module(&file, &parameters, flags) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
