//! The door by which a guest of VMware's talks to its host: an `in` from a port that no hardware has
//! (open-vm-tools, `lib/backdoor/backdoor_def.h`).
#![allow(unsafe_code)]

/// The port.
const PORT: u32 = 0x5658;
/// What says that the door is meant.
const MAGIC: u32 = 0x564d_5868;

/// The registers of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registers {
    /// Argument and answer.
    pub ebx: u32,
    /// Command in the low half; status in the high half of the answer.
    pub ecx: u32,
    /// Channel in the high half; the low one is the port's.
    pub edx: u32,
    /// First half of the channel's cookie.
    pub esi: u32,
    /// Second half.
    pub edi: u32,
}

/// Calls the host, which answers whatever the kernel allows. For a process of its own: where there is no such host
/// the processor ends it.
#[cfg(target_arch = "x86_64")]
pub fn call(registers: &mut Registers) {
    let Registers { ebx, ecx, edx, esi, edi } = *registers;
    let mut b = u64::from(ebx);
    let (mut c, mut d, mut s, mut i) = (ecx, edx & 0xffff_0000 | PORT, esi, edi);
    // SAFETY: reads a port; the host changes these registers alone, and no memory. rbx is the compiler's own,
    // so that it is swapped in and out.
    unsafe {
        std::arch::asm!(
            "xchg {b}, rbx",
            "in eax, dx",
            "xchg {b}, rbx",
            b = inout(reg) b,
            inout("eax") MAGIC => _,
            inout("ecx") c,
            inout("edx") d,
            inout("esi") s,
            inout("edi") i,
            options(nostack),
        );
    }
    // The low half is the register's.
    let ebx = u32::try_from(b & 0xffff_ffff).unwrap_or_default();
    *registers = Registers { ebx, ecx: c, edx: d, esi: s, edi: i };
}
