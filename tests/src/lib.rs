//! The VM harness: real machines in QEMU, driven as an engineer drives them, over the serial console
//! and with the real OpenSSH client.
//!
//! A scenario (`scenarios/`) takes a [`lab::Lab`], which hands it images, device documents and
//! machines, all cached or made for it alone, and returns an error that a person can act upon
//! ([`verdict`]). To add one: see [`scenarios`].

pub mod apt;
pub mod console;
pub mod debian;
pub mod device;
pub mod dhcp;
pub mod disk;
pub mod fuzz;
pub mod guest;
pub mod image;
pub mod lab;
pub mod liar;
pub mod narrate;
pub mod network;
pub mod process;
pub mod qemu;
pub mod runner;
pub mod scenarios;
pub mod switch;
pub mod terminal;
pub mod verdict;
pub mod vm;
