//! Random bytes that never wait.

use rustix::rand::{GetRandomFlags, getrandom};

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
