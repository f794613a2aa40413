//! zstd for the initramfs. On one core each time, so that the bytes are the same on any number of them.

use std::io;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};

/// Level where a family names none: the highest that keeps the first build of the standard profile quick.
pub(crate) const LEVEL: i32 = 9;

/// Bytes, compressed by themselves.
///
/// # Errors
/// When the linked zstd has no memory left.
pub(crate) fn packed_at(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, level)
}

/// Does `work` to each of `all` on every core; the results are in no particular order.
///
/// # Errors
/// The first of `work`.
pub(crate) fn on_every_core<T: Send, R: Send>(
    all: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let all = Mutex::new(all.into_iter().collect::<Vec<T>>().into_iter());
    let next = || all.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || std::iter::from_fn(next).map(&work).collect::<Result<Vec<R>>>();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get().min(16));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let done: Result<Vec<Vec<R>>> =
            workers.into_iter().map(|one| one.join().map_err(|_| anyhow!("compressing failed"))?).collect();
        Ok(done?.into_iter().flatten().collect())
    })
}
