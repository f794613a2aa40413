//! The rescue environment: one static binary that is PID 1, its services and the engineer's
//! helpers on a machine that no longer boots.
//!
//! Floors, importer on the right: `rescue_schema ← sys ← tree, web ← {modules, net, creds, accounts, disk, ssh,
//! console} ← {commands, pid1} ← main`. Domains never import one another; what they need of each
//! other is handed to them by `commands` and `pid1`. `tests/` holds a test that keeps this true.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        // It panics where nobody reads.
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::unreachable
    )
)]

pub mod accounts;
pub mod commands;
pub mod console;
pub mod creds;
pub mod disk;
pub mod modules;
pub mod net;
pub mod pid1;
pub mod ssh;
pub mod sys;
pub mod tree;
pub mod web;
