//! The kernel's random numbers.
#![allow(unsafe_code)]

use std::io;

use nix::libc;
use rustix::rand::{GetRandomFlags, getrandom};

/// `_IOW('R', 0x03, int[2])` of random(4); the same on every architecture that Linux's generic ioctl
/// encoding serves.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
/// Most bytes of one credit.
const MAX: usize = 4096;

/// `struct rand_pool_info` of random(4).
#[repr(C)]
struct PoolInfo {
    entropy_count: libc::c_int,
    buf_size: libc::c_int,
    buf: [u8; MAX],
}

/// Mixes `bytes` (at most 4096) into the kernel's pool and credits them as 8 bits a byte.
///
/// The credit is deserved by a seed that came in the injected cpio: that is the channel by which the
/// private host key comes, so whoever could read the seed already is this machine, and one cpio
/// serves one boot, so that no two boots start from the same seed. It spares a machine without a
/// hardware generator the wait for entropy before its first key exchange.
///
/// # Errors
/// `InvalidInput` past 4096 bytes; `EPERM` without `CAP_SYS_ADMIN`.
pub fn credit(bytes: &[u8]) -> io::Result<()> {
    let mut info = PoolInfo { entropy_count: 0, buf_size: 0, buf: [0; MAX] };
    let room = info.buf.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(bytes);
    info.buf_size = bytes.len().try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    info.entropy_count = info.buf_size.saturating_mul(8);
    let device = std::fs::OpenOptions::new().write(true).open("/dev/urandom")?;
    // SAFETY: the request reads a `rand_pool_info` and `buf_size` bytes behind its head, which lie in
    // `info.buf`; nothing is written to it and no pointer is kept.
    let status =
        unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&device), RNDADDENTROPY, &raw const info) };
    let result = if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    zeroize::Zeroize::zeroize(&mut info.buf);
    result
}

/// A random number for what must differ between machines but guards nothing: transaction numbers
/// and jitter.
///
/// It never blocks. In the first second of a boot the kernel's pool may not be ready, and
/// `GRND_INSECURE` answers all the same (Linux 5.6); where even that is refused, the clock and the
/// process id do.
pub fn unguarded() -> u64 {
    let mut bytes = [0_u8; 8];
    if getrandom(&mut bytes, GetRandomFlags::INSECURE).is_ok_and(|n| n == bytes.len()) {
        return u64::from_ne_bytes(bytes);
    }
    let now = super::time::since_boot();
    (now.as_secs() << 32) ^ u64::from(now.subsec_nanos()) ^ (u64::from(std::process::id()) << 20)
}

/// Fills `bytes` with random ones (getrandom(2)), and waits for the kernel to have some.
///
/// # Errors
/// Those of the kernel.
pub fn fill(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let flags = rustix::rand::GetRandomFlags::empty();
        let filled = rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut *bytes, flags))?;
        bytes = bytes.get_mut(filled..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::credit;

    #[test]
    fn a_seed_past_the_limit_is_refused() {
        assert_eq!(credit(&[0; 4097]).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
}
