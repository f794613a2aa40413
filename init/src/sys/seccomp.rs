//! Filters of system calls (seccomp(2)): what is not on a list is refused or ends the process.
#![allow(unsafe_code)]

use std::io;

use nix::libc;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It is made.
    Allow,
    /// It is made if its argument of this number has this value (32 bits of it).
    AllowIf(u8, u32),
    /// It is made if its argument of this number has none of these bits.
    AllowWithout(u8, u32),
    /// It fails with this error.
    Fail(u16),
}

/// `AUDIT_ARCH_*` of linux/audit.h.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
/// Numbers from here on are the x32 ABI's, which has calls of its own.
#[cfg(target_arch = "x86_64")]
const FOREIGN: u32 = 0x4000_0000;
#[cfg(not(target_arch = "x86_64"))]
const FOREIGN: u32 = u32::MAX;

/// Offsets into `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Where the low half of an argument is.
fn argument(number: u8) -> u32 {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    ARGUMENTS + 8 * u32::from(number) + low
}

/// The program: the first rule of a call that fits decides, and a call without one ends the process.
fn program(rules: &[(libc::c_long, Rule)]) -> Vec<libc::sock_filter> {
    let mut steps = vec![
        step(LOAD, 0, 0, ARCHITECTURE),
        step(EQUAL, 1, 0, ARCH),
        step(RETURN, 0, 0, KILL_PROCESS),
        step(LOAD, 0, 0, NUMBER),
        step(AT_LEAST, 0, 1, FOREIGN),
        step(RETURN, 0, 0, KILL_PROCESS),
    ];
    for (call, rule) in rules {
        let Ok(call) = u32::try_from(*call) else { continue };
        let condition = |number, code, hit, miss, value| {
            [
                step(EQUAL, 0, 4, call),
                step(LOAD, 0, 0, argument(number)),
                step(code, hit, miss, value),
                step(RETURN, 0, 0, ALLOW),
                // The next rule looks at the number again.
                step(LOAD, 0, 0, NUMBER),
            ]
        };
        match rule {
            Rule::Allow => steps.extend([step(EQUAL, 0, 1, call), step(RETURN, 0, 0, ALLOW)]),
            Rule::Fail(errno) => {
                steps.extend([step(EQUAL, 0, 1, call), step(RETURN, 0, 0, ERRNO | u32::from(*errno))]);
            }
            Rule::AllowIf(number, value) => steps.extend(condition(*number, EQUAL, 0, 1, *value)),
            Rule::AllowWithout(number, bits) => steps.extend(condition(*number, ANY_BIT, 1, 0, *bits)),
        }
    }
    steps.push(step(RETURN, 0, 0, KILL_PROCESS));
    steps
}

/// Binds this thread, and what it starts, to `rules` for good. The most frequent calls go first: the
/// list is walked at each call (the kernel remembers those that are always allowed). The process must
/// have given up new privileges before.
///
/// # Errors
/// `InvalidInput` (EINVAL) where the kernel has no filters.
pub fn bind(rules: &[(libc::c_long, Rule)]) -> io::Result<()> {
    let mut steps = program(rules);
    let length = u16::try_from(steps.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: steps.as_mut_ptr() };
    // SAFETY: the kernel copies the program, whose pointer and length are those of `steps`, before it
    // returns; nothing is written.
    let status =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do, by the same machine.
    fn decide(steps: &[libc::sock_filter], arch: u32, call: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(call.to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend([0; 8]);
        args.iter().for_each(|arg| data.extend(arg.to_ne_bytes()));
        let (mut at, mut value) = (0, 0);
        loop {
            let step = steps[at];
            at += 1;
            let taken = match step.code {
                LOAD => {
                    let offset = step.k as usize;
                    value = u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap());
                    continue;
                }
                RETURN => return step.k,
                EQUAL => value == step.k,
                AT_LEAST => value >= step.k,
                ANY_BIT => value & step.k != 0,
                other => panic!("{other}"),
            };
            at += usize::from(if taken { step.jt } else { step.jf });
        }
    }

    #[test]
    fn rules_decide_and_the_rest_kills() {
        let steps = program(&[
            (7, Rule::Allow),
            (8, Rule::AllowIf(1, 0x5414)),
            (8, Rule::Fail(25)),
            (9, Rule::AllowWithout(2, 4)),
            (10, Rule::Fail(1)),
        ]);
        let of = |call, args| decide(&steps, ARCH, call, args);
        assert_eq!(of(7, [1; 6]), ALLOW);
        assert_eq!(of(8, [0, 0x5414, 0, 0, 0, 0]), ALLOW);
        assert_eq!(of(8, [0x5414, 0x5412, 0, 0, 0, 0]), ERRNO | 25);
        assert_eq!(of(9, [4, 4, 3, 4, 4, 4]), ALLOW);
        assert_eq!(of(9, [0, 0, 7, 0, 0, 0]), KILL_PROCESS);
        assert_eq!(of(10, [0; 6]), ERRNO | 1);
        assert_eq!(of(11, [0; 6]), KILL_PROCESS);
        assert_eq!(decide(&steps, ARCH ^ 1, 7, [0; 6]), KILL_PROCESS);
        assert_eq!(of(FOREIGN | 7, [0; 6]), KILL_PROCESS);
    }
}
