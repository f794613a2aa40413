//! zstd for the initramfs. On one core each time, so that the bytes are the same on any number of them.

use std::io;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// Level where a family names none: the highest that keeps the first build of the standard profile quick.
pub(crate) const LEVEL: i32 = 9;
/// log2 of the bytes that a match may lie back. Who unpacks holds as many in memory: of a kernel that is those of
/// an archive, up to 8 MiB, which are cleared and filled once more than the files need.
const WINDOW_LOG: u32 = 20;

/// Bytes, compressed by themselves.
///
/// # Errors
/// When the linked zstd has no memory left.
pub(crate) fn packed_at(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut zstd = Compressor::new(level)?;
    zstd.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    zstd.compress(bytes)
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
