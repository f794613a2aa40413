//! Descriptors whose readiness a tokio runtime waits for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime that runs this.
///
/// # Errors
/// Those of epoll(7): a kind of file that has no readiness, or no memory.
pub fn register(end: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and stays the same descriptor until it is dropped, and the AsyncFd owns
    // it until then; `get_mut`, by which it could be exchanged, is out of reach of holders of a shared
    // reference, and no caller asks for another.
    Ok(unsafe { AsyncFd::register(end) }?)
}
