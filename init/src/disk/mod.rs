//! Disks: what is on them, and how the systems on them are mounted without changing a byte.
//!
//! Bytes come through [`source`] with a budget; [`probe`] and [`table`] turn them into reports.
//! To add a format: one file in `probe/` and its row in `probe/mod.rs`.

pub mod assemble;
pub mod bytes;
pub mod crypttab;
pub mod drivers;
pub mod enter;
pub mod fallback;
pub mod fstab;
pub mod guard;
pub mod health;
pub mod holders;
pub mod mdadm;
pub mod mount;
pub mod mountinfo;
pub mod pool;
pub mod probe;
pub mod protection;
pub mod resolve;
pub mod sealed;
pub mod source;
pub mod system;
mod table;
pub mod tree;
pub mod unmount;
pub mod zfs;
