//! What a program runs on, by the head of its ELF file (System V ABI, "ELF header").

use crate::disk::bytes::{Bytes, Endian};

/// `e_machine`, class, and the word of `uname -m`.
#[rustfmt::skip]
const MACHINES: &[(u16, u8, &str)] = &[
    (3,   1, "i686"),   (62,  2, "x86_64"),  (62,  1, "x86_64"), (183, 2, "aarch64"), (40,  1, "armv7l"),
    (21,  2, "ppc64"),  (20,  1, "ppc"),     (22,  2, "s390x"),  (243, 2, "riscv64"), (8,   2, "mips64"),
    (8,   1, "mips"),   (43,  2, "sparc64"), (258, 2, "loongarch64"), (50, 2, "ia64"),
];

/// The architecture of an ELF file whose first 64 bytes these are.
pub fn architecture(head: &[u8]) -> Option<String> {
    let head = Bytes(head.to_vec());
    if !head.is(0, b"\x7fELF") {
        return None;
    }
    let order = if head.u8(5)? == 2 { Endian::Big } else { Endian::Little };
    let (class, machine) = (head.u8(4)?, head.u16_in(18, order)?);
    let word = MACHINES.iter().find(|(m, c, _)| *m == machine && *c == class)?.2;
    let little = order == Endian::Little;
    Some(if word.starts_with("ppc64") && little { "ppc64le".into() } else { word.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_program_runs_here() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(architecture(&own[..64]).as_deref(), Some(std::env::consts::ARCH));
        assert_eq!(architecture(b"#!/bin/sh\n"), None);
        assert_eq!(architecture(b"\x7fELF\x02\x01"), None);
    }
}
