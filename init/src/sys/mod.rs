//! Every syscall, ioctl and netlink call, and the only `unsafe` of the program: one file a subject.
//!
//! A file that needs `unsafe` says `#![allow(unsafe_code)]` at its head, and each block says why it
//! is sound. Nothing here decides anything; the domains above do.

pub mod acpi;
pub mod block;
pub mod btrfs;
pub mod cmdline;
pub mod dial;
pub mod dm;
pub mod ending;
pub mod files;
pub mod icmp6;
pub mod inside;
pub mod ipv6;
pub mod kmod;
pub mod kmsg;
pub mod lines;
pub mod log;
pub mod mounts;
pub mod namespace;
pub mod neighbours;
pub mod netlink;
pub mod notify;
pub mod packed;
pub mod packet;
pub mod passphrase;
pub mod power;
pub mod priority;
pub mod process;
pub mod pty;
pub mod random;
pub mod ready;
pub mod sandbox;
pub mod seccomp;
pub mod secrets;
pub mod seqpacket;
pub mod shared_file;
pub mod signals;
pub mod smart;
pub mod spawn;
pub mod stdio;
pub mod time;
pub mod tty;
pub mod uevent;
pub mod vmware;
pub mod vsock;
pub mod watch;
