//! zstd for the initramfs, the same bytes on any number of cores.

use std::io::{self, Write};

use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

/// Level: the highest that keeps a warm build of the standard profile below 3 s on two cores.
pub(crate) const LEVEL: i32 = 9;
/// log2 of the window in bytes (8 MiB). The kernel holds a window of it while unpacking.
const WINDOW_LOG: u32 = 23;
/// Bytes of input a job. With jobs of one size, their number and so the bytes do not depend on how
/// many threads work on them.
const JOB_BYTES: u32 = 8 << 20;

/// A compressing sink.
///
/// # Errors
/// When the parameters are not those of the linked zstd.
pub(crate) fn encoder<W: Write>(out: W) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(out, LEVEL)?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    // Never zero workers: the single-threaded path cuts its blocks elsewhere.
    encoder.multithread(u32::try_from(workers()).unwrap_or(1))?;
    encoder.set_parameter(CParameter::JobSize(JOB_BYTES))?;
    encoder.set_parameter(CParameter::OverlapSizeLog(6))?;
    encoder.include_checksum(false)?;
    Ok(encoder)
}

/// How many threads compress at once.
pub(crate) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(16))
}

/// A file's bytes, compressed by themselves.
///
/// # Errors
/// When the linked zstd has no memory left.
pub(crate) fn packed_at(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, level)
}
