//! Work in a forked process, which is left behind where a dying disk holds it in the kernel or a strange host
//! holds it anywhere.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use crate::sys::lines::hear;
use crate::sys::process;

/// The bytes that `work` ends in: at most `most`, and within `limit`. Only for a process with one thread.
///
/// # Errors
/// When there can be no process, and when it is late, says too much, or dies.
pub(super) fn run(limit: Duration, most: usize, work: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    let (here, there) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let Some(child) = process::split()? else {
        drop(here);
        let told = File::from(there).write_all(&work());
        std::process::exit(i32::from(told.is_err()));
    };
    drop(there);
    let heard = hear(File::from(here), limit, most);
    process::end(child, heard.is_err());
    heard
}
