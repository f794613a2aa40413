//! Every syscall, ioctl and netlink call, and the only `unsafe` of the program: one file a subject.
//!
//! A file that needs `unsafe` says `#![allow(unsafe_code)]` at its head, and each block says why it
//! is sound. Nothing here decides anything; the domains above do.

pub mod block;
pub mod files;
pub mod log;
pub mod notify;
pub mod spawn;
pub mod time;
